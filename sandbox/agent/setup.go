package main

import (
	"strings"

	"golang.org/x/sys/unix"
)

// An operation is one step of making the sandbox.
type operation struct {
	stage string
	path  string
	do    func() error
}

// setup makes the sandbox: one loop over a list, so that the order can be read
// at a glance and an error names what failed.
func (a *agent) setup() {
	sources := a.openSources()
	ops := []operation{
		{"make mounts private", "/", func() error { return unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "") }},
		{"open layers", a.Upper, a.openLayers},
		{"mount overlay", a.Work, a.mountRoot},
	}
	for _, s := range sources {
		ops = append(ops, operation{"open mount source", s.from, s.open})
	}
	devices := a.devices()
	for _, d := range devices {
		ops = append(ops, operation{"open device", d.from, d.open})
	}
	ops = append(ops,
		operation{"pivot root", a.Work, pivot(a.Work)},
		operation{"clone root", "/", a.cloneRoot},
		operation{"mount", "/proc", a.mountNew("proc", "/proc", unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)},
		operation{"mount", "/sys", a.mountNew("sysfs", "/sys", unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC|unix.MOUNT_ATTR_RDONLY)},
		operation{"mount", "/dev", a.mountNew("tmpfs", "/dev", unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC, "mode=755", "size=65536k")},
		operation{"mount", "/run", a.mountNew("tmpfs", "/run", unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV, "mode=755")},
	)
	for _, d := range devices {
		ops = append(ops, operation{"bind device", d.to, d.attach(a)})
	}
	ops = append(ops, operation{"fill", "/dev", a.fillDev})
	for _, path := range maskedPaths {
		ops = append(ops, operation{"mask", path, mask(path)})
	}
	for _, path := range readOnlyPaths {
		ops = append(ops, operation{"make read-only", path, readOnly(path)})
	}
	ops = append(ops, operation{"provide", resolvConf, a.provideResolvConf})
	if a.Build {
		ops = append(ops, operation{"provide", policyHelper, a.providePolicy})
	}
	for _, s := range sources {
		ops = append(ops, operation{"mount", s.to, s.attach(a)})
	}
	if a.Hostname != "" {
		ops = append(ops, operation{"set host name", a.Hostname, func() error { return unix.Sethostname([]byte(a.Hostname)) }})
	}
	if a.Loopback {
		ops = append(ops, operation{"bring up", "lo", loopbackUp})
	}
	ops = append(ops, operation{"confine programs", "", a.startSpawner})
	for _, op := range ops {
		if err := op.do(); err != nil {
			if e, ok := err.(*opError); ok {
				a.fail(op.stage+": "+e.op, e.path, e.err)
			}
			a.fail(op.stage, op.path, err)
		}
	}
}

func (a *agent) openLayers() error {
	unix.Umask(0o022)
	open := func(path string) (int, error) {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return -1, &opError{"open", path, err}
		}
		return fd, nil
	}
	var err error
	if a.upper, err = open(a.Upper); err != nil {
		return err
	}
	for _, layer := range a.Layers {
		fd, err := open(layer)
		if err != nil {
			return err
		}
		a.layers = append(a.layers, fd)
	}
	return a.likeLower()
}

// likeLower gives the new layer's root the owner and mode of the root below,
// which it would hide otherwise.
func (a *agent) likeLower() error {
	if len(a.layers) == 0 || !a.Build {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(a.layers[len(a.layers)-1], &st); err != nil {
		return err
	}
	if err := unix.Fchown(a.upper, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	return unix.Fchmod(a.upper, st.Mode&0o7777)
}

// mountRoot mounts the overlay over its own work directory, of which only the
// kernel has use.
func (a *agent) mountRoot() error {
	layers := a.Layers
	if len(layers) == 0 {
		// An overlay wants something below: an empty directory beside its own.
		empty := a.Work[:strings.LastIndexByte(a.Work, '/')] + "/empty"
		if err := unix.Mkdir(empty, 0o755); err != nil && err != unix.EEXIST {
			return &opError{"mkdir", empty, err}
		}
		layers = []string{empty}
	}
	fd, err := overlay(layers, a.Upper, a.Work, a.Build)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.MoveMount(fd, "", unix.AT_FDCWD, a.Work, unix.MOVE_MOUNT_F_EMPTY_PATH)
}

// overlay makes a detached overlay mount; without an upper directory it is
// read-only. The layers are given lowest first.
func overlay(layers []string, upper, work string, volatile bool) (int, error) {
	fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, &opError{"fsopen", "overlay", err}
	}
	defer unix.Close(fs)
	set := func(key, value string) error {
		if err := unix.FsconfigSetString(fs, key, value); err != nil {
			return &opError{"configure overlay " + key, value, explain(fs, err)}
		}
		return nil
	}
	set("source", "raptor")
	for i := len(layers) - 1; i >= 0; i-- {
		if err := set("lowerdir+", layers[i]); err != nil {
			return -1, err
		}
	}
	if upper != "" {
		if err := set("upperdir", upper); err != nil {
			return -1, err
		}
		if err := set("workdir", work); err != nil {
			return -1, err
		}
		if volatile {
			// The layer is made durable once, when it is complete.
			if err := unix.FsconfigSetFlag(fs, "volatile"); err != nil {
				return -1, &opError{"configure overlay", "volatile", err}
			}
		}
	}
	// A layer has to be understood by any overlay later, whatever its host's
	// defaults: no redirects, no metadata-only copies, no index.
	for _, key := range []string{"redirect_dir", "metacopy", "index"} {
		if err := set(key, "off"); err != nil {
			return -1, err
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, &opError{"create", "overlay", explain(fs, err)}
	}
	attr := unix.MOUNT_ATTR_NODEV
	if upper == "" {
		attr |= unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, attr)
	if err != nil {
		return -1, &opError{"fsmount", "overlay", err}
	}
	return fd, nil
}

// A detailed error carries what the kernel says about a mount beside errno.
type detailed struct {
	errno error
	text  string
}

func (d *detailed) Error() string { return d.errno.Error() + " (" + d.text + ")" }
func (d *detailed) Unwrap() error { return d.errno }

func explain(fs int, err error) error {
	buf := make([]byte, 1024)
	var said []string
	for {
		n, rerr := unix.Read(fs, buf)
		if rerr != nil || n <= 0 {
			break
		}
		if line := strings.TrimSpace(string(buf[:n])); strings.HasPrefix(line, "e ") {
			said = append(said, line[2:])
		}
	}
	if len(said) == 0 {
		return err
	}
	return &detailed{err, strings.Join(said, "; ")}
}

// pivot makes dir the root and lets go of the old one.
func pivot(dir string) func() error {
	return func() error {
		if err := unix.Chdir(dir); err != nil {
			return err
		}
		if err := unix.PivotRoot(".", "."); err != nil {
			return err
		}
		if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
			return err
		}
		return unix.Chdir("/")
	}
}

// cloneRoot keeps a view of the overlay alone, for files to be written to the
// layer itself, wherever something is mounted later.
func (a *agent) cloneRoot() error {
	fd, err := unix.OpenTree(unix.AT_FDCWD, "/", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return err
	}
	a.bare = fd
	return nil
}

// mountNew mounts a new file system on a path, made when it is missing.
func (a *agent) mountNew(kind, path string, attr int, options ...string) func() error {
	return func() error {
		if err := a.mountPoint(path, true); err != nil {
			return err
		}
		fd, err := fresh(kind, attr, options...)
		if err != nil {
			return err
		}
		return a.attach(fd, path)
	}
}

// fresh makes a detached mount of a new file system.
func fresh(kind string, attr int, options ...string) (int, error) {
	fs, err := unix.Fsopen(kind, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, &opError{"fsopen", kind, err}
	}
	defer unix.Close(fs)
	for _, option := range options {
		key, value, ok := strings.Cut(option, "=")
		if ok {
			err = unix.FsconfigSetString(fs, key, value)
		} else {
			err = unix.FsconfigSetFlag(fs, key)
		}
		if err != nil {
			return -1, &opError{"configure " + kind, option, explain(fs, err)}
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, &opError{"create", kind, explain(fs, err)}
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, attr)
	if err != nil {
		return -1, &opError{"fsmount", kind, err}
	}
	return fd, nil
}

// attach puts a detached mount on a path and closes it. The path is resolved
// inside the sandbox's root: a layer's symbolic links lead nowhere else.
func (a *agent) attach(fd int, path string) error {
	defer unix.Close(fd)
	if err := unix.MoveMount(fd, "", unix.AT_FDCWD, path, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return err
	}
	a.mounted = append(a.mounted, path)
	return nil
}

// A lent thing is a piece of the host that is bound into the sandbox: opened
// before the root changes, attached after.
type lent struct {
	from, to string
	make     func() (int, error)
	dir      bool
	fd       int
}

func (l *lent) open() (err error) {
	l.fd, err = l.make()
	return err
}

func (l *lent) attach(a *agent) func() error {
	return func() error {
		if err := a.mountPoint(l.to, l.dir); err != nil {
			return err
		}
		return a.attach(l.fd, l.to)
	}
}

// cloneTree clones the mounts at path. Nothing on them counts as a device, and
// read-only holds for mounts below it, too.
func cloneTree(path string, attr uint64) (int, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return -1, err
	}
	err = unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &unix.MountAttr{Attr_set: attr, Propagation: unix.MS_PRIVATE})
	if err != nil {
		unix.Close(fd)
		return -1, &opError{"set attributes", path, err}
	}
	return fd, nil
}

// openSources lists what Mounts bind, in an order in which each can be
// attached.
func (a *agent) openSources() []*lent {
	var list []*lent
	for i := range a.Mounts {
		m := &a.Mounts[i]
		attr := uint64(unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOSUID)
		if m.ReadOnly {
			attr |= unix.MOUNT_ATTR_RDONLY
		}
		switch {
		case m.Source != "":
			var st unix.Stat_t
			dir := unix.Stat(m.Source, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR
			list = append(list, &lent{from: m.Source, to: m.Dest, dir: dir, make: func() (int, error) { return cloneTree(m.Source, attr) }})
		case len(m.Overlay) > 0:
			list = append(list, &lent{from: m.Overlay[len(m.Overlay)-1], to: m.Dest, dir: true, make: func() (int, error) { return sum(m.Overlay) }})
		default:
			list = append(list, a.sideBySide(m.Dest, m.Index)...)
			for _, d := range m.Dirs {
				list = append(list, &lent{from: d.Source, to: m.Dest + "/" + d.Name, dir: true, make: func() (int, error) { return cloneTree(d.Source, attr|unix.MOUNT_ATTR_RDONLY) }})
			}
		}
	}
	return list
}

// sum shows layers as one directory. An overlay of lower directories alone
// wants at least two.
func sum(layers []string) (int, error) {
	if len(layers) == 1 {
		return cloneTree(layers[0], unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_RDONLY)
	}
	return overlay(layers, "", "", false)
}

// sideBySide is the directory that layers are bound below, with raptor.json.
func (a *agent) sideBySide(dest string, index []byte) []*lent {
	return []*lent{{from: "tmpfs", to: dest, dir: true, make: func() (int, error) {
		fd, err := fresh("tmpfs", unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOSUID, "mode=755")
		if err != nil {
			return -1, err
		}
		if err := create(fd, "raptor.json", index, 0o644); err != nil {
			return -1, &opError{"write", "raptor.json", err}
		}
		return fd, nil
	}}}
}

func create(dir int, name string, data []byte, mode uint32) error {
	fd, err := unix.Openat(dir, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, mode)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return writeAll(fd, data)
}

func writeAll(fd int, data []byte) error {
	for len(data) > 0 {
		n, err := unix.Write(fd, data)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		data = data[n:]
	}
	return nil
}

// devices are the host's device nodes that a sandbox may open. All else on all
// its file systems is no device.
func (a *agent) devices() []*lent {
	names := []string{"null", "zero", "full", "random", "urandom", "tty"}
	if a.KVM {
		names = append(names, "kvm")
	}
	var list []*lent
	for _, name := range names {
		path := "/dev/" + name
		list = append(list, &lent{from: path, to: path, make: func() (int, error) {
			return unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
		}})
	}
	return list
}

func (a *agent) fillDev() error {
	for name, target := range map[string]string{"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2", "ptmx": "pts/ptmx"} {
		if err := unix.Symlink(target, "/dev/"+name); err != nil {
			return &opError{"symlink", "/dev/" + name, err}
		}
	}
	safe := unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC
	for _, m := range []struct {
		kind, path string
		attr       int
		options    []string
	}{
		{"devpts", "/dev/pts", unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NOEXEC, []string{"ptmxmode=0666", "mode=0620", "gid=5"}},
		{"tmpfs", "/dev/shm", safe, []string{"mode=1777"}},
		{"mqueue", "/dev/mqueue", safe, nil},
	} {
		if err := unix.Mkdir(m.path, 0o755); err != nil {
			return &opError{"mkdir", m.path, err}
		}
		fd, err := fresh(m.kind, m.attr, m.options...)
		if err != nil {
			return err
		}
		if err := a.attach(fd, m.path); err != nil {
			return &opError{"mount", m.path, err}
		}
	}
	return nil
}

// What a process with root's rights must not read, or not write: as Docker
// has it.
var (
	maskedPaths = []string{"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/sched_debug",
		"/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware"}
	readOnlyPaths = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
)

// mask hides a file behind /dev/null, and a directory behind an empty one.
func mask(path string) func() error {
	return func() error {
		var st unix.Stat_t
		if unix.Lstat(path, &st) != nil {
			return nil // this kernel does not have it
		}
		var fd int
		var err error
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			fd, err = fresh("tmpfs", unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC, "size=0k", "mode=555")
		} else {
			fd, err = unix.OpenTree(unix.AT_FDCWD, "/dev/null", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
		}
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.MoveMount(fd, "", unix.AT_FDCWD, path, unix.MOVE_MOUNT_F_EMPTY_PATH)
	}
}

func readOnly(path string) func() error {
	return func() error {
		fd, err := cloneTree(path, unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
		if err == unix.ENOENT {
			return nil
		}
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.MoveMount(fd, "", unix.AT_FDCWD, path, unix.MOVE_MOUNT_F_EMPTY_PATH)
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
