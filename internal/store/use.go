package store

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Use says that this process works with layers, by the names of their
// directories, so that no other removes them before release is called or the
// process ends. Whether they are there has to be looked up after it.
//
// A use is a file in uses/ that lists the names and is locked for as long as it
// counts.
func (s *Store) Use(names []string) (release func(), err error) {
	guard, err := s.guard()
	if err != nil {
		return nil, err
	}
	defer guard.Close()
	f, err := os.CreateTemp(s.private("uses"), fmt.Sprintf("%d-", os.Getpid()))
	if err != nil {
		return nil, fmt.Errorf("say what is used: %w", err)
	}
	_, err = f.WriteString(strings.Join(names, "\n") + "\n")
	if err == nil {
		err = flock(f, unix.LOCK_EX)
	}
	if err != nil {
		os.Remove(f.Name())
		f.Close()
		return nil, fmt.Errorf("say what is used: %w", err)
	}
	return func() { os.Remove(f.Name()); f.Close() }, nil
}

// guard is held for a moment by those who begin to use layers and by those who
// remove some.
func (s *Store) guard() (*os.File, error) {
	f, err := os.OpenFile(s.private("uses", "lock"), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("lock store: %w", err)
	}
	if err := flock(f, unix.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock store: %w", err)
	}
	return f, nil
}

// used lists the layers that living processes use.
func (s *Store) used() (map[string]bool, error) {
	entries, err := os.ReadDir(s.private("uses"))
	if err != nil {
		return nil, err
	}
	names := map[string]bool{}
	for _, e := range entries {
		if e.Name() == "lock" {
			continue
		}
		if err := readUse(s.private("uses", e.Name()), names); err != nil {
			return nil, err
		}
	}
	return names, nil
}

// readUse adds the names of one use, or removes it if its process is gone.
func readUse(file string, names map[string]bool) error {
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if flock(f, unix.LOCK_SH|unix.LOCK_NB) == nil {
		return os.Remove(file)
	}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		names[lines.Text()] = true
	}
	return lines.Err()
}

// Layers lists the directories of finished layers.
func (s *Store) Layers() ([]string, error) {
	entries, err := os.ReadDir(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() && e.Name() != private {
			names = append(names, e.Name())
		}
	}
	return names, err
}

// Remove removes layers with their records and logs, and returns the names of
// those that it left alone because a running process uses or makes them.
func (s *Store) Remove(names []string) (busy []string, err error) {
	own := fmt.Sprintf("removed-%d", os.Getpid())
	lock, err := s.Lock(context.Background(), own, nil) // or what is built under that name would be swept
	if err != nil {
		return nil, err
	}
	defer lock.Remove()
	trash := s.private("build", own)
	if err := os.MkdirAll(trash, 0o700); err != nil {
		return nil, fmt.Errorf("remove layers: %w", err)
	}
	defer removeAll(trash)
	guard, err := s.guard()
	if err != nil {
		return nil, err
	}
	defer guard.Close()
	used, err := s.used()
	if err != nil {
		return nil, fmt.Errorf("find out what is used: %w", err)
	}
	for _, name := range names {
		made, err := s.tryLock(name)
		if err != nil {
			return busy, err
		}
		if made == nil || used[name] {
			busy = append(busy, name)
		} else if err := s.remove(name, trash); err != nil {
			return busy, fmt.Errorf("remove layer %s: %w", name, err)
		}
		switch {
		case made == nil:
		case used[name]:
			made.Unlock()
		default:
			made.Remove()
		}
	}
	return busy, nil
}

// remove takes a layer out of sight; its tree is removed later, when nobody
// waits for the guard.
func (s *Store) remove(name, trash string) error {
	err := os.Rename(s.Path(name), filepath.Join(trash, name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, file := range []string{s.private("layers", name+".json"), s.LogPath(name)} {
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
