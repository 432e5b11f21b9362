package fetch

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTarball(t *testing.T) {
	content := makeTar(t, dir("etc"), file("etc/os-release", "ID=x"), symlink("bin", "usr/bin"))
	want := []string{"bin->usr/bin", "etc/", "etc/os-release=ID=x"}
	for _, algorithm := range []string{"", "gzip", "xz", "zstd"} {
		t.Run("compression="+algorithm, func(t *testing.T) {
			// The suffix must not matter.
			name := writeFile(t, t.TempDir()+"/root.tar.gz", compressed(t, algorithm, content))
			dest, _ := mustFetch(t, newClient(t), "tar://"+name)
			if diff := cmp.Diff(want, tree(t, dest)); diff != "" {
				t.Errorf("unpacked (-want +got):\n%s", diff)
			}
		})
	}
}

func TestBadTarballs(t *testing.T) {
	base := t.TempDir()
	content := makeTar(t, file("a", strings.Repeat("0123456789abcdef", 1<<12)), file("b", "y"))
	for name, damage := range map[string]func([]byte) []byte{
		"nothing": func(b []byte) []byte { return nil },
		"ends":    func(b []byte) []byte { return b[:len(b)/2] },
		"garbage": func(b []byte) []byte { return bytes.Repeat([]byte("garbage!"), 1000) },
		"flipped": func(b []byte) []byte { b = bytes.Clone(b); b[len(b)-len(b)/4] ^= 0x55; return b },
	} {
		for _, algorithm := range []string{"gzip", "xz", "zstd", ""} {
			if name == "flipped" && algorithm == "" {
				continue // nothing can tell
			}
			t.Run(name+" "+algorithm, func(t *testing.T) {
				file := writeFile(t, base+"/root.tar", damage(compressed(t, algorithm, content)))
				c := newClient(t)
				_, _, err := fetch(t, c, "tar://"+file)
				wantError(t, c, err, "unpack tar://"+file, file+": ")
			})
		}
	}
	c := newClient(t)
	writeFile(t, base+"/root.tar", content[:len(content)-1024-1024]) // between two entries
	_, _, err := fetch(t, c, "tar://"+base+"/root.tar")
	wantError(t, c, err, base+"/root.tar: ", "it was cut off")
	writeFile(t, base+"/root.tar", []byte("BZh91AY&SY"))
	_, _, err = fetch(t, c, "tar://"+base+"/root.tar")
	wantError(t, c, err, "compressed by bzip2: only gzip, xz and zstd")
	_, _, err = fetch(t, c, "tar://"+base+"/none.tar")
	wantError(t, c, err, base+"/none.tar", "no such file")
	_, _, err = fetch(t, c, "tar://"+base)
	wantError(t, c, err, base, "not a regular file")
	if err := syscall.Mkfifo(base+"/pipe", 0o644); err != nil {
		t.Fatal(err)
	}
	_, _, err = fetch(t, c, "tar://"+base+"/pipe")
	wantError(t, c, err, base+"/pipe", "not a regular file")
}

func TestTarballChanges(t *testing.T) {
	name := writeFile(t, t.TempDir()+"/root.tar", makeTar(t, file("a", "1")))
	c := newClient(t)
	r := parsed(t, "tar://"+name)
	first := resolved(t, c, r.URL, "")
	if again := resolved(t, c, r.URL, ""); again.Digest != first.Digest || again.Pinned {
		t.Errorf("%+v, then %+v", first, again)
	}
	pinned := resolved(t, c, r.URL, first.Digest)
	if !pinned.Pinned || pinned.Digest != first.Digest {
		t.Errorf("%+v", pinned)
	}
	writeFile(t, name, append(makeTar(t, file("a", "1")), 0))
	if again := resolved(t, c, r.URL, ""); again.Digest == first.Digest {
		t.Error("the digest is the same")
	}
	_, err := c.Unpack(t.Context(), r, pinned, t.TempDir(), nil)
	wantError(t, c, err, name+" has changed since it was resolved")
	_, err = c.Resolve(t.Context(), r, "sha256:x")
	wantError(t, c, err, `bad digest "sha256:x"`)
}

func TestCancelTarball(t *testing.T) {
	name := writeFile(t, t.TempDir()+"/root.tar", makeTar(t, file("a", strings.Repeat("x", 1<<20)), file("b", "2")))
	c := newClient(t)
	r := parsed(t, "tar://"+name)
	res := resolved(t, c, r.URL, "")
	ctx, cancel := context.WithCancel(t.Context())
	dest := t.TempDir()
	_, err := c.Unpack(ctx, r, res, dest, func(string, int64, int64) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if _, err := c.Resolve(ctx, r, ""); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
