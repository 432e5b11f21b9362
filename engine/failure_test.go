package engine

import (
	"syscall"
	"testing"

	"raptor-make/sandbox"
)

// The error of a sandbox that could not be made says how to mend it, or who
// knows; a mistake of the user's is not the machine's.
func TestSetupFailure(t *testing.T) {
	for _, c := range []struct {
		err  sandbox.SetupError
		want string
	}{
		{sandbox.SetupError{Stage: "mount overlay", Err: syscall.ENODEV, Help: "modprobe overlay"}, "sandbox: mount overlay: no such device (modprobe overlay)"},
		{sandbox.SetupError{Stage: "mount", Path: "/sys", Err: syscall.EPERM}, "sandbox: mount /sys: operation not permitted (raptor doctor says what this machine lacks)"},
		{sandbox.SetupError{Stage: "open", Path: "/data", Err: syscall.ENOENT}, "sandbox: open /data: no such file or directory"},
	} {
		for _, got := range []error{explainFailure(&c.err, nil), jobFailure(nil, &c.err)} {
			if got.Error() != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		}
	}
}
