package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"raptor-make/sandbox/internal/wire"
)

// An ExitError is a program that ran inside and did not succeed.
type ExitError struct {
	Action int            // index in Spec.Actions
	Status int            // exit status; 128+signal when killed by one
	Signal syscall.Signal // 0: it exited

	// Limit is the one of Spec.Limits that programs ran into, which is most
	// probably why: "memory" (the kernel killed one), "pids" (one could not be
	// started), or "".
	Limit string
}

func (e *ExitError) Error() string {
	text := fmt.Sprintf("exit status %d", e.Status)
	if e.Signal != 0 {
		text = fmt.Sprintf("killed by signal %d (%v)", int(e.Signal), e.Signal)
	}
	switch e.Limit {
	case "memory":
		text += ": it needed more memory than its limit"
	case "pids":
		text += ": it needed more processes than its limit"
	}
	return text
}

// An ActionError is an action that could not be carried out: a program that is
// not found, a missing parent directory, an unknown owner.
type ActionError struct {
	Action int
	Op     string // "exec", "mkdir", "open", "chown", "lookup user", …
	Path   string
	Err    error // mostly a syscall.Errno
}

func (e *ActionError) Error() string { return fmt.Sprintf("%s %s: %v", e.Op, e.Path, e.Err) }
func (e *ActionError) Unwrap() error { return e.Err }

// A SetupError is a sandbox that could not be made. Nothing was run.
type SetupError struct {
	Stage string // "unshare", "mount overlay", "pivot root", …
	Path  string // "" when there is none
	Err   error
	Help  string // how to mend it; may be empty
}

func (e *SetupError) Error() string {
	if e.Path == "" {
		return fmt.Sprintf("sandbox: %s: %v", e.Stage, e.Err)
	}
	return fmt.Sprintf("sandbox: %s %s: %v", e.Stage, e.Path, e.Err)
}
func (e *SetupError) Unwrap() error { return e.Err }

func noAgent(err error) error {
	return &SetupError{Stage: "find agent", Err: err, Help: "build raptor with make build, or name an agent with RAPTOR_AGENT"}
}

func (s *session) startError(err error) error {
	e := &SetupError{Stage: "make namespaces", Err: reason(err)}
	if errors.Is(err, unix.EPERM) {
		e.Help = "this process may not make namespaces; in a container, give it CAP_SYS_ADMIN"
	}
	return e
}

// said is the error that an event carries: an errno, with the kernel's own
// words if there were any.
func said(ev wire.Event) error {
	errno := syscall.Errno(ev.Errno)
	switch {
	case ev.Errno == 0:
		return errors.New(ev.Text)
	case ev.Text != "" && ev.Text != errno.Error():
		return &spoken{errno, ev.Text}
	}
	return errno
}

type spoken struct {
	errno syscall.Errno
	text  string
}

func (s *spoken) Error() string { return s.text }
func (s *spoken) Unwrap() error { return s.errno }

func (s *session) setupHelp(ev wire.Event) string {
	overlay := strings.Contains(ev.Op, "overlay")
	switch {
	case ev.Errno == int(unix.ENOSYS), overlay && strings.Contains(ev.Path, "lowerdir+"):
		return "this needs Linux 6.5 or newer"
	case overlay && ev.Errno == int(unix.ENODEV):
		return "this kernel has no overlayfs; try modprobe overlay"
	case overlay && Rootless() && ev.Errno == int(unix.EPERM):
		return "this kernel lets no ordinary user mount overlays (it takes Linux 5.11); use sudo"
	case overlay && ev.Errno == int(unix.EINVAL):
		return "the file system below may be one that cannot hold an overlay's changes (an overlay itself, NFS): use another"
	case Rootless() && ev.Path == "/proc" && ev.Errno == int(unix.EPERM):
		return "parts of this system's own /proc are hidden, as in a container, and then no other may be mounted: with Docker, use --security-opt systempaths=unconfined"
	case ev.Errno == int(unix.ENOSPC):
		return "the disk is full, or there are too many mounts or namespaces (sysctl fs.mount-max, user.max_mnt_namespaces)"
	}
	return ""
}

func reason(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}
