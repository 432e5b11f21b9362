package fetch

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// A store is the cache directory. See the documentation of package images for
// what lies where.
type store struct{ dir string }

const (
	blobDir      = "blobs"
	bootstrapDir = "bootstraps"
	partSuffix   = ".part" // the file that is being written, and its lock
	rootSuffix   = ".root" // the directory that belongs to a .part
)

func (s store) blob(d digest.Digest) string {
	return filepath.Join(s.dir, blobDir, d.Algorithm().String(), d.Encoded())
}

func (s store) bootstrap(d digest.Digest) string {
	return filepath.Join(s.dir, bootstrapDir, d.Encoded()+".tar.zst")
}

// provide makes sure that file exists. If it does not, write fills it, under
// another name first: the file is there as a whole or not at all. Of several
// goroutines and processes that want the same file one writes it while the
// others wait, having called waiting once.
//
// It is not made durable, which takes seconds on a busy disk: whoever reads the
// cache verifies what is read, and what a power failure has damaged is made anew.
func (s store) provide(ctx context.Context, file string, waiting func(), write func(part *os.File) error) error {
	if exists(file) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return fmt.Errorf("cache: %w", err)
	}
	part, err := lockPart(ctx, file+partSuffix, waiting)
	if err != nil {
		return fmt.Errorf("cache: %w", err)
	}
	defer part.Close() // and so unlock it
	if exists(file) {
		return os.Remove(part.Name())
	}
	err = part.Truncate(0)
	if err == nil {
		err = write(part)
	}
	if err == nil {
		err = os.Rename(part.Name(), file)
	}
	if err != nil {
		os.Remove(part.Name())
	}
	return err
}

// lockPart opens the file, new or left behind, when nobody else holds it.
func lockPart(ctx context.Context, name string, waiting func()) (*os.File, error) {
	for {
		f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644)
		if err != nil {
			return nil, err
		}
		if err := lock(ctx, f, waiting); err != nil {
			f.Close()
			return nil, err
		}
		// While it was waited for, the file may have got its final name or
		// have been removed; then the lock is on something else by now.
		if same(f, name) {
			return f, nil
		}
		f.Close()
	}
}

const lockEvery = 50 * time.Millisecond

// lock takes the lock, or gives up when ctx ends. A thread that waits in
// flock(2) could not be called off, hence the polling.
func lock(ctx context.Context, f *os.File, waiting func()) error {
	for first := true; ; first = false {
		switch err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); {
		case err == nil:
			return nil
		case !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR):
			return fmt.Errorf("lock %s: %w", f.Name(), err)
		}
		if first && waiting != nil {
			waiting()
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(lockEvery):
		}
	}
}

func same(f *os.File, name string) bool {
	a, err := f.Stat()
	if err != nil {
		return false
	}
	b, err := os.Lstat(name)
	return err == nil && os.SameFile(a, b)
}

// sweep removes what processes that were killed have left. It is no error if
// that fails: the next sweep will do it, or whoever wants that very file.
func (s store) sweep() {
	for _, pattern := range []string{
		filepath.Join(s.dir, blobDir, "*", "*"+partSuffix),
		filepath.Join(s.dir, bootstrapDir, "*"+partSuffix),
	} {
		parts, _ := filepath.Glob(pattern)
		for _, part := range parts {
			sweepPart(part)
		}
	}
}

func sweepPart(part string) {
	f, err := os.OpenFile(part, os.O_RDWR, 0)
	if err != nil {
		return
	}
	defer f.Close()
	if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil || !same(f, part) {
		return // it is being made
	}
	// The directory goes first: without its .part nobody would find it.
	if os.RemoveAll(strings.TrimSuffix(part, partSuffix)+rootSuffix) == nil {
		os.Remove(part)
	}
}

func exists(file string) bool {
	_, err := os.Lstat(file)
	return !errors.Is(err, fs.ErrNotExist)
}
