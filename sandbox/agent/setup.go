package main

import (
	"strings"

	"github.com/moby/sys/mount"
	"golang.org/x/sys/unix"

	"raptor-make/sandbox/internal/mounts"
	"raptor-make/sandbox/internal/wire"
)

// An operation is one step of making the sandbox.
type operation struct {
	stage string
	path  string
	do    func() error
}

// setup makes the sandbox, by two lists of operations, so that the order can be
// read at a glance and an error names what failed. The first is carried out before
// anybody knows what the sandbox will be.
//
// What moby/sys/mount can express is mounted with it: mount(2) is one system
// call where the new interface takes six. Overlays, and whatever must be opened
// before the root changes or must be read-only with all that is below, take
// the new one.

// furnish makes what is the same in all sandboxes: /proc, /sys, /dev and /run,
// with all that is mounted below them. They stand in a file system of their own,
// the working directory, until there is a root to move them to.
func (a *agent) furnish() []operation {
	ops := []operation{
		{"make mounts private", "/", func() error { return unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "") }},
		{"mount", stagingDir, a.mountStaging},
		{"mount", "/proc", a.mountNew("proc", "/proc", "nosuid,nodev,noexec")},
		{"mount", "/sys", a.mountSys},
		{"mount", "/dev", a.mountNew("tmpfs", "/dev", "nosuid,nodev,noexec,mode=755,size=65536k")},
		{"bind devices", "/dev", a.bindDevices},
	}
	if !a.without(wire.Masks) {
		ops = append(ops, operation{"protect", "/proc", a.protect})
	}
	return append(ops, operation{"fill", "/dev", a.fillDev},
		operation{"mount", "/run", a.mountNew("tmpfs", "/run", "nosuid,nodev,mode=755")})
}

// setup makes the rest.
func (a *agent) setup() []operation {
	ops := []operation{{"open", "staging area", a.openStaging}}
	if a.merged < 0 {
		ops = append(ops, operation{"open layers", a.Upper, a.openRoot})
	}
	ops = append(ops, operation{"mount overlay", a.Work, a.mountRoot})
	sources := a.openSources()
	for _, s := range sources {
		ops = append(ops, operation{"open", s.from, s.open})
	}
	if a.KVM {
		ops = append(ops, operation{"bind", "/dev/kvm", a.bindKVM})
	}
	ops = append(ops, operation{"pivot root", "/", a.pivot}, operation{"clone root", "/", a.cloneRoot})
	for _, path := range []string{"/proc", "/sys", "/dev", "/run"} {
		ops = append(ops, operation{"move in", path, a.moveIn(path)})
	}
	ops = append(ops, operation{"let go", "old root", a.letGo}, operation{"provide", resolvConf, a.provideResolvConf})
	if a.Build {
		ops = append(ops, operation{"provide", policyHelper, a.providePolicy})
	}
	for _, s := range sources {
		ops = append(ops, operation{"mount", s.to, s.attach(a)})
	}
	for _, m := range a.Mounts {
		if m.Source == "" && len(m.Overlay) == 0 {
			ops = append(ops, operation{"make read-only", m.Dest, freeze(m.Dest)})
		}
	}
	if a.Loopback {
		ops = append(ops, operation{"bring up", "lo", loopbackUp})
	}
	ops = append(ops, operation{"note", "mount points", a.noteStubs},
		operation{"set host name", a.Hostname, func() error { return unix.Sethostname([]byte(a.Hostname)) }})
	if a.Wait {
		ops = append(ops, operation{"wait for limits", "", func() error { <-a.goAhead; return nil }})
	}
	return ops
}

// carryOut carries out operations up to the first that fails.
func (a *agent) carryOut(ops []operation) *opError {
	for _, op := range ops {
		if err := op.do(); err != nil {
			if e := described(err); e != nil {
				return &opError{op.stage + ": " + e.op, e.path, e.err}
			}
			return &opError{op.stage, op.path, err}
		}
		a.trace(op.stage + " " + op.path)
	}
	return nil
}

// trace tells when a stage was over, to whoever measures.
func (a *agent) trace(stage string) {
	var now unix.Timespec
	unix.ClockGettime(unix.CLOCK_MONOTONIC, &now)
	a.stages = append(a.stages, wire.Event{Kind: wire.Stage, Op: stage, Entries: now.Nano()})
	if a.Spec == nil {
		return // it is not known yet whether anybody does
	}
	if a.Trace {
		for i := range a.stages {
			a.send(&a.stages[i])
		}
	}
	a.stages = a.stages[:0]
}

// mountStaging makes the file system that things stand in until they are moved,
// the working directory from now on. All paths of the host have to lead where they
// do for everybody until the sources of mounts are open. So it must not be over the
// root, which is where ".." leads from the root, but where nobody has anything.
func (a *agent) mountStaging() error {
	fd, err := mounts.New("tmpfs", unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NOEXEC)
	if err != nil {
		return err
	}
	defer unix.Close(fd) // its number will be another file's
	if err := moveTo(fd, stagingDir); err != nil {
		return err
	}
	if err := unix.Fchdir(fd); err != nil {
		return err
	}
	return unix.Mount("", ".", "", unix.MS_UNBINDABLE, "") // not with what is lent
}

// stagingDir is an empty directory, or one with drivers' texts, of each procfs.
const stagingDir = "/proc/driver"

// moveTo attaches a mount.
func moveTo(fd int, path string) error {
	return unix.MoveMount(fd, "", unix.AT_FDCWD, path, unix.MOVE_MOUNT_F_EMPTY_PATH)
}

// openStaging opens it, before the working directory changes.
func (a *agent) openStaging() (err error) {
	a.staging, err = mounts.Directory(".", unix.O_PATH)
	return err
}

// moveIn moves a file system from where it has stood to its place, which is made
// when it is missing.
func (a *agent) moveIn(path string) func() error {
	return func() error {
		to, err := a.mountPoint(path, true)
		if err != nil {
			return err
		}
		return unix.MoveMount(a.staging, path[1:], unix.AT_FDCWD, to, 0) // the kernel follows no link here, and there is none
	}
}

// mountNew mounts a new file system in the staging area.
func (a *agent) mountNew(kind, path, options string) func() error {
	return func() error {
		if err := unix.Mkdir(path[1:], 0o755); err != nil {
			return &opError{"mkdir", path, err}
		}
		return a.mountAt(kind, path, options)
	}
}

func (a *agent) mountAt(kind, path, options string) error {
	if a.without(wire.NoDevices) {
		options = strings.Replace(options, "nodev", "dev", 1)
	}
	if a.without(wire.ReadOnlySys) {
		options = strings.Replace(options, ",ro", "", 1)
	}
	return cause(mount.Mount(kind, path[1:], kind, options))
}

// mountSys mounts /sys. A user namespace may not make a new one that shows a
// network of somebody else's, the host's: then it is the host's own, read-only.
func (a *agent) mountSys() error {
	err := a.mountNew("sysfs", "/sys", "nosuid,nodev,noexec,ro")()
	if err != unix.EPERM || !inUserNamespace() {
		return err
	}
	fd, err := cloneTree("/sys", unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return moveTo(fd, "sys")
}

// bindDevices shows the host's device nodes that a sandbox may open; all else on
// all its file systems is no device.
//
// The binds are read-only, which does not hinder anybody from writing to the
// devices: it keeps the sandbox's root, who is the host's, from changing mode and
// owner of the host's nodes. They are made so together, with /dev itself, which
// is writable again afterwards.
func (a *agent) bindDevices() error {
	for _, name := range []string{"null", "zero", "full", "random", "urandom", "tty"} {
		if err := bindDevice("/dev/" + name); err != nil {
			return err
		}
	}
	attr := a.ofDevices()
	if err := unix.MountSetattr(unix.AT_FDCWD, "dev", unix.AT_RECURSIVE, &attr); err != nil {
		return err
	}
	return writable("dev")
}

// bindKVM does so with the device that only containers have.
func (a *agent) bindKVM() error {
	if err := unix.Fchdir(a.staging); err != nil {
		return err
	}
	if err := bindDevice("/dev/kvm"); err != nil {
		return err
	}
	attr := a.ofDevices()
	return unix.MountSetattr(unix.AT_FDCWD, "dev/kvm", 0, &attr)
}

func (a *agent) ofDevices() unix.MountAttr {
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NOEXEC}
	if a.without(wire.ReadOnlyDevices) {
		attr.Attr_set &^= unix.MOUNT_ATTR_RDONLY
	}
	return attr
}

func bindDevice(path string) error {
	if err := unix.Mknod(path[1:], unix.S_IFREG|0o644, 0); err != nil {
		return &opError{"make mount point", path, err}
	}
	if err := bind(path, path[1:]); err != nil {
		return &opError{"bind", path, err}
	}
	return nil
}

func writable(path string) error {
	return unix.MountSetattr(unix.AT_FDCWD, path, 0, &unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY})
}

// What a process with root's rights must not read, or not write: as Docker
// has it, and besides what else below /proc not everybody may read or anybody
// may write. The modes of the kernel's own files are the same in each mount of
// /proc on the machine, and their owner, root, can change them: it could give what
// they say to all users of the host. On a read-only mount it cannot.
//
// The others stay as they are. They tell nothing new to anybody, and to mount each
// read-only would be 40 mounts more, a tenth of a sandbox's start; what there is for
// each process is in no one place to mount anything on, and must be writable.
var (
	maskedFiles   = []string{"/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/sched_debug", "/proc/timer_list", "/proc/timer_stats"}
	maskedDirs    = []string{"/proc/acpi", "/proc/asound", "/proc/scsi", "/sys/devices/virtual/powercap", "/sys/firmware"}
	readOnlyPaths = []string{"/proc/allocinfo", "/proc/bus", "/proc/dynamic_debug", "/proc/fs", "/proc/irq", "/proc/kmsg", "/proc/kpagecgroup", "/proc/kpagecount",
		"/proc/kpageflags", "/proc/mtrr", "/proc/pagetypeinfo", "/proc/slabinfo", "/proc/sys", "/proc/sysrq-trigger", "/proc/tty", "/proc/vmallocinfo"}
)

// protect hides the masked paths, files behind /dev/null and directories behind
// an empty one, and makes others read-only. A bind takes its source's flags
// along: from a read-only mount it is one call, where it takes two to make each
// read-only. None must fail for being of the other kind: the kernel then waits
// for all processors.
func (a *agent) protect() error {
	if err := unix.Mkdir(ptsDir[1:], 0o755); err != nil {
		return &opError{"mkdir", ptsDir, err}
	}
	for _, path := range maskedFiles {
		if err := bind("dev/null", path[1:]); err != nil && err != unix.ENOENT { // some kernels don't have it
			return &opError{"mask", path, err}
		}
	}
	empty := ptsDir // its own file system covers it later; nothing is ever in it
	for _, path := range maskedDirs {
		err := bind(empty[1:], path[1:])
		if err == nil && empty == ptsDir {
			empty = path
			err = freeze(path[1:])()
		}
		if err != nil && err != unix.ENOENT {
			return &opError{"mask", path, err}
		}
	}
	if err := freeze("proc")(); err != nil {
		return err
	}
	for _, path := range readOnlyPaths {
		if err := bind(path[1:], path[1:]); err != nil && err != unix.ENOENT {
			return &opError{"make read-only", path, err}
		}
	}
	return writable("proc")
}

func bind(from, to string) error { return cause(mount.Mount(from, to, "", "bind")) }

const ptsDir = "/dev/pts"

// A link or a file system below /dev.
type entry struct{ path, kind, options string }

var devEntries = []entry{
	{"/dev/fd", "", "/proc/self/fd"},
	{"/dev/stdin", "", "/proc/self/fd/0"},
	{"/dev/stdout", "", "/proc/self/fd/1"},
	{"/dev/stderr", "", "/proc/self/fd/2"},
	{"/dev/ptmx", "", "pts/ptmx"},
	{ptsDir, "devpts", "nosuid,noexec,ptmxmode=0666,mode=0620,gid=5"},
	{"/dev/shm", "tmpfs", "nosuid,nodev,noexec,mode=1777"},
	{"/dev/mqueue", "mqueue", "nosuid,nodev,noexec"},
}

func (a *agent) fillDev() error {
	for _, e := range devEntries {
		if e.kind == "" {
			if err := unix.Symlink(e.options, e.path[1:]); err != nil {
				return &opError{"symlink", e.path, err}
			}
			continue
		}
		if err := unix.Mkdir(e.path[1:], 0o755); err != nil && err != unix.EEXIST {
			return &opError{"mkdir", e.path, err}
		}
		if err := mount.Mount(e.kind, e.path[1:], e.kind, e.options); err != nil {
			return &opError{"mount", e.path, cause(err)}
		}
	}
	return nil
}

// cause is what the kernel said, without what moby/sys/mount adds: stage and
// path are told anyway.
func cause(err error) error {
	if err == nil {
		return nil
	}
	if n := errno(err); n != 0 {
		return unix.Errno(n)
	}
	return err
}

// freeze makes one mount read-only.
func freeze(path string) func() error {
	return func() error {
		return unix.MountSetattr(unix.AT_FDCWD, path, 0, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
	}
}

func loopbackUp() error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, req)
}
