package main

import (
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"raptor-make/sandbox/internal/wire"
)

const notCopied = message("it is a device or a socket, which COPY does not take")

// A copier carries out one COPY. Its sources are open descriptors of the
// host's files; nothing of them is mounted where a program could see it.
type copier struct {
	*agent
	action   *wire.Action
	uid, gid int
	exclude  map[string]bool

	links  sync.Mutex       // held while a file with several names is copied
	linked map[inode]string // path in the layer of such a file

	cannotShare atomic.Bool   // blocks, with this file system
	idle        chan struct{} // a processor for each that could copy a directory, too
}

// maxCopiers is how many directories are copied at a time. More would wait for
// the file system's journal.
const maxCopiers = 4

// buffers are for what the kernel does not copy.
var buffers = sync.Pool{New: func() any { return new([256 << 10]byte) }}

func (a *agent) copy(action *wire.Action) *opError {
	uid, gid, oerr := a.owner(action.Owner)
	if oerr != nil {
		return oerr
	}
	c := &copier{agent: a, action: action, uid: uid, gid: gid, idle: make(chan struct{}, maxCopiers)}
	dir, path := a.base(action.Dest)
	trimmed := strings.TrimRight(path, "/")
	fd, err := within(dir, trimmed, unix.O_PATH|unix.O_DIRECTORY)
	exists := err == nil
	if exists {
		unix.Close(fd)
	} else if err == unix.ENOTDIR && (len(action.Sources) > 1 || trimmed != path) {
		return &opError{"copy to", action.Dest, err}
	}
	if !exists && len(action.Sources) > 1 && trimmed == path {
		return &opError{"copy several files to", action.Dest, unix.ENOTDIR}
	}
	for _, s := range action.Sources {
		var st unix.Stat_t
		from := wire.SourceFD + s.Index
		if err := unix.Fstat(from, &st); err != nil {
			return &opError{"read", s.Name, err}
		}
		if kind := st.Mode & unix.S_IFMT; kind != unix.S_IFDIR && kind != unix.S_IFREG {
			return &opError{"copy", s.Name, notCopied}
		}
		c.exclude, c.linked = map[string]bool{}, map[inode]string{}
		for _, e := range s.Exclude {
			c.exclude[e] = true
		}
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			c.useProcessors()
			oerr = c.contents(from, dir, trimmed)
		} else if exists || trimmed != path {
			oerr = c.file(from, &st, dir, join(trimmed, s.Name))
		} else {
			oerr = c.file(from, &st, dir, trimmed)
		}
		if oerr != nil {
			return oerr
		}
	}
	return nil
}

// useProcessors lets directories be copied side by side: making a file in an
// overlay is mostly work of the kernel's, and twice what it is for cp(1).
func (c *copier) useProcessors() {
	n := min(runtime.NumCPU(), maxCopiers)
	if runtime.GOMAXPROCS(0) < n {
		runtime.GOMAXPROCS(n)
	}
	for len(c.idle) < n-1 {
		c.idle <- struct{}{}
	}
}

// contents copies what is in a directory into another, which is made when it
// is missing.
func (c *copier) contents(from, dir int, dest string) *opError {
	if err := c.mkdirAll(dir, dest, 0o755, c.uid, c.gid); err != nil {
		return err
	}
	to, err := within(dir, dest, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return &opError{"open", "/" + dest, err}
	}
	defer unix.Close(to)
	return c.tree(from, to, dir, dest, "")
}

// file copies one file to a path whose parents are made when they are missing.
func (c *copier) file(from int, st *unix.Stat_t, dir int, path string) *opError {
	if i := strings.LastIndexByte(path, '/'); i > 0 {
		if err := c.mkdirAll(dir, path[:i], 0o755, c.uid, c.gid); err != nil {
			return err
		}
	}
	in, name, err := parent(dir, path)
	if err != nil {
		return &opError{"open", "/" + path, err}
	}
	defer unix.Close(in)
	if err := c.regular(from, st, in, name, "/"+path); err != nil {
		return &opError{"write", "/" + path, err}
	}
	return nil
}

// tree copies the entries of one directory to another, both open. below is the
// path of from below the source, dest that of to in the layer.
func (c *copier) tree(from, to, dir int, dest, below string) *opError {
	names, err := list(from)
	if err != nil {
		return &opError{"read", below, err}
	}
	slices.Sort(names) // so that of several failures, the same is told each time
	var others sync.WaitGroup
	failures := make([]*opError, len(names))
	for i, name := range names {
		rel := join(below, name)
		if c.exclude[rel] {
			continue
		}
		var st unix.Stat_t
		if err := unix.Fstatat(from, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			failures[i] = &opError{"read", rel, err}
			break
		}
		copy := func() { failures[i] = c.entry(from, to, dir, name, join(dest, name), rel, &st) }
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			select {
			case <-c.idle:
				others.Go(func() {
					copy()
					c.idle <- struct{}{}
				})
				continue
			default:
			}
		}
		if copy(); failures[i] != nil {
			break
		}
	}
	others.Wait()
	for _, err := range failures {
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *copier) entry(from, to, dir int, name, dest, rel string, st *unix.Stat_t) *opError {
	var err error
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return c.directory(from, to, dir, name, dest, rel, st)
	case unix.S_IFREG:
		err = c.entryFile(from, to, dir, name, dest, st)
	case unix.S_IFLNK:
		err = c.symlink(from, to, name, dest)
	case unix.S_IFIFO:
		if err = c.remove(to, name, "/"+dest); err == nil {
			if err = unix.Mknodat(to, name, unix.S_IFIFO|st.Mode&0o7777, 0); err == nil {
				err = unix.Fchownat(to, name, c.uid, c.gid, unix.AT_SYMLINK_NOFOLLOW)
			}
		}
	default:
		return &opError{"copy", rel, notCopied}
	}
	if err != nil {
		return &opError{"write", "/" + dest, err}
	}
	return nil
}

func (c *copier) directory(from, to, dir int, name, dest, rel string, st *unix.Stat_t) *opError {
	src, err := unix.Openat(from, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return &opError{"read", rel, err}
	}
	defer unix.Close(src)
	err = c.mkdirAt(to, name, c.mode(st), c.uid, c.gid)
	made := err == nil
	if err != nil && err != unix.EEXIST {
		return &opError{"mkdir", "/" + dest, err}
	}
	into, err := unix.Openat(to, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err == unix.ENOTDIR || err == unix.ELOOP { // a link to a directory of the layer will do
		into, err = within(dir, dest, unix.O_RDONLY|unix.O_DIRECTORY)
	}
	if err != nil {
		return &opError{"copy a directory to", "/" + dest, err}
	}
	defer unix.Close(into)
	if oerr := c.tree(src, into, dir, dest, rel); oerr != nil {
		return oerr
	}
	if made {
		copyXattrs(src, into, !c.action.HasMode)
		setTimes(into, st)
	}
	return nil
}

func (c *copier) entryFile(from, to, dir int, name, dest string, st *unix.Stat_t) error {
	id := inode{st.Dev, st.Ino}
	if st.Nlink > 1 {
		c.links.Lock()
		defer c.links.Unlock()
		if first, ok := c.linked[id]; ok {
			if err := c.remove(to, name, "/"+dest); err != nil {
				return err
			}
			in, base, err := parent(dir, first)
			if err != nil {
				return err
			}
			defer unix.Close(in)
			return unix.Linkat(in, base, to, name, 0)
		}
	}
	src, err := unix.Openat(from, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(src)
	if err := c.regular(src, st, to, name, "/"+dest); err != nil {
		return err
	}
	if st.Nlink > 1 {
		c.linked[id] = dest
	}
	return nil
}

func (c *copier) symlink(from, to int, name, dest string) error {
	buf := make([]byte, 4097)
	n, err := unix.Readlinkat(from, name, buf)
	if err != nil {
		return err
	}
	if err := c.remove(to, name, "/"+dest); err != nil {
		return err
	}
	if err := unix.Symlinkat(string(buf[:n]), to, name); err != nil {
		return err
	}
	if c.uid == 0 && c.gid == 0 {
		return nil
	}
	return unix.Fchownat(to, name, c.uid, c.gid, unix.AT_SYMLINK_NOFOLLOW)
}

// regular copies one regular file: content with its holes, owner, permission
// bits, extended attributes, modification time.
func (c *copier) regular(from int, st *unix.Stat_t, in int, name, dest string) error {
	fd, err := c.replace(in, name, dest)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := c.copyData(from, fd, st, dest); err != nil {
		return err
	}
	if err := dress(fd, c.mode(st), c.uid, c.gid); err != nil {
		return err
	}
	copyXattrs(from, fd, !c.action.HasMode)
	setTimes(fd, st)
	return nil
}

func (c *copier) mode(st *unix.Stat_t) uint32 {
	if c.action.HasMode {
		return c.action.Mode
	}
	return st.Mode & 0o7777
}

// small files are not worth more than a read and a write.
const small = 64 << 10

// copyData shares the blocks if the file system can, else has the kernel copy
// those that hold data. The kernel does neither across file systems, and an overlay
// counts as another: so it is told the file in the upper directory. The overlay
// has no content of its own beside that, and learns the size when it is dressed.
func (c *copier) copyData(from, to int, st *unix.Stat_t, dest string) error {
	if st.Size == 0 {
		return copyUnsized(from, to)
	}
	share := !c.cannotShare.Load()
	if share || st.Size > small {
		if real, err := c.real(to, dest); err == nil {
			defer unix.Close(real)
			to = real
		}
	}
	if share {
		if unix.IoctlFileClone(to, from) == nil {
			return nil
		}
		c.cannotShare.Store(true)
	}
	sparse := st.Blocks*512 < st.Size
	switch {
	case sparse:
		return c.copySparse(from, to, st.Size)
	case st.Size <= small:
		return c.copyBuffered(from, to, 0, st.Size)
	}
	return c.copyRange(from, to, 0, st.Size)
}

// real opens the file of the upper directory that a file just made in the overlay
// is. A path with links, or to another file system, leads to none, or to one with
// another number.
func (c *copier) real(fd int, dest string) (int, error) {
	var st, own unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return -1, err
	}
	real, err := c.beneath(dest[1:], unix.O_WRONLY|unix.O_NONBLOCK)
	if err != nil {
		return -1, err
	}
	if err := unix.Fstat(real, &own); err != nil || own.Ino != st.Ino || own.Nlink != 1 || own.Size != 0 || own.Mode != st.Mode {
		unix.Close(real)
		return -1, unix.ENOENT
	}
	return real, nil
}

// copyUnsized copies a file that says it is empty: most are, but what /proc and
// /sys have says so, too.
func copyUnsized(from, to int) error {
	buf := make([]byte, 4096)
	for at := int64(0); ; {
		n, err := unix.Pread(from, buf, at)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			return err
		}
		if err := writeAll(to, buf[:n]); err != nil {
			return err
		}
		at += int64(n)
	}
}

// copySparse keeps the holes.
func (c *copier) copySparse(from, to int, size int64) error {
	for at := int64(0); at < size; {
		start, err := unix.Seek(from, at, unix.SEEK_DATA)
		if err == unix.ENXIO {
			break // a hole up to the end
		}
		end := size
		if err != nil {
			start = at // this file system does not tell holes
		} else if hole, err := unix.Seek(from, start, unix.SEEK_HOLE); err == nil {
			end = hole
		}
		if err := c.copyRange(from, to, start, min(end, size)); err != nil {
			return err
		}
		at = end
	}
	return unix.Ftruncate(to, size)
}

func (c *copier) copyRange(from, to int, at, end int64) error {
	for at < end {
		in, out := at, at
		n, err := unix.CopyFileRange(from, &in, to, &out, int(min(end-at, 1<<30)), 0)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EXDEV || err == unix.EINVAL || err == unix.EOPNOTSUPP || err == unix.ENOSYS:
			return c.copyBuffered(from, to, at, end)
		case err != nil:
			return err
		case n == 0:
			return nil // it shrank meanwhile
		}
		at += int64(n)
	}
	return nil
}

func (c *copier) copyBuffered(from, to int, at, end int64) error {
	buffer := buffers.Get().(*[256 << 10]byte)
	defer buffers.Put(buffer)
	buf := buffer[:]
	for at < end {
		n, err := unix.Pread(from, buf[:min(int64(len(buf)), end-at)], at)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			return err
		}
		for done := 0; done < n; {
			m, err := unix.Pwrite(to, buf[done:n], at+int64(done))
			if err != nil {
				return err
			}
			done += m
		}
		at += int64(n)
	}
	return nil
}

// copyXattrs copies what belongs to a file's content for its users: not the
// marks of overlayfs or of the host's security module; and access lists, which
// are part of the mode, only where that is the source's.
func copyXattrs(from, to int, lists bool) {
	for _, name := range xattrs(from) {
		switch {
		case strings.HasPrefix(name, "user.overlay."):
			continue
		case strings.HasPrefix(name, "user."), name == "security.capability":
		case strings.HasPrefix(name, "system.posix_acl_") && lists:
		default:
			continue
		}
		buf := make([]byte, 64<<10)
		if n, err := unix.Fgetxattr(from, name, buf); err == nil {
			unix.Fsetxattr(to, name, buf[:n], 0)
		}
	}
}

func xattrs(fd int) []string {
	n, err := unix.Flistxattr(fd, nil)
	if err != nil || n == 0 {
		return nil
	}
	buf := make([]byte, n)
	if n, err = unix.Flistxattr(fd, buf); err != nil {
		return nil
	}
	return strings.Split(strings.TrimRight(string(buf[:n]), "\x00"), "\x00")
}

func setTimes(fd int, st *unix.Stat_t) {
	unix.UtimesNanoAt(fd, "", []unix.Timespec{st.Atim, st.Mtim}, unix.AT_EMPTY_PATH)
}

// list reads the names in a directory; the descriptor stays usable.
func list(fd int) ([]string, error) {
	again, err := unix.Openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(again), "")
	defer f.Close()
	return f.Readdirnames(-1)
}

func join(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}
