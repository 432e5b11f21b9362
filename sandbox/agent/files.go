package main

import (
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"raptor-make/sandbox/internal/wire"
)

// File instructions act on the bare view of the overlay, as root of the layer:
// every path is resolved by the kernel below that root, and links that lead
// out of it lead to it.

// base is the directory that a destination starts from, and the destination
// relative to it. What leads to /run, also by a link of the layer, is in the
// sandbox's own, which programs see; all else is in the layer, also where
// something is mounted over it.
func (a *agent) base(dest string) (int, string) {
	path := strings.TrimLeft(dest, "/")
	if real, err := resolve(dest); err == nil && (real == "/run" || strings.HasPrefix(real, "/run/")) {
		if a.root == 0 {
			fd, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
			if err != nil {
				return a.bare, path
			}
			a.root = fd
		}
		return a.root, path
	}
	return a.bare, path
}

// within opens a path below a directory as chroot(2) would see it.
func within(dir int, path string, flags int) (int, error) {
	if path == "" {
		path = "."
	}
	return openat2(dir, path, flags, unix.RESOLVE_IN_ROOT|unix.RESOLVE_NO_MAGICLINKS)
}

// openat2 tries again where the kernel says so: a ".." that it cannot prove to
// stay inside, because something was renamed or mounted anywhere on the machine
// just then.
func openat2(dir int, path string, flags int, how uint64) (int, error) {
	for {
		fd, err := unix.Openat2(dir, path, &unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC), Resolve: how})
		if err != unix.EAGAIN && err != unix.EINTR {
			return fd, err
		}
	}
}

// parent opens the directory that path is in, and tells its last element.
func parent(dir int, path string) (int, string, error) {
	path = strings.TrimRight(path, "/")
	i := strings.LastIndexByte(path, '/')
	fd, err := within(dir, path[:max(i, 0)], unix.O_PATH|unix.O_DIRECTORY)
	return fd, path[i+1:], err
}

func (a *agent) mkdir(action *wire.Action) *opError {
	uid, gid, oerr := a.owner(action.Owner)
	if oerr != nil {
		return oerr
	}
	dir, path := a.base(action.Dest)
	if strings.Trim(path, "/") == "" {
		if action.Parents {
			return nil
		}
		return &opError{"mkdir", action.Dest, unix.EEXIST}
	}
	if action.Parents {
		return a.mkdirAll(dir, strings.TrimRight(path, "/"), action.Mode, uid, gid)
	}
	in, name, err := parent(dir, path)
	if err != nil {
		return &opError{"mkdir", action.Dest, err}
	}
	defer unix.Close(in)
	if err := a.mkdirAt(in, name, action.Mode, uid, gid); err != nil {
		return &opError{"mkdir", action.Dest, err}
	}
	return nil
}

// mkdirAt makes a directory; one that is only a stub so far becomes it.
func (a *agent) mkdirAt(in int, name string, mode uint32, uid, gid int) error {
	if err := unix.Mkdirat(in, name, 0o700); err != nil {
		var st unix.Stat_t
		if err != unix.EEXIST || unix.Fstatat(in, name, &st, unix.AT_SYMLINK_NOFOLLOW) != nil || !a.claim(&st) {
			return err
		}
	}
	fd, err := unix.Openat(in, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return dress(fd, mode, uid, gid)
}

// dress sets owner and mode, in the order in which chown does not take the
// set-id bits away again.
func dress(fd int, mode uint32, uid, gid int) error {
	if uid != 0 || gid != 0 {
		if err := unix.Fchown(fd, uid, gid); err != nil {
			return err
		}
	}
	return unix.Fchmod(fd, mode)
}

// mkdirAll makes a directory and those above it; existing ones stay as they
// are.
func (a *agent) mkdirAll(dir int, path string, mode uint32, uid, gid int) *opError {
	for i := 0; i <= len(path); i++ {
		if i < len(path) && path[i] != '/' {
			continue
		}
		part := path[:i]
		fd, err := within(dir, part, unix.O_PATH|unix.O_DIRECTORY)
		if err == nil {
			var st unix.Stat_t
			if unix.Fstat(fd, &st) == nil {
				a.claim(&st)
			}
			unix.Close(fd)
			continue
		}
		if err != unix.ENOENT {
			return &opError{"mkdir", "/" + part, err}
		}
		in, name, err := parent(dir, part)
		if err == nil {
			err = a.mkdirAt(in, name, mode, uid, gid)
			unix.Close(in)
		}
		if err != nil {
			return &opError{"mkdir", "/" + part, err}
		}
	}
	return nil
}

func (a *agent) write(action *wire.Action) *opError {
	uid, gid, oerr := a.owner(action.Owner)
	if oerr != nil {
		return oerr
	}
	dir, path := a.base(action.Dest)
	in, name, err := parent(dir, path)
	if err != nil {
		return &opError{"write", action.Dest, err}
	}
	defer unix.Close(in)
	fd, err := a.replace(in, name, action.Dest)
	if err != nil {
		return &opError{"write", action.Dest, err}
	}
	defer unix.Close(fd)
	if err := writeAll(fd, action.Data); err != nil {
		return &opError{"write", action.Dest, err}
	}
	if err := dress(fd, action.Mode, uid, gid); err != nil {
		return &opError{"write", action.Dest, err}
	}
	return nil
}

// replace makes a new empty file. What was there is replaced, not written
// through: a link stays no link, and other names of a file keep its content.
func (a *agent) replace(in int, name, dest string) (int, error) {
	if name == "" {
		return -1, unix.EISDIR
	}
	const flags = unix.O_RDWR | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := unix.Openat(in, name, flags, 0o600)
	if err != unix.EEXIST {
		return fd, err
	}
	if err := a.remove(in, name, dest); err != nil {
		return -1, err
	}
	return unix.Openat(in, name, flags, 0o600)
}

// remove removes a file; that there is none is fine. A mount point that only
// raptor's mount needs goes with what is mounted on it.
func (a *agent) remove(in int, name, dest string) error {
	var st unix.Stat_t
	if unix.Fstatat(in, name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil {
		a.claim(&st)
	}
	err := unix.Unlinkat(in, name, 0)
	if err == unix.EBUSY {
		if err := unix.Unmount(dest, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
			return unix.EBUSY
		}
		err = unix.Unlinkat(in, name, 0)
	}
	if err == unix.ENOENT {
		return nil
	}
	return err
}

// owner looks up "user", "user:", "user:group", ":group" or ":" in the layer.
func (a *agent) owner(owner string) (uid, gid int, oerr *opError) {
	if owner == "" {
		return 0, 0, nil
	}
	user, group, colon := strings.Cut(owner, ":")
	if user != "" {
		u, err := a.lookup("/etc/passwd", user)
		if err != nil {
			return 0, 0, &opError{"look up user", user, err}
		}
		uid = u.id
		switch {
		case !colon:
		case group == "": // "user:" is the group of the user's name
			if g, err := a.lookup("/etc/group", user); err == nil {
				gid = g.id
			} else if u.gid >= 0 {
				gid = u.gid
			} else {
				gid = u.id
			}
		}
	}
	if group != "" {
		g, err := a.lookup("/etc/group", group)
		if err != nil {
			return 0, 0, &opError{"look up group", group, err}
		}
		gid = g.id
	}
	return uid, gid, nil
}

// A message is an error that is no errno.
type message string

func (m message) Error() string { return string(m) }

type account struct{ id, gid int }

// lookup finds a name in a file of the layer; a number is taken as it is.
func (a *agent) lookup(file, name string) (account, error) {
	if n, err := strconv.ParseUint(name, 10, 31); err == nil {
		return account{int(n), -1}, nil
	}
	fd, err := within(a.bare, file, unix.O_RDONLY)
	if err != nil {
		return account{}, message("the layer has no " + file)
	}
	f := os.NewFile(uintptr(fd), file)
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, 16<<20))
	if err != nil {
		return account{}, err
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), ":")
		if len(fields) < 3 || fields[0] != name {
			continue
		}
		id, err := strconv.Atoi(fields[2])
		if err != nil {
			return account{}, unix.EINVAL
		}
		gid := -1
		if len(fields) > 3 {
			if g, err := strconv.Atoi(fields[3]); err == nil {
				gid = g
			}
		}
		return account{id, gid}, nil
	}
	return account{}, message("not in the layer's " + file)
}
