package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// demo is the directory in which `make demo` works.
const demo = "../../examples/debian-live"

// TestDemo is `make demo`, twice, and what it makes: the images boot to a login
// and the tarball holds what the layers hold.
func TestDemo(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	for _, output := range []string{"live.iso", "disk.img", "rootfs.tar.zst"} {
		os.Remove(filepath.Join(demo, output)) // what an earlier run made
	}
	said := makeDemo(t)
	for _, want := range []string{
		`\[\*\] Completed \[[0-9A-F]{16}\] run iso -> live\.iso \([0-9.]+ [MG]B\)`,
		`\[\*\] Completed \[[0-9A-F]{16}\] run disk -> disk\.img \([0-9.]+ [MG]B\)`,
		`\[\*\] Completed \[[0-9A-F]{16}\] run tarball -> rootfs\.tar\.zst \([0-9.]+ [MG]B\)`,
		`qemu-system-x86_64 .*live\.iso`,
	} {
		if !regexp.MustCompile(want).MatchString(said) {
			t.Errorf("make demo did not say %s:\n%s", want, said)
		}
	}
	again := makeDemo(t)
	for _, job := range []string{"iso", "disk", "tarball"} {
		if !strings.Contains(again, "run "+job) || !strings.Contains(again, "Up to date") || strings.Contains(again, "run "+job+" ->") {
			t.Errorf("the second make demo did not find %s up to date:\n%s", job, again)
		}
	}
	t.Run("tarball", testTarball)
	t.Run("boot", testBoots)
}

func makeDemo(t *testing.T) string {
	t.Helper()
	start := time.Now()
	cmd := exec.Command("make", "-C", "../..", "demo")
	cmd.Env = withoutMake(os.Environ())
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("make demo: %v\n%s", err, out)
	}
	t.Logf("make demo took %v", time.Since(start).Round(10*time.Millisecond))
	return string(out)
}

// withoutMake drops what an outer make has set for its children.
func withoutMake(env []string) []string {
	return slices.DeleteFunc(slices.Clone(env), func(v string) bool {
		return strings.HasPrefix(v, "MAKE") || strings.HasPrefix(v, "MFLAGS")
	})
}

// testTarball unpacks the tarball and compares it, entry by entry, with the sum
// of the layers that it was made of.
func testTarball(t *testing.T) {
	dir := t.TempDir()
	run(t, "tar", "--zstd", "--xattrs", "--xattrs-include=*", "--numeric-owner", "-xpf", filepath.Join(demo, "rootfs.tar.zst"), "-C", dir)
	want, got := listing(t, mountLayers(t)), listing(t, dir)
	for path, entry := range want {
		if got[path] != entry {
			t.Errorf("%s: the tarball has %q, the layers have %q", path, got[path], entry)
		}
	}
	for path, entry := range got {
		if _, ok := want[path]; !ok {
			t.Errorf("%s: only in the tarball: %q", path, entry)
		}
	}
	out := run(t, "dpkg-query", "--root="+dir, "-W", "-f", "${Package} ${db:Status-Status}\n")
	if n := strings.Count(out, " installed\n"); n < 100 || n != strings.Count(out, "\n") {
		t.Errorf("dpkg's database has %d installed packages of %d", n, strings.Count(out, "\n"))
	}
	if out := run(t, "dpkg", "--root="+dir, "--audit"); out != "" {
		t.Errorf("dpkg --audit: %s", out)
	}
	for what, mark := range map[string]string{"hard links": "links=2", "capabilities": "security.capability=", "set-id bits": "urwx", "other owners": " 0:42 "} {
		if !slices.ContainsFunc(slices.Collect(maps.Values(want)), func(entry string) bool { return strings.Contains(entry, mark) }) {
			t.Errorf("nothing in the layers has %q: the comparison proves nothing about %s", mark, what)
		}
	}
}

func run(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// mountLayers mounts the layers of the target ssh and returns where.
func mountLayers(t *testing.T) string {
	t.Helper()
	records, _ := filepath.Glob(filepath.Join(demo, "layers/.raptor/layers/*.json"))
	newest := func(name string) string {
		var dir string
		var made time.Time
		for _, file := range records {
			var r struct {
				Name string
				Made time.Time
			}
			text, _ := os.ReadFile(file)
			if json.Unmarshal(text, &r) == nil && strings.HasPrefix(r.Name, name+"-") && r.Made.After(made) {
				dir, made = r.Name, r.Made
			}
		}
		return filepath.Join(demo, "layers", dir)
	}
	at := t.TempDir()
	options := "lowerdir=" + newest("ssh") + ":" + newest("base") + ":" + newest("debian-trixie")
	if err := unix.Mount("overlay", at, "overlay", unix.MS_RDONLY, options); err != nil {
		t.Fatalf("mount %s: %v", options, err)
	}
	t.Cleanup(func() { unix.Unmount(at, unix.MNT_DETACH) })
	return at
}

// list describes every entry of a tree: type, mode, owner, size, target,
// device, number of names, and extended attributes.
func list(dir string) (map[string]string, error) {
	list := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		var b strings.Builder
		fmt.Fprintf(&b, "%v %d:%d", info.Mode(), st.Uid, st.Gid)
		switch {
		case info.Mode().IsRegular():
			fmt.Fprintf(&b, " size=%d links=%d time=%d", st.Size, st.Nlink, st.Mtim.Sec)
		case info.Mode()&fs.ModeSymlink != 0:
			target, _ := os.Readlink(path)
			fmt.Fprintf(&b, " -> %s", target)
		case info.Mode()&fs.ModeDevice != 0:
			fmt.Fprintf(&b, " device=%d", st.Rdev)
		}
		fmt.Fprintf(&b, "%s", attributes(path))
		rel, _ := filepath.Rel(dir, path)
		list[rel] = b.String()
		return nil
	})
	return list, err
}

func listing(t *testing.T, dir string) map[string]string {
	t.Helper()
	list, err := list(dir)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func attributes(path string) string {
	buf := make([]byte, 4096)
	n, err := unix.Llistxattr(path, buf)
	if err != nil || n == 0 {
		return ""
	}
	names := strings.Split(strings.TrimRight(string(buf[:n]), "\x00"), "\x00")
	slices.Sort(names)
	var b bytes.Buffer
	for _, name := range names {
		value := make([]byte, 4096)
		n, err := unix.Lgetxattr(path, name, value)
		if errors.Is(err, unix.ENODATA) {
			continue
		}
		fmt.Fprintf(&b, " %s=%x", name, value[:max(n, 0)])
	}
	return b.String()
}
