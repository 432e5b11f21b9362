package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
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

func noAgent(err error) error { return &SetupError{Stage: "find agent", Err: err} }

func (s *session) startError(err error) error {
	return &SetupError{Stage: "make namespaces", Err: reason(err), Help: startHelp(err, Rootless())}
}

// startHelp says how to mend that there are no namespaces.
func startHelp(err error, rootless bool) (help string) {
	switch {
	case rootless:
		help = userNamespaceHelp(err)
	case errors.Is(err, unix.EPERM):
		help = "this process may not make namespaces; in a container, give it CAP_SYS_ADMIN"
	case errors.Is(err, unix.ENOSPC):
		help = "there are too many of them: sysctl -w user.max_mnt_namespaces=65536, and the same for pid, ipc, uts and net"
	}
	if help != "" && errors.Is(err, unix.EPERM) && filtered() {
		help += "; " + filterHelp
	}
	return help
}

const filterHelp = "a filter of system calls is in force here, as in most containers, and may be what forbids it: with Docker, --security-opt seccomp=unconfined"

// filtered tells whether somebody has put a filter of system calls on us.
func filtered() bool { return status("Seccomp") == "2" }

// status is a line of our own /proc/self/status.
func status(key string) string {
	text, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, key+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
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

func (s *session) setupHelp(ev wire.Event) string { return setupHelp(ev, Rootless()) }

func setupHelp(ev wire.Event, rootless bool) string {
	overlay := strings.Contains(ev.Op, "overlay")
	denied := ev.Errno == int(unix.EPERM) || ev.Errno == int(unix.EACCES)
	switch {
	case ev.Errno == int(unix.ENOSYS):
		return "raptor needs Linux 5.12 or newer"
	case strings.Contains(ev.Op, "system call filter") && ev.Errno == int(unix.EINVAL):
		return "this kernel was built without CONFIG_SECCOMP_FILTER, and raptor runs nothing without such a filter: use another kernel"
	case denied && rootless && ev.Op == "make mounts private":
		return userNamespaceHelp(unix.EPERM)
	case denied && ev.Op == "make mounts private":
		return "in a container, give it CAP_SYS_ADMIN and, where AppArmor is in use, no profile that forbids mounts: with Docker, --cap-add SYS_ADMIN --security-opt apparmor=unconfined"
	case overlay && ev.Errno == int(unix.ENODEV):
		return "this kernel has no overlayfs; try modprobe overlay"
	case overlay && rootless && ev.Errno == int(unix.EPERM):
		return "this kernel lets no ordinary user mount overlays (it takes Linux 5.11); use sudo"
	case overlay && ev.Errno == int(unix.EINVAL):
		return "the file system below may be one that cannot hold an overlay's changes (an overlay itself, NFS): use another"
	case rootless && ev.Path == "/proc" && ev.Errno == int(unix.EPERM):
		return "parts of this system's own /proc are hidden, as in a container, and then no other may be mounted: with Docker, use --security-opt systempaths=unconfined"
	case ev.Errno == int(unix.ENOSPC):
		return "the disk is full, or there are too many mounts or namespaces (sysctl fs.mount-max, user.max_mnt_namespaces)"
	case ev.Errno == int(unix.EPERM) && filtered():
		return filterHelp
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
