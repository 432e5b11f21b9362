package images

import (
	"context"
	"io"
	"os"
	"os/exec"
	"testing"
)

func TestBootstrap(t *testing.T) {
	if testing.Short() {
		t.Skip("bootstraps a Debian")
	}
	if _, err := exec.LookPath("mmdebstrap"); err != nil {
		t.Skip("mmdebstrap is not installed")
	}
	c := newClient(t)
	if dir := os.Getenv("RAPTOR_CACHE_DIR"); dir != "" {
		c.Cache = dir
	}
	c.Log = func(*Ref) io.Writer { return t.Output() }
	r, err := Parse("debian://trixie", "/", "")
	if err != nil {
		t.Fatal(err)
	}
	res, err := c.Resolve(context.Background(), r, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Log(res)
	dest := t.TempDir()
	if _, err := c.Unpack(context.Background(), r, res, dest, func(what string, done, total int64) { t.Log(what, done, total) }); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"/usr/bin/apt-get", "/etc/apt/sources.list", "/var/lib/dpkg/status"} {
		if _, err := os.Stat(dest + name); err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{"/etc/resolv.conf", "/etc/hostname"} {
		if _, err := os.Lstat(dest + name); err == nil {
			t.Errorf("%s of this machine is in the image", name)
		}
	}
}
