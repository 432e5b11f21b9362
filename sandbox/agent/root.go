package main

import (
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"raptor-make/sandbox/internal/wire"
)

// openLayers opens the directories that the root is made of, so that nothing
// done to their paths from now on matters.
func (a *agent) openLayers() error {
	var err error
	if a.upper, err = directory(a.Upper); err != nil {
		return err
	}
	if a.work, err = directory(a.Work); err != nil {
		return err
	}
	if a.layers, err = directories(a.Layers); err != nil {
		return err
	}
	// A mount that flushed nothing leaves this mark, which keeps the directory
	// from being used again. It is used again, so its owner thinks it good.
	if unix.Unlinkat(a.work, "work/incompat/volatile/dirty", 0) != unix.ENOENT {
		unix.Unlinkat(a.work, "work/incompat/volatile", unix.AT_REMOVEDIR)
	}
	return a.likeLower()
}

func directory(path string) (int, error) { return openDirectory(path, unix.O_RDONLY) }

func openDirectory(path string, how int) (int, error) {
	fd, err := unix.Open(path, how|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &opError{"open", path, err}
	}
	return fd, nil
}

// directories opens those that are only to be mounted or looked up in: that takes
// less.
func directories(paths []string) ([]int, error) {
	fds := make([]int, 0, len(paths))
	for _, path := range paths {
		fd, err := openDirectory(path, unix.O_PATH)
		if err != nil {
			return nil, err
		}
		fds = append(fds, fd)
	}
	return fds, nil
}

// likeLower gives a new upper directory the owner and mode of the root below,
// which it would hide otherwise. One that holds something is not new.
func (a *agent) likeLower() error {
	if len(a.layers) == 0 {
		return nil
	}
	var st, own unix.Stat_t
	if err := unix.Fstat(a.layers[len(a.layers)-1], &st); err != nil {
		return err
	}
	if err := unix.Fstat(a.upper, &own); err != nil {
		return err
	}
	if own.Mode == st.Mode && own.Uid == st.Uid && own.Gid == st.Gid {
		return nil
	}
	if !a.Build {
		if names, err := list(a.upper); err != nil || len(names) > 0 {
			return err
		}
	}
	if err := unix.Fchown(a.upper, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	return unix.Fchmod(a.upper, st.Mode&0o7777)
}

// mountRoot mounts the overlay over all else, to become the root.
func (a *agent) mountRoot() error {
	layers := a.layers
	if len(layers) == 0 {
		// An overlay wants something below: an empty directory beside its own.
		path := a.Work[:strings.LastIndexByte(a.Work, '/')] + "/empty"
		if err := unix.Mkdir(path, 0o755); err != nil && err != unix.EEXIST {
			return &opError{"mkdir", path, err}
		}
		empty, err := directory(path)
		if err != nil {
			return err
		}
		layers = []int{empty}
	}
	// Not for a directory that is kept: the end of an overlay flushes the whole
	// file system it is on, which may take seconds.
	attr := unix.MOUNT_ATTR_NODEV
	if a.without(wire.NoDevices) {
		attr = 0
	}
	var err error
	if a.merged, err = a.overlay(layers, a.upper, a.work, !a.State, attr); err != nil {
		return err
	}
	return unix.MoveMount(a.merged, "", unix.AT_FDCWD, "/", unix.MOVE_MOUNT_F_EMPTY_PATH)
}

// An overlaySpec is an overlay of open directories; with no upper directory (-1)
// it is read-only. The layers are given lowest first.
type overlaySpec struct {
	layers      []int
	upper, work int
	flags       []string // options without a value
	attr        int      // of the mount: MOUNT_ATTR_…
}

// A layer has to be understood by any overlay later, whatever its host's
// defaults: no redirects, no metadata-only copies, no index.
var overlayOptions = [][2]string{{"redirect_dir", "nofollow"}, {"metacopy", "off"}, {"index", "off"}}

// overlay makes a detached overlay mount.
func (a *agent) overlay(layers []int, upper, work int, volatile bool, attr int) (int, error) {
	o := &overlaySpec{layers: layers, upper: upper, work: work, attr: attr}
	if upper >= 0 && volatile {
		o.flags = append(o.flags, "volatile") // the layer is made durable once, when it is complete
	}
	if a.Rootless {
		o.flags = append(o.flags, "userxattr") // marks in attributes that an ordinary user may set
	}
	defer unix.Chdir("/")
	fd, err := o.mount()
	if errno(err) == int(unix.EINVAL) { // as from a kernel that is older
		if fd, err := o.mountOld(); err == nil {
			return fd, nil
		}
	}
	return fd, err
}

// mount makes the overlay as Linux 6.7 and newer have it.
//
// Each directory is made the working directory, and the kernel told ".", not the
// path: a string for fsconfig must be shorter than 256 bytes, upperdir takes
// backslashes for escapes, and whatever it is told can be read in the sandbox's
// mountinfo. (Descriptors' names below /proc take three times as long, and
// descriptors themselves, which Linux 6.13 takes, show as paths.)
func (o *overlaySpec) mount() (int, error) {
	fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, &opError{"fsopen", "overlay", err}
	}
	defer unix.Close(fs)
	set := func(key, value string) error {
		if err := unix.FsconfigSetString(fs, key, value); err != nil {
			return &opError{"configure overlay", key, explain(fs, err)}
		}
		return nil
	}
	setDir := func(key string, dir int) error {
		if err := unix.Fchdir(dir); err != nil {
			return &opError{"change to", key, err}
		}
		return set(key, ".")
	}
	set("source", "raptor")
	for i := len(o.layers) - 1; i >= 0; i-- {
		if err := setDir("lowerdir+", o.layers[i]); err != nil {
			return -1, err
		}
	}
	if o.upper >= 0 {
		if err := setDir("upperdir", o.upper); err != nil {
			return -1, err
		}
		if err := setDir("workdir", o.work); err != nil {
			return -1, err
		}
	}
	for _, flag := range o.flags {
		if err := unix.FsconfigSetFlag(fs, flag); err != nil {
			return -1, &opError{"configure overlay", flag, explain(fs, err)}
		}
	}
	for _, option := range overlayOptions {
		if err := set(option[0], option[1]); err != nil {
			return -1, err
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, &opError{"create", "overlay", explain(fs, err)}
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, o.attr)
	if err != nil {
		return -1, &opError{"fsmount", "overlay", err}
	}
	return fd, nil
}

// mountOld makes the same overlay where there is no lowerdir+. All options have to
// fit into a page there, so the directories are called by their descriptors'
// numbers, from where those are names; there is room for as many as an overlay can
// have. The mount is detached from a place that everybody has.
func (o *overlaySpec) mountOld() (int, error) {
	const place = "/proc"
	if err := unix.Chdir("/proc/self/fd"); err != nil {
		return -1, err
	}
	var names []string
	for i := len(o.layers) - 1; i >= 0; i-- {
		names = append(names, itoa(o.layers[i]))
	}
	options := []string{"lowerdir=" + strings.Join(names, ":")}
	if o.upper >= 0 {
		options = append(options, "upperdir="+itoa(o.upper), "workdir="+itoa(o.work))
	}
	for _, option := range overlayOptions {
		options = append(options, option[0]+"="+option[1])
	}
	if err := unix.Mount("raptor", place, "overlay", 0, strings.Join(append(options, o.flags...), ",")); err != nil {
		return -1, err
	}
	defer unix.Unmount(place, unix.MNT_DETACH)
	fd, err := unix.OpenTree(unix.AT_FDCWD, place, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return -1, err
	}
	err = unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: uint64(o.attr)})
	if err != nil {
		unix.Close(fd)
		return -1, err
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

// pivot makes the overlay the root. The old root stays the working directory until
// it is let go: it is mounted over the new one.
func (a *agent) pivot() error {
	defer unix.Close(a.merged)
	// As in pivot_root(2): the new root and the place for the old are one.
	old, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(old)
	if err := unix.Fchdir(a.merged); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return err
	}
	return unix.Fchdir(old)
}

// letGo unmounts the old root, with the staging area, which is moved from above it
// to below for that. The kernel takes what is mounted over a directory for the
// directory, as may also be the case with a host's root; and it says EINVAL of what
// is no longer mounted, but also of what is not ours to unmount. So it is tried
// until it fails, and then looked at whether anything is left.
func (a *agent) letGo() error {
	defer unix.Close(a.staging)
	if err := unix.MoveMount(a.staging, "", unix.AT_FDCWD, "proc", unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return &opError{"move", "staging area", err}
	}
	if a.without(wire.Pivot) {
		return unix.Chdir("/")
	}
	for {
		err := unix.Unmount(".", unix.MNT_DETACH)
		if err == unix.EINVAL {
			break
		}
		if err != nil {
			return err
		}
	}
	if err := unix.Chdir("/"); err != nil {
		return err
	}
	root, err := mountID("/")
	if err != nil {
		return err
	}
	above, err := mountID("/..") // the root itself, or what is mounted over it
	if err == nil && above != root {
		err = unix.EBUSY
	}
	return err
}

func mountID(path string) (uint64, error) {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_MNT_ID, &st)
	return st.Mnt_id, err
}

// cloneRoot keeps a view of the overlay alone, for files to be written to the
// layer itself, wherever something is mounted later. Where no instruction writes
// any there is none: a view costs the end of a sandbox one more wait for all
// processors.
func (a *agent) cloneRoot() error {
	var st unix.Stat_t
	if err := unix.Stat("/", &st); err != nil {
		return err
	}
	a.bare, a.device = -1, st.Dev
	if !slices.ContainsFunc(a.Actions, func(action wire.Action) bool { return action.Kind != wire.Run }) {
		return nil
	}
	var err error
	a.bare, err = unix.OpenTree(unix.AT_FDCWD, "/", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	return err
}
