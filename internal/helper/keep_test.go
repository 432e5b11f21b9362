package helper

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// program is this test itself: a program with a build ID.
func program(t *testing.T) []byte {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	text, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// other is a program with another build ID, of the same size.
func other(t *testing.T, program []byte, number byte) []byte {
	t.Helper()
	id, err := buildID(program)
	if err != nil {
		t.Fatal(err)
	}
	another := bytes.Clone(id)
	another[0] ^= number
	return bytes.Replace(program, id, another, 1)
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "*"))
	hidden, herr := filepath.Glob(filepath.Join(dir, ".*"))
	if err := errors.Join(err, herr); err != nil {
		t.Fatal(err)
	}
	return append(found, hidden...)
}

func keep(t *testing.T, dir string, text []byte) *os.File {
	t.Helper()
	f, err := Keep(dir, "program", text)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func inode(t *testing.T, f *os.File) uint64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	return st.Ino
}

func TestKeep(t *testing.T) {
	text := program(t)
	dir := filepath.Join(t.TempDir(), "kept")
	first := keep(t, dir, text)
	if again := keep(t, dir, text); inode(t, first) != inode(t, again) {
		t.Error("it is made anew")
	}
	path := fmt.Sprintf("/proc/self/fd/%d", first.Fd())
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, text) {
		t.Errorf("it has %d bytes (%v), want %d", len(got), err, len(text))
	}
	if out, err := exec.Command(path, "-test.list", "TestKeep$").Output(); string(out) != "TestKeep\n" || err != nil {
		t.Errorf("it says %q (%v)", out, err)
	}

	if err := os.WriteFile(filepath.Join(dir, part+"1"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	long := time.Now().Add(-time.Hour)
	if err := os.Chtimes(filepath.Join(dir, part+"1"), long, long); err != nil {
		t.Fatal(err)
	}
	for n := range byte(5) {
		kept := names(t, dir)
		updated := keep(t, dir, other(t, text, n+1))
		for _, path := range kept {
			var st unix.Stat_t
			if unix.Stat(path+"/program", &st) == nil && st.Ino == inode(t, updated) {
				t.Errorf("version %d is that in %s", n, path)
			}
		}
	}
	if got := names(t, dir); len(got) != 5 || got[0] != filepath.Join(dir, "empty") {
		t.Errorf("of 6 versions there are %q, want four", got)
	}
	if _, err := os.ReadFile(path); err != nil {
		t.Errorf("who has the old version open loses it: %v", err)
	}
}

// TestKeptCannotBeChanged shows that it is the overlay that keeps root from it,
// root of all capabilities, who may even change the flags of mounts.
func TestKeptCannotBeChanged(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "kept")
	f := keep(t, dir, program(t))
	version := filepath.Dir(f.Name())
	mount, err := overlay(version, filepath.Join(dir, "empty"))
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(mount)
	writable := unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY}
	if err := unix.MountSetattr(mount, "", unix.AT_EMPTY_PATH, &writable); err != nil {
		t.Fatal(err)
	}
	if err := unix.MountSetattr(int(f.Fd()), "", unix.AT_EMPTY_PATH, &writable); err == nil {
		t.Error("whoever has the file can change the mount's flags")
	}
	if fs, err := unix.Fspick(mount, "", unix.FSPICK_EMPTY_PATH); err == nil {
		unix.FsconfigSetFlag(fs, "rw")
		if err := unix.FsconfigReconfigure(fs); err == nil {
			t.Error("the overlay can be made writable")
		}
		unix.Close(fs)
	}
	through, err := unix.Openat(mount, "program", unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(through)
	plain, err := os.Open(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	for what, change := range map[string]func(path string) error{
		"writing": func(path string) error {
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err == nil {
				f.Close()
			}
			return err
		},
		"truncating": func(path string) error { return os.Truncate(path, 1<<30) },
		"chmod":      func(path string) error { return os.Chmod(path, 0o777) },
		"chown":      func(path string) error { return os.Chown(path, 1, 1) },
		"xattr":      func(path string) error { return unix.Setxattr(path, "user.x", []byte("x"), 0) },
	} {
		for name, fd := range map[string]int{"it": int(f.Fd()), "a mount whose flags were changed": through} {
			if err := change(fmt.Sprintf("/proc/self/fd/%d", fd)); !errors.Is(err, unix.EROFS) {
				t.Errorf("%s through %s: %v", what, name, err)
			}
		}
		if err := change(fmt.Sprintf("/proc/self/fd/%d", plain.Fd())); err != nil {
			t.Errorf("%s fails without the overlay, too: %v", what, err)
		}
	}
}

func TestKeepDistrusts(t *testing.T) {
	text := program(t)
	for _, row := range []struct {
		what   string
		spoil  func(dir, path string) error
		refuse bool // else it is made anew
		same   bool // it is taken
	}{
		{what: "others can write to it", spoil: func(_, path string) error { return os.Chmod(path, 0o702) }},
		{what: "its group can write to it", spoil: func(_, path string) error { return os.Chmod(path, 0o720) }},
		{what: "another's", spoil: func(_, path string) error { return os.Chown(path, 1, 1) }},
		{what: "shorter", spoil: func(_, path string) error { return os.Truncate(path, 4096) }},
		{what: "a link", spoil: func(dir, path string) error {
			if err := os.Rename(path, dir+"/moved"); err != nil {
				return err
			}
			return os.Symlink("moved", path)
		}},
		{what: "missing", spoil: func(_, path string) error { return os.Remove(path) }},
		{what: "with its directory missing", spoil: func(_, path string) error { return os.RemoveAll(filepath.Dir(path)) }},
		{what: "without the empty directory", same: true, spoil: func(dir, _ string) error { return os.Remove(dir + "/empty") }},
		{what: "in another's directory", spoil: func(_, path string) error { return os.Chown(filepath.Dir(path), 1, 1) }},
		{what: "in a directory that others can write to", spoil: func(_, path string) error { return os.Chmod(filepath.Dir(path), 0o777) }},
		{what: "in a directory behind a link", spoil: func(dir, path string) error {
			version := filepath.Dir(path)
			if err := os.Rename(version, dir+"/moved"); err != nil {
				return err
			}
			return os.Symlink("moved", version)
		}},
		{what: "a directory", spoil: func(_, path string) error {
			if err := os.Remove(path); err != nil {
				return err
			}
			return os.Mkdir(path, 0o700)
		}},
		{what: "others can write to its directory", refuse: true, spoil: func(dir, _ string) error { return os.Chmod(dir, 0o777) }},
		{what: "another's directory", refuse: true, spoil: func(dir, _ string) error { return os.Chown(dir, 1, 1) }},
		{what: "others can write to the directory above", refuse: true, spoil: func(dir, _ string) error { return os.Chmod(filepath.Dir(dir), 0o1777) }},
	} {
		t.Run(row.what, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "kept")
			kept := keep(t, dir, text)
			before := inode(t, kept)
			if err := row.spoil(dir, kept.Name()); err != nil {
				t.Fatal(err)
			}
			f, err := Keep(dir, "program", text)
			switch {
			case err != nil && row.refuse:
				return
			case err != nil:
				t.Fatal(err)
			}
			defer f.Close()
			if row.refuse || inode(t, f) == before != row.same {
				t.Error("it is taken")
			}
			var got bytes.Buffer
			r, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
			if err == nil {
				_, err = io.Copy(&got, r)
				r.Close()
			}
			if err != nil || !bytes.Equal(got.Bytes(), text) {
				t.Errorf("what is made anew has %d bytes (%v)", got.Len(), err)
			}
		})
	}
}

// TestKeepTogether has two versions kept at once: each gets its own.
func TestKeepTogether(t *testing.T) {
	text := program(t)
	versions := [][]byte{text, other(t, text, 1)}
	dir := filepath.Join(t.TempDir(), "kept")
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for range 5 {
				f, err := Keep(dir, "program", versions[i%2])
				if err != nil {
					t.Error(err)
					continue
				}
				got, err := os.ReadFile(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
				if err != nil || !bytes.Equal(got, versions[i%2]) {
					t.Errorf("it has %d bytes (%v), or those of another version", len(got), err)
				}
				f.Close()
			}
		})
	}
	all.Wait()
}

func TestNothingIsKept(t *testing.T) {
	for what, p := range map[string]*Program{
		"no directory":       {Name: "program", Embedded: []byte("#!"), KeptIn: ""},
		"no build ID":        {Name: "program", Embedded: []byte("#!"), KeptIn: filepath.Join(t.TempDir(), "kept")},
		"no place":           {Name: "program", Embedded: []byte("#!"), KeptIn: "/proc/kept"},
		"not to be kept":     {Name: "program", Embedded: []byte("#!")},
		"a bad build ID":     {Name: "program", Embedded: []byte("\xff\xff\xff\xff\xff\xff\xff\xff\x04\x00\x00\x00Go\x00\x00"), KeptIn: t.TempDir()},
		"an empty build ID":  {Name: "program", Embedded: []byte("\x04\x00\x00\x00\x00\x00\x00\x00\x04\x00\x00\x00Go\x00\x00"), KeptIn: t.TempDir()},
		"half of a build ID": {Name: "program", Embedded: []byte("\x00\x00\x00\x04\x00\x00\x00Go\x00\x00"), KeptIn: t.TempDir()},
	} {
		f, err := p.File()
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		seals, err := unix.FcntlInt(f.Fd(), unix.F_GET_SEALS, 0)
		if err != nil || seals&unix.F_SEAL_WRITE == 0 {
			t.Errorf("%s: no sealed file in memory: %v", what, err)
		}
	}
}
