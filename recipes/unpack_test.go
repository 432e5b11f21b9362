package recipes

import (
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

// contents lists a directory: mode and text by path.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	list := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		list[name] = info.Mode().String()
		if info.Mode().IsRegular() {
			text, err := os.ReadFile(path)
			list[name] += " " + string(text)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

var unpackable = fstest.MapFS{
	"iso.rapt":    {Data: []byte("FROM x\n")},
	"scripts/iso": {Data: []byte("#!/bin/bash\n")},
}

var unpacked = map[string]string{
	"iso.rapt":    "-rw-r--r-- FROM x\n",
	"scripts":     "drwxr-xr-x",
	"scripts/iso": "-rwxr-xr-x #!/bin/bash\n",
}

func TestUnpack(t *testing.T) {
	cache := filepath.Join(t.TempDir(), "made", "when missing")
	dir, err := unpack(unpackable, cache)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(unpacked, contents(t, dir)); diff != "" {
		t.Errorf("unpacked (-want +got):\n%s", diff)
	}
	other, err := unpack(fstest.MapFS{"iso.rapt": {Data: []byte("FROM y\n")}}, cache)
	if err != nil || other == dir {
		t.Errorf("another version is unpacked at %s as well: %v", other, err)
	}
}

func TestUnpackMends(t *testing.T) {
	for name, damage := range map[string]func(dir string) error{
		"changed": func(dir string) error { return os.WriteFile(filepath.Join(dir, "iso.rapt"), []byte("x"), 0o644) },
		"lost":    func(dir string) error { return os.RemoveAll(filepath.Join(dir, "scripts")) },
		"added":   func(dir string) error { return os.MkdirAll(filepath.Join(dir, "a/b"), 0o755) },
		"mode":    func(dir string) error { return os.Chmod(filepath.Join(dir, "scripts/iso"), 0o600) },
		"replaced": func(dir string) error {
			os.Remove(filepath.Join(dir, "iso.rapt"))
			return os.Symlink("scripts/iso", filepath.Join(dir, "iso.rapt"))
		},
		"by a directory": func(dir string) error {
			os.Remove(filepath.Join(dir, "iso.rapt"))
			return os.MkdirAll(filepath.Join(dir, "iso.rapt/x"), 0o755)
		},
	} {
		t.Run(name, func(t *testing.T) {
			cache := t.TempDir()
			dir, err := unpack(unpackable, cache)
			if err != nil {
				t.Fatal(err)
			}
			if err := damage(dir); err != nil {
				t.Fatal(err)
			}
			if again, err := unpack(unpackable, cache); err != nil || again != dir {
				t.Fatalf("unpacked at %s: %v", again, err)
			}
			if diff := cmp.Diff(unpacked, contents(t, dir)); diff != "" {
				t.Errorf("mended (-want +got):\n%s", diff)
			}
		})
	}
}

func TestUnpackTogether(t *testing.T) {
	cache := t.TempDir()
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			dir, err := Unpack(cache)
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := os.Stat(filepath.Join(dir, "iso.rapt")); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	left, _ := os.ReadDir(cache)
	if len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
}
