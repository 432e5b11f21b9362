package recipes

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/google/renameio/v2"
)

// builders holds the standard recipes as the language reads them.
//
//go:embed all:builders
var builders embed.FS

// Unpack writes the standard recipes below cacheDir and returns the absolute
// directory that holds them. It is named by its content, so that versions of
// raptor live side by side, and written once: later calls compare, and mend
// what was changed, lost or added. Any number of processes may call it at
// once.
func Unpack(cacheDir string) (string, error) {
	tree, err := fs.Sub(builders, "builders")
	if err != nil {
		return "", fmt.Errorf("read embedded recipes: %w", err)
	}
	dir, err := unpack(tree, cacheDir)
	if err != nil {
		return "", fmt.Errorf("unpack recipes: %w", err)
	}
	return dir, nil
}

func unpack(tree fs.FS, cacheDir string) (string, error) {
	files, err := readTree(tree)
	if err != nil {
		return "", err
	}
	cacheDir, err = filepath.Abs(cacheDir)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cacheDir, "recipes-"+hashTree(files))
	switch _, err := os.Lstat(dir); {
	case err == nil:
		return dir, mend(files, dir)
	case !errors.Is(err, fs.ErrNotExist):
		return "", err
	}
	if err := os.MkdirAll(cacheDir, 0o755); err != nil {
		return "", err
	}
	half, err := os.MkdirTemp(cacheDir, ".recipes-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(half)
	if err := os.Chmod(half, 0o755); err != nil {
		return "", err
	}
	if err := mend(files, half); err != nil {
		return "", err
	}
	if err := os.Rename(half, dir); err != nil {
		// Another process was first. What it wrote is looked at as any
		// other copy is.
		if _, there := os.Lstat(dir); there != nil {
			return "", err
		}
	}
	return dir, mend(files, dir)
}

// An entry is a file or directory of the recipes.
type entry struct {
	path string // with slashes, relative
	mode fs.FileMode
	data []byte
}

// readTree returns the tree in walking order. Embedding forgets permission
// bits: what begins as a script is executable.
func readTree(tree fs.FS) ([]entry, error) {
	var files []entry
	err := fs.WalkDir(tree, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == "." {
			return err
		}
		if d.IsDir() {
			files = append(files, entry{path, fs.ModeDir | 0o755, nil})
			return nil
		}
		data, err := fs.ReadFile(tree, path)
		mode := fs.FileMode(0o644)
		if bytes.HasPrefix(data, []byte("#!")) {
			mode = 0o755
		}
		files = append(files, entry{path, mode, data})
		return err
	})
	return files, err
}

func hashTree(files []entry) string {
	h := sha256.New()
	for _, f := range files {
		fmt.Fprintf(h, "%q %o %d\n", f.path, f.mode, len(f.data))
		h.Write(f.data)
	}
	return hex.EncodeToString(h.Sum(nil))[:16]
}

// mend makes the directory dir hold exactly these files. A file is replaced in
// one step, so that a reader sees its old content or the new one.
//
// The directory is locked meanwhile, for what one process is about to rename
// into place would be something foreign to another.
func mend(files []entry, dir string) error {
	lock, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("lock %s: %w", dir, err)
	}
	wanted := make(map[string]bool, len(files))
	for _, f := range files {
		wanted[filepath.Join(dir, f.path)] = true
	}
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir || wanted[path] {
			return err
		}
		if err := os.RemoveAll(path); err != nil {
			return err
		}
		if d.IsDir() {
			return fs.SkipDir
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, f := range files {
		if err := f.mend(filepath.Join(dir, f.path)); err != nil {
			return err
		}
	}
	return nil
}

func (f entry) mend(path string) error {
	info, err := os.Lstat(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	there := err == nil
	if there && info.Mode().Type() != f.mode.Type() {
		if err := os.RemoveAll(path); err != nil {
			return err
		}
		there = false
	}
	if there && info.Mode() == f.mode {
		if f.mode.IsDir() {
			return nil
		}
		if data, err := os.ReadFile(path); err == nil && bytes.Equal(data, f.data) {
			return nil
		}
	}
	if !f.mode.IsDir() {
		if there {
			// The new file takes over the permissions of the old one.
			if err := os.Chmod(path, f.mode.Perm()); err != nil {
				return err
			}
		}
		return renameio.WriteFile(path, f.data, f.mode.Perm(), renameio.IgnoreUmask())
	}
	if !there {
		if err := os.Mkdir(path, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return os.Chmod(path, f.mode.Perm()) // past the umask
}
