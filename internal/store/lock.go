package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A Lock is held on a name until Unlock, or until the process ends, however it
// ends.
type Lock struct{ file *os.File }

// Unlock gives the lock back.
func (l *Lock) Unlock() { l.file.Close() }

// Remove gives the lock back and removes its file. Whoever waits for it gets a
// new one.
func (l *Lock) Remove() {
	os.Remove(l.file.Name())
	l.file.Close()
}

// Lock takes the lock on a name. When another process holds it, waiting is
// called once with who that is ("process 4711"), and Lock waits until it is
// free or ctx ends.
func (s *Store) Lock(ctx context.Context, name string, waiting func(holder string)) (*Lock, error) {
	lock, err := s.tryLock(name)
	for lock == nil && err == nil {
		lock, err = s.waitLock(ctx, name, waiting)
		waiting = nil
	}
	return lock, err
}

// waitLock waits for a lock that another holds. It is nil, nil when the file
// was removed meanwhile.
func (s *Store) waitLock(ctx context.Context, name string, waiting func(holder string)) (*Lock, error) {
	file, err := s.openLock(name)
	if err != nil {
		return nil, err
	}
	if waiting != nil {
		waiting(holder(file))
	}
	// flock(2) cannot be given up: on interruption the waiting thread is left
	// behind, and closes the file if it ever gets the lock.
	got := make(chan error, 1)
	go func() { got <- flock(file, unix.LOCK_EX) }()
	select {
	case err := <-got:
		if err != nil {
			file.Close()
			return nil, fmt.Errorf("lock %s: %w", file.Name(), err)
		}
		return taken(file)
	case <-ctx.Done():
		go func() { <-got; file.Close() }()
		return nil, context.Cause(ctx)
	}
}

// tryLock is nil, nil when the lock is held by another.
func (s *Store) tryLock(name string) (*Lock, error) {
	for {
		file, err := s.openLock(name)
		if err != nil {
			return nil, err
		}
		err = flock(file, unix.LOCK_EX|unix.LOCK_NB)
		if errors.Is(err, unix.EWOULDBLOCK) {
			file.Close()
			return nil, nil
		}
		if err != nil {
			file.Close()
			return nil, fmt.Errorf("lock %s: %w", file.Name(), err)
		}
		if lock, err := taken(file); lock != nil || err != nil {
			return lock, err
		}
	}
}

// lockOfDead is tryLock, with some patience for a process that was killed: what
// it was just about to execute holds its locks for a moment more.
func (s *Store) lockOfDead(name string) (*Lock, error) {
	for deadline := time.Now().Add(time.Second); ; time.Sleep(5 * time.Millisecond) {
		lock, err := s.tryLock(name)
		if lock != nil || err != nil || time.Now().After(deadline) || s.holderLives(name) {
			return lock, err
		}
	}
}

// holderLives tells whether the process that has signed a lock is there. It is
// true as long as nobody has signed.
func (s *Store) holderLives(name string) bool {
	file, err := s.openLock(name)
	if err != nil {
		return true
	}
	defer file.Close()
	var pid int
	if _, err := fmt.Sscanf(holder(file), "process %d", &pid); err != nil {
		return true
	}
	return unix.Kill(pid, 0) != unix.ESRCH
}

// taken signs a lock that was just taken. It is nil when the file has lost its
// name in the meantime: a lock on it would exclude nobody.
func taken(file *os.File) (*Lock, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &st); err != nil || st.Nlink == 0 {
		file.Close()
		return nil, err
	}
	sign(file)
	return &Lock{file}, nil
}

func (s *Store) openLock(name string) (*os.File, error) {
	file, err := os.OpenFile(s.private("locks", name+".lock"), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	return file, nil
}

func flock(file *os.File, how int) error {
	for {
		err := unix.Flock(int(file.Fd()), how)
		if err != unix.EINTR {
			return err
		}
	}
}

// sign writes who holds the lock, for those who wait; that it may be missing
// or stale does no harm. All signatures are of one length: ext4 writes a file to
// the disk as soon as it is closed after it was truncated to nothing, and removing
// it has to wait for that.
func sign(file *os.File) {
	file.WriteAt(fmt.Appendf(nil, "process %-10d\n", os.Getpid()), 0)
}

func holder(file *os.File) string {
	text := make([]byte, 64)
	n, _ := file.ReadAt(text, 0)
	if who := strings.TrimSpace(string(text[:n])); who != "" {
		return who
	}
	return "another process"
}
