package sandbox

import (
	"context"
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

func TestSync(t *testing.T) {
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, whole := range []bool{false, true} {
		if err := Sync(context.Background(), whole, f, f); err != nil {
			t.Errorf("whole %v: %v", whole, err)
		}
	}
	// It is fsync(2) that does it, and on the right file: pipes have none.
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if err := Sync(context.Background(), false, f, w); !errors.Is(err, unix.EINVAL) {
		t.Errorf("of a pipe: %v, want %v", err, unix.EINVAL)
	}
	ctx, stop := context.WithCancelCause(context.Background())
	stop(os.ErrDeadlineExceeded)
	if err := Sync(ctx, true, f); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("stopped: %v, want the cause", err)
	}
}
