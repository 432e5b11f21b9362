package fetch

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/regclient/regclient/types/platform"

	"raptor-make/internal/images"
)

func newClient(t testing.TB) *Client {
	t.Setenv("DOCKER_CONFIG", t.TempDir()) // nobody's own logins
	return &Client{Settings: images.Settings{Cache: t.TempDir(), Platform: "linux/amd64"}}
}

// parsed is Parse for URLs that are right.
func parsed(t testing.TB, url string) *images.Ref {
	t.Helper()
	r, err := images.Parse(url, t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// fetch resolves and unpacks, and returns the directory.
func fetch(t testing.TB, c *Client, url string) (string, *images.Config, error) {
	t.Helper()
	r := parsed(t, url)
	res, err := c.Resolve(context.Background(), r, "")
	if err != nil {
		return "", nil, err
	}
	dest := t.TempDir()
	config, err := c.Unpack(context.Background(), r, res, dest, nil)
	return dest, config, err
}

func mustFetch(t testing.TB, c *Client, url string) (string, *images.Config) {
	t.Helper()
	dest, config, err := fetch(t, c, url)
	if err != nil {
		t.Fatal(err)
	}
	return dest, config
}

// threeLayers has every kind of deletion. What is left of it is whatIsLeft.
func threeLayers(t testing.TB) [][]byte {
	return [][]byte{
		makeTar(t, dir("etc"), file("etc/keep", "1"), file("etc/gone", "1"), dir("opt"), dir("opt/a"), file("opt/a/old", "1"),
			dir("srv"), file("srv/x", "1"), symlink("lib", "usr/lib"), dir("usr"), dir("usr/lib"), file("usr/lib/so", "1"), file("was-file", "1")),
		makeTar(t, file("etc/.wh.gone", ""), dir("opt/a"), file("opt/a/new", "2"), file("opt/a/.wh..wh..opq", ""),
			file(".wh.srv", ""), file("lib/through", "2"), hardlink("etc/hard", "etc/keep"), dir("was-file")),
		makeTar(t, file("etc/keep", "3"), device("usr/lib/so", 0), file(".wh..wh.plnk", "")),
	}
}

var whatIsLeft = []string{
	"etc/", "etc/hard=1", "etc/keep=3", "lib->usr/lib", "opt/", "opt/a/", "opt/a/new=2",
	"usr/", "usr/lib/", "usr/lib/through=2", "was-file/",
}

func TestPull(t *testing.T) {
	for _, algorithm := range []string{"gzip", "zstd", ""} {
		for _, docker := range []bool{false, true} {
			t.Run("compression="+algorithm, func(t *testing.T) {
				h := newHub(t)
				i := imageOf(t, algorithm, threeLayers(t)...)
				i.docker = docker
				h.push(t, "team/os", "v1", i.build(t))
				c := newClient(t)
				dest, config := mustFetch(t, c, "docker://"+h.host()+"/team/os:v1")
				if diff := cmp.Diff(whatIsLeft, tree(t, dest)); diff != "" {
					t.Errorf("unpacked (-want +got):\n%s", diff)
				}
				if diff := cmp.Diff([]string{"PATH=/bin", "A=b c"}, config.Env); diff != "" {
					t.Errorf("env (-want +got):\n%s", diff)
				}
				noLeftovers(t, c)
			})
		}
	}
}

// The same layer twice, and none.
func TestOddImages(t *testing.T) {
	h := newHub(t)
	layer := makeTar(t, file("a", "1"))
	h.push(t, "twice", "v1", imageOf(t, "gzip", layer, makeTar(t, file(".wh.a", "")), layer))
	dest, _ := mustFetch(t, newClient(t), "docker://"+h.host()+"/twice:v1")
	if diff := cmp.Diff([]string{"a=1"}, tree(t, dest)); diff != "" {
		t.Error(diff)
	}
	h.push(t, "none", "v1", imageOf(t, "gzip"))
	dest, _ = mustFetch(t, newClient(t), "docker://"+h.host()+"/none:v1")
	if got := tree(t, dest); len(got) != 0 {
		t.Error(got)
	}
}

func forPlatform(t testing.TB, p ispec.Platform) *testImage {
	i := imageOf(t, "gzip", makeTar(t, file("arch", p.Architecture+p.Variant)))
	i.platform = p
	return i.build(t)
}

// TestPlatformNames: raptor and the library for registries mean the same by a
// platform, however it is spelled.
func TestPlatformNames(t *testing.T) {
	for _, name := range []string{
		"linux/amd64", "linux/amd64/v1", "linux/amd64/v3", "linux/x86_64", "linux/x86-64", "Linux/AMD64", "linux/386", "linux/i386",
		"linux/arm64", "linux/arm64/v8", "linux/arm64/8", "linux/aarch64", "linux/arm64/v9", "linux/arm", "linux/arm/v5", "linux/arm/5", "linux/arm/6",
		"linux/arm/7", "linux/arm/8", "linux/arm/v6", "linux/armhf", "linux/armel", "linux/riscv64", "linux/ppc64le", "linux/s390x", "linux/loong64",
	} {
		want, err := platform.Parse(name)
		if err != nil {
			t.Fatal(err)
		}
		c := newClient(t)
		c.Platform = name
		if got, err := c.wanted(); err != nil || got.String() != want.String() {
			t.Errorf("%s is %s (%v), want %s", name, got, err, want)
		}
		if got, err := c.ParsePlatform(); err != nil || got.String() != want.String() {
			t.Errorf("%s is called %s (%v), want %s", name, got, err, want)
		}
	}
	for _, name := range []string{"linux", "amd64", "linux/", "/amd64", "linux//v7", "linux/arm/v7/x", "linux/a b", "linux/ä", "linux/amd64,osver=1"} {
		c := newClient(t)
		c.Platform = name
		if got, err := c.wanted(); err == nil {
			t.Errorf("%q is %s", name, got)
		}
	}
}

func TestPlatforms(t *testing.T) {
	h := newHub(t)
	attestation := forPlatform(t, ispec.Platform{OS: "unknown", Architecture: "unknown"})
	index := h.pushIndex(t, "os", "v1", attestation,
		forPlatform(t, ispec.Platform{OS: "linux", Architecture: "arm", Variant: "v5"}),
		forPlatform(t, ispec.Platform{OS: "linux", Architecture: "arm", Variant: "v7"}),
		forPlatform(t, ispec.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}),
		forPlatform(t, ispec.Platform{OS: "linux", Architecture: "amd64", Variant: "v3"}),
		forPlatform(t, amd64))
	for name, want := range map[string]string{
		"linux/amd64": "amd64", "linux/arm64": "arm64v8", "linux/arm64/v8": "arm64v8",
		"linux/arm": "armv7", "linux/arm/v7": "armv7", "linux/arm/v6": "armv5", "linux/amd64/v3": "amd64v3",
	} {
		for _, url := range []string{"docker://" + h.host() + "/os:v1", "docker://" + h.host() + "/os@" + index.String()} {
			c := newClient(t)
			c.Platform = name
			dest, _ := mustFetch(t, c, url)
			if diff := cmp.Diff([]string{"arch=" + want}, tree(t, dest)); diff != "" {
				t.Errorf("%s: %s", name, diff)
			}
		}
	}
	c := newClient(t)
	c.Platform = "linux/riscv64"
	_, _, err := fetch(t, c, "docker://"+h.host()+"/os:v1")
	wantError(t, c, err, "no image for linux/riscv64; there is one for: linux/amd64, linux/amd64/v3, linux/arm/v5, linux/arm/v7, linux/arm64")
	if strings.Contains(err.Error(), "unknown") {
		t.Errorf("attestations are no images: %v", err)
	}
	h.push(t, "single", "v1", forPlatform(t, ispec.Platform{OS: "linux", Architecture: "s390x"}))
	_, _, err = fetch(t, c, "docker://"+h.host()+"/single:v1")
	wantError(t, c, err, "no image for linux/riscv64; there is only one, for linux/s390x")
	c.Platform = "pdp11"
	_, _, err = fetch(t, c, "docker://"+h.host()+"/single:v1")
	wantError(t, c, err, `bad platform "pdp11"`)
}

func TestBadManifests(t *testing.T) {
	good := imageOf(t, "gzip", makeTar(t, file("a", "1")))
	change := func(f func(m map[string]any)) []byte {
		var m map[string]any
		if err := json.Unmarshal(good.manifest, &m); err != nil {
			t.Fatal(err)
		}
		f(m)
		return marshal(t, m)
	}
	for name, test := range map[string]struct {
		raw  []byte
		want string
	}{
		"schema 1":     {[]byte(`{"schemaVersion":1,"fsLayers":[]}`), "obsolete"},
		"schema 3":     {[]byte(`{"schemaVersion":3}`), "schemaVersion 3"},
		"empty":        {[]byte(`{"schemaVersion":2}`), "neither"},
		"no JSON":      {[]byte(`{`), "JSON"},
		"both":         {change(func(m map[string]any) { m["manifests"] = []any{}; delete(m, "mediaType") }), "at once"},
		"bad digest":   {change(func(m map[string]any) { m["layers"] = []any{map[string]any{"digest": "sha256:../../x"}} }), "bad digest"},
		"bad size":     {change(func(m map[string]any) { m["layers"] = []any{map[string]any{"digest": someDigest, "size": -1}} }), "size -1"},
		"more layers":  {change(func(m map[string]any) { m["layers"] = append(m["layers"].([]any), m["layers"].([]any)...) }), "2 layers, but its configuration says 1"},
		"empty index":  {[]byte(`{"schemaVersion":2,"manifests":[]}`), "none that is named"},
		"index itself": {[]byte(`{"schemaVersion":2,"manifests":[{"digest":"` + someDigest + `","size":1,"mediaType":"x"}]}`), "has no manifest " + someDigest},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHub(t)
			h.push(t, "os", "v1", good)
			h.misbehave(func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.HasSuffix(r.URL.Path, "/manifests/v1") {
					return false
				}
				w.Header().Set("Content-Type", ispec.MediaTypeImageManifest)
				if strings.Contains(string(test.raw), `"manifests"`) {
					w.Header().Set("Content-Type", ispec.MediaTypeImageIndex)
				}
				w.Write(test.raw)
				return true
			})
			c := newClient(t)
			_, _, err := fetch(t, c, "docker://"+h.host()+"/os:v1")
			wantError(t, c, err, test.want)
		})
	}
}

// What was fetched is fetched from the cache the next time, offline too; and a
// locked digest is not asked for.
func TestCache(t *testing.T) {
	h := newHub(t)
	i := imageOf(t, "gzip", threeLayers(t)...)
	h.pushIndex(t, "os", "v1", i)
	url := "docker://" + h.host() + "/os:v1"
	c := newClient(t)
	mustFetch(t, c, url)

	h.forget()
	offline := &Client{Settings: images.Settings{Cache: c.Cache, Platform: c.Platform, Offline: true}}
	r := parsed(t, url)
	res, err := offline.Resolve(t.Context(), r, i.digest().String())
	if err != nil || !res.Pinned || res.Digest != i.digest().String() || res.URL != url {
		t.Fatalf("resolved to %+v, %v", res, err)
	}
	dest := t.TempDir()
	if _, err := offline.Unpack(t.Context(), r, res, dest, nil); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(whatIsLeft, tree(t, dest)); diff != "" {
		t.Errorf("unpacked (-want +got):\n%s", diff)
	}
	mustFetch(t, offline, "docker://"+h.host()+"/os@"+i.digest().String())
	if len(h.asked) > 0 {
		t.Errorf("asked: %q", h.asked)
	}
	_, _, err = fetch(t, offline, url)
	wantError(t, c, err, "what "+h.host()+"/os:v1 stands for is not in the cache", "offline")
	if err := os.Remove(store{c.Cache}.blob(digest.FromBytes(i.layers[1]))); err != nil {
		t.Fatal(err)
	}
	_, _, err = fetch(t, offline, "docker://"+h.host()+"/os@"+i.digest().String())
	wantError(t, c, err, "layer "+i.layerDigest(1)+" of "+h.host()+"/os", "not in the cache", "offline")
	empty := newClient(t)
	empty.Offline = true
	_, err = empty.Unpack(t.Context(), r, res, t.TempDir(), nil)
	wantError(t, empty, err, "manifest "+i.digest().String(), "not in the cache", "offline")
	if len(h.asked) > 0 {
		t.Errorf("asked: %q", h.asked)
	}
}

// Damage in the cache is noticed and repaired.
func TestDamagedCache(t *testing.T) {
	h := newHub(t)
	i := imageOf(t, "gzip", threeLayers(t)...)
	h.push(t, "os", "v1", i)
	url := "docker://" + h.host() + "/os:v1"
	for name, damage := range map[string]func(b []byte) []byte{
		"flipped":   func(b []byte) []byte { b[len(b)-9] ^= 1; return b },
		"truncated": func(b []byte) []byte { return b[:len(b)/2] },
		"longer":    func(b []byte) []byte { return append(b, 0, 0, 0) },
		"empty":     func(b []byte) []byte { return nil },
	} {
		for _, part := range [][]byte{i.layers[1], i.config, i.manifest} {
			c := newClient(t)
			var warnings atomic.Int32
			c.Warn = func(*images.Ref, string) { warnings.Add(1) }
			mustFetch(t, c, url)
			writeFile(t, store{c.Cache}.blob(digest.FromBytes(part)), damage(append([]byte(nil), part...)))
			dest, _, err := fetch(t, c, url)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if diff := cmp.Diff(whatIsLeft, tree(t, dest)); diff != "" {
				t.Errorf("%s: unpacked (-want +got):\n%s", name, diff)
			}
			if n := warnings.Load(); (n > 0) != (&part[0] == &i.layers[1][0]) {
				t.Errorf("%s: %d warnings", name, n)
			}
		}
	}
}

// Several clients, as several processes would have, fetch each blob once.
func TestFetchedOnce(t *testing.T) {
	h := newHub(t)
	i := imageOf(t, "gzip", threeLayers(t)...)
	h.push(t, "os", "v1", i)
	h.misbehave(func(w http.ResponseWriter, r *http.Request) bool {
		time.Sleep(50 * time.Millisecond) // that they overlap
		return false
	})
	first := newClient(t)
	var all sync.WaitGroup
	for n := range 4 {
		c := first
		if n%2 == 1 {
			c = &Client{Settings: images.Settings{Cache: first.Cache, Platform: first.Platform}}
		}
		all.Go(func() {
			dest, _, err := fetch(t, c, "docker://"+h.host()+"/os:v1")
			if err != nil {
				t.Error(err)
			} else if diff := cmp.Diff(whatIsLeft, tree(t, dest)); diff != "" {
				t.Error(diff)
			}
		})
	}
	all.Wait()
	for n := range i.layers {
		if got := h.count("/blobs/" + i.layerDigest(n)); got != 1 {
			t.Errorf("layer %d was fetched %d times", n, got)
		}
	}
	if got := h.count("/blobs/" + i.configDigest()); got != 1 {
		t.Errorf("the configuration was fetched %d times", got)
	}
	noLeftovers(t, first)
}

func TestProgress(t *testing.T) {
	h, i := faulty(t)
	c := newClient(t)
	r := parsed(t, "docker://"+h.host()+"/team/os:v1")
	res, err := c.Resolve(t.Context(), r, "")
	if err != nil {
		t.Fatal(err)
	}
	size := int64(len(i.layers[0]))
	last := make(map[string]int64)
	var mu sync.Mutex
	_, err = c.Unpack(t.Context(), r, res, t.TempDir(), func(what string, done, total int64) {
		mu.Lock()
		defer mu.Unlock()
		if done < last[what] || done > total || total != size {
			t.Errorf("%s: %d of %d after %d", what, done, total, last[what])
		}
		last[what] = done
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]int64{"download": size, "unpack": size}, last); diff != "" {
		t.Error(diff)
	}
}

func TestCancelDownload(t *testing.T) {
	h, i := faulty(t)
	began := make(chan struct{})
	h.misbehave(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, layerPath(i)) {
			return false
		}
		w.Write(i.layers[0][:100000])
		w.(http.Flusher).Flush()
		close(began)
		<-r.Context().Done()
		return true
	})
	c := newClient(t)
	r := parsed(t, "docker://"+h.host()+"/team/os:v1")
	res, err := c.Resolve(t.Context(), r, "")
	if err != nil {
		t.Fatal(err)
	}
	why := errors.New("interrupted")
	ctx, cancel := context.WithCancelCause(t.Context())
	var stopped time.Time
	go func() { <-began; stopped = time.Now(); cancel(why) }()
	_, err = c.Unpack(ctx, r, res, t.TempDir(), nil)
	if took := time.Since(stopped); took > time.Second {
		t.Errorf("it took %v to stop", took)
	}
	if !errors.Is(err, why) {
		t.Errorf("it ended with %v", err)
	}
	noLeftovers(t, c)
}

// Who waits for another process's download can be stopped, too.
func TestCancelWaiting(t *testing.T) {
	h, i := faulty(t)
	c := newClient(t)
	r := parsed(t, "docker://"+h.host()+"/team/os:v1")
	res, err := c.Resolve(t.Context(), r, "")
	if err != nil {
		t.Fatal(err)
	}
	part, err := lockPart(t.Context(), store{c.Cache}.blob(digest.FromBytes(i.layers[0]))+partSuffix, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer part.Close()
	ctx, cancel := context.WithCancel(t.Context())
	_, err = c.Unpack(ctx, r, res, t.TempDir(), func(what string, _, _ int64) {
		if what == "waiting: another process fetches team/os" {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// What a killed process has left is removed; what a living one makes is not.
func TestLeftovers(t *testing.T) {
	c := newClient(t)
	dead := writeFile(t, c.Cache+"/blobs/sha256/dead"+partSuffix, []byte("x"))
	deadBootstrap := writeFile(t, c.Cache+"/bootstraps/dead"+partSuffix, nil)
	writeFile(t, c.Cache+"/bootstraps/dead"+rootSuffix+"/etc/passwd", nil)
	living, err := lockPart(t.Context(), c.Cache+"/blobs/sha256/living"+partSuffix, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer living.Close()
	h, _ := faulty(t)
	mustFetch(t, c, "docker://"+h.host()+"/team/os:v1")
	for _, name := range []string{dead, deadBootstrap, c.Cache + "/bootstraps/dead" + rootSuffix} {
		if exists(name) {
			t.Errorf("%s is still there", name)
		}
	}
	if !exists(living.Name()) {
		t.Error("a file that is being made was removed")
	}
}

func TestFullDisk(t *testing.T) {
	needRoot(t)
	h := newHub(t)
	i := imageOf(t, "", makeTar(t, file("f", strings.Repeat("x", 2<<20))))
	h.push(t, "os", "v1", i)
	full := t.TempDir()
	if err := syscall.Mount("tmpfs", full, "tmpfs", 0, "size=1m"); err != nil {
		t.Skip("tmpfs cannot be mounted:", err)
	}
	defer syscall.Unmount(full, 0)
	url := "docker://" + h.host() + "/os:v1"
	c := newClient(t)
	roomy := c.Cache
	c.Cache = full
	mirror := newHub(t)
	mirror.push(t, "os", "v1", i)
	c.Mirrors = map[string][]string{h.host(): {mirror.host()}}
	_, _, err := fetch(t, c, url)
	wantError(t, c, err, "no space left on device", full)
	if n := h.count("/blobs/"+i.layerDigest(0)) + mirror.count("/blobs/"+i.layerDigest(0)); n != 1 {
		t.Errorf("it was tried %d times", n)
	}
	c = &Client{Settings: images.Settings{Cache: roomy, Platform: c.Platform}}
	r := parsed(t, url)
	res, err := c.Resolve(t.Context(), r, "")
	if err != nil {
		t.Fatal(err)
	}
	dest := full + "/dest"
	if err := os.Mkdir(dest, 0o755); err != nil {
		t.Fatal(err)
	}
	_, err = c.Unpack(t.Context(), r, res, dest, nil)
	wantError(t, c, err, "no space left on device", dest)
}

func TestReadOnlyCache(t *testing.T) {
	needRoot(t)
	h := newHub(t)
	h.push(t, "os", "v1", imageOf(t, "gzip", threeLayers(t)...))
	h.push(t, "os", "v2", imageOf(t, "gzip", makeTar(t, file("a", "1"))))
	c := newClient(t)
	mustFetch(t, c, "docker://"+h.host()+"/os:v1")
	if err := syscall.Mount(c.Cache, c.Cache, "", syscall.MS_BIND, ""); err != nil {
		t.Skip("cannot bind:", err)
	}
	defer syscall.Unmount(c.Cache, 0)
	if err := syscall.Mount("", c.Cache, "", syscall.MS_BIND|syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	mustFetch(t, c, "docker://"+h.host()+"/os:v1")
	_, _, err := fetch(t, c, "docker://"+h.host()+"/os:v2")
	wantError(t, c, err, "cache: ", "read-only file system", c.Cache)
}

func TestUnpackWantsAnEmptyDirectory(t *testing.T) {
	h, _ := faulty(t)
	c := newClient(t)
	r := parsed(t, "docker://"+h.host()+"/team/os:v1")
	res, err := c.Resolve(t.Context(), r, "")
	if err != nil {
		t.Fatal(err)
	}
	dest := t.TempDir()
	writeFile(t, dest+"/x", nil)
	_, err = c.Unpack(t.Context(), r, res, dest, nil)
	wantError(t, c, err, dest+" is not empty")
}
