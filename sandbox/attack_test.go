//go:build !raptor_embed

package sandbox

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/sys/mount"
	"golang.org/x/sys/unix"

	"raptor-make/internal/helper"
	"raptor-make/sandbox/internal/wire"
)

// An attack is a script that a hostile build step runs: it exits with 0 if it
// succeeds. Each is made twice: on the sandbox as it is, where it must fail, and
// without the defences that are there for it, where it must succeed: otherwise
// it would prove nothing.
type attack struct {
	name    string
	without uint64                               // defences
	script  string                               // with /probe, see testdata/probe
	set     func(t *testing.T, b *box) []string  // what it is about, outside; gives variables
	open    func(b *box)                         // opens the sandbox in another way than without
	proof   func(t *testing.T, b *box) (ok bool) // nil: the script's exit status
}

const (
	seccomp = wire.Seccomp
	caps    = wire.Capabilities
	admin   = wire.Seccomp | wire.Capabilities
	// The agent holds all capabilities, and is outside of Landlock's domain:
	// to look into it takes as many.
	traced = wire.Undumpable | wire.Capabilities | wire.Landlock
)

var attacks = []attack{
	// System calls.
	{name: "keyctl", without: seccomp, script: "/probe keyctl"},
	{name: "add_key", without: seccomp, script: "/probe add_key"},
	{name: "bpf", without: admin, script: "/probe bpf"},
	{name: "perf_event_open", without: admin, script: "/probe perf"},
	{name: "userfaultfd", without: admin, script: "/probe userfaultfd"},
	{name: "io_uring", without: seccomp, script: "/probe io_uring"},
	{name: "user namespace by unshare", without: seccomp, script: "unshare -U true"},
	{name: "user namespace by clone", without: seccomp, script: "/probe clone-user"},
	{name: "user namespace by clone3", without: seccomp, script: "/probe clone3-user"},
	{name: "mount namespace", without: admin, script: "/probe unshare 0x20000"},
	{name: "network namespace", without: admin, script: "/probe unshare 0x40000000"},
	{name: "setns", without: admin, script: "/probe setns"},
	{name: "mount", without: admin, script: "mount -t tmpfs x /tmp"},
	{name: "mount of control groups", without: admin, script: "mkdir /tmp/c; mount -t cgroup -o pids x /tmp/c || mount -t cgroup2 x /tmp/c"},
	{name: "mount of another proc", without: admin, script: "mkdir /tmp/p; mount -t proc x /tmp/p && test -e /tmp/p/sys/kernel/core_pattern"},
	{name: "mount of another sysfs", without: admin, script: "mkdir /tmp/s; mount -t sysfs x /tmp/s && test -e /tmp/s/firmware"},
	{name: "fsopen", without: admin, script: "/probe fsopen"},
	{name: "open_tree", without: admin, script: "/probe open_tree"},
	{name: "pivot_root", without: admin, script: "/probe pivot_root"},
	{name: "remount of /proc/sys", without: admin, script: "mount -o remount,bind,rw /proc/sys"},
	{name: "mount_setattr of /proc/sys", without: admin, script: "/probe mount_setattr /proc/sys"},
	{name: "unmounting of a mask", without: admin, script: "/probe umount /proc/interrupts && grep -q . /proc/interrupts"},
	{name: "open_by_handle_at", without: admin, script: "/probe handle /lent", set: lend(false)},
	{name: "TIOCSTI", without: admin, script: "/probe tiocsti"},
	{name: "swapon", without: admin, script: "/probe swapon"},
	{name: "acct", without: admin, script: "/probe acct"},
	{name: "reboot", without: admin, script: "/probe reboot"},
	{name: "kernel log", without: admin, script: "/probe syslog"},
	{name: "vhangup", without: admin, script: "/probe vhangup"},
	{name: "quotactl", without: admin, script: "/probe quotactl"},
	{name: "clock", without: admin, script: "/probe clock"},
	{name: "host name", without: admin, script: "/probe sethostname x"},
	{name: "addresses that can be guessed", without: seccomp, script: "/probe personality"},
	{name: "fanotify", without: admin, script: "/probe fanotify"},
	{name: "keyctl by a 32-bit call", without: seccomp, script: "/probe int80 288", set: on("amd64")},
	{name: "mount by a 32-bit call", without: admin, script: "/probe int80 21", set: on("amd64")},

	// Capabilities.
	{name: "packets of the host's network", without: caps, script: "/probe packet"},
	{name: "network interfaces", without: caps, script: "ip link set lo mtu 65536", open: func(b *box) { b.weak |= caps; b.Network = NoNetwork }},
	{name: "nice", without: caps, script: "/probe nice"},
	{name: "files that nobody may read", without: caps, script: "/probe open /dev/mem 0", set: device("c 1 1", "/dev/mem"), open: func(b *box) { b.weak |= caps | wire.NoDevices }},

	// The agent.
	{name: "tracing the agent", without: traced, script: "/probe ptrace 1"},
	{name: "the agent's memory", without: traced, script: "/probe read-memory 1"},
	{name: "the agent's memory as a file", without: traced, script: "/probe open /proc/1/mem 0"},
	{name: "the agent's root", without: traced, script: "ls /proc/1/root/"},
	{name: "the agent's program", without: traced, script: "/probe open /proc/1/exe 0"},
	{name: "the file of the agent's program", without: traced, script: "chmod 777 /proc/1/exe", set: keptAgent, open: func(b *box) { b.agent = b.plain }},
	{name: "the agent's descriptors", without: traced, script: "ls -l /proc/1/fd/ | grep -q pipe"},
	{name: "the agent's directory", without: traced, script: "readlink /proc/1/cwd"},
	{name: "the agent's environment", without: traced, script: "grep -q GOGC /proc/1/environ"},
	{name: "the agent's map", without: traced, script: "grep -q . /proc/1/maps"},
	{name: "the agent's mounts", without: traced, script: "readlink /proc/1/ns/mnt"},
	{name: "the agent's events", without: traced | seccomp, script: "/probe pidfd_getfd 1"},
	{name: "kcmp with the agent", without: traced | seccomp, script: "/probe kcmp 1"},
	{name: "left descriptors", without: wire.Descriptors, script: "/probe descriptor"},

	// Devices.
	{name: "the host's disk", without: wire.NoDevices, script: "/probe mknod /tmp/disk $DISK", set: disk},
	{name: "the host's disk in /dev", without: wire.NoDevices, script: "/probe mknod /dev/disk $DISK", set: disk},
	{name: "the host's disk in /run", without: wire.NoDevices, script: "/probe mknod /run/disk $DISK", set: disk},
	{name: "the host's disk in a lent directory", without: wire.NoDevices, script: "/probe mknod /lent/disk $DISK; r=$?; rm -f /lent/disk; exit $r", set: both(disk, lend(false))},
	{name: "a node in a layer below", without: wire.NoDevices, script: "/probe open /node 1", set: device("c 1 11", "/node")},
	{name: "a node in a lent directory", without: wire.NoDevices, script: "/probe open /lent/node 1", set: both(lend(false), func(t *testing.T, b *box) []string {
		mknod(t, filepath.Join(b.Mounts[0].Source, "node"), "c 1 11")
		return nil
	})},
	{name: "messages to the kernel log", without: wire.NoDevices, script: "/probe mknod /tmp/kmsg c 1 11"},
	{name: "user-space file systems", without: wire.NoDevices, script: "/probe mknod /tmp/fuse c 10 229", set: needs("/dev/fuse")},
	{name: "loop devices", without: wire.NoDevices, script: "/probe mknod /tmp/loop c 10 237", set: needs("/dev/loop-control")},
	{name: "network tunnels", without: wire.NoDevices, script: "/probe mknod /tmp/tun c 10 200", set: needs("/dev/net/tun")},
	{name: "virtual machines", without: wire.NoDevices, script: "/probe mknod /tmp/kvm c 10 232", set: needs("/dev/kvm")},
	{name: "the terminal of the machine", without: wire.NoDevices, script: "/probe mknod /tmp/tty c 5 1", set: needs("/dev/console")},
	{name: "the mode of the host's /dev/null", without: wire.ReadOnlyDevices, script: "chmod 666 /dev/null"},
	{name: "the owner of the host's /dev/zero", without: wire.ReadOnlyDevices, script: "chown 0:0 /dev/zero"},
	{name: "the time of the host's /dev/full", without: wire.ReadOnlyDevices, script: "touch /dev/full"},

	// /proc and /sys.
	{name: "/proc/kcore", without: wire.Masks | caps, script: "head -c 1 /proc/kcore | grep -q .", set: needs("/proc/kcore")},
	{name: "/proc/timer_list", without: wire.Masks, script: "grep -q . /proc/timer_list", set: needs("/proc/timer_list")},
	{name: "/proc/interrupts", without: wire.Masks, script: "grep -q . /proc/interrupts"},
	{name: "/proc/keys", without: wire.Masks | wire.Keyring, script: "grep -q . /proc/keys", set: needs("/proc/keys")},
	{name: "core_pattern", without: wire.Masks, script: "/probe rewrite /proc/sys/kernel/core_pattern"},
	{name: "a sysctl", without: wire.Masks, script: "/probe rewrite /proc/sys/vm/swappiness"},
	{name: "the host's random generator", without: wire.Masks, script: "/probe open /proc/sys/kernel/random/write_wakeup_threshold 1"},
	{name: "binfmt and modprobe", without: wire.Masks, script: "/probe open /proc/sys/kernel/core_pipe_limit 1"},
	{name: "magic keys", without: wire.Masks, script: "/probe open /proc/sysrq-trigger 1", set: needs("/proc/sysrq-trigger")},
	{name: "interrupts' processors", without: wire.Masks, script: "/probe open /proc/irq/default_smp_affinity 1"},
	{name: "the kernel's messages for debugging", without: wire.Masks, script: "/probe open /proc/dynamic_debug/control 1", set: needs("/proc/dynamic_debug/control")},
	// Each to what it is: the change would be the whole machine's.
	{name: "the mode of /proc/kmsg", without: wire.Masks, script: "chmod 400 /proc/kmsg", set: needs("/proc/kmsg")},
	{name: "the mode of /proc/kpagecount", without: wire.Masks, script: "chmod 400 /proc/kpagecount", set: needs("/proc/kpagecount")},
	{name: "the mode of /proc/kpageflags", without: wire.Masks, script: "chmod 400 /proc/kpageflags", set: needs("/proc/kpageflags")},
	{name: "the mode of /proc/kpagecgroup", without: wire.Masks, script: "chmod 400 /proc/kpagecgroup", set: needs("/proc/kpagecgroup")},
	{name: "the mode of /proc/pagetypeinfo", without: wire.Masks, script: "chmod 400 /proc/pagetypeinfo", set: needs("/proc/pagetypeinfo")},
	{name: "the mode of /proc/allocinfo", without: wire.Masks, script: "chmod 400 /proc/allocinfo", set: needs("/proc/allocinfo")},
	{name: "the mode of /proc/mtrr", without: wire.Masks, script: "chmod 644 /proc/mtrr", set: needs("/proc/mtrr")},
	{name: "the mode of /proc/timer_list", without: wire.Masks, script: "chmod 400 /proc/timer_list", set: needs("/proc/timer_list")},
	{name: "the owner of /proc/slabinfo", without: wire.Masks, script: "chown 0:0 /proc/slabinfo", set: needs("/proc/slabinfo")},
	{name: "the owner of /proc/vmallocinfo", without: wire.Masks, script: "chown 0:0 /proc/vmallocinfo", set: needs("/proc/vmallocinfo")},
	{name: "the mode of /proc/tty/driver", without: wire.Masks, script: "chmod 500 /proc/tty/driver", set: needs("/proc/tty/driver")},
	{name: "/sys/firmware", without: wire.Masks, script: "ls /sys/firmware | grep -q .", set: notEmpty("/sys/firmware")},
	{name: "/sys", without: wire.ReadOnlySys, script: "/probe open /sys/kernel/mm/transparent_hugepage/enabled 1", set: needs("/sys/kernel/mm/transparent_hugepage/enabled")},
	{name: "/sys/power", without: wire.ReadOnlySys, script: "/probe open /sys/kernel/uevent_helper 1 || /probe open /sys/kernel/profiling 1 || /probe open /sys/kernel/mm/ksm/run 1 || /probe open /sys/power/state 1"},

	// Processes.
	{name: "the host's processes", without: wire.PIDs, script: "test -e /proc/$VICTIM/stat", set: victim},
	{name: "killing one of the host", without: wire.PIDs, script: "/probe kill $VICTIM", set: victim},
	{name: "killing one of the host by descriptor", without: wire.PIDs, script: "/probe pidfd-kill $VICTIM", set: victim},
	{name: "killing raptor", without: wire.PIDs, script: "kill -0 $RAPTOR", set: func(*testing.T, *box) []string { return []string{"RAPTOR=" + strconv.Itoa(os.Getpid())} }},
	{name: "the host's memory segments", without: wire.IPC, script: "/probe shm $KEY", set: segment},
	{name: "a key of the host's session", without: wire.Keyring | seccomp, script: "/probe hostkey raptor-test", set: sessionKey},
	{name: "a process that stays", without: wire.KillRest, script: "sleep 7 >/dev/null 2>&1 &", proof: func(t *testing.T, b *box) bool {
		b.err.Reset()
		err := b.runAll(t, sh("sleep 7 >/dev/null 2>&1 &"), sh("ps | grep -q '[s]leep 7'"))
		return err == nil
	}},
	{name: "processes without end", script: "/probe fork 60", set: func(t *testing.T, b *box) []string { b.Limits.Pids = 20; limited(t, b); return nil }, open: func(b *box) { b.Limits = Limits{} }},
	{name: "memory without end", script: "dd if=/dev/zero of=/dev/shm/x bs=1M count=100", set: func(t *testing.T, b *box) []string { b.Limits.Memory = 32 << 20; limited(t, b); return nil }, open: func(b *box) { b.Limits = Limits{} }},

	// Files of the host.
	{name: "the old root by chroot", without: wire.Pivot, script: "/probe chroot-escape $OUTSIDE", set: outside},
	{name: "a lent directory that is read-only", without: wire.ReadOnlyMounts, script: "touch /lent/new", set: lend(true)},
	{name: "a mount below it", without: wire.ReadOnlyMounts, script: "touch /lent/below/new", set: both(lend(true), mountBelow)},
	{name: "a file that is read-only", without: wire.ReadOnlyMounts, script: "echo x >/file", set: func(t *testing.T, b *box) []string {
		file := filepath.Join(t.TempDir(), "file")
		write(t, file, "", 0o644)
		b.Mounts = append(b.Mounts, Mount{Dest: "/file", Source: file, ReadOnly: true})
		return nil
	}},
	{name: "set-id programs that are lent", without: wire.NoSetID, script: "/probe as-user /lent/probe id", set: both(lend(false), setID)},
	{name: "set-id programs, where nobody needs them", script: "/probe as-user /suid id", set: func(t *testing.T, b *box) []string {
		b.NoNewPrivs = true
		copyFile(t, b.Layers[0]+"/probe", b.Layers[0]+"/suid", 0o4755)
		return nil
	}, open: func(b *box) { b.NoNewPrivs = false }},

	// Network.
	{name: "the host's abstract sockets", without: wire.Landlock, script: "/probe abstract $NAME", set: both(scopes, abstractSocket)},
	{name: "abstract sockets without a network", script: "/probe abstract $NAME", set: both(abstractSocket, noNetwork), open: func(b *box) { b.Network, b.weak = HostNetwork, wire.Landlock }},
	{name: "the host's services without a network", script: "/probe tcp $ADDR", set: both(service, noNetwork), open: func(b *box) { b.Network = HostNetwork }},
	{name: "the host's interfaces without a network", script: "test $(ls /sys/class/net | wc -l) -gt 1", set: both(noNetwork, notEmpty("/sys/class/net/eth0")), open: func(b *box) { b.Network = HostNetwork }},
}

// runAll runs actions, whatever comes of the one before the last.
func (b *box) runAll(t *testing.T, actions ...Action) error { t.Helper(); return b.run(actions...) }

var (
	probe = sync.OnceValues(func() ([]byte, error) {
		return prebuilt("RAPTOR_PROBE", func() ([]byte, error) { return goBuild("testdata/probe") })
	})

	// weakAgent heeds Spec.weak.
	weakAgent = sync.OnceValues(func() (*os.File, error) {
		program, err := prebuilt("RAPTOR_WEAK_AGENT", func() ([]byte, error) { return agentProgram.Build("-tags=raptor_weak") })
		if err != nil {
			return nil, err
		}
		return helper.Seal("raptor-agent", program)
	})
)

// keptAgent is an agent that does not protect itself, started from a file that
// is kept, and without the mount that protects that.
func keptAgent(t *testing.T, b *box) []string {
	weak, err := weakAgent()
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(fmt.Sprintf("/proc/self/fd/%d", weak.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	b.weak = traced
	if b.agent, err = helper.Keep(filepath.Join(t.TempDir(), "kept"), "raptor-agent", program); err != nil {
		t.Fatal(err)
	}
	if b.plain, err = os.Open(b.agent.Name()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.plain.Close() })
	return nil
}

// prebuilt is the program that a variable names, for machines without Go, or
// what build builds.
func prebuilt(variable string, build func() ([]byte, error)) ([]byte, error) {
	if file := os.Getenv(variable); file != "" {
		return os.ReadFile(file)
	}
	return build()
}

func goBuild(dir string) ([]byte, error) {
	tmp, err := os.MkdirTemp("", "raptor-probe-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(tmp)
	cmd := exec.Command("go", "build", "-o", tmp+"/out", "./"+dir)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, text)
	}
	return os.ReadFile(tmp + "/out")
}

func TestAttacks(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	program, err := probe()
	if err != nil {
		t.Fatal(err)
	}
	weak, err := weakAgent()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d attacks", len(attacks))
	for _, a := range attacks {
		t.Run(a.name, func(t *testing.T) {
			base := lower(t)
			write(t, base+"/probe", string(program), 0o755)
			for _, round := range []struct{ closed, build bool }{{true, true}, {true, false}, {false, true}} {
				closed := round.closed
				b := newBox(t, base)
				b.Build = round.build
				env := []string{"PATH=/bin"}
				if a.set != nil {
					env = append(env, a.set(t, b)...)
				}
				if !closed {
					b.agent, b.weak = weak, a.without
					if a.open != nil {
						a.open(b)
					}
				}
				var succeeded bool
				if a.proof != nil {
					succeeded = a.proof(t, b)
				} else {
					err := b.run(&Exec{Args: []string{"sh", "-c", a.script}, Env: env})
					var exit *ExitError
					if err != nil && !errors.As(err, &exit) {
						t.Fatal(err)
					}
					succeeded = err == nil
				}
				switch {
				case closed && succeeded:
					t.Errorf("it succeeds\n%s%s", b.out.String(), b.err.String())
				case !closed && !succeeded:
					t.Errorf("it does not succeed without its defence, so proves nothing\n%s%s", b.out.String(), b.err.String())
				}
			}
		})
	}
}

// TestStrictAgent tells the agent of every build but that for these tests to
// do without defences.
func TestStrictAgent(t *testing.T) {
	b := newBox(t, lower(t))
	b.weak = ^(seccomp | caps | wire.PIDs | wire.IPC | wire.HostNames) // those are raptor's own, not the agent's
	if err := b.run(sh("chmod 666 /dev/null || echo x >/proc/sys/kernel/core_pattern")); err == nil {
		t.Error("it did")
	}
}

// scopes skips on kernels that cannot close abstract sockets of the host: doctor
// says so there.
func scopes(t *testing.T, _ *box) []string {
	const version, withScopes = 1, 6
	if abi, _, err := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, version); err != 0 || abi < withScopes {
		t.Skip("Landlock has no scopes: Linux 6.12 has")
	}
	return nil
}

func both(f, g func(*testing.T, *box) []string) func(*testing.T, *box) []string {
	return func(t *testing.T, b *box) []string { return append(f(t, b), g(t, b)...) }
}

func on(arch string) func(*testing.T, *box) []string {
	return func(t *testing.T, _ *box) []string {
		if runtime.GOARCH != arch {
			t.Skipf("is about %s", arch)
		}
		return nil
	}
}

func needs(path string) func(*testing.T, *box) []string {
	return func(t *testing.T, _ *box) []string {
		if _, err := os.Stat(path); err != nil {
			t.Skipf("this machine has no %s", path)
		}
		return nil
	}
}

func notEmpty(dir string) func(*testing.T, *box) []string {
	return func(t *testing.T, _ *box) []string {
		if list, _ := os.ReadDir(dir); len(list) == 0 {
			t.Skipf("this machine has nothing in %s", dir)
		}
		return nil
	}
}

func noNetwork(_ *testing.T, b *box) []string { b.Network = NoNetwork; return nil }

// disk is a disk that the machine lets its root read: in virtual machines, that
// is not always the one that / is on.
func disk(t *testing.T, _ *box) []string {
	var st unix.Stat_t
	if err := unix.Stat("/", &st); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{fmt.Sprintf("b %d %d", unix.Major(st.Dev), unix.Minor(st.Dev)), "b 7 0", "b 8 0"} {
		path := filepath.Join(t.TempDir(), "disk")
		mknod(t, path, d)
		if f, err := os.Open(path); err == nil {
			f.Close()
			return []string{"DISK=" + d}
		}
	}
	t.Skip("this machine lets nobody read its disks")
	return nil
}

func mknod(t *testing.T, path, what string) {
	t.Helper()
	var kind rune
	var major, minor uint32
	fmt.Sscanf(what, "%c %d %d", &kind, &major, &minor)
	mode := map[rune]uint32{'b': unix.S_IFBLK, 'c': unix.S_IFCHR}[kind]
	if err := unix.Mknod(path, mode|0o666, int(unix.Mkdev(major, minor))); err != nil && err != unix.EEXIST && err != unix.EPERM {
		t.Fatal(err)
	}
}

// device has a node in the lowest layer, or in /dev at its place in there.
func device(what, path string) func(*testing.T, *box) []string {
	return func(t *testing.T, b *box) []string {
		if strings.HasPrefix(path, "/dev/") {
			needs(path)(t, b)
			b.Mounts = append(b.Mounts, Mount{Dest: path, Source: path})
			return nil
		}
		mknod(t, b.Layers[0]+path, what)
		return nil
	}
}

func lend(readOnly bool) func(*testing.T, *box) []string {
	return func(t *testing.T, b *box) []string {
		b.Mounts = append(b.Mounts, Mount{Dest: "/lent", Source: t.TempDir(), ReadOnly: readOnly})
		return nil
	}
}

func mountBelow(t *testing.T, b *box) []string {
	dir := filepath.Join(b.Mounts[0].Source, "below")
	os.Mkdir(dir, 0o755)
	if err := mount.Mount("tmpfs", dir, "tmpfs", "nosuid"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mount.Unmount(dir) })
	return nil
}

func copyFile(t *testing.T, from, to string, mode uint32) {
	t.Helper()
	text, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	write(t, to, string(text), 0o755)
	if err := unix.Chmod(to, mode); err != nil {
		t.Fatal(err)
	}
}

func setID(t *testing.T, b *box) []string {
	dir := b.Mounts[0].Source
	os.Chmod(dir, 0o755)
	copyFile(t, b.Layers[0]+"/probe", dir+"/probe", 0o4755)
	return nil
}

func victim(t *testing.T, _ *box) []string {
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	// Its number is one that the sandbox cannot have by chance.
	if cmd.Process.Pid < 300 {
		t.Skip("process numbers are too low to tell them apart")
	}
	return []string{fmt.Sprint("VICTIM=", cmd.Process.Pid)}
}

func segment(t *testing.T, _ *box) []string {
	const key = 0x72617074
	id, err := unix.SysvShmGet(key, 4096, unix.IPC_CREAT|0o666)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.SysvShmCtl(id, unix.IPC_RMID, nil) })
	return []string{fmt.Sprint("KEY=", key)}
}

// sessionKey puts a key into the keyring that this process's children inherit:
// the session's, or the user's where there is no session. Adding it to "the
// session's" would make one there, for this thread alone.
func sessionKey(t *testing.T, b *box) []string {
	ring, err := unix.KeyctlGetKeyringID(unix.KEY_SPEC_SESSION_KEYRING, false)
	if err != nil {
		t.Skipf("no session keyring: %v", err)
	}
	if _, err := unix.AddKey("user", "raptor-test", []byte("secret"), ring); err != nil {
		t.Skipf("no session keyring: %v", err)
	}
	return nil
}

func outside(t *testing.T, _ *box) []string {
	file := filepath.Join(t.TempDir(), "outside")
	write(t, file, "", 0o644)
	return []string{"OUTSIDE=" + file}
}

func abstractSocket(t *testing.T, _ *box) []string {
	name := fmt.Sprint("raptor-test-", os.Getpid(), "-", time.Now().UnixNano())
	l, err := net.Listen("unix", "@"+name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return []string{"NAME=" + name}
}

func service(t *testing.T, _ *box) []string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return []string{"ADDR=" + l.Addr().String()}
}

// TestOutputSentAway has a program send its end of the output pipe to a process
// that stays.
func TestOutputSentAway(t *testing.T) {
	program, err := probe()
	if err != nil {
		t.Fatal(err)
	}
	base, dir := lower(t), t.TempDir()
	write(t, base+"/probe", string(program), 0o755)
	l, err := net.Listen("unix", dir+"/socket")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		oob := make([]byte, 64)
		_, n, _, _, _ := c.(*net.UnixConn).ReadMsgUnix(make([]byte, 1), oob)
		if m, err := unix.ParseSocketControlMessage(oob[:n]); err == nil && len(m) == 1 {
			if fds, err := unix.ParseUnixRights(&m[0]); err == nil {
				t.Cleanup(func() { unix.Close(fds[0]) })
			}
		}
	}()
	b := newBox(t, base)
	b.Mounts = []Mount{{Dest: "/lent", Source: dir}}
	b.Actions = []Action{sh("/probe sendfd /lent/socket; sleep 0.2")}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if _, err := Run(ctx, &b.Spec, Streams{Stdout: &b.out}); err != nil || b.out.String() != "printed\n" {
		t.Errorf("%v, %q", err, b.out.String())
	}
}

// TestSecretsOfProc looks for files of the kernel's own below /proc that not
// everybody may read, or anybody may write, and that the sandbox's root could
// nevertheless give to all. Those for each process and each network are left out.
func TestSecretsOfProc(t *testing.T) {
	b := newBox(t, lower(t))
	err := b.run(sh(`for f in $(find /proc/[a-z]* -path /proc/sys -prune -o -path /proc/irq -prune -o -path /proc/bus -prune -o '(' ! -perm -444 -o -perm /222 ')' ! -type l -print); do
	case $f in /proc/pressure/*) continue ;; esac # is writable for everybody
	chmod $(stat -c %a $f) $f 2>/dev/null && echo $f
done; true`))
	if err != nil {
		t.Fatal(err)
	}
	if b.out.Len() > 0 {
		t.Errorf("these are not protected:\n%s", b.out.String())
	}
}
