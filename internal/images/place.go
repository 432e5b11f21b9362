package images

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// A Place is where in a project an image lies: a file or a directory. It does
// not lead out of root, if there is one, at the time it is opened.
type Place struct {
	Path string // absolute
	root string // "" is anywhere
}

func newPlace(path, dir, root string) (Place, error) {
	if path == "" {
		return Place{}, errors.New("the path is missing")
	}
	if !filepath.IsAbs(path) {
		path = filepath.Join(dir, path)
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return Place{}, err
	}
	if root != "" {
		if root, err = filepath.Abs(root); err != nil {
			return Place{}, err
		}
	}
	p := Place{path, root}
	// What does not exist yet cannot be checked yet; opening checks again.
	if _, err := p.resolve(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Place{}, err
	}
	return p, nil
}

// resolve is a path without symbolic links, and an error if it is outside of
// the root. Of a path that does not exist, the part that does is checked.
func (p Place) resolve(path string) (string, error) {
	real, err := filepath.EvalSymlinks(path)
	if p.root == "" || err != nil && !errors.Is(err, fs.ErrNotExist) {
		return real, err
	}
	root, rootErr := filepath.EvalSymlinks(p.root)
	if rootErr != nil {
		return "", rootErr
	}
	if err != nil {
		real = resolveExisting(path)
	}
	if !inside(root, real) {
		return "", fmt.Errorf("%s leads out of %s", path, p.root)
	}
	return real, err
}

func resolveExisting(path string) string {
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		if real, err := filepath.EvalSymlinks(dir); err == nil || dir == filepath.Dir(dir) {
			rest, _ := filepath.Rel(dir, path)
			return filepath.Join(real, rest)
		}
	}
}

func inside(root, path string) bool {
	rel, err := filepath.Rel(root, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
}

// Open opens the regular file at, or at elem below, the place.
func (p Place) Open(elem ...string) (*os.File, error) {
	path, err := p.resolve(filepath.Join(append([]string{p.Path}, elem...)...))
	if err != nil {
		return nil, err
	}
	// A named pipe would be waited for, for ever.
	if info, err := os.Stat(path); err != nil {
		return nil, err
	} else if !info.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "open", Path: path, Err: errors.New("not a regular file")}
	}
	if p.root == "" {
		return os.Open(path)
	}
	root, err := filepath.EvalSymlinks(p.root)
	if err != nil {
		return nil, err
	}
	// Free of links when it was resolved; should one have appeared since, it
	// does not lead out either.
	dir, err := os.OpenRoot(root)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	rel, err := filepath.Rel(root, path)
	if err != nil {
		return nil, err
	}
	return dir.Open(rel)
}

// IsDir tells whether a directory lies there.
func (p Place) IsDir() (bool, error) {
	path, err := p.resolve(p.Path)
	if err != nil {
		return false, err
	}
	info, err := os.Stat(path)
	return err == nil && info.IsDir(), err
}
