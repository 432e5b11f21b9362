package store

import (
	"os"
	"strings"
	"testing"
)

func TestOwner(t *testing.T) {
	dir := t.TempDir() + "/layers"
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.CheckOwner(); err != nil {
		t.Error(err)
	}
	says := func(want string) {
		t.Helper()
		if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("opened: %v, want %q", err, want)
		}
	}
	file := s.private("ids")
	right, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	os.WriteFile(file, []byte("uid 0 1000 1\nuid 1 100000 65536\n"), 0o644)
	says("other ids of users (uid 0 1000 1, uid 1 100000 65536)")
	os.WriteFile(file, right, 0o644)
	if _, err := Open(dir); err != nil {
		t.Error(err)
	}
	if os.Chown(dir, 4711, 0) != nil {
		t.Skip("the rest needs root")
	}
	says("belong to user 4711")
}
