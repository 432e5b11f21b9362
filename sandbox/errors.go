package sandbox

import (
	"fmt"
	"syscall"
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
