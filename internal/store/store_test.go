package store_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"raptor-make/internal/store"
)

const key = "0123456789abcdef"

func open(t *testing.T) (*store.Store, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "layers")
	s, err := store.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s, dir
}

func publish(t *testing.T, s *store.Store, name, content string) {
	t.Helper()
	b, err := s.Begin(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(b.Upper, "file"), []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := b.Publish(context.Background(), &store.Layer{Key: key, Bytes: int64(len(content))}); err != nil {
		t.Fatal(err)
	}
}

func TestPublishedLayerIsFound(t *testing.T) {
	s, dir := open(t)
	publish(t, s, "base-0123", "hello")
	r, err := s.Layer("base-0123", key)
	if err != nil {
		t.Fatal(err)
	}
	if r.Bytes != 5 || r.Made.IsZero() {
		t.Errorf("record is %+v", r)
	}
	if text, _ := os.ReadFile(filepath.Join(dir, "base-0123", "file")); string(text) != "hello" {
		t.Errorf("layer holds %q", text)
	}
	if left, _ := os.ReadDir(filepath.Join(dir, ".raptor", "build")); len(left) != 0 {
		t.Errorf("build directory is left behind: %v", left)
	}
}

// A layer that was interrupted while it was made durable has not appeared, and
// can be made again.
func TestInterruptedLayerIsNotPublished(t *testing.T) {
	s, dir := open(t)
	durable := s.Sync
	interrupted := errors.New("interrupted")
	ctx, interrupt := context.WithCancelCause(context.Background())
	s.Sync = func(ctx context.Context, whole bool, files ...*os.File) error {
		if !whole {
			t.Error("something else is made durable before the layer")
		}
		interrupt(interrupted)
		return durable(ctx, whole, files...)
	}
	b, err := s.Begin("base-0123")
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Publish(ctx, &store.Layer{Key: key}); !errors.Is(err, interrupted) {
		t.Errorf("got %v, want %v", err, interrupted)
	}
	if layers, err := s.Layers(); len(layers) > 0 || err != nil {
		t.Errorf("there are layers: %v, %v", layers, err)
	}
	if records, _ := os.ReadDir(filepath.Join(dir, ".raptor", "layers")); len(records) > 0 {
		t.Errorf("there are records: %v", records)
	}
	s.Sync = durable
	publish(t, s, "base-0123", "new")
	if _, err := s.Layer("base-0123", key); err != nil {
		t.Error(err)
	}
}

// TestUpperIsNoOther has what fetches for a killed build write on: to where that
// was to be, not to the next build of the same layer.
func TestUpperIsNoOther(t *testing.T) {
	s, dir := open(t)
	killed, err := s.Begin("base-0123")
	if err != nil {
		t.Fatal(err)
	}
	b, err := s.Begin("base-0123")
	if err == nil {
		err = os.MkdirAll(filepath.Join(killed.Upper, "late"), 0o755)
	}
	if err == nil {
		err = b.Publish(t.Context(), &store.Layer{Key: key})
	}
	if err != nil {
		t.Fatal(err)
	}
	if found, err := os.ReadDir(s.Path("base-0123")); len(found) > 0 || err != nil {
		t.Errorf("the layer holds %v (%v), want nothing", found, err)
	}
	if left, _ := os.ReadDir(filepath.Join(dir, ".raptor", "build")); len(left) > 0 {
		t.Errorf("%v is left", left)
	}
}

func TestDamageIsAMissWithAReason(t *testing.T) {
	for _, c := range []struct {
		name, reason string
		damage       func(dir string)
	}{
		{"layer removed", "has not been built", func(dir string) { os.RemoveAll(filepath.Join(dir, "base-0123")) }},
		{"layer is a file", "not a directory", func(dir string) {
			os.RemoveAll(filepath.Join(dir, "base-0123"))
			os.WriteFile(filepath.Join(dir, "base-0123"), nil, 0o644)
		}},
		{"record removed", "no record", func(dir string) { os.Remove(filepath.Join(dir, ".raptor/layers/base-0123.json")) }},
		{"record cut off", "damaged", func(dir string) { os.Truncate(filepath.Join(dir, ".raptor/layers/base-0123.json"), 10) }},
		{"record of another key", "another key", func(dir string) {
			file := filepath.Join(dir, ".raptor/layers/base-0123.json")
			text, _ := os.ReadFile(file)
			os.WriteFile(file, []byte(strings.Replace(string(text), key, "fedc", 1)), 0o644)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, dir := open(t)
			publish(t, s, "base-0123", "old")
			c.damage(dir)
			_, err := s.Layer("base-0123", key)
			var miss *store.Miss
			if !errors.As(err, &miss) || !strings.Contains(miss.Reason, c.reason) {
				t.Fatalf("got %v, want a miss because of %q", err, c.reason)
			}
			publish(t, s, "base-0123", "new") // whatever stands there is replaced
			if _, err := s.Layer("base-0123", key); err != nil {
				t.Errorf("after building it anew: %v", err)
			}
			if text, _ := os.ReadFile(filepath.Join(dir, "base-0123", "file")); string(text) != "new" {
				t.Errorf("layer holds %q", text)
			}
		})
	}
}

func TestOpenRemovesLeftoversOfTheDeadOnly(t *testing.T) {
	s, dir := open(t)
	lock, err := s.Lock(context.Background(), "alive", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Unlock()
	for _, name := range []string{"alive", "dead"} {
		if _, err := s.Begin(name); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := store.Open(dir); err != nil {
		t.Fatal(err)
	}
	left, _ := os.ReadDir(filepath.Join(dir, ".raptor", "build"))
	if len(left) != 1 || left[0].Name() != "alive" {
		t.Errorf("left after opening again: %v, want [alive]", left)
	}
}

func TestLockWaitsAndSaysForWhom(t *testing.T) {
	s, _ := open(t)
	first, err := s.Lock(context.Background(), "x", nil)
	if err != nil {
		t.Fatal(err)
	}
	who := make(chan string, 1)
	got := make(chan error, 1)
	go func() {
		second, err := s.Lock(context.Background(), "x", func(holder string) { who <- holder })
		if err == nil {
			second.Unlock()
		}
		got <- err
	}()
	if holder := <-who; !strings.HasPrefix(holder, "process ") {
		t.Errorf("waits for %q", holder)
	}
	select {
	case <-got:
		t.Fatal("two hold one lock")
	case <-time.After(20 * time.Millisecond):
	}
	first.Unlock()
	if err := <-got; err != nil {
		t.Error(err)
	}
}

func TestLockGivesUpWithItsContext(t *testing.T) {
	s, _ := open(t)
	first, err := s.Lock(context.Background(), "x", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Unlock()
	ctx, cancel := context.WithCancel(context.Background())
	if _, err := s.Lock(ctx, "x", func(string) { cancel() }); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
}

func TestAnotherLayoutIsRefused(t *testing.T) {
	_, dir := open(t)
	if err := os.WriteFile(filepath.Join(dir, ".raptor", "version"), []byte("99\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Open(dir); err == nil || !strings.Contains(err.Error(), "99") {
		t.Errorf("got %v", err)
	}
}

func TestJobRecords(t *testing.T) {
	s, _ := open(t)
	if _, err := s.Job("iso"); err == nil {
		t.Error("a job that never ran has a record")
	}
	if err := s.RecordJob(context.Background(), &store.Job{Name: "iso", Key: key}); err != nil {
		t.Fatal(err)
	}
	if r, err := s.Job("iso"); err != nil || r.Key != key {
		t.Errorf("got %+v, %v", r, err)
	}
	if err := s.ForgetJob("iso"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Job("iso"); err == nil {
		t.Error("a forgotten record is found")
	}
}
