package store_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"raptor-make/internal/store"
)

func TestRemoveLeavesAloneWhatIsUsed(t *testing.T) {
	s, dir := open(t)
	for _, name := range []string{"a-0123", "b-0123", "c-0123"} {
		publish(t, s, name, name)
	}
	release, err := s.Use([]string{"b-0123"})
	if err != nil {
		t.Fatal(err)
	}
	other, err := store.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	all, err := other.Layers()
	if err != nil || len(all) != 3 {
		t.Fatalf("layers are %v, %v", all, err)
	}
	busy, err := other.Remove(all)
	if err != nil || !slices.Equal(busy, []string{"b-0123"}) {
		t.Errorf("busy are %v, %v", busy, err)
	}
	if left, _ := other.Layers(); !slices.Equal(left, []string{"b-0123"}) {
		t.Errorf("left are %v", left)
	}
	release()
	if busy, err := other.Remove([]string{"b-0123"}); err != nil || busy != nil {
		t.Errorf("busy are %v, %v", busy, err)
	}
	for _, sub := range []string{"build", "layers", "logs"} {
		if left, _ := os.ReadDir(filepath.Join(dir, ".raptor", sub)); len(left) > 0 {
			t.Errorf("left in %s: %v", sub, left)
		}
	}
}

func TestRemovedLockExcludes(t *testing.T) {
	s, _ := open(t)
	var holders, most int
	var mu sync.Mutex
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 200 {
				l, err := s.Lock(context.Background(), "x", nil)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				holders++
				most = max(most, holders)
				mu.Unlock()
				mu.Lock()
				holders--
				mu.Unlock()
				l.Remove()
			}
		})
	}
	all.Wait()
	if most != 1 {
		t.Errorf("%d held the lock at once", most)
	}
}
