package helper

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Keep is a program's copy in a directory, made if it is not there: to open it
// takes microseconds, where a new file in memory takes as long as everything is
// copied. The directory is to be one that is empty after a reboot, so that what
// was only half written when the power failed is not there afterwards.
//
// The file is open on a mount of its own, which is read-only and in nobody's
// tree: whoever gets hold of it, as /proc/PID/exe, can change neither it nor its
// mode. The idea is runc's, of which a container could once overwrite the
// program (CVE-2019-5736). It fails where mounting is not allowed, and on
// what others than we could have made or can change.
func Keep(dir, name string, program []byte) (*os.File, error) {
	id, err := buildID(program)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(id)
	path := filepath.Join(dir, name+"-"+hex.EncodeToString(sum[:8]))
	f, err := openKept(path, int64(len(program)))
	if err == nil {
		return f, nil
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, err
	}
	for _, d := range []string{filepath.Dir(dir), dir} {
		if err := ours(d, unix.S_IFDIR); err != nil {
			return nil, err
		}
	}
	if err := leave(path, program); err != nil {
		return nil, err
	}
	prune(path, name)
	return openKept(path, int64(len(program)))
}

// openKept opens a copy, if it is as leave has left it.
func openKept(path string, size int64) (*os.File, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_SYMLINK_NOFOLLOW)
	if err != nil {
		return nil, &os.PathError{Op: "open_tree", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(fd), path)
	var st unix.Stat_t
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV, Attr_clr: unix.MOUNT_ATTR_NOEXEC}
	if err = unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &attr); err == nil {
		err = unix.Fstat(fd, &st)
	}
	if err == nil {
		err = check(&st, unix.S_IFREG)
	}
	if err == nil && st.Size != size {
		err = errors.New("it has another size")
	}
	for _, d := range []string{filepath.Dir(path), filepath.Dir(filepath.Dir(path))} {
		if err == nil {
			err = ours(d, unix.S_IFDIR)
		}
	}
	if err != nil {
		f.Close()
		return nil, &os.PathError{Op: "use", Path: path, Err: err}
	}
	return f, nil
}

// ours fails on what is not ours alone.
func ours(path string, kind uint32) error {
	var st unix.Stat_t
	err := unix.Lstat(path, &st)
	if err == nil {
		err = check(&st, kind)
	}
	if err != nil {
		return &os.PathError{Op: "use", Path: path, Err: err}
	}
	return nil
}

func check(st *unix.Stat_t, kind uint32) error {
	switch {
	case st.Mode&unix.S_IFMT != kind:
		return errors.New("it is of another kind")
	case int(st.Uid) != os.Geteuid():
		return errors.New("it belongs to somebody else")
	case st.Mode&0o022 != 0:
		return errors.New("others can write to it")
	}
	return nil
}

// leave writes a copy, which appears whole.
func leave(path string, program []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), part+"*")
	if err != nil {
		return err
	}
	_, err = f.Write(program)
	if err == nil {
		err = f.Chmod(0o500)
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

const part = ".part-"

// prune removes the oldest copies of other versions, and what was left half
// written. Whoever has them open does not notice; whoever wants them makes them
// anew.
func prune(path, name string) {
	const most, patience = 4, time.Minute
	dir := filepath.Dir(path)
	entries, _ := os.ReadDir(dir)
	var versions []os.FileInfo
	for _, e := range entries {
		info, err := e.Info()
		switch {
		case err != nil || e.Name() == filepath.Base(path):
		case strings.HasPrefix(e.Name(), name+"-"):
			versions = append(versions, info)
		case strings.HasPrefix(e.Name(), part) && time.Since(info.ModTime()) > patience:
			os.Remove(filepath.Join(dir, e.Name()))
		}
	}
	slices.SortFunc(versions, func(a, b os.FileInfo) int { return b.ModTime().Compare(a.ModTime()) })
	for _, v := range versions[min(most-1, len(versions)):] {
		os.Remove(filepath.Join(dir, v.Name()))
	}
}

// buildID is the ID that the go command has given a program: its second half is
// the hash of all the rest. It is in a note of the ELF file, which the
// linker puts into its first pages: the sizes of the note's name and content, its
// kind, 4, the name, "Go\0\0", and the content (see cmd/internal/buildid).
func buildID(program []byte) ([]byte, error) {
	head := program[:min(len(program), 8192)]
	at := bytes.Index(head, []byte("\x04\x00\x00\x00Go\x00\x00"))
	if at < 8 {
		return nil, errors.New("it has no build ID")
	}
	size, rest := binary.LittleEndian.Uint32(head[at-4:]), head[at+8:]
	if size == 0 || uint64(size) > uint64(len(rest)) {
		return nil, fmt.Errorf("bad build ID of %d bytes", size)
	}
	return rest[:size], nil
}
