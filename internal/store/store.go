// Package store keeps finished layers and the records of jobs on disk: a
// directory per layer, published whole or not at all, and beside them what
// was written down about it.
//
// It does not know what a layer is made of: keys are strings of hex digits,
// and what a record explains is labelled text. Several processes may share a
// store; each layer and job is locked, by the kernel, while it is made.
//
//	layers/
//	  base-AB1DD71BFD07718B/      a finished layer: exactly what it adds or changes
//	  .raptor/
//	    layers/base-AB1D….json    its record: the full key, what that was made from, …
//	    jobs/iso.json             the record of a job's last success
//	    logs/base-AB1D….log       what its programs printed
//	    locks/base-AB1D….lock     held (flock) while it is made
//	    build/base-AB1D…/         where it is made: upper-…/, work/, its record
//	    ids                       whose ids the owners of its files are
//	    uses/4711-…               which layers a running process uses (flock)
//	    trees/3F9C….txt           what a directory held that was copied, by digest
//
// The life of a layer: Lock its directory's name, look it up with Layer, and if
// it is missing Begin a Build, fill Build.Upper, and Publish it. The rename in
// Publish is the moment from which the layer exists.
package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Version is the layout of a store. A store of another version is refused.
const Version = "1"

const private = ".raptor"

// A Store is a directory of layers. It is safe for concurrent use, also by
// several processes.
type Store struct {
	// Sync makes files durable, and with whole all of the file systems that
	// they are on; when ctx has ended, the error is its cause. It is this
	// process that waits, until somebody sets another.
	Sync func(ctx context.Context, whole bool, files ...*os.File) error

	dir string
}

// Open opens the store in dir, making it when it is missing, and removes what
// builds that were killed have left behind.
func Open(dir string) (*Store, error) {
	s := Existing(dir)
	return s, s.Prepare()
}

// Prepare turns what Existing gave into what Open gives.
func (s *Store) Prepare() error {
	dir := s.dir
	// Layers hold setuid programs that builds made: nobody else may reach them.
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return fmt.Errorf("open store: %w", err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("open store: %w", err)
	}
	if err := s.CheckOwner(); err != nil {
		return err
	}
	for _, sub := range []string{"layers", "jobs", "logs", "locks", "build", "uses", "trees"} {
		if err := os.MkdirAll(s.private(sub), 0o755); err != nil {
			return fmt.Errorf("open store: %w", err)
		}
	}
	if err := s.checkVersion(); err != nil {
		return err
	}
	if err := s.signOwner(); err != nil {
		return fmt.Errorf("open store: %w", err)
	}
	return s.sweep()
}

// Existing is Open for those who only look: it makes and removes nothing. A
// store that does not exist is empty.
func Existing(dir string) *Store { return &Store{dir: dir, Sync: syncHere} }

// Path is the directory of a layer, whether it exists or not. Name is the
// layer's name and the first digits of its key, joined by "-".
func (s *Store) Path(name string) string { return filepath.Join(s.dir, name) }

// LogPath is the file that the output of a step is kept in.
func (s *Store) LogPath(name string) string { return s.private("logs", name+".log") }

// Remembered is the file in which the engine remembers digests of sources.
func (s *Store) Remembered() string { return s.private("digests.json") }

// Pins is the lock file of a project that has no project file to put one next
// to.
func (s *Store) Pins() string { return s.private("Raptor.lock") }

// Watched are the directories whose times change when a layer or a record
// appears or disappears.
func (s *Store) Watched() []string {
	return []string{s.dir, s.private("layers"), s.private("jobs")}
}

func (s *Store) private(elem ...string) string {
	return filepath.Join(append([]string{s.dir, private}, elem...)...)
}

func (s *Store) checkVersion() error {
	file := s.private("version")
	text, err := os.ReadFile(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return s.writeFile(context.Background(), file, []byte(Version+"\n"))
	case err != nil:
		return fmt.Errorf("open store: %w", err)
	case string(text) != Version+"\n":
		return fmt.Errorf("open store %s: it has layout %q, this raptor writes %q; use another store, or remove it", s.dir, text, Version)
	}
	return nil
}

// sweep removes build directories whose maker is gone: their lock is free.
func (s *Store) sweep() error {
	entries, err := os.ReadDir(s.private("build"))
	if err != nil {
		return fmt.Errorf("open store: %w", err)
	}
	for _, e := range entries {
		lock, err := s.lockOfDead(e.Name())
		if err != nil || lock == nil {
			continue // somebody is at work there
		}
		err = removeAll(s.private("build", e.Name()))
		lock.Unlock()
		if err != nil {
			return fmt.Errorf("remove leftover of an interrupted build: %w", err)
		}
	}
	return nil
}

// removeAll is os.RemoveAll for trees in which others may be ending: when raptor
// is killed, its sandbox, or what fetches for it, lives a moment longer, and may
// be making files.
func removeAll(dir string) error {
	err := os.RemoveAll(dir)
	for deadline := time.Now().Add(2 * time.Second); errors.Is(err, unix.ENOTEMPTY) && time.Now().Before(deadline); {
		time.Sleep(5 * time.Millisecond)
		err = os.RemoveAll(dir)
	}
	return err
}

// writeFile replaces a file so that it is the old one or the whole new one,
// whatever happens.
func (s *Store) writeFile(ctx context.Context, file string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails once it is renamed
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(0o644)
	}
	if err == nil {
		err = s.Sync(ctx, false, f)
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), file)
	}
	return err
}

// Durable makes files durable, and the names in directories.
func (s *Store) Durable(ctx context.Context, paths ...string) error {
	return s.syncPaths(ctx, false, paths)
}

func (s *Store) syncPaths(ctx context.Context, whole bool, paths []string) error {
	files := make([]*os.File, len(paths))
	for i, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		files[i] = f
	}
	return s.Sync(ctx, whole, files...)
}

// syncHere is a Store's Sync if it is given no other.
func syncHere(ctx context.Context, whole bool, files ...*os.File) error {
	for _, f := range files {
		var err error
		if whole {
			err = os.NewSyscallError("syncfs", unix.Syncfs(int(f.Fd())))
		} else {
			err = f.Sync()
		}
		if err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}
