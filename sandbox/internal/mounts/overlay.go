package mounts

import (
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"raptor-make/sandbox/internal/wire"
)

// An Overlay is one of directories; with no upper directory (-1) it is read-only.
type Overlay struct {
	Layers      []string // lowest first
	Dirs        []int    // the same, open; nil: they are not needed later
	Upper, Work int
	Attr        int  // of the mount: MOUNT_ATTR_…
	Volatile    bool // changes are not made durable here
	UserMarks   bool // marks are in attributes that an ordinary user may set
}

// options are those that are no directories. A layer has to be understood by any
// overlay later, whatever its host's defaults: no redirects, no metadata-only
// copies, no index.
func (o *Overlay) options() []string {
	list := []string{"redirect_dir=nofollow", "metacopy=off", "index=off"}
	if o.Upper >= 0 && o.Volatile {
		list = append(list, "volatile")
	}
	if o.UserMarks {
		list = append(list, "userxattr")
	}
	return list
}

// Mount makes the overlay's mount. It changes the working directory. Kernels before
// Linux 6.7 say EINVAL.
//
// Each directory is made the working directory, and the kernel told ".", not the
// path: a string for fsconfig must be shorter than 256 bytes, upperdir takes
// backslashes for escapes, and whatever it is told can be read in the sandbox's
// mountinfo. (Descriptors' names below /proc take three times as long, and
// descriptors themselves, which Linux 6.13 takes, show as paths.)
func (o *Overlay) Mount() (int, error) {
	fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, &Error{"fsopen", "overlay", err}
	}
	defer unix.Close(fs)
	here := func(key string) error {
		if err := unix.FsconfigSetString(fs, key, "."); err != nil {
			return &Error{"configure overlay", key, explain(fs, err)}
		}
		return nil
	}
	unix.FsconfigSetString(fs, "source", "raptor")
	for i := len(o.Layers) - 1; i >= 0; i-- {
		if err := o.enter(i); err != nil {
			return -1, err
		}
		if err := here("lowerdir+"); err != nil {
			return -1, err
		}
	}
	if o.Upper >= 0 {
		if err := unix.Fchdir(o.Upper); err != nil {
			return -1, err
		}
		if err := here("upperdir"); err != nil {
			return -1, err
		}
		if err := unix.Fchdir(o.Work); err != nil {
			return -1, err
		}
		if err := here("workdir"); err != nil {
			return -1, err
		}
	}
	for _, option := range o.options() {
		if err := set(fs, option); err != nil {
			return -1, &Error{"configure overlay", option, err}
		}
	}
	return create(fs, "overlay", o.Attr)
}

// enter makes a layer the working directory.
func (o *Overlay) enter(i int) error {
	var err error
	if o.Dirs != nil {
		err = unix.Fchdir(o.Dirs[i])
	} else {
		err = unix.Chdir(o.Layers[i])
	}
	if err != nil {
		return &Error{"open", o.Layers[i], err}
	}
	return nil
}

// MountOver makes the same overlay where there is no lowerdir+. All options have to
// fit into a page there, so the directories are called by their descriptors'
// numbers, from where those are names; there is room for as many as an overlay can
// have. The mount is made at a place of the caller's tree, and detached from it.
func (o *Overlay) MountOver(place string) (int, error) {
	if o.Dirs == nil {
		dirs, err := Directories(o.Layers)
		if err != nil {
			return -1, err
		}
		defer closeAll(dirs)
		o = &Overlay{o.Layers, dirs, o.Upper, o.Work, o.Attr, o.Volatile, o.UserMarks}
	}
	if err := unix.Chdir("/proc/self/fd"); err != nil {
		return -1, err
	}
	var names []string
	for _, dir := range slices.Backward(o.Dirs) {
		names = append(names, strconv.Itoa(dir))
	}
	options := []string{"lowerdir=" + strings.Join(names, ":")}
	if o.Upper >= 0 {
		options = append(options, "upperdir="+strconv.Itoa(o.Upper), "workdir="+strconv.Itoa(o.Work))
	}
	if err := unix.Mount("raptor", place, "overlay", 0, strings.Join(append(options, o.options()...), ",")); err != nil {
		return -1, err
	}
	defer unix.Unmount(place, unix.MNT_DETACH)
	fd, err := unix.OpenTree(unix.AT_FDCWD, place, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return -1, err
	}
	err = unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: uint64(o.Attr)})
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// Root is the overlay that becomes a sandbox's root. Its directories are open, so
// that nothing done to their paths from now on matters; the layers only if it is a
// build, which looks into them when it is sealed.
func Root(s *wire.Spec, attr int) (o *Overlay, err error) {
	// What is kept is made durable by the end of the overlay. That flushes the whole
	// file system it is on, which may take seconds, so nothing else is.
	o = &Overlay{Layers: s.Layers, Upper: -1, Work: -1, Attr: attr, Volatile: !s.State, UserMarks: s.Rootless}
	defer func() {
		if err != nil {
			o.Close()
		}
	}()
	if o.Upper, err = Directory(s.Upper, unix.O_RDONLY); err != nil {
		return o, err
	}
	if o.Work, err = Directory(s.Work, unix.O_RDONLY); err != nil {
		return o, err
	}
	// A mount that flushed nothing leaves this mark, which keeps the directory
	// from being used again. It is used again, so its owner thinks it good.
	if unix.Unlinkat(o.Work, "work/incompat/volatile/dirty", 0) != unix.ENOENT {
		unix.Unlinkat(o.Work, "work/incompat/volatile", unix.AT_REMOVEDIR)
	}
	if len(s.Layers) > 0 {
		if err = likeLower(o.Upper, s.Layers[len(s.Layers)-1], s.Build); err != nil {
			return o, err
		}
	} else {
		// An overlay wants something below: an empty directory beside its own.
		empty := s.Work[:strings.LastIndexByte(s.Work, '/')] + "/empty"
		if err := unix.Mkdir(empty, 0o755); err != nil && err != unix.EEXIST {
			return o, &Error{"mkdir", empty, err}
		}
		o.Layers = []string{empty}
	}
	if s.Build {
		o.Dirs, err = Directories(o.Layers)
	}
	return o, err
}

// Close closes the directories.
func (o *Overlay) Close() {
	closeAll(o.Dirs)
	closeAll([]int{o.Upper, o.Work})
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}

// Directory opens a directory.
func Directory(path string, how int) (int, error) {
	fd, err := unix.Open(path, how|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &Error{"open", path, err}
	}
	return fd, nil
}

// Directories opens those that are only to be mounted or looked up in: that takes
// less.
func Directories(paths []string) ([]int, error) {
	fds := make([]int, 0, len(paths))
	for _, path := range paths {
		fd, err := Directory(path, unix.O_PATH)
		if err != nil {
			closeAll(fds)
			return nil, err
		}
		fds = append(fds, fd)
	}
	return fds, nil
}

// likeLower gives a new upper directory the owner and mode of the root below,
// which it would hide otherwise. Where it may be an old one, one that holds
// something is.
func likeLower(upper int, lower string, isNew bool) error {
	var st, own unix.Stat_t
	if err := unix.Stat(lower, &st); err != nil {
		return &Error{"open", lower, err}
	}
	if err := unix.Fstat(upper, &own); err != nil {
		return err
	}
	if own.Mode == st.Mode && own.Uid == st.Uid && own.Gid == st.Gid {
		return nil
	}
	if !isNew {
		if names, err := names(upper); err != nil || len(names) > 0 {
			return err
		}
	}
	if err := unix.Fchown(upper, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	return unix.Fchmod(upper, st.Mode&0o7777)
}

// names lists at most one name of a directory.
func names(dir int) ([]string, error) {
	again, err := unix.Openat(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(again), "")
	defer f.Close()
	list, err := f.Readdirnames(1)
	if err == io.EOF {
		err = nil
	}
	return list, err
}
