// Command probe makes attacks on a sandbox that a shell cannot make. It exits
// with 0 if the one that it is told to make succeeds.
package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

func main() {
	attack, ok := attacks[os.Args[1]]
	if !ok {
		fmt.Println("no attack", os.Args[1])
		os.Exit(2)
	}
	if err := attack(os.Args[2:]); err != nil {
		fmt.Println(os.Args[1]+":", err)
		os.Exit(1)
	}
}

func call(nr uintptr, args ...uintptr) error {
	_, err := value(nr, args...)
	return err
}

func value(nr uintptr, args ...uintptr) (uintptr, error) {
	args = append(args, make([]uintptr, 6)...)
	r, _, errno := unix.Syscall6(nr, args[0], args[1], args[2], args[3], args[4], args[5])
	if errno != 0 {
		return 0, errno
	}
	return r, nil
}

// heard tells whether the kernel looked at a call before it refused it: for
// calls that nobody wants to succeed.
func heard(err error) error {
	if err == unix.EPERM || err == unix.ENOSYS {
		return err
	}
	return nil
}

func str(s string) uintptr { p, _ := unix.BytePtrFromString(s); return uintptr(unsafe.Pointer(p)) }

var attacks = map[string]func(args []string) error{
	"keyctl": func([]string) error { return call(unix.SYS_KEYCTL, unix.KEYCTL_GET_KEYRING_ID, ^uintptr(2), 0) },
	"add_key": func([]string) error {
		_, err := unix.AddKey("user", "probe", []byte("x"), unix.KEY_SPEC_PROCESS_KEYRING)
		return err
	},
	"hostkey": func(args []string) error { // a key of the host's session
		id, err := unix.KeyctlSearch(unix.KEY_SPEC_SESSION_KEYRING, "user", args[0], 0)
		if err != nil {
			return err
		}
		_, err = unix.KeyctlBuffer(unix.KEYCTL_READ, id, make([]byte, 64), 0)
		return err
	},
	"bpf": func([]string) error {
		attr := [32]uint32{2 /* array */, 4, 4, 1}
		return call(unix.SYS_BPF, 0, uintptr(unsafe.Pointer(&attr)), 128)
	},
	"perf": func([]string) error {
		attr := unix.PerfEventAttr{Type: unix.PERF_TYPE_SOFTWARE, Size: uint32(unsafe.Sizeof(unix.PerfEventAttr{})), Config: unix.PERF_COUNT_SW_CPU_CLOCK}
		_, err := unix.PerfEventOpen(&attr, -1, 0, -1, 0)
		return err
	},
	"userfaultfd": func([]string) error { return call(unix.SYS_USERFAULTFD, unix.O_CLOEXEC) },
	"io_uring": func([]string) error {
		params := [30]uint32{}
		return call(unix.SYS_IO_URING_SETUP, 4, uintptr(unsafe.Pointer(&params)))
	},
	"unshare": func(args []string) error {
		flags, _ := strconv.ParseUint(args[0], 0, 64)
		return call(unix.SYS_UNSHARE, uintptr(flags))
	},
	"clone-user": func([]string) error {
		cmd := exec.Command("/bin/true")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER}
		return cmd.Run()
	},
	"clone3-user": func([]string) error {
		args := [11]uint64{unix.CLONE_NEWUSER, 4: uint64(unix.SIGCHLD)}
		pid, err := value(unix.SYS_CLONE3, uintptr(unsafe.Pointer(&args)), 64)
		if err == nil && pid == 0 {
			unix.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
		}
		return err
	},
	"setns": func([]string) error {
		fd, err := unix.Open("/proc/self/ns/mnt", unix.O_RDONLY, 0)
		if err != nil {
			return err
		}
		return heard(call(unix.SYS_SETNS, uintptr(fd), 0))
	},
	"fsopen": func([]string) error { return call(unix.SYS_FSOPEN, str("tmpfs"), 0) },
	"open_tree": func([]string) error {
		at := unix.AT_FDCWD
		return call(unix.SYS_OPEN_TREE, uintptr(at), str("/"), unix.OPEN_TREE_CLONE)
	},
	"mount_setattr": func(args []string) error {
		return unix.MountSetattr(unix.AT_FDCWD, args[0], 0, &unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY})
	},
	"umount":     func(args []string) error { return unix.Unmount(args[0], unix.MNT_DETACH) },
	"pivot_root": func([]string) error { return heard(unix.PivotRoot("/tmp", "/tmp")) },
	// The root of the host's file system that a lent directory is on, by its
	// number.
	"handle": func(args []string) error {
		fd, err := unix.Open(args[0], unix.O_RDONLY|unix.O_DIRECTORY, 0)
		if err != nil {
			return err
		}
		known, _, err := unix.NameToHandleAt(fd, "", unix.AT_EMPTY_PATH)
		if err != nil {
			return err
		}
		root := make([]byte, 8)
		root[0] = 2 // of ext4
		got, err := unix.OpenByHandleAt(fd, unix.NewFileHandle(known.Type(), root), unix.O_RDONLY|unix.O_DIRECTORY)
		if err != nil {
			return err
		}
		names, err := os.NewFile(uintptr(got), "").Readdirnames(-1)
		if err != nil || len(names) < 5 {
			return fmt.Errorf("%v, %v", names, err)
		}
		return nil
	},
	"tiocsti": func([]string) error {
		master, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY, 0)
		if err != nil {
			return err
		}
		unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0)
		n, err := unix.IoctlGetInt(master, unix.TIOCGPTN)
		if err != nil {
			return err
		}
		tty, err := unix.Open(fmt.Sprint("/dev/pts/", n), unix.O_RDWR, 0)
		if err != nil {
			return err
		}
		c := byte('x')
		return call(unix.SYS_IOCTL, uintptr(tty), 0xbad<<32|unix.TIOCSTI, uintptr(unsafe.Pointer(&c)))
	},
	"swapon":      func([]string) error { return heard(call(unix.SYS_SWAPON, str("/nonexistent"), 0)) },
	"acct":        func([]string) error { return heard(call(unix.SYS_ACCT, str("/nonexistent"))) },
	"reboot":      func([]string) error { return heard(call(unix.SYS_REBOOT, 1, 2, 3, 0)) },
	"iopl":        func([]string) error { return call(unix.SYS_IOPL, 3) },
	"syslog":      func([]string) error { return call(unix.SYS_SYSLOG, 10, 0, 0) },
	"vhangup":     func([]string) error { return heard(call(unix.SYS_VHANGUP)) },
	"quotactl":    func([]string) error { return heard(call(unix.SYS_QUOTACTL, 0x800007<<8, str("/nonexistent"), 0, 0)) },
	"sethostname": func(args []string) error { return unix.Sethostname([]byte(args[0])) },
	"clock": func([]string) error { // a time that the kernel refuses, if it comes so far
		ts := unix.Timespec{Sec: 1}
		return heard(call(unix.SYS_CLOCK_SETTIME, 12345, uintptr(unsafe.Pointer(&ts))))
	},
	"personality": func([]string) error { return call(unix.SYS_PERSONALITY, 0x40000) },
	"nice":        func([]string) error { return unix.Setpriority(unix.PRIO_PROCESS, 0, -5) },
	"fanotify":    func([]string) error { return call(unix.SYS_FANOTIFY_INIT, 0, 0) },
	"ptrace":      func(args []string) error { return unix.PtraceSeize(number(args[0])) },
	"pidfd_getfd": func(args []string) error {
		fd, err := unix.PidfdOpen(number(args[0]), 0)
		if err != nil {
			return err
		}
		_, err = unix.PidfdGetfd(fd, 4, 0)
		return err
	},
	"read-memory": func(args []string) error {
		maps, err := os.ReadFile("/proc/" + args[0] + "/maps")
		if err != nil {
			return err
		}
		from, _, _ := strings.Cut(string(maps), "-")
		at, err := strconv.ParseUint(from, 16, 64)
		if err != nil {
			return err
		}
		buf := make([]byte, 8)
		_, err = unix.ProcessVMReadv(number(args[0]), []unix.Iovec{{Base: &buf[0], Len: 8}}, []unix.RemoteIovec{{Base: uintptr(at), Len: 8}}, 0)
		return err
	},
	"kcmp": func(args []string) error {
		return call(unix.SYS_KCMP, uintptr(os.Getpid()), uintptr(number(args[0])), 1, 0, 0)
	},
	"abstract": func(args []string) error { _, err := net.Dial("unix", "@"+args[0]); return err },
	"tcp":      func(args []string) error { _, err := net.DialTimeout("tcp", args[0], 2*time.Second); return err },
	"packet":   func([]string) error { return call(unix.SYS_SOCKET, unix.AF_PACKET, unix.SOCK_RAW, 0x300) },
	"alg":      func([]string) error { return heardFamily(call(unix.SYS_SOCKET, unix.AF_ALG, unix.SOCK_SEQPACKET, 0)) },
	"shm": func(args []string) error {
		return call(unix.SYS_SHMGET, uintptr(number(args[0])), 0, 0)
	},
	"open": func(args []string) error {
		flags, _ := strconv.ParseInt(args[1], 0, 32)
		f, err := os.OpenFile(args[0], int(flags)|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
		if err == nil {
			f.Close()
		}
		return err
	},
	"mknod": func(args []string) error { // path, kind, major, minor: and open it
		kind := map[string]uint32{"b": unix.S_IFBLK, "c": unix.S_IFCHR}[args[1]]
		if err := unix.Mknod(args[0], kind|0o600, int(unix.Mkdev(uint32(number(args[2])), uint32(number(args[3]))))); err != nil {
			return err
		}
		fd, err := unix.Open(args[0], unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
		if err != nil {
			fd, err = unix.Open(args[0], unix.O_WRONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
		}
		_ = fd
		return err
	},
	"rewrite": func(args []string) error { // a file below /proc or /sys, with what it says
		text, err := os.ReadFile(args[0])
		if err != nil {
			return err
		}
		f, err := os.OpenFile(args[0], os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = f.Write(text)
		return err
	},
	"chroot-escape": func(args []string) error {
		os.Mkdir("/tmp/jail", 0o755)
		if err := unix.Chroot("/tmp/jail"); err != nil {
			return err
		}
		if err := os.Chdir(".."); err != nil { // the directory is still outside
			return err
		}
		for range 64 {
			os.Chdir("..")
		}
		if err := unix.Chroot("."); err != nil {
			return err
		}
		_, err := os.Stat(args[0])
		return err
	},
	"descriptor": func([]string) error { // any but the standard ones
		for fd := 3; fd < 100; fd++ {
			link, err := os.Readlink(fmt.Sprint("/proc/self/fd/", fd))
			// Go's own runtime has some, with the file of its control group.
			if err == nil && !strings.HasPrefix(link, "/sys/") && !strings.Contains(link, "eventpoll") && !strings.Contains(link, "eventfd") {
				fmt.Println(fd, link)
				return nil
			}
		}
		return unix.EBADF
	},
	"descriptor-up": func([]string) error { // a directory of the host
		for fd := 3; fd < 100; fd++ {
			if _, err := os.Stat(fmt.Sprintf("/proc/self/fd/%d/../../../../../../proc/version", fd)); err == nil {
				return nil
			}
		}
		return unix.EBADF
	},
	"kill": func(args []string) error { return unix.Kill(number(args[0]), unix.SIGKILL) },
	"pidfd-kill": func(args []string) error {
		fd, err := unix.PidfdOpen(number(args[0]), 0)
		if err != nil {
			return err
		}
		return unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
	},
	"as-user": func(args []string) error { // runs the rest as nobody
		cmd := exec.Command(args[0], args[1:]...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		out, err := cmd.Output()
		if err == nil && string(out) != "0\n" {
			err = fmt.Errorf("printed %q", out)
		}
		return err
	},
	"id": func([]string) error { fmt.Println(os.Geteuid()); return nil },
	"int80": func(args []string) error { // a 32-bit call
		r := int80(uint32(number(args[0])), 0, 0, 0)
		if int32(r) < 0 && int32(r) > -4096 {
			return heard(unix.Errno(-int32(r)))
		}
		return nil
	},
	"fork": func(args []string) error { // so many sleeping children
		for range number(args[0]) {
			if err := exec.Command("/bin/sleep", "5").Start(); err != nil {
				return err
			}
		}
		return nil
	},
	"sendfd": func(args []string) error { // our standard output to whoever listens
		c, err := net.Dial("unix", args[0])
		if err != nil {
			return err
		}
		_, _, err = c.(*net.UnixConn).WriteMsgUnix([]byte{0}, unix.UnixRights(1), nil)
		io.WriteString(os.Stdout, "printed\n")
		return err
	},
}

func heardFamily(err error) error {
	if err == unix.EAFNOSUPPORT {
		return err
	}
	return heard(err)
}

func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		panic(err)
	}
	return n
}
