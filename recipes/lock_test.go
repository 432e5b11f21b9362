package recipes

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func lock(t *testing.T, file string) *Lock {
	t.Helper()
	l, err := LoadLock(file)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestLock(t *testing.T) {
	file := filepath.Join(t.TempDir(), LockName)
	l := lock(t, file)
	if err := l.Save(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("a lock with nothing in it was written")
	}
	l.Record(PinImage, "docker://debian:trixie", "linux/amd64", "sha256:aa")
	l.Record(PinImage, "docker://debian:trixie", "linux/arm64", "sha256:bb")
	l.Record(PinGit, "https://example.org/x.git", `v1 "beta"`, "0123")
	want := []string{
		`git https://example.org/x.git (v1 "beta")`,
		"image docker://debian:trixie (linux/amd64)", "image docker://debian:trixie (linux/arm64)",
	}
	if diff := cmp.Diff(want, l.Changed()); diff != "" {
		t.Errorf("changed (-want +got):\n%s", diff)
	}
	if err := l.Save(); err != nil {
		t.Fatal(err)
	}
	if len(l.Changed()) > 0 {
		t.Errorf("changed after saving: %v", l.Changed())
	}
	text, _ := os.ReadFile(file)
	const tables = `
version = 1

[git."https://example.org/x.git"]
"v1 \"beta\"" = "0123"

[image."docker://debian:trixie"]
"linux/amd64" = "sha256:aa"
"linux/arm64" = "sha256:bb"
`
	if diff := cmp.Diff(lockHeader+tables, string(text)); diff != "" {
		t.Errorf("the file (-want +got):\n%s", diff)
	}
	l = lock(t, file)
	if value, ok := l.Lookup(PinGit, "https://example.org/x.git", `v1 "beta"`); !ok || value != "0123" {
		t.Errorf("looked up: %q, %t", value, ok)
	}
	if _, ok := l.Lookup(PinImage, "docker://debian:trixie", "linux/riscv64"); ok {
		t.Error("found what was not recorded")
	}
	l.Record(PinImage, "docker://debian:trixie", "linux/amd64", "sha256:aa")
	if len(l.Changed()) > 0 {
		t.Errorf("recording what is known changed %v", l.Changed())
	}
}

// TestLockTogether: what several processes record at once is all kept.
func TestLockTogether(t *testing.T) {
	file := filepath.Join(t.TempDir(), LockName)
	var wg sync.WaitGroup
	for i := range 20 {
		l := lock(t, file)
		wg.Go(func() {
			l.Record(PinImage, fmt.Sprintf("docker://image%d", i), "linux/amd64", "sha256:aa")
			if err := l.Save(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for i, l := 0, lock(t, file); i < 20; i++ {
		if _, ok := l.Lookup(PinImage, fmt.Sprintf("docker://image%d", i), "linux/amd64"); !ok {
			t.Errorf("image%d was lost", i)
		}
	}
}

func TestLockDamaged(t *testing.T) {
	for text, want := range map[string]string{
		"":                                  "the lock file lacks its version",
		"version = 2":                       "version 2 of the lock file is not known",
		"version = 1\n[image.x]\ny = 3":     "must be a string",
		"version = 1\n[imgae.x]\ny = \"z\"": "did you mean image?",
		"version = 1\n<<<<<<< ours":         "not valid TOML",
	} {
		file := filepath.Join(t.TempDir(), LockName)
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := LoadLock(file)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "take the file back from version control") {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

// FuzzLock: what is read can be written and is the same when read again.
func FuzzLock(f *testing.F) {
	f.Add([]byte("version = 1\n[image.\"docker://debian:trixie\"]\n\"linux/amd64\" = \"sha256:aa\"\n"))
	f.Add([]byte("version = 1\n[git.\"a\\u0001\\\"\"]\n\"\" = '\\'\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		pins, diagnostics := parseLock(LockName, text)
		if len(diagnostics) > 0 {
			return
		}
		written := formatLock(pins)
		again, diagnostics := parseLock(LockName, written)
		if len(diagnostics) > 0 {
			t.Fatalf("what was written is wrong: %v\n%s", diagnostics, written)
		}
		if diff := cmp.Diff(pins, again, cmp.AllowUnexported(pin{})); diff != "" {
			t.Errorf("read again (-first +second):\n%s", diff)
		}
	})
}
