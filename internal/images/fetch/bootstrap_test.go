package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"raptor-make/internal/images"
)

// fakeMmdebstrap stands in for the program: it notes how it was called, answers
// the question for its sources, and else does what the file "act" says.
const fakeMmdebstrap = `#!/bin/sh
here=$(dirname "$0")
root=$TMPDIR/root
mkdir -p "$root/etc/apt"
for a; do case $a in --setup-hook=*) hook=${a#*=};; esac; done
if [ -n "$hook" ]; then
	cp "$here/sources.list" "$root/etc/apt/"
	sh -c "$hook" exec "$root"
	echo "E: hook failed" >&2
	exit 1
fi
printf '%s\n' "$@" > "$here/args"
env | sort > "$here/env"
echo run >> "$here/runs"
echo "I: running apt-get update..." >&2
. "$here/act"
`

// A debianMirror is a mirror and a stand-in for mmdebstrap that uses it.
type debianMirror struct {
	*httptest.Server
	dir      string            // of the stand-in
	releases map[string]string // by suite
	mu       sync.Mutex
	asked    int
}

func newMirror(t testing.TB) *debianMirror {
	m := &debianMirror{dir: t.TempDir(), releases: make(map[string]string)}
	m.Server = httptest.NewServer(m)
	t.Cleanup(m.Close)
	writeFile(t, m.dir+"/mmdebstrap", []byte(fakeMmdebstrap))
	if err := os.Chmod(m.dir+"/mmdebstrap", 0o755); err != nil {
		t.Fatal(err)
	}
	writeFile(t, m.dir+"/sources.list", fmt.Appendf(nil,
		"# ours\ndeb [signed-by=\"/x y\"] %[1]s/debian/ trixie main\ndeb %[1]s/debian trixie-updates main\n", m.URL))
	writeFile(t, m.dir+"/rootfs/etc/debian_version", []byte("13\n"))
	m.act(t, `tar -C "$here/rootfs" -c etc`)
	m.releases["trixie"], m.releases["trixie-updates"] = releaseText("aa", "Tuesday"), releaseText("bb", "Tuesday")
	t.Setenv("PATH", m.dir+":"+os.Getenv("PATH"))
	return m
}

// releaseText is an InRelease whose list of packages has a digest.
func releaseText(sum, date string) string {
	return fmt.Sprintf(`-----BEGIN PGP SIGNED MESSAGE-----
Hash: SHA256

Suite: stable
Date: %s
Architectures: all amd64 arm64
Components: main contrib
MD5Sum:
 11 1 main/binary-amd64/Packages
SHA256:
 %s 1484433 main/binary-amd64/Packages
 cc 12 contrib/binary-amd64/Packages.xz
`, date, sum)
}

func (m *debianMirror) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked++
	for suite, text := range m.releases {
		if r.URL.Path == "/debian/dists/"+suite+"/InRelease" {
			io.WriteString(w, text)
			return
		}
	}
	http.NotFound(w, r)
}

func (m *debianMirror) act(t testing.TB, script string) {
	writeFile(t, m.dir+"/act", []byte(script+"\n"))
}

func (m *debianMirror) noted(t testing.TB, name string) []string {
	t.Helper()
	text, err := os.ReadFile(m.dir + "/" + name)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(text)), "\n")
}

func (m *debianMirror) runs(t testing.TB) int {
	n := 0
	for _, line := range m.noted(t, "runs") {
		if line == "run" {
			n++
		}
	}
	return n
}

func resolved(t testing.TB, c *Client, url, locked string) *images.Resolved {
	t.Helper()
	res, err := c.Resolve(context.Background(), parsed(t, url), locked)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func TestBootstrapResolve(t *testing.T) {
	needRoot(t)
	m := newMirror(t)
	c := newClient(t)
	first := resolved(t, c, "debian://trixie", "")
	if diff := cmp.Diff([][2]string{
		{"bootstrap", "1"}, {"suite", "trixie"}, {"architecture", "amd64"}, {"components", "main"},
		{"packages of trixie main", "aa"}, {"packages of trixie-updates main", "bb"},
	}, first.Detail); diff != "" {
		t.Error(diff)
	}
	again := func(what, url string, same bool) {
		t.Helper()
		if got := resolved(t, c, url, "").Digest == first.Digest; got != same {
			t.Errorf("%s: the same is %v", what, got)
		}
	}
	again("again", "debian://trixie", true)
	again("include", "debian://trixie?include=b,a", false)
	again("components", "debian://trixie?components=main,contrib", false)
	again("mirror", "debian://trixie?mirror="+m.URL+"/debian", false)
	if a, b := resolved(t, c, "debian://trixie?include=b,a", ""), resolved(t, c, "debian://trixie?include=a,b", ""); a.Digest != b.Digest {
		t.Error("the order of packages matters")
	}
	epoch := int64(7)
	c.Epoch = &epoch
	again("epoch", "debian://trixie", false)
	c.Epoch = nil
	m.releases["trixie"] = releaseText("aa", "Wednesday")
	again("signed again", "debian://trixie", true)
	m.releases["trixie-updates"] = releaseText("b2", "Wednesday")
	again("updated", "debian://trixie", false)

	m.mu.Lock()
	asked := m.asked
	m.mu.Unlock()
	pinned := resolved(t, c, "debian://trixie", first.Digest)
	if !pinned.Pinned || pinned.Digest != first.Digest || m.asked != asked {
		t.Errorf("%+v, asked %d times", pinned, m.asked-asked)
	}
	noLeftovers(t, c)
}

func TestBootstrapResolveFails(t *testing.T) {
	needRoot(t)
	m := newMirror(t)
	gone := httptest.NewServer(nil)
	gone.Close()
	for url, want := range map[string]string{
		"debian://bogus?mirror=" + m.URL + "/debian":                         `mirror ` + m.URL + `/debian has no suite "bogus"`,
		"debian://trixie?mirror=" + m.URL + "/debian&components=main,extra":  `suite "trixie" has no component "extra", but main, contrib`,
		"debian://trixie?mirror=" + gone.URL + "/debian":                     "cannot reach the mirror: " + gone.URL + "/debian/dists/trixie/InRelease: dial tcp",
		"debian://trixie?snapshot=20260101T000000Z&mirror=http://x/debian#a": "",
	} {
		c := newClient(t)
		r, err := images.Parse(url, "/", "")
		if err == nil {
			_, err = c.Resolve(t.Context(), r, "")
		}
		wantError(t, c, err, want)
	}
	c := newClient(t)
	c.Platform = "linux/riscv64"
	_, err := c.Resolve(t.Context(), parsed(t, "debian://trixie"), "")
	wantError(t, c, err, `suite "trixie" has no architecture "riscv64", but all, amd64, arm64`)
	c.Platform = "linux/pdp11"
	_, err = c.Resolve(t.Context(), parsed(t, "debian://trixie"), "")
	wantError(t, c, err, "Debian has no architecture for the platform linux/pdp11")
	c = newClient(t)
	c.Offline = true
	_, err = c.Resolve(t.Context(), parsed(t, "debian://trixie"), "")
	wantError(t, c, err, "offline")
	t.Setenv("PATH", t.TempDir())
	c = newClient(t)
	_, err = c.Resolve(t.Context(), parsed(t, "debian://trixie"), "")
	wantError(t, c, err, "apt-get install mmdebstrap")
}

func TestBootstrapMade(t *testing.T) {
	needRoot(t)
	m := newMirror(t)
	c := newClient(t)
	epoch := int64(1234)
	c.Epoch = &epoch
	t.Setenv("SECRET", "x")
	t.Setenv("http_proxy", "")
	url := "debian://trixie?mirror=" + m.URL + "/debian&components=main,contrib&include=g++,ca-certificates"
	r := parsed(t, url)
	res := resolved(t, c, url, "")
	var log strings.Builder
	c.Log = func(of *images.Ref) io.Writer {
		if of != r {
			t.Errorf("a log for %v", of)
		}
		return &log
	}
	var stages []string
	for range 2 {
		dest := t.TempDir()
		if _, err := c.Unpack(t.Context(), r, res, dest, func(what string, _, _ int64) { stages = append(stages, what) }); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"etc/", "etc/debian_version=13\n"}, tree(t, dest)); diff != "" {
			t.Error(diff)
		}
	}
	if m.runs(t) != 1 {
		t.Errorf("it ran %d times", m.runs(t))
	}
	if diff := cmp.Diff([]string{
		"--mode=root", "--variant=minbase", "--architectures=amd64", "--components=main,contrib", "--include=ca-certificates,g++",
		"--format=tar", `--customize-hook=rm -f "$1/etc/resolv.conf" "$1/etc/hostname"`, "--customize-hook=" + ownPartial, "--", "trixie", "-", m.URL + "/debian",
	}, m.noted(t, "args")); diff != "" {
		t.Error(diff)
	}
	env := m.noted(t, "env")
	if !slices.Contains(env, "SOURCE_DATE_EPOCH=1234") || !slices.Contains(env, "http_proxy=") || slices.Contains(env, "SECRET=x") {
		t.Errorf("environment: %q", env)
	}
	if log.String() != "I: running apt-get update...\n" {
		t.Errorf("log: %q", log.String())
	}
	if stages[0] != "bootstrap: running apt-get update" || stages[len(stages)-1] != "unpack" {
		t.Errorf("stages: %q", stages)
	}
	noLeftovers(t, c)

	offline := &Client{Settings: images.Settings{Cache: c.Cache, Platform: c.Platform, Offline: true}}
	if _, err := offline.Unpack(t.Context(), r, resolved(t, offline, url, res.Digest), t.TempDir(), nil); err != nil {
		t.Error(err)
	}
	_, err := offline.Unpack(t.Context(), r, &images.Resolved{Digest: someDigest, Pinned: true}, t.TempDir(), nil)
	wantError(t, c, err, "the bootstrap is not in the cache", "offline")
}

func TestBootstrapOfSnapshot(t *testing.T) {
	needRoot(t)
	m := newMirror(t)
	for mirror, want := range map[string]string{
		"https://mirror.example/archive/debian":           "https://mirror.example/archive/debian/20260101T000000Z",
		"https://mirror.example/archive/debian/":          "https://mirror.example/archive/debian/20260101T000000Z",
		"https://mirror.example/at/{snapshot}/debian":     "https://mirror.example/at/20260101T000000Z/debian",
		"https://mirror.example/at/%7Bsnapshot%7D/debian": "https://mirror.example/at/20260101T000000Z/debian",
	} {
		c := newClient(t)
		url := "debian://trixie?snapshot=20260101T000000Z&mirror=" + mirror
		// A snapshot does not change: nobody is asked, not even who is not there.
		res := resolved(t, c, url, "")
		if _, err := c.Unpack(t.Context(), parsed(t, url), res, t.TempDir(), nil); err != nil {
			t.Fatal(err)
		}
		args := m.noted(t, "args")
		if args[len(args)-1] != want || !slices.Contains(args, `--aptopt=Acquire::Check-Valid-Until "false"`) {
			t.Errorf("arguments: %q", args)
		}
	}
}

func TestBootstrapFails(t *testing.T) {
	needRoot(t)
	m := newMirror(t)
	for script, want := range map[string]string{
		"echo 'E: Unable to locate package nosuch' >&2; exit 100":                 "exit status 100\n  I: running apt-get update...\n  E: Unable to locate package nosuch",
		"i=0; while [ $i -lt 30 ]; do i=$((i+1)); echo line $i >&2; done; exit 1": "exit status 1\n  line 16\n",
		"printf unterminated >&2; kill -9 $$; exit 3":                             "unterminated",
		`tar -C "$here/rootfs" -c etc; exit 1`:                                    "exit status 1",
	} {
		m.act(t, script)
		c := newClient(t)
		_, err := c.Unpack(t.Context(), parsed(t, "debian://trixie"), &images.Resolved{Digest: someDigest}, t.TempDir(), nil)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", script, err)
		}
		noLeftovers(t, c)
		if left, _ := os.ReadDir(c.Cache + "/bootstraps"); len(left) > 0 {
			t.Errorf("%s: %v is in the cache", script, left)
		}
	}
	t.Setenv("PATH", t.TempDir())
	c := newClient(t)
	_, err := c.Unpack(t.Context(), parsed(t, "debian://trixie"), &images.Resolved{Digest: someDigest}, t.TempDir(), nil)
	wantError(t, c, err, "apt-get install mmdebstrap")
}

func TestBootstrapOnFullDisk(t *testing.T) {
	needRoot(t)
	m := newMirror(t)
	full := t.TempDir()
	if err := syscall.Mount("tmpfs", full, "tmpfs", 0, "size=1m"); err != nil {
		t.Skip("tmpfs cannot be mounted:", err)
	}
	defer syscall.Unmount(full, 0)
	m.act(t, `dd if=/dev/urandom of="$here/rootfs/etc/big" bs=1M count=3 2>&-; tar -C "$here/rootfs" -c etc`)
	c := newClient(t)
	c.Cache = full
	_, err := c.Unpack(t.Context(), parsed(t, "debian://trixie"), &images.Resolved{Digest: someDigest}, t.TempDir(), nil)
	wantError(t, c, err, "no space left on device", full)
}

func TestBootstrapMadeOnce(t *testing.T) {
	needRoot(t)
	m := newMirror(t)
	m.act(t, `sleep 0.3; tar -C "$here/rootfs" -c etc`)
	c := newClient(t)
	r, res := parsed(t, "debian://trixie"), &images.Resolved{Digest: someDigest}
	var all sync.WaitGroup
	for range 3 {
		other := &Client{Settings: images.Settings{Cache: c.Cache, Platform: c.Platform}}
		all.Go(func() {
			if _, err := other.Unpack(t.Context(), r, res, t.TempDir(), nil); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if m.runs(t) != 1 {
		t.Errorf("it ran %d times", m.runs(t))
	}
}

func TestDamagedBootstrap(t *testing.T) {
	needRoot(t)
	m := newMirror(t)
	c := newClient(t)
	var warnings []string
	c.Warn = func(_ *images.Ref, w string) { warnings = append(warnings, w) }
	r, res := parsed(t, "debian://trixie"), &images.Resolved{Digest: someDigest}
	damages := []func(b []byte) []byte{
		func(b []byte) []byte { b[len(b)/2] ^= 0x10; return b },
		func(b []byte) []byte { return b[:len(b)-7] },
		func(b []byte) []byte { return nil },
		func(b []byte) []byte { return make([]byte, len(b)) },
	}
	for _, damage := range append(damages, nil) {
		dest := t.TempDir()
		if _, err := c.Unpack(t.Context(), r, res, dest, nil); err != nil {
			t.Fatal(err)
		}
		if got := tree(t, dest); len(got) != 2 {
			t.Errorf("unpacked: %q", got)
		}
		name := store{c.Cache}.bootstrap(someDigest)
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if damage != nil {
			writeFile(t, name, damage(content))
		}
	}
	if m.runs(t) != 1+len(damages) || len(warnings) != len(damages) || !strings.Contains(warnings[0], "damaged") {
		t.Errorf("%d runs, %q", m.runs(t), warnings)
	}
}

// What was pinned cannot be had any more, and the user is told.
func TestPinnedBootstrapOfChangedMirror(t *testing.T) {
	needRoot(t)
	m := newMirror(t)
	c := newClient(t)
	var warnings []string
	c.Warn = func(_ *images.Ref, w string) { warnings = append(warnings, w) }
	first := resolved(t, c, "debian://trixie", "")
	unpack := func() {
		res := resolved(t, c, "debian://trixie", first.Digest)
		if _, err := c.Unpack(t.Context(), parsed(t, "debian://trixie"), res, t.TempDir(), nil); err != nil {
			t.Fatal(err)
		}
	}
	unpack()
	if len(warnings) > 0 {
		t.Errorf("warned: %q", warnings)
	}
	m.releases["trixie"] = releaseText("ff", "Friday")
	unpack() // from the cache
	if len(warnings) > 0 {
		t.Errorf("warned: %q", warnings)
	}
	os.RemoveAll(c.Cache + "/bootstraps")
	unpack()
	if len(warnings) != 1 || !strings.Contains(warnings[0], "the mirror has changed since this was pinned") {
		t.Errorf("warned: %q", warnings)
	}
}

// sleepers is how many processes run a command of this text.
func sleepers(text string) int {
	n := 0
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range all {
		line, _ := os.ReadFile(file)
		if strings.Contains(strings.ReplaceAll(string(line), "\x00", " "), text) {
			n++
		}
	}
	return n
}

// hanging makes mmdebstrap mount something, start children of all kinds, and
// never end. The text finds them.
func hanging(t testing.TB, m *debianMirror) (text string) {
	text = fmt.Sprintf("sleep 98765.%d", os.Getpid())
	m.act(t, `mkdir "$root/mnt"; mount -t tmpfs raptor-test "$root/mnt"; touch "$root/mnt/x"
		setsid `+text+` & (trap '' TERM INT HUP; `+text+`) &
		touch "$here/hangs"; exec `+text)
	return text
}

func waitFor(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("never: " + what)
		}
	}
}

func TestCancelBootstrap(t *testing.T) {
	needRoot(t)
	m := newMirror(t)
	text := hanging(t, m)
	c := newClient(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("interrupted")
	var stopped time.Time
	go func() {
		waitFor(t, "three processes", func() bool { return sleepers(text) == 3 })
		stopped = time.Now()
		cancel(why)
	}()
	_, err := c.Unpack(ctx, parsed(t, "debian://trixie"), &images.Resolved{Digest: someDigest}, t.TempDir(), nil)
	if took := time.Since(stopped); took > time.Second {
		t.Errorf("it took %v to stop", took)
	}
	if !errors.Is(err, why) {
		t.Errorf("it ended with %v", err)
	}
	if n := sleepers(text); n > 0 {
		t.Errorf("%d processes are left", n)
	}
	noLeftovers(t, c)
	if mounts, _ := os.ReadFile("/proc/self/mountinfo"); strings.Contains(string(mounts), "raptor-test") {
		t.Error("a mount is left")
	}
}

// TestMain is this test's other process as well: one that bootstraps, to be killed.
func TestMain(m *testing.M) {
	if cache := os.Getenv("RAPTOR_TEST_BOOTSTRAP"); cache != "" {
		c := &Client{Settings: images.Settings{Cache: cache}}
		r, _ := images.Parse("debian://trixie", "/", "")
		_, err := c.Unpack(context.Background(), r, &images.Resolved{Digest: someDigest}, filepath.Join(cache, "dest"), nil)
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func TestKilledBootstrap(t *testing.T) {
	needRoot(t)
	m := newMirror(t)
	text := hanging(t, m)
	c := newClient(t)
	if err := os.Mkdir(c.Cache+"/dest", 0o755); err != nil {
		t.Fatal(err)
	}
	other := exec.Command(os.Args[0])
	other.Env = append(os.Environ(), "RAPTOR_TEST_BOOTSTRAP="+c.Cache)
	other.Stderr = t.Output()
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "three processes", func() bool { return sleepers(text) == 3 })
	if err := other.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	other.Wait()
	waitFor(t, "no processes", func() bool { return sleepers(text) == 0 })
	root := store{c.Cache}.bootstrap(someDigest) + rootSuffix
	if !exists(root) {
		t.Fatal("the other process did not get far")
	}
	// The next one makes it, and nothing of the other is left.
	m.act(t, `tar -C "$here/rootfs" -c etc`)
	if _, err := c.Unpack(t.Context(), parsed(t, "debian://trixie"), &images.Resolved{Digest: someDigest}, t.TempDir(), nil); err != nil {
		t.Fatal(err)
	}
	noLeftovers(t, c)
}

// A real one. With RAPTOR_CACHE_DIR it is made once for all tests.
func TestBootstrapOfDebian(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: it bootstraps a Debian")
	}
	needRoot(t)
	c := newClient(t)
	c.Platform = ""
	if dir := os.Getenv("RAPTOR_CACHE_DIR"); dir != "" {
		c.Cache = dir
	}
	c.Log = func(*images.Ref) io.Writer { return t.Output() }
	dest, _ := mustFetch(t, c, "debian://trixie")
	for _, name := range []string{"usr/bin/apt-get", "etc/apt/sources.list", "var/lib/dpkg/status", "tmp", "dev/null"} {
		if !exists(filepath.Join(dest, name)) {
			t.Errorf("%s is missing", name)
		}
	}
	for _, name := range []string{"etc/resolv.conf", "etc/hostname"} {
		if exists(filepath.Join(dest, name)) {
			t.Errorf("%s of this machine is in the image", name)
		}
	}
	info, err := os.Stat(dest)
	if err != nil || info.Mode() != os.ModeDir|0o755 {
		t.Errorf("root: %v, %v", info.Mode(), err)
	}
	out, err := exec.Command("chroot", dest, "/bin/sh", "-c", "id -u && dpkg --audit && apt-get --version >/dev/null && mount | wc -l").CombinedOutput()
	if err != nil {
		t.Errorf("in the image: %v: %s", err, out)
	}
	_, err = c.Resolve(t.Context(), parsed(t, "debian://nosuchsuite"), "")
	wantError(t, c, err, `has no suite "nosuchsuite"`)
}
