package main

import (
	"strings"

	"golang.org/x/sys/unix"
)

// A stub is a file or directory that was made just to have something to mount
// on. It goes again at the end, unless an instruction has meanwhile asked for
// it.
type stub struct {
	path string // without links
	dir  bool
	id   inode  // as seen in the sandbox
	ino  uint64 // in the upper directory

	// below is the directory it is in, if that is a mount's and not the
	// layer's; -1 otherwise.
	below int
}

// A copiedDir is a directory that came into the layer because raptor made
// something below it.
type copiedDir struct {
	was   unix.Stat_t   // as it was in the layers below
	ctime unix.Timespec // of the copy, when the programs started
}

// resolve follows the symbolic links in a path, inside the sandbox's root, and
// leaves alone what does not exist.
func resolve(path string) (string, error) {
	done, rest := "", strings.Split(path, "/")
	for links := 0; len(rest) > 0; {
		name := rest[0]
		rest = rest[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			done = done[:max(strings.LastIndexByte(done, '/'), 0)]
			continue
		}
		target, ok := readlink(done + "/" + name)
		if !ok {
			done += "/" + name
			continue
		}
		if links++; links > 40 {
			return "", &opError{"resolve", path, unix.ELOOP}
		}
		if target[0] == '/' {
			done = ""
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	if done == "" {
		done = "/"
	}
	return done, nil
}

func readlink(path string) (string, bool) {
	buf := make([]byte, 4096)
	n, err := unix.Readlink(path, buf)
	if err != nil || n == len(buf) || n == 0 {
		return "", false
	}
	return string(buf[:n]), true
}

// mountPoint makes sure that there is a directory or file to mount on, and tells
// where that is: links in the path are followed, inside the root.
func (a *agent) mountPoint(path string, dir bool) (string, error) {
	path, err := resolve(path)
	if err != nil {
		return "", err
	}
	if path == "/" {
		return "", &opError{"mount over", "/", unix.EBUSY}
	}
	if err := a.parents(path); err != nil {
		return "", err
	}
	if err := a.makeStub(path, dir); err != nil {
		return "", err
	}
	var st unix.Stat_t
	if unix.Stat(path, &st) == nil && dir != (st.Mode&unix.S_IFMT == unix.S_IFDIR) {
		err = &opError{"mount over", path, map[bool]error{true: unix.ENOTDIR, false: unix.EISDIR}[dir]}
	}
	return path, err
}

// parents makes the directories above a path that has no links.
func (a *agent) parents(path string) error {
	for i := 1; i < len(path); i++ {
		if path[i] == '/' {
			if err := a.makeStub(path[:i], true); err != nil {
				return err
			}
		}
	}
	return nil
}

func (a *agent) makeStub(path string, dir bool) error {
	var st unix.Stat_t
	if unix.Stat(path, &st) == nil {
		return nil
	}
	above := path[:strings.LastIndexByte(path, '/')+1]
	if err := unix.Stat(above, &st); err != nil {
		return &opError{"stat", above, err}
	}
	s := stub{path: path, dir: dir, below: -1}
	if st.Dev != a.device { // a directory of an overlay always has its device
		var err error
		if s.below, err = unix.Open(above, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
			return &opError{"open", above, err}
		}
	} else {
		a.noteCopied(path)
	}
	var err error
	if dir {
		err = unix.Mkdir(path, 0o755)
	} else {
		var fd int
		if fd, err = unix.Open(path, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o644); err == nil {
			unix.Close(fd)
		}
	}
	if err != nil {
		return &opError{"make mount point", path, err}
	}
	if err := unix.Lstat(path, &st); err != nil {
		return &opError{"stat", path, err}
	}
	s.id = inode{st.Dev, st.Ino}
	a.stubs = append(a.stubs, s)
	return nil
}

// noteCopied remembers the directories above path that the layer does not have
// of its own yet: making something there copies them into it.
func (a *agent) noteCopied(path string) {
	if !a.Build && !a.State {
		return // all of the upper directory is thrown away
	}
	for i := 1; i < len(path); i++ {
		if path[i] != '/' {
			continue
		}
		var st unix.Stat_t
		rel := path[1:i]
		if a.copied[rel] != nil || a.statUpper(rel, &st) == nil {
			continue
		}
		if unix.Lstat(path[:i], &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
			if a.copied == nil {
				a.copied = map[string]*copiedDir{}
			}
			a.copied[rel] = &copiedDir{was: st}
		}
	}
}

// beneath opens a path of the upper directory. The layer's links are not
// followed: seen from the upper directory, which is a directory of the host,
// they would lead out.
func (a *agent) beneath(rel string, flags int) (int, error) {
	if rel == "" {
		rel = "."
	}
	return openat2(a.upper, rel, flags|unix.O_NOFOLLOW, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS)
}

func (a *agent) statUpper(rel string, st *unix.Stat_t) error {
	fd, err := a.beneath(rel, unix.O_PATH)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Fstat(fd, st)
}

// noteStubs looks at all that raptor made, just before programs start, so that
// at the end it is known what they changed.
func (a *agent) noteStubs() error {
	if !a.Build && !a.State {
		return nil
	}
	var st unix.Stat_t
	for rel, c := range a.copied {
		fd, err := a.beneath(rel, unix.O_RDONLY|unix.O_DIRECTORY)
		if err != nil {
			continue
		}
		setTimes(fd, &c.was) // as if nothing had been made in it
		if unix.Fstat(fd, &st) == nil {
			c.ctime = st.Ctim
		}
		unix.Close(fd)
	}
	for i := range a.stubs {
		if s := &a.stubs[i]; s.below < 0 && a.statUpper(s.path[1:], &st) == nil {
			s.ino = st.Ino
		}
	}
	for i := range a.lentFiles {
		if l := &a.lentFiles[i]; a.statUpper(l.path[1:], &st) == nil {
			l.ino, l.ctime = st.Ino, st.Ctim
		}
	}
	return nil
}

// claim says that an instruction asks for what is only a stub or lent so far:
// from now on it is part of the layer.
func (a *agent) claim(st *unix.Stat_t) bool {
	a.claims.Lock()
	defer a.claims.Unlock()
	id := inode{st.Dev, st.Ino}
	for i, l := range a.lentFiles {
		if l.id == id {
			a.lentFiles = append(a.lentFiles[:i:i], a.lentFiles[i+1:]...)
			return true
		}
	}
	for i, s := range a.stubs {
		if s.id == id {
			a.stubs = append(a.stubs[:i:i], a.stubs[i+1:]...)
			return true
		}
	}
	return false
}

// isOurs tells whether an entry of the upper directory is there just because
// raptor made it. dir is the directory it is in.
func (a *agent) isOurs(dir int, name, path string, st *unix.Stat_t) bool {
	for _, l := range a.lentFiles {
		if l.path[1:] == path && l.ino == st.Ino && l.unchanged(dir, name, st) {
			return true
		}
	}
	for _, s := range a.stubs {
		// By its number alone: a program may have renamed what is above it.
		if s.below < 0 && s.ino == st.Ino && s.ino != 0 {
			return s.dir || st.Size == 0
		}
	}
	return false
}

// untouched tells whether a directory is in the layer for raptor's sake alone.
func (a *agent) untouched(path string, st *unix.Stat_t) bool {
	c := a.copied[path]
	return c != nil && c.ctime == st.Ctim
}

// leaveMounts takes the stubs away that were made in what is mounted: those are
// the user's own directories.
func (a *agent) leaveMounts() {
	for i := len(a.stubs) - 1; i >= 0; i-- {
		s := a.stubs[i]
		if s.below < 0 {
			continue
		}
		name := s.path[strings.LastIndexByte(s.path, '/')+1:]
		unix.Unmount(s.path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		a.removeStub(s.below, name, &s)
	}
}

// removeStub removes a stub that nobody has put anything in.
func (a *agent) removeStub(dir int, name string, s *stub) {
	var st unix.Stat_t
	if unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW) != nil || (s.below >= 0 && s.id != inode{st.Dev, st.Ino}) || (s.below < 0 && s.ino != st.Ino) {
		return
	}
	if s.dir {
		unix.Unlinkat(dir, name, unix.AT_REMOVEDIR)
	} else if st.Size == 0 {
		unix.Unlinkat(dir, name, 0)
	}
}

// leaveState takes what raptor made out of an upper directory that is kept as
// the container left it.
func (a *agent) leaveState() {
	remove := func(path string, f func(dir int, name string)) {
		i := strings.LastIndexByte(path, '/')
		if dir, err := a.beneath(path[1:max(i, 1)], unix.O_RDONLY|unix.O_DIRECTORY); err == nil {
			f(dir, path[i+1:])
			unix.Close(dir)
		}
	}
	// What is above is looked at before it changes.
	var gone []string
	for rel := range a.copied {
		var st unix.Stat_t
		if a.statUpper(rel, &st) == nil && a.untouched(rel, &st) {
			gone = append(gone, "/"+rel)
		}
	}
	for _, l := range a.lentFiles {
		remove(l.path, func(dir int, name string) {
			var st unix.Stat_t
			if unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil && l.ino == st.Ino && l.unchanged(dir, name, &st) {
				unix.Unlinkat(dir, name, 0)
			}
		})
	}
	for i := len(a.stubs) - 1; i >= 0; i-- {
		if s := &a.stubs[i]; s.below < 0 && s.ino != 0 {
			remove(s.path, func(dir int, name string) { a.removeStub(dir, name, s) })
		}
	}
	for again := true; again; { // an empty one may be below an empty one
		again = false
		for i, path := range gone {
			if path == "" {
				continue
			}
			remove(path, func(dir int, name string) {
				if unix.Unlinkat(dir, name, unix.AT_REMOVEDIR) == nil {
					gone[i], again = "", true
				}
			})
		}
	}
}
