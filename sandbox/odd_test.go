package sandbox

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestOddSources has sources of mounts whose paths lead to the host's root and
// beyond, where there is nothing: not into a layer that would like them to.
func TestOddSources(t *testing.T) {
	host := t.TempDir()
	os.Mkdir(host+"/data", 0o755)
	write(t, host+"/data/mark", "the host's", 0o644)
	write(t, host+"/file", "the host's", 0o644)
	up := strings.Repeat("../", strings.Count(host, "/")+9)
	for link, target := range map[string]string{"dir": up + host[1:] + "/data", "fileLink": up + host[1:] + "/file"} {
		if err := os.Symlink(target, host+"/"+link); err != nil {
			t.Fatal(err)
		}
	}
	base := lower(t)
	os.MkdirAll(base+host+"/data", 0o755)
	write(t, base+host+"/data/mark", "the layer's", 0o644)
	write(t, base+host+"/file", "the layer's", 0o644)
	for _, build := range []bool{true, false} {
		b := newBox(t, base)
		b.Build = build
		b.Mounts = []Mount{{Dest: "/host", Source: "/", ReadOnly: true}, {Dest: "/dir", Source: host + "/dir"}, {Dest: "/f", Source: host + "/fileLink"}}
		out := b.runs(t, sh("cat /host"+host+"/data/mark /dir/mark /f; grep -c ' /host/proc/driver ' /proc/self/mountinfo || true"))
		if want := strings.Repeat("the host's", 3) + "0\n"; out != want {
			t.Errorf("build %v: %q, want %q", build, out, want)
		}
	}
	// Layers and the directory of changes, too.
	if err := os.Symlink(strings.TrimSuffix(up, "/"), host+"/up"); err != nil {
		t.Fatal(err)
	}
	b := newBox(t)
	b.Layers = []string{host + "/up" + base}
	b.Upper, b.Work = host+"/up"+b.Upper, host+"/up"+b.Work
	if out := b.runs(t, sh("cat "+host+"/file")); out != "the layer's" {
		t.Errorf("a layer by way of the root has %q", out)
	}
}

// TestOddMountPoints has layers with something else than directories where raptor's
// file systems belong.
func TestOddMountPoints(t *testing.T) {
	for _, c := range []struct {
		name    string
		prepare func(base string) error
		fails   string
	}{
		{"/run a link to a directory", func(base string) error {
			os.MkdirAll(base+"/var/run", 0o755)
			return errors.Join(os.RemoveAll(base+"/run"), os.Symlink("var/run", base+"/run"))
		}, ""},
		{"/run a link beyond the root", func(base string) error {
			os.MkdirAll(base+"/var/run", 0o755)
			return errors.Join(os.RemoveAll(base+"/run"), os.Symlink("/../../var/run", base+"/run"))
		}, ""},
		{"/dev a link to nothing", func(base string) error {
			return errors.Join(os.RemoveAll(base+"/dev"), os.Symlink("/a/b", base+"/dev"))
		}, ""},
		{"/sys a link to the root", func(base string) error {
			return errors.Join(os.RemoveAll(base+"/sys"), os.Symlink("/..", base+"/sys"))
		}, "move in: mount over /: device or resource busy"},
		{"/proc a file", func(base string) error {
			return errors.Join(os.RemoveAll(base+"/proc"), os.WriteFile(base+"/proc", nil, 0o644))
		}, "move in: mount over /proc: not a directory"},
	} {
		t.Run(c.name, func(t *testing.T) {
			base := lower(t)
			if err := c.prepare(base); err != nil {
				t.Fatal(err)
			}
			for _, build := range []bool{true, false} {
				b := newBox(t, base)
				b.Build = build
				err := b.run(sh("test -c /dev/null && test -e /proc/self && test -d /sys/kernel && >/run/x && ! test -e /var/run/y"))
				if c.fails == "" && err != nil || c.fails != "" && (err == nil || !strings.Contains(err.Error(), c.fails)) {
					t.Errorf("build %v: %v, want %q", build, err, c.fails)
				}
			}
		})
	}
}

// TestOverMountedRoot runs a sandbox where something is mounted over the root that
// we have, as some boot loaders and container engines leave it.
func TestOverMountedRoot(t *testing.T) {
	const inside = "RAPTOR_TEST_OVER_MOUNTED"
	if os.Getenv(inside) == "" {
		if os.Geteuid() != 0 {
			t.Skip("needs root")
		}
		for _, times := range []string{"1", "2"} {
			cmd := exec.Command("unshare", "--mount", "sh", "-c", `for i in $(seq "$1"); do mount --bind / /; done; exec "$0" -test.run '^TestOverMountedRoot$'`, os.Args[0], times)
			cmd.Env = append(os.Environ(), inside+"=1")
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("over-mounted %s times: %v\n%s", times, err, out)
			}
		}
		return
	}
	base := lower(t)
	for _, build := range []bool{true, false} {
		b := newBox(t, base)
		b.Build = build
		out := b.runs(t, sh("ls /..; echo; ls /; grep -c ' / / ' /proc/self/mountinfo"))
		above, below, _ := strings.Cut(out, "\n\n")
		if !strings.HasPrefix(below, above) || !strings.HasSuffix(out, "\n1\n") {
			t.Errorf("build %v: above the root is %q", build, out)
		}
	}
}

// TestOwnThread: our threads keep their working directory.
func TestOwnThread(t *testing.T) {
	want, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		var tid int
		onOwnThread(func() {
			tid = unix.Gettid()
			if err := errors.Join(unix.Unshare(unix.CLONE_FS), unix.Chdir("/")); err != nil {
				t.Error(err)
			}
		})
		if tid == os.Getpid() {
			t.Error("it was the main thread")
		}
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		threads, _ := filepath.Glob("/proc/self/task/*/cwd")
		i := slices.IndexFunc(threads, func(link string) bool {
			dir, err := os.Readlink(link)
			return err == nil && dir != want
		})
		if i < 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s is not %s", threads[i], want)
		}
	}
}
