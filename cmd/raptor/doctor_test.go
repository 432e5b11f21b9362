package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	diff "github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

var update = flag.Bool("update", false, "write the golden files anew")

// A machine is this one with something taken away or added, for one program.
type machine struct {
	Unmount    []string          // mount points
	Mounts     []bind            // in order
	Sysctl     map[string]string // of a user namespace of its own, by path
	IDs        int               // of that user namespace; 0: all
	Drop       []uintptr         // capabilities
	NoNewPrivs bool              // no program gains rights by being executed
	Refuse     []refusal         // system calls
	User       int               // who runs the program; 0 is root
}

// A bind shows From at At: a directory or file, or a new file system of the
// kind Kind.
type bind struct {
	At, From, Kind, Options string
	ReadOnly                bool
}

// A refusal is a system call that fails, if Mask of argument Arg is Value.
type refusal struct {
	Call, Arg   int
	Mask, Value uint32
	Err         syscall.Errno
}

func refuse(err syscall.Errno, calls ...int) (list []refusal) {
	for _, call := range calls {
		list = append(list, refusal{Call: call, Err: err})
	}
	return list
}

func refuseNamespaces(err syscall.Errno, flags uint32) []refusal {
	return []refusal{{unix.SYS_CLONE, 0, flags, flags, err}, {unix.SYS_UNSHARE, 0, flags, flags, err}, {Call: unix.SYS_CLONE3, Err: unix.ENOSYS}}
}

// onMachine is the program that makes the machine, as the variable MACHINE
// describes it, and executes its arguments there.
func onMachine() {
	runtime.LockOSThread()
	var m machine
	if err := json.Unmarshal([]byte(os.Getenv("MACHINE")), &m); err != nil {
		panic(err)
	}
	if err := m.enter(); err != nil {
		fmt.Fprintln(os.Stderr, "make the machine:", err)
		os.Exit(99)
	}
	err := unix.Exec(os.Args[1], os.Args[1:], os.Environ())
	fmt.Fprintln(os.Stderr, "execute", os.Args[1], err)
	os.Exit(99)
}

func (m *machine) enter() error {
	if os.Getenv("MACHINE_INSIDE") == "" {
		if err := m.mounts(); err != nil {
			return err
		}
		if len(m.Sysctl) > 0 || m.IDs > 0 {
			return m.again()
		}
	}
	for file, value := range m.Sysctl {
		if err := os.WriteFile(file, []byte(value), 0); err != nil {
			return err
		}
	}
	for _, c := range m.Drop {
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil {
			return err
		}
	}
	if err := filterCalls(m.Refuse); err != nil {
		return fmt.Errorf("refuse system calls: %w", err)
	}
	if m.User != 0 {
		if err := errors.Join(syscall.Setgroups(nil), syscall.Setgid(m.User), syscall.Setuid(m.User)); err != nil {
			return err
		}
	}
	if m.NoNewPrivs {
		return unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
	}
	return nil
}

// again does the rest in a user namespace, which has sysctls of its own.
func (m *machine) again() error {
	ids := []syscall.SysProcIDMap{{Size: cmp.Or(m.IDs, 1<<31-1)}}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0] // which testscript tells programs by
	cmd.Env = append(os.Environ(), "MACHINE_INSIDE=yes")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER, UidMappings: ids, GidMappings: ids, GidMappingsEnableSetgroups: true}
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		os.Exit(exit.ExitCode())
	}
	if err == nil {
		os.Exit(0)
	}
	return err
}

func (m *machine) mounts() error {
	for _, path := range m.Unmount {
		if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && err != unix.EINVAL { // not mounted
			return &os.PathError{Op: "unmount", Path: path, Err: err}
		}
	}
	for _, b := range m.Mounts {
		var err error
		if b.Kind != "" {
			err = unix.Mount(b.Kind, b.At, b.Kind, 0, b.Options)
		} else if err = unix.Mount(b.From, b.At, "", unix.MS_BIND|unix.MS_REC, ""); err == nil && b.ReadOnly {
			err = unix.Mount("", b.At, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, "")
		}
		if err != nil {
			return &os.PathError{Op: "mount", Path: b.At, Err: err}
		}
		if b.Kind == "tmpfs" {
			if err := os.Chmod(b.At, 0o777); err != nil {
				return err
			}
		}
	}
	return nil
}

// filterCalls refuses system calls to this thread, and to what it executes.
func filterCalls(list []refusal) error {
	if len(list) == 0 {
		return nil
	}
	const number, arguments = 0, 16
	var prog []unix.SockFilter
	add := func(code uint16, k uint32, otherwise uint8) { // if it is not so, skip as many
		prog = append(prog, unix.SockFilter{Code: code, Jf: otherwise, K: k})
	}
	for _, r := range list {
		add(unix.BPF_LD|unix.BPF_W|unix.BPF_ABS, number, 0)
		add(unix.BPF_JMP|unix.BPF_JEQ|unix.BPF_K, uint32(r.Call), 4)
		add(unix.BPF_LD|unix.BPF_W|unix.BPF_ABS, uint32(arguments+8*r.Arg), 0)
		add(unix.BPF_ALU|unix.BPF_AND|unix.BPF_K, r.Mask, 0)
		add(unix.BPF_JMP|unix.BPF_JEQ|unix.BPF_K, r.Value, 1)
		add(unix.BPF_RET|unix.BPF_K, unix.SECCOMP_RET_ERRNO|uint32(r.Err), 0)
	}
	add(unix.BPF_RET|unix.BPF_K, unix.SECCOMP_RET_ALLOW, 0)
	return unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]})), 0, 0)
}

// A patient is a machine for doctor to look at, before anything is taken away:
// with programs, users and devices that are the same wherever the test runs.
type patient struct {
	machine
	dir string // all below is in it
	env []string
}

// ada is an ordinary user of the machine.
const ada = 4711

func newPatient(t *testing.T, user int) *patient {
	t.Helper()
	dir, err := os.MkdirTemp("", "raptor-doctor-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	os.Chmod(dir, 0o755)
	p := &patient{dir: dir, env: []string{"PATH=" + dir + "/bin", "HOME=" + dir + "/home"}}
	p.User = user
	for _, sub := range []string{"/bin", "/dev", "/etc", "/sys", "/home", "/home/.cache", "/home/project"} {
		os.Mkdir(dir+sub, 0o755)
		if strings.HasPrefix(sub, "/home") {
			os.Chown(dir+sub, user, user)
		}
	}
	for _, name := range []string{"mmdebstrap", "git", "newuidmap", "newgidmap", "nsenter"} {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Fatalf("%v: install it", err)
		}
		os.Symlink(path, p.path("bin", name))
	}
	copyTo(t, program(t, "raptor"), dir+"/raptor", 0o755)
	p.write(t, "etc/passwd", "root:x:0:0::/root:/bin/sh\nada:x:4711:4711::/home/ada:/bin/sh\n")
	p.write(t, "etc/group", "root:x:0:\nada:x:4711:\n")
	p.write(t, "etc/subuid", "ada:100000:65536\n")
	p.write(t, "etc/subgid", "ada:100000:65536\n")
	p.bind(dir+"/etc", "/etc")
	for _, name := range []string{"null", "zero", "full", "random", "urandom", "tty", "kvm"} {
		p.write(t, "dev/"+name, "")
		from := "/dev/" + name
		if name == "kvm" {
			from = "/dev/null" // it can be opened, which is all that is asked of it
		}
		p.bind(from, p.path("dev", name))
	}
	p.bind(dir+"/dev", "/dev")
	if user != 0 {
		// What ordinary users may do with control groups differs between machines.
		p.Unmount = []string{"/sys/fs/cgroup"}
	} else {
		p.env = append(p.env, "RAPTOR_CACHE_DIR="+dir+"/home/.cache/raptor")
	}
	return p
}

func (p *patient) path(elem ...string) string {
	return filepath.Join(append([]string{p.dir}, elem...)...)
}

func (p *patient) bind(from, at string) { p.Mounts = append(p.Mounts, bind{At: at, From: from}) }

func (p *patient) write(t *testing.T, name, text string) {
	t.Helper()
	os.MkdirAll(filepath.Dir(p.path(name)), 0o755)
	if err := os.WriteFile(p.path(name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func copyTo(t *testing.T, from, to string, mode os.FileMode) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, data, mode)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// own gives the machine a program with a mode of its own.
func (p *patient) own(t *testing.T, name string, mode os.FileMode) {
	t.Helper()
	file := p.path("bin", name)
	original, err := filepath.EvalSymlinks(file)
	if err != nil {
		t.Fatal(err)
	}
	os.Remove(file)
	copyTo(t, original, file, 0o755)
	if err := unix.Chmod(file, uint32(mode)); err != nil {
		t.Fatal(err)
	}
}

// sysctlFile lets a file below /proc/sys/kernel say what it does with another
// kernel.
func (p *patient) sysctlFile(t *testing.T, name, text string) {
	p.write(t, "sys/"+name, text)
	p.bind(p.path("sys"), "/proc/sys/kernel")
}

// store puts a file system where layers are kept.
func (p *patient) store(b bind) {
	b.At = p.path("home/project/layers")
	os.Mkdir(b.At, 0o755)
	p.Mounts = append(p.Mounts, b)
}

// run runs raptor on the machine, and returns what it printed and its status.
func (p *patient) run(t *testing.T, args ...string) (string, int) {
	t.Helper()
	launcher, err := exec.LookPath("on-machine") // put there by testscript
	if err != nil {
		t.Fatal(err)
	}
	description, err := json.Marshal(p.machine)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(launcher, append([]string{p.path("raptor")}, args...)...)
	cmd.Dir, cmd.Env = p.path("home/project"), append(p.env, "MACHINE="+string(description))
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
	cmd.WaitDelay = 10 * time.Second
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), cmd.ProcessState.ExitCode()
}

// without takes something away.
var without = []struct {
	name string // of the golden file
	user int
	take func(*testing.T, *patient)
}{
	{"root", 0, nil},
	{"root-cap-sys-admin", 0, func(_ *testing.T, p *patient) { p.Drop = []uintptr{unix.CAP_SYS_ADMIN} }},
	{"root-network-namespaces", 0, func(_ *testing.T, p *patient) { p.Refuse = refuseNamespaces(unix.EPERM, unix.CLONE_NEWNET) }},
	{"root-mounts", 0, func(_ *testing.T, p *patient) { p.Refuse = refuse(unix.EACCES, unix.SYS_MOUNT) }},
	{"root-new-mount-api", 0, func(_ *testing.T, p *patient) { p.Refuse = refuse(unix.ENOSYS, newMountAPI...) }},
	{"root-lowerdir", 0, func(_ *testing.T, p *patient) {
		p.Refuse = []refusal{{unix.SYS_FSCONFIG, 1, ^uint32(0), unix.FSCONFIG_SET_STRING, unix.EINVAL}}
	}},
	{"root-overlay", 0, func(_ *testing.T, p *patient) { p.Refuse = refuse(unix.ENODEV, unix.SYS_FSOPEN) }},
	{"root-seccomp", 0, func(_ *testing.T, p *patient) { p.Refuse = refuse(unix.EINVAL, unix.SYS_SECCOMP) }},
	{"root-landlock", 0, func(_ *testing.T, p *patient) {
		p.Refuse = refuse(unix.ENOSYS, unix.SYS_LANDLOCK_CREATE_RULESET)
	}},
	{"root-keyctl", 0, func(_ *testing.T, p *patient) { p.Refuse = refuse(unix.EPERM, unix.SYS_KEYCTL) }},
	{"root-cgroups", 0, func(_ *testing.T, p *patient) { p.Unmount = []string{"/sys/fs/cgroup"} }},
	{"root-programs", 0, func(t *testing.T, p *patient) {
		os.Remove(p.path("bin/mmdebstrap"))
		os.Remove(p.path("bin/git"))
		p.write(t, "home/.docker/config.json", `{"credsStore": "secretservice", "credHelpers": {"registry.example": "ecr-login"}}`)
	}},
	{"root-keyring", 0, func(_ *testing.T, p *patient) {
		p.Mounts = append(p.Mounts, bind{At: "/usr/share/keyrings", Kind: "tmpfs"})
	}},
	{"root-kvm", 0, func(_ *testing.T, p *patient) {
		p.Mounts = slices.DeleteFunc(p.Mounts, func(b bind) bool { return b.At == p.path("dev/kvm") })
		os.Remove(p.path("dev/kvm"))
	}},
	{"root-store-on-tmpfs", 0, func(_ *testing.T, p *patient) { p.store(bind{Kind: "tmpfs"}) }},
	{"root-store-small", 0, func(_ *testing.T, p *patient) { p.store(bind{Kind: "tmpfs", Options: "size=64m"}) }},
	{"root-store-on-overlay", 0, func(_ *testing.T, p *patient) {
		scratch := p.path("overlay")
		for _, sub := range []string{"", "/lower", "/upper", "/work"} {
			os.Mkdir(scratch+sub, 0o755)
		}
		p.store(bind{Kind: "overlay", Options: fmt.Sprintf("lowerdir=%s/lower,upperdir=%[1]s/upper,workdir=%[1]s/work", scratch)})
	}},
	{"root-store-read-only", 0, func(_ *testing.T, p *patient) { p.store(bind{From: p.path("home"), ReadOnly: true}) }},
	{"root-user-namespace", 0, func(_ *testing.T, p *patient) { p.IDs = 65536 }},
	{"root-user-namespace-one-id", 0, func(_ *testing.T, p *patient) { p.IDs = 1 }},
	{"user", ada, nil},
	{"user-user-namespaces", ada, func(_ *testing.T, p *patient) { p.Refuse = refuseNamespaces(unix.EPERM, unix.CLONE_NEWUSER) }},
	{"user-max-user-namespaces", ada, func(_ *testing.T, p *patient) {
		p.Sysctl = map[string]string{"/proc/sys/user/max_user_namespaces": "0"}
	}},
	{"user-unprivileged-userns-clone", ada, func(t *testing.T, p *patient) {
		p.sysctlFile(t, "unprivileged_userns_clone", "0\n")
		p.Refuse = refuseNamespaces(unix.EPERM, unix.CLONE_NEWUSER)
	}},
	{"user-apparmor", ada, func(t *testing.T, p *patient) {
		p.sysctlFile(t, "apparmor_restrict_unprivileged_userns", "1\n")
		p.Refuse = refuse(unix.EACCES, unix.SYS_MOUNT)
	}},
	{"user-subordinate-ids", ada, func(t *testing.T, p *patient) {
		p.write(t, "etc/subuid", "")
		p.write(t, "etc/subgid", "")
	}},
	{"user-few-subordinate-ids", ada, func(t *testing.T, p *patient) { p.write(t, "etc/subgid", "ada:100000:1000\n") }},
	{"user-newuidmap", ada, func(_ *testing.T, p *patient) { os.Remove(p.path("bin/newuidmap")) }},
	{"user-newuidmap-powerless", ada, func(t *testing.T, p *patient) { p.own(t, "newuidmap", 0o755) }},
	{"user-cap-sys-admin", ada, func(t *testing.T, p *patient) {
		p.Drop = []uintptr{unix.CAP_SYS_ADMIN}
		p.own(t, "newuidmap", 0o4755)
		p.own(t, "newgidmap", 0o4755)
	}},
	{"user-cap-sys-admin-mended", ada, func(t *testing.T, p *patient) { // as the one before says
		p.Drop = []uintptr{unix.CAP_SYS_ADMIN}
		for program, capability := range map[string]string{"newuidmap": "cap_setuid=ep", "newgidmap": "cap_setgid=ep"} {
			p.own(t, program, 0o755)
			if out, err := exec.Command("setcap", capability, p.path("bin", program)).CombinedOutput(); err != nil {
				t.Fatalf("setcap: %v %s", err, out)
			}
		}
	}},
	{"user-new-privileges", ada, func(_ *testing.T, p *patient) { p.NoNewPrivs = true }},
	{"user-nsenter", ada, func(_ *testing.T, p *patient) { os.Remove(p.path("bin/nsenter")) }},
	{"user-overlay", ada, func(_ *testing.T, p *patient) {
		p.Refuse = []refusal{{unix.SYS_FSCONFIG, 1, ^uint32(0), unix.FSCONFIG_CMD_CREATE, unix.EPERM}}
	}},
	{"user-lowerdir", ada, func(_ *testing.T, p *patient) {
		p.Refuse = []refusal{{unix.SYS_FSCONFIG, 1, ^uint32(0), unix.FSCONFIG_SET_STRING, unix.EINVAL}}
	}},
	{"user-new-mount-api", ada, func(_ *testing.T, p *patient) { p.Refuse = refuse(unix.ENOSYS, newMountAPI...) }},
	{"user-whole-proc", ada, func(_ *testing.T, p *patient) { p.bind("/dev/null", "/proc/kallsyms") }},
	{"user-kvm", ada, func(_ *testing.T, p *patient) {
		p.Mounts = slices.DeleteFunc(p.Mounts, func(b bind) bool { return b.At == p.path("dev/kvm") })
		os.Chmod(p.path("dev/kvm"), 0o600)
	}},
	{"user-store", ada, func(_ *testing.T, p *patient) { os.Chown(p.path("home/project"), 0, 0) }},
}

var newMountAPI = []int{unix.SYS_FSOPEN, unix.SYS_FSCONFIG, unix.SYS_FSMOUNT, unix.SYS_MOVE_MOUNT, unix.SYS_OPEN_TREE, unix.SYS_MOUNT_SETATTR}

// TestDoctor holds doctor's words, with each thing taken away in turn, against
// golden files; and its verdict against a build. What differs between good
// machines is not looked at.
func TestDoctor(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	if abi, _, _ := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, 1); int(abi) < 6 {
		t.Skip("needs Landlock with scopes: Linux 6.12")
	}
	for _, c := range without {
		t.Run(c.name, func(t *testing.T) {
			p := newPatient(t, c.user)
			if c.take != nil {
				c.take(t, p)
			}
			said, status := p.run(t, "doctor")
			compareGolden(t, "testdata/doctor/"+c.name+".txt", fmt.Sprintf("%s\nexit status %d\n", p.normal(said), status))
			if left, _ := filepath.Glob(p.path("home/project/.raptor-doctor-*")); len(left) > 0 {
				t.Errorf("it left %v", left)
			}
			busybox, err := exec.LookPath("busybox")
			if err != nil {
				t.Fatal(err)
			}
			copyTo(t, busybox, p.path("home/project/busybox"), 0o755)
			p.write(t, "home/project/a.rapt", "COPY busybox /bin/\nRUN /bin/busybox chown 65534:65534 /bin\n")
			if said, built := p.run(t, "build", "a"); built != status {
				t.Errorf("doctor ends with %d, a build with %d:\n%s", status, built, said)
			}
		})
	}
}

// Less is said with -q, and in colours where they are wanted.
func TestDoctorForms(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	p := newPatient(t, 0)
	os.Remove(p.path("bin/git"))
	p.Refuse = refuse(unix.ENODEV, unix.SYS_FSOPEN)
	for form, args := range map[string][]string{"quiet": {"doctor", "-q"}, "colour": {"doctor", "--color=always"}} {
		said, _ := p.run(t, args...)
		compareGolden(t, "testdata/doctor/"+form+".txt", p.normal(said))
	}
}

var (
	freeSpace  = regexp.MustCompile(`[0-9.]+ GB free`)
	anyStorage = regexp.MustCompile(`layers on (ext4|xfs|btrfs|zfs|f2fs)\b`)
	descriptor = regexp.MustCompile(`/fd/[0-9]+`)
)

func (p *patient) normal(said string) string {
	said = strings.ReplaceAll(said, p.dir, "$DIR")
	said = freeSpace.ReplaceAllString(said, "N GB free")
	said = anyStorage.ReplaceAllString(said, "layers on FILESYSTEM")
	return descriptor.ReplaceAllString(said, "/fd/N")
}

func compareGolden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		os.MkdirAll(filepath.Dir(file), 0o755)
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := diff.Diff(string(want), got); d != "" {
		t.Errorf("%s differs (- wanted, + is):\n%s", file, d)
	}
}
