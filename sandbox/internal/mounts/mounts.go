// Package mounts makes mounts that are in nobody's tree yet, by the interface that
// the kernel has for that since Linux 5.2. Raptor makes some, and the agent others;
// it is small for the agent's sake.
package mounts

import (
	"strings"

	"golang.org/x/sys/unix"
)

// An Error says what could not be done to which path.
type Error struct {
	Op, Path string
	Err      error
}

func (e *Error) Error() string { return e.Op + " " + e.Path + ": " + e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// New makes a mount of a new file system, with attributes (MOUNT_ATTR_…) and
// options: "name" or "name=value".
func New(kind string, attr int, options ...string) (int, error) {
	fs, err := unix.Fsopen(kind, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, &Error{"fsopen", kind, err}
	}
	defer unix.Close(fs)
	for _, option := range options {
		if err := set(fs, option); err != nil {
			return -1, &Error{"configure " + kind, option, err}
		}
	}
	return create(fs, kind, attr)
}

// set sets one option of a file system that is being configured.
func set(fs int, option string) error {
	key, value, ok := strings.Cut(option, "=")
	var err error
	if ok {
		err = unix.FsconfigSetString(fs, key, value)
	} else {
		err = unix.FsconfigSetFlag(fs, key)
	}
	return explain(fs, err)
}

// create makes the mount of what has been configured.
func create(fs int, kind string, attr int) (int, error) {
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, &Error{"create", kind, explain(fs, err)}
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, attr)
	if err != nil {
		return -1, &Error{"fsmount", kind, err}
	}
	return fd, nil
}

// A detailed error carries what the kernel says about a mount beside errno.
type detailed struct {
	errno error
	text  string
}

func (d *detailed) Error() string { return d.errno.Error() + " (" + d.text + ")" }
func (d *detailed) Unwrap() error { return d.errno }

func explain(fs int, err error) error {
	if err == nil {
		return nil
	}
	buf := make([]byte, 1024)
	var said []string
	for {
		n, rerr := unix.Read(fs, buf)
		if rerr != nil || n <= 0 {
			break
		}
		if line := strings.TrimSpace(string(buf[:n])); strings.HasPrefix(line, "e ") {
			said = append(said, line[2:])
		}
	}
	if len(said) == 0 {
		return err
	}
	return &detailed{err, strings.Join(said, "; ")}
}
