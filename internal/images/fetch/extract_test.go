package fetch

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func needRoot(t testing.TB) {
	if os.Geteuid() != 0 {
		t.Skip("not root: owners, devices and capabilities cannot be made")
	}
}

// capNetRaw is cap_net_raw+ep, as setcap stores it.
const capNetRaw = "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

func TestExtractKeepsEverything(t *testing.T) {
	needRoot(t)
	dest := t.TempDir()
	content := makeTar(t,
		entry{name: "./", kind: tar.TypeDir, mode: 0o751},
		entry{name: "bin/", kind: tar.TypeDir, mode: 0o2755, uid: 3, gid: 4},
		entry{name: "bin/su", text: "x", mode: 0o4755, uid: 1, gid: 2},
		entry{name: "bin/ping", text: "x", mode: 0o755, xattrs: map[string]string{"security.capability": capNetRaw, "user.note": "hi"}},
		hardlink("bin/alias", "bin/su"),
		entry{name: "link", kind: tar.TypeSymlink, link: "/../../etc/passwd", uid: 5, gid: 6},
		device("null", 3),
		entry{name: "pipe", kind: tar.TypeFifo, mode: 0o600},
	)
	if err := extract(bytes.NewReader(content), dest, extraction{}); err != nil {
		t.Fatal(err)
	}
	stat := func(name string) *syscall.Stat_t {
		var s syscall.Stat_t
		if err := syscall.Lstat(filepath.Join(dest, name), &s); err != nil {
			t.Fatal(name, err)
		}
		return &s
	}
	for name, want := range map[string]string{
		".":         "40751 0:0",
		"bin":       "42755 3:4",
		"bin/su":    "104755 1:2",
		"bin/alias": "104755 1:2",
		"link":      "120777 5:6",
		"null":      "20644 0:0",
		"pipe":      "10600 0:0",
	} {
		s := stat(name)
		if got := fmt.Sprintf("%o %d:%d", s.Mode, s.Uid, s.Gid); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
		if s.Mtim.Sec != testTime.Unix() {
			t.Errorf("%s was changed at %d", name, s.Mtim.Sec)
		}
	}
	if stat("bin/su").Ino != stat("bin/alias").Ino {
		t.Error("bin/alias is no hard link")
	}
	if stat("null").Rdev != unix.Mkdev(3, 3) {
		t.Error("null is another device")
	}
	if got := xattr(t, dest+"/bin/ping", "security.capability"); got != capNetRaw {
		t.Errorf("capability is %q", got)
	}
	if got := xattr(t, dest+"/bin/ping", "user.note"); got != "hi" {
		t.Errorf("user.note is %q", got)
	}
}

func xattr(t testing.TB, file, name string) string {
	b := make([]byte, 100)
	n, err := unix.Lgetxattr(file, name, b)
	if err != nil {
		return "(" + err.Error() + ")"
	}
	return string(b[:n])
}

// What an image has of overlayfs's own marks must not work as such in a layer.
func TestExtractEscapesOverlay(t *testing.T) {
	needRoot(t)
	dest := t.TempDir()
	content := makeTar(t,
		entry{name: "d/", kind: tar.TypeDir, mode: 0o755, xattrs: map[string]string{"trusted.overlay.opaque": "y"}},
		file("d/f", "x"), // restores d's attributes
		device("whiteout", 0),
	)
	if err := extract(bytes.NewReader(content), dest, extraction{}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"d/", "d/f=x"}, tree(t, dest)); diff != "" {
		t.Errorf("unpacked (-want +got):\n%s", diff)
	}
	if got := xattr(t, dest+"/d", "trusted.overlay.opaque"); got != "(no data available)" {
		t.Errorf("d is opaque: %q", got)
	}
	if got := xattr(t, dest+"/d", "trusted.overlay.overlay.opaque"); got != "y" {
		t.Errorf("the attribute was lost: %q", got)
	}
}

// In a user namespace, devices are left out.
func TestExtractRootless(t *testing.T) {
	dest := t.TempDir()
	content := makeTar(t,
		entry{name: "f", text: "x", mode: 0o755, uid: 7, gid: 8, xattrs: map[string]string{"user.overlay.opaque": "y"}},
		device("null", 3), device("zero", 5), symlink("l", "f"))
	below := makeTar(t, file("zero", "in the way"))
	if err := extract(bytes.NewReader(below), dest, extraction{rootless: true}); err != nil {
		t.Fatal(err)
	}
	if err := extract(bytes.NewReader(content), dest, extraction{rootless: true}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"f=x", "l->f"}, tree(t, dest)); diff != "" {
		t.Errorf("unpacked (-want +got):\n%s", diff)
	}
	info, err := os.Stat(dest + "/f")
	if err != nil || info.Sys().(*syscall.Stat_t).Uid != 7 {
		t.Errorf("f: %+v, %v", info, err)
	}
	if got := xattr(t, dest+"/f", "user.overlay.overlay.opaque"); got != "y" {
		t.Errorf("the attribute was lost: %q", got)
	}
}

// Directories without entries have the same mode whatever our umask.
func TestExtractParents(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o077))
	dest := t.TempDir()
	content := makeTar(t, file("a/b/c", "x"), symlink("l", "a"), file("l/n/f", "y"))
	if err := extract(bytes.NewReader(content), dest, extraction{}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a/", "a/b/", "a/b/c=x", "a/n/", "a/n/f=y", "l->a"}, tree(t, dest)); diff != "" {
		t.Errorf("unpacked (-want +got):\n%s", diff)
	}
	for _, name := range []string{"a", "a/b", "a/n"} {
		info, err := os.Stat(filepath.Join(dest, name))
		if err != nil || info.Mode().Perm() != 0o755 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
}

// A cage is a directory to unpack to, beside what must not be touched.
type cage struct{ outside, dest string }

func newCage(t testing.TB) cage {
	base := t.TempDir()
	c := cage{base + "/outside", base + "/dest"}
	writeFile(t, c.outside+"/secret", []byte("untouched"))
	if err := os.Mkdir(c.dest, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(c.outside, testTime, testTime); err != nil {
		t.Fatal(err)
	}
	return c
}

// check finds out whether anything got out of the cage, or in.
func (c cage) check(t testing.TB) {
	t.Helper()
	if got := tree(t, c.outside); !slices.Equal(got, []string{"secret=untouched"}) {
		t.Errorf("outside there is %q", got)
	}
	info, err := os.Stat(c.outside)
	if err != nil || !info.ModTime().Equal(testTime) {
		t.Errorf("the outside was changed: %v, %v", info.ModTime(), err)
	}
	secret, err := os.Stat(c.outside + "/secret")
	if err != nil || secret.Sys().(*syscall.Stat_t).Nlink != 1 {
		t.Errorf("outside/secret has another link, or is gone: %v", err)
	}
	if entries, _ := os.ReadDir(filepath.Dir(c.dest)); len(entries) != 2 {
		t.Errorf("beside it there is %v", entries)
	}
	filepath.WalkDir(c.dest, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if text, _ := os.ReadFile(path); string(text) == "untouched" {
				t.Errorf("%s is the secret", path)
			}
		}
		return nil
	})
}

func TestHostileTars(t *testing.T) {
	for name, attack := range map[string]func(outside string) []entry{
		"dots": func(string) []entry {
			return []entry{file("../outside/secret", "x"), file("../new", "x"), file("a/../../new", "x")}
		},
		"absolute": func(o string) []entry { return []entry{file(o+"/secret", "x"), file("/new", "x")} },
		"symlink":  func(o string) []entry { return []entry{symlink("l", o), file("l/secret", "x"), file("l/new", "x")} },
		"relative symlink": func(string) []entry {
			return []entry{symlink("l", "../outside"), file("l/secret", "x"), dir("l"), file("l/new", "x")}
		},
		"symlink chain": func(string) []entry {
			return []entry{symlink("a", ".."), symlink("b", "a/.."), symlink("c", "b/outside"), file("c/secret", "x")}
		},
		"symlink as file": func(o string) []entry { return []entry{symlink("f", o+"/secret"), file("f", "x")} },
		"symlink as dir": func(o string) []entry {
			return []entry{symlink("d", o), {name: "d", kind: tar.TypeDir, mode: 0o777, uid: 7}}
		},
		"hard link out":      func(o string) []entry { return []entry{hardlink("h", o+"/secret"), file("h", "x")} },
		"hard link dots":     func(string) []entry { return []entry{hardlink("h", "../outside/secret")} },
		"hard link, symlink": func(o string) []entry { return []entry{symlink("l", o), hardlink("h", "l/secret"), file("h", "x")} },
		"hard link to link": func(o string) []entry {
			return []entry{symlink("l", o+"/secret"), hardlink("h", "l"), {name: "h", text: "x", mode: 0o777}}
		},
		"whiteout dots": func(string) []entry { return []entry{file("../outside/.wh.secret", ""), file("../.wh.outside", "")} },
		"whiteout symlink": func(o string) []entry {
			return []entry{symlink("l", o), file("l/.wh.secret", ""), file("l/.wh..wh..opq", "")}
		},
		"whiteout of dots": func(string) []entry { return []entry{file(".wh...", ""), file(".wh..", ""), file("a/.wh...", "")} },
		"root as symlink":  func(o string) []entry { return []entry{symlink(".", o), file("secret", "x")} },
		"root as file":     func(string) []entry { return []entry{{name: "./", kind: tar.TypeDir}, {name: ".", kind: tar.TypeFifo}} },
		"empty name": func(string) []entry {
			return []entry{{name: "", kind: tar.TypeSymlink, link: ".."}, file("outside/x", "x")}
		},
		"device in the way": func(string) []entry {
			return []entry{device("d", 0), file("d/x", "x"), device("../outside/secret", 0), device("..", 0)}
		},
		"xattrs by symlink": func(o string) []entry {
			return []entry{{name: "l", kind: tar.TypeSymlink, link: o + "/secret", xattrs: map[string]string{"user.x": "y", "security.capability": capNetRaw}}}
		},
		"long": func(string) []entry { return []entry{file(strings.Repeat("../", 200)+"outside/secret", "x")} },
	} {
		t.Run(name, func(t *testing.T) {
			c := newCage(t)
			// Some of these are errors and some are not; none gets out.
			err := extract(bytes.NewReader(makeTar(t, attack(c.outside)...)), c.dest, extraction{})
			t.Log(err)
			c.check(t)
		})
	}
}

// Run it with -fuzzminimizetime=1s: the coverage of a disk is not repeatable.
func FuzzExtract(f *testing.F) {
	needRoot(f)
	for _, layer := range threeLayers(f) {
		f.Add(layer)
	}
	f.Add(makeTar(f, symlink("l", "../outside"), file("l/secret", "x"), hardlink("h", "l/secret"), file("l/.wh.secret", "")))
	f.Fuzz(func(t *testing.T, content []byte) {
		c := newCage(t)
		extract(bytes.NewReader(content), c.dest, extraction{})
		c.check(t)
	})
}

func TestTruncatedTar(t *testing.T) {
	content := makeTar(t, file("a", strings.Repeat("x", 2000)), file("b", "y"))
	for _, n := range []int{1, 511, 700, 2000, 3000} {
		if err := extract(bytes.NewReader(content[:n]), t.TempDir(), extraction{}); err == nil {
			t.Errorf("%d bytes of a tar were fine", n)
		}
	}
}
