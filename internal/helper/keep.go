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
// copied. The directory should be empty after a reboot, for it may be trusted as
// little as the one above it: both have to be ours alone.
//
// The file is opened through an overlay without an upper directory, that is in
// nobody's tree. Whoever gets hold of it, as /proc/PID/exe, can change neither it
// nor its mode, whatever else he may do: there is nowhere to write to. The idea is
// runc's, of which a container could once overwrite the program (CVE-2019-5736).
//
// It fails where overlays cannot be mounted, in an ordinary user's mount
// namespace above all, and on what others than we could have made or can change.
func Keep(dir, name string, program []byte) (*os.File, error) {
	id, err := buildID(program)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(id)
	k := &keeper{dir: dir, name: name, size: int64(len(program))}
	k.version = filepath.Join(dir, name+"-"+hex.EncodeToString(sum[:8]))
	k.empty = filepath.Join(dir, "empty")
	f, err := k.open()
	if err == nil || k.check() == nil {
		return f, err // where overlays cannot be mounted, it would not help to make it anew
	}
	if err := k.leave(program); err != nil {
		return nil, err
	}
	return k.open()
}

// A keeper keeps one version of a program.
type keeper struct {
	dir, name string
	size      int64
	version   string // the directory that has the program's file and nothing else
	empty     string // an overlay wants two
}

// check fails on what leave has not left so.
func (k *keeper) check() error {
	for _, dir := range []string{filepath.Dir(k.dir), k.dir, k.empty, k.version} {
		if _, err := ours(dir, unix.S_IFDIR); err != nil {
			return err
		}
	}
	file := filepath.Join(k.version, k.name)
	size, err := ours(file, unix.S_IFREG)
	if err == nil && size != k.size {
		err = &os.PathError{Op: "use", Path: file, Err: errors.New("it has another size")}
	}
	return err
}

// ours fails on what does not belong to us alone.
func ours(path string, kind uint32) (size int64, err error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return 0, &os.PathError{Op: "lstat", Path: path, Err: err}
	}
	switch {
	case st.Mode&unix.S_IFMT != kind:
		err = errors.New("it is of another kind")
	case int(st.Uid) != os.Geteuid():
		err = errors.New("it belongs to somebody else")
	case st.Mode&0o022 != 0:
		err = errors.New("others can write to it")
	default:
		return st.Size, nil
	}
	return 0, &os.PathError{Op: "use", Path: path, Err: err}
}

// open opens the program's file.
func (k *keeper) open() (*os.File, error) {
	if err := k.check(); err != nil {
		return nil, err
	}
	mount, err := overlay(k.version, k.empty)
	if err != nil {
		return nil, err
	}
	defer func() { go unix.Close(mount) }() // it waits for all processors, and nobody need wait for that
	fd, err := unix.Openat(mount, k.name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: k.version, Err: err}
	}
	return os.NewFile(uintptr(fd), filepath.Join(k.version, k.name)), nil
}

// overlay is a detached mount of directories, topmost first.
func overlay(dirs ...string) (int, error) {
	var options [][2]string
	for _, dir := range dirs {
		options = append(options, [2]string{"lowerdir+", dir})
	}
	mount, err := overlayOf(options)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.7; up to 255 bytes
		return overlayOf([][2]string{{"lowerdir", strings.Join(dirs, ":")}})
	}
	return mount, err
}

func overlayOf(options [][2]string) (int, error) {
	fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, os.NewSyscallError("fsopen", err)
	}
	defer unix.Close(fs)
	for _, o := range options {
		if err := unix.FsconfigSetString(fs, o[0], o[1]); err != nil {
			return -1, os.NewSyscallError("fsconfig", err)
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, os.NewSyscallError("fsconfig", err)
	}
	mount, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV)
	return mount, os.NewSyscallError("fsmount", err)
}

// leave writes a copy, which appears whole. One that stands there is none.
func (k *keeper) leave(program []byte) error {
	for _, dir := range []string{k.dir, k.empty} {
		if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	for _, dir := range []string{filepath.Dir(k.dir), k.dir, k.empty} {
		if _, err := ours(dir, unix.S_IFDIR); err != nil {
			return err
		}
	}
	temp, err := os.MkdirTemp(k.dir, part+"*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp)
	f, err := os.OpenFile(filepath.Join(temp, k.name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o500)
	if err != nil {
		return err
	}
	_, err = f.Write(program)
	if err == nil {
		err = f.Sync() // the directory may be on a disk all the same
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	err = os.Rename(temp, k.version)
	if err != nil && k.check() != nil {
		if err = os.RemoveAll(k.version); err == nil {
			err = os.Rename(temp, k.version)
		}
	}
	if err != nil && k.check() == nil {
		err = nil // another has just left it
	}
	k.prune()
	return err
}

const part = ".part-"

// prune removes the oldest copies of other versions, and what was left half
// written. Whoever has them open does not notice; whoever wants them makes them
// anew.
func (k *keeper) prune() {
	const most, patience = 4, time.Minute
	entries, _ := os.ReadDir(k.dir)
	var versions []os.FileInfo
	for _, e := range entries {
		info, err := e.Info()
		switch {
		case err != nil || e.Name() == filepath.Base(k.version):
		case strings.HasPrefix(e.Name(), k.name+"-"):
			versions = append(versions, info)
		case strings.HasPrefix(e.Name(), part) && time.Since(info.ModTime()) > patience:
			os.RemoveAll(filepath.Join(k.dir, e.Name()))
		}
	}
	slices.SortFunc(versions, func(a, b os.FileInfo) int { return b.ModTime().Compare(a.ModTime()) })
	for _, v := range versions[min(most-1, len(versions)):] {
		os.RemoveAll(filepath.Join(k.dir, v.Name()))
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
