package main

import (
	"strings"

	"golang.org/x/sys/unix"

	"raptor-make/sandbox/internal/wire"
)

// seal turns the upper directory into a finished layer. Nothing runs any more.
//
// Overlayfs hides what is below a directory that was made anew by an "opaque"
// attribute in a namespace that an ordinary process cannot read, and leaves
// other attributes that mean something to this mount alone. A finished layer
// has neither: what an opaque directory hides is deleted name by name, with the
// same device nodes 0/0 that overlayfs itself makes for deleted files. So a
// layer says everything in its directory entries, and can be packed by anybody.
func (a *agent) seal(done *wire.Event) *opError {
	a.leaveMounts()
	if run, err := unix.Openat(a.upper, "run", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0); err == nil {
		err = empty(run)
		unix.Close(run)
		if err != nil {
			return &opError{"empty", "/run", err}
		}
	}
	s := &sealer{agent: a, done: done, seen: map[inode]bool{}}
	_, err := s.directory(a.upper, "", false)
	return err
}

func removeTree(in int, name string) error {
	err := unix.Unlinkat(in, name, 0)
	if err != unix.EISDIR {
		return err
	}
	dir, err := unix.Openat(in, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	err = empty(dir)
	unix.Close(dir)
	if err != nil {
		return err
	}
	return unix.Unlinkat(in, name, unix.AT_REMOVEDIR)
}

// empty removes all in a directory.
func empty(dir int) error {
	names, err := list(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := removeTree(dir, name); err != nil {
			return err
		}
	}
	return nil
}

type sealer struct {
	*agent
	done *wire.Event
	seen map[inode]bool // files with several names that are counted

	names []byte // for lists of attributes
}

// directory seals an open directory of the layer and all below it. In an opaque
// directory all those below hide what the lower layers have there, too. It tells
// whether the directory itself is there for raptor's sake alone.
func (s *sealer) directory(fd int, path string, opaque bool) (ours bool, oerr *opError) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return false, &opError{"stat", path, err}
	}
	names, err := list(fd)
	if err != nil {
		return false, &opError{"read", path, err}
	}
	if s.strip(fd) {
		opaque = true
	}
	changed := opaque
	for i, name := range names {
		removed, err := s.entry(fd, name, join(path, name), opaque)
		if err != nil {
			return false, err
		}
		if removed {
			names[i], changed = "", true
		}
	}
	if opaque {
		if err := s.whiteouts(fd, path, names); err != nil {
			return false, err
		}
	}
	if changed {
		setTimes(fd, &st)
	}
	return s.untouched(path, &st), nil
}

// entry seals one entry of a directory, or removes it if it is raptor's.
func (s *sealer) entry(dir int, name, path string, opaque bool) (removed bool, oerr *opError) {
	var st unix.Stat_t
	if err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return false, &opError{"stat", path, err}
	}
	ours := s.isOurs(dir, name, path, &st)
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return false, &opError{"open", path, err}
		}
		forUs, oerr := s.directory(fd, path, opaque)
		unix.Close(fd)
		if oerr != nil {
			return false, oerr
		}
		// Whatever a program has put into it keeps it.
		if (ours || forUs) && unix.Unlinkat(dir, name, unix.AT_REMOVEDIR) == nil {
			return true, nil
		}
	} else if ours {
		if err := unix.Unlinkat(dir, name, 0); err != nil {
			return false, &opError{"remove", path, err}
		}
		return true, nil
	}
	s.done.Entries++
	return false, s.file(dir, name, path, &st)
}

// file counts a file, and strips it of what overlayfs left on it.
func (s *sealer) file(dir int, name, path string, st *unix.Stat_t) *opError {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return nil // it is stripped already
	case unix.S_IFREG:
		id := inode{st.Dev, st.Ino}
		if st.Nlink == 1 || !s.seen[id] {
			s.done.Bytes += st.Size
		}
		if st.Nlink > 1 {
			if s.seen[id] {
				return nil
			}
			s.seen[id] = true
		}
	}
	return s.stripName(dir, name, path)
}

// stripName is strip for what need not be opened, or cannot be without side
// effects.
func (s *sealer) stripName(dir int, name, path string) *opError {
	if err := unix.Fchdir(dir); err != nil {
		return &opError{"change to the directory of", path, err}
	}
	if s.names == nil {
		s.names = make([]byte, 64<<10) // the kernel's limit
	}
	n, err := unix.Llistxattr(name, s.names)
	if err != nil {
		return nil // this file system has none
	}
	for attr := range strings.SplitSeq(string(s.names[:n]), "\x00") {
		if isOverlays(attr) {
			unix.Lremovexattr(name, attr)
		}
	}
	return nil
}

func isOverlays(attr string) bool {
	return strings.HasPrefix(attr, "trusted.overlay.") || strings.HasPrefix(attr, "user.overlay.")
}

// strip removes overlayfs's own attributes from an open file or directory, and
// tells whether it was marked opaque.
func (s *sealer) strip(fd int) (opaque bool) {
	for _, name := range xattrs(fd) {
		if !isOverlays(name) {
			continue
		}
		// "x" says something else: that there are whiteouts in the form of files
		// with an attribute, which only overlays in user namespaces make.
		value := make([]byte, 1)
		if n, _ := unix.Fgetxattr(fd, name, value); strings.HasSuffix(name, ".opaque") && n == 1 && value[0] == 'y' {
			opaque = true
		}
		unix.Fremovexattr(fd, name)
	}
	return opaque
}

// whiteouts deletes, one by one, the names that the layers below show in a
// directory and the layer does not have.
func (s *sealer) whiteouts(fd int, path string, names []string) *opError {
	hidden := map[string]bool{}
	for _, name := range names {
		hidden[name] = true
	}
	for i := len(s.overlay.Dirs) - 1; i >= 0; i-- {
		lower, err := s.lower(i, path)
		if err == unix.ENOENT {
			continue
		}
		if err != nil {
			break // something that is no directory stands there, and hides what is below it
		}
		below, err := list(lower)
		if err != nil {
			unix.Close(lower)
			return &opError{"read", path, err}
		}
		for _, name := range below {
			if hidden[name] {
				continue
			}
			hidden[name] = true
			if isWhiteout(lower, name) {
				continue
			}
			if err := unix.Mknodat(fd, name, unix.S_IFCHR, 0); err != nil {
				unix.Close(lower)
				return &opError{"delete", join(path, name), err}
			}
			s.done.Entries++
		}
		unix.Close(lower)
	}
	return nil
}

// lower opens a directory of a layer below. A path that leads through anything
// but directories is no directory of that layer.
func (s *sealer) lower(i int, path string) (int, error) {
	if path == "" {
		path = "."
	}
	return openat2(s.overlay.Dirs[i], path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, unix.RESOLVE_NO_SYMLINKS|unix.RESOLVE_BENEATH)
}

func isWhiteout(dir int, name string) bool {
	var st unix.Stat_t
	return unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil && st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0
}
