package engine

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/google/renameio/v2"
)

// Digests are the contents of files, remembered with what stat(2) said of them
// so that an unchanged file is read once. It is safe for concurrent use.
type Digests struct {
	file  string
	watch *Watch

	mu    sync.Mutex
	known map[string]remembered
	fresh bool // something was remembered since loading
}

// A remembered digest holds as long as the file's identity is the same.
type remembered struct {
	Dev    uint64 `json:"d"`
	Ino    uint64 `json:"i"`
	Size   int64  `json:"s"`
	Mtime  int64  `json:"m"` // nanoseconds
	Ctime  int64  `json:"c"`
	Digest Digest `json:"h"`
}

// settled is how long ago a file must have changed for its digest to be
// remembered: a change within the clock's granularity of the first would leave
// no trace in its times. File systems with the coarsest clock count in two
// seconds.
const settled = 2 * time.Second

// LoadDigests reads what was remembered. A file that is missing or damaged is
// as good as none. All that is read from then on is noted in watch, if that is
// not nil.
func LoadDigests(file string, watch *Watch) *Digests {
	d := &Digests{file: file, watch: watch, known: map[string]remembered{}}
	if text, err := os.ReadFile(file); err == nil {
		if json.Unmarshal(text, &d.known) != nil || d.known == nil {
			d.known = map[string]remembered{}
		}
	}
	return d
}

// Save writes what was remembered since loading. Processes that save at once
// may lose each other's news, which costs them reading a file once more.
func (d *Digests) Save() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.fresh {
		return nil
	}
	text, err := json.Marshal(d.known)
	if err == nil {
		err = renameio.WriteFile(d.file, text, 0o644)
	}
	if err != nil {
		return fmt.Errorf("remember digests: %w", err)
	}
	d.fresh = false
	return nil
}

// Content is the digest of a regular file's content. Holes count as zeros.
func (d *Digests) Content(path string) (Digest, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	return d.File(f)
}

// File is Content for a file that is open, at its beginning.
func (d *Digests) File(f *os.File) (Digest, error) {
	d.note(f.Name(), true)
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return "", &fs.PathError{Op: "stat", Path: f.Name(), Err: err}
	}
	return d.content(f, f.Name(), &st)
}

func (d *Digests) content(f *os.File, path string, st *unix.Stat_t) (Digest, error) {
	now := remembered{Dev: st.Dev, Ino: st.Ino, Size: st.Size, Mtime: st.Mtim.Nano(), Ctime: st.Ctim.Nano()}
	d.mu.Lock()
	known, ok := d.known[path]
	d.mu.Unlock()
	now.Digest = known.Digest
	if ok && known == now {
		return known.Digest, nil
	}
	start := time.Now()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	now.Digest = Digest(hex.EncodeToString(h.Sum(nil)))
	if before := start.Add(-settled).UnixNano(); now.Mtime < before && now.Ctime < before {
		d.remember(path, now)
	}
	return now.Digest, nil
}

func (d *Digests) note(path string, follow bool) {
	if d.watch != nil {
		d.watch.File(path, follow)
	}
}

func (d *Digests) remember(path string, r remembered) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.known[path], d.fresh = r, true
}

// tick is more than the granularity of file times on Linux's own file systems,
// which is that of the timer interrupt.
const tick = 20 * time.Millisecond

// Learn is Content for a file that has just been finished, and tells its size.
// It waits until a later change would show in the file's times, and remembers
// the digest at once.
func (d *Digests) Learn(path string) (Digest, int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return "", 0, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	time.Sleep(tick - time.Since(time.Unix(0, max(st.Mtim.Nano(), st.Ctim.Nano()))))
	digest, err := d.content(f, path, &st)
	if err != nil {
		return "", 0, err
	}
	if st.Ctim.Nsec != 0 { // else the file system may count in seconds
		d.remember(path, remembered{st.Dev, st.Ino, st.Size, st.Mtim.Nano(), st.Ctim.Nano(), digest})
	}
	return digest, st.Size, nil
}

// Tree is the digest of a file or of a directory with all below it: content,
// type and permission bits, extended attributes that a copy would carry along,
// and where symbolic links lead; not times, not owners. Entries for which
// ignore is true are left out. The path itself may be a symbolic link, and
// means what it leads to.
func (d *Digests) Tree(path string, ignore func(rel string, dir bool) bool) (Digest, error) {
	h := sha256.New()
	if err := d.list(h, path, ignore); err != nil {
		return "", err
	}
	return Digest(hex.EncodeToString(h.Sum(nil))), nil
}

// Listing is what Tree is the digest of: a line for each entry, which begins
// with its path, quoted.
func (d *Digests) Listing(path string, ignore func(rel string, dir bool) bool) (string, error) {
	var b strings.Builder
	err := d.list(&b, path, ignore)
	return b.String(), err
}

func (d *Digests) list(w io.Writer, path string, ignore func(rel string, dir bool) bool) error {
	d.note(path, true)
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	root, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	return d.entry(w, root, "", info, ignore)
}

func (d *Digests) entry(h io.Writer, root, rel string, info fs.FileInfo, ignore func(string, bool) bool) error {
	path := filepath.Join(root, rel)
	if !info.Mode().IsRegular() {
		d.note(path, false)
	}
	fmt.Fprintf(h, "%q %o", rel, unixMode(info.Mode()))
	if info.Mode()&fs.ModeSymlink == 0 {
		writeAttributes(h, path)
	}
	switch {
	case info.Mode().IsRegular():
		digest, err := d.Content(path)
		if err != nil {
			return err
		}
		fmt.Fprintf(h, " %s\n", digest)
	case info.Mode()&fs.ModeSymlink != 0:
		target, err := os.Readlink(path)
		if err != nil {
			return err
		}
		fmt.Fprintf(h, " -> %q\n", target)
	case info.IsDir():
		fmt.Fprintln(h)
		return d.directory(h, root, rel, ignore)
	default:
		fmt.Fprintln(h)
	}
	return nil
}

func (d *Digests) directory(h io.Writer, root, rel string, ignore func(string, bool) bool) error {
	entries, err := os.ReadDir(filepath.Join(root, rel)) // sorted
	if err != nil {
		return err
	}
	for _, e := range entries {
		below := filepath.Join(rel, e.Name())
		if ignore != nil && ignore(below, e.IsDir()) {
			continue
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		if err := d.entry(h, root, below, info, ignore); err != nil {
			return err
		}
	}
	return nil
}

// stamp writes the identity of a file, or of a directory with all below it.
func stamp(h io.Writer, path string, ignore func(rel string, dir bool) bool) error {
	root, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	return filepath.WalkDir(root, func(at string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if rel, _ := filepath.Rel(root, at); rel != "." && ignore != nil && ignore(rel, d.IsDir()) {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		id, err := identify(at, false)
		fmt.Fprintf(h, "%q %v\n", at, id)
		return err
	})
}

// Probe is what path() in a template can ask about a file: whether it exists
// and of which type it is, itself and what it leads to.
func Probe(path string) Digest {
	kind := func(info fs.FileInfo, err error) string {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return "missing"
		case err != nil:
			return "unreadable"
		}
		return info.Mode().Type().String()
	}
	return Digest(kind(os.Lstat(path)) + " " + kind(os.Stat(path)))
}

// unixMode is a mode as stat(2) would give it: type and permission bits.
func unixMode(m fs.FileMode) uint32 {
	bits := uint32(m.Perm())
	for _, b := range []struct {
		is  fs.FileMode
		bit uint32
	}{
		{fs.ModeSetuid, unix.S_ISUID}, {fs.ModeSetgid, unix.S_ISGID}, {fs.ModeSticky, unix.S_ISVTX},
		{fs.ModeDir, unix.S_IFDIR}, {fs.ModeSymlink, unix.S_IFLNK}, {fs.ModeNamedPipe, unix.S_IFIFO}, {fs.ModeSocket, unix.S_IFSOCK},
	} {
		if m&b.is != 0 {
			bits |= b.bit
		}
	}
	return bits
}

// writeAttributes adds the extended attributes that COPY carries along.
func writeAttributes(h io.Writer, path string) {
	buf := make([]byte, 4096)
	n, err := unix.Listxattr(path, buf)
	if err != nil || n == 0 {
		return
	}
	names := strings.Split(strings.TrimRight(string(buf[:n]), "\x00"), "\x00")
	slices.Sort(names)
	for _, name := range names {
		if !strings.HasPrefix(name, "user.") && name != "security.capability" && !strings.HasPrefix(name, "system.posix_acl_") {
			continue
		}
		value := make([]byte, 64<<10)
		if n, err := unix.Getxattr(path, name, value); err == nil {
			fmt.Fprintf(h, " %q=%q", name, value[:n])
		}
	}
}
