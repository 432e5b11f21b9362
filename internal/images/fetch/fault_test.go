package fetch

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// faulty is a hub with one image, team/os:v1, whose layer has a size that
// does not fit in one read.
func faulty(t testing.TB) (*hub, *testImage) {
	h := newHub(t)
	text := strings.Repeat("0123456789abcdef", 1<<14)
	i := imageOf(t, "", makeTar(t, file("f", text)))
	h.push(t, "team/os", "v1", i)
	return h, i
}

func layerPath(i *testImage) string { return "/blobs/" + i.layerDigest(0) }

// wantError checks that an error names things, and that the cache is as it was
// but for what is right in it.
func wantError(t testing.TB, c *Client, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	t.Log(err)
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("the error does not say %q: %v", word, err)
		}
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("the error has several lines: %v", err)
	}
	noLeftovers(t, c)
}

func noLeftovers(t testing.TB, c *Client) {
	t.Helper()
	filepath.WalkDir(c.Cache, func(path string, d os.DirEntry, err error) error {
		if strings.HasSuffix(path, partSuffix) || strings.HasSuffix(path, rootSuffix) {
			t.Errorf("left in the cache: %s", path)
		}
		return nil
	})
}

func TestRegistryRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		status int
		header string
		want   string
	}{
		"missing":   {404, "", "has no team/os:v1"},
		"login":     {401, `Basic realm="x"`, `refuses access to team/os:v1; it may not exist, or need a "docker login `},
		"forbidden": {403, "", "refuses access to team/os:v1"},
		"busy":      {429, "", "too many requests"},
		"broken":    {500, "", "did not give team/os:v1"},
		"teapot":    {418, "", "did not give team/os:v1"},
	} {
		t.Run(name, func(t *testing.T) {
			h, _ := faulty(t)
			h.misbehave(func(w http.ResponseWriter, r *http.Request) bool {
				if test.header != "" {
					w.Header().Set("WWW-Authenticate", test.header)
				}
				w.WriteHeader(test.status)
				fmt.Fprint(w, "<html>\n"+strings.Repeat("no ", 1000))
				return true
			})
			c := newClient(t)
			start := time.Now()
			_, _, err := fetch(t, c, "docker://"+h.host()+"/team/os:v1")
			wantError(t, c, err, test.want, h.host())
			if took := time.Since(start); took > 10*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
}

func TestRegistryAbsent(t *testing.T) {
	h := newHub(t)
	host := h.host()
	h.Close()
	c := newClient(t)
	_, _, err := fetch(t, c, "docker://"+host+"/team/os:v1")
	wantError(t, c, err, "cannot reach "+host+" for team/os:v1", "connection refused")
}

// What a registry sends is not what it said, and never gets into the cache.
func TestRegistryLies(t *testing.T) {
	for name, test := range map[string]struct {
		lie  func(w http.ResponseWriter, right []byte)
		want string
	}{
		"other bytes": {func(w http.ResponseWriter, right []byte) { w.Write(append([]byte("x"), right[1:]...)) }, ""},
		"too much": {func(w http.ResponseWriter, right []byte) {
			w.(http.Flusher).Flush() // no Content-Length
			w.Write(right)
			w.Write([]byte("more"))
		}, "it sends more than the 263680 bytes"},
		"another length": {func(w http.ResponseWriter, right []byte) { w.Write(right[:100]) }, "it sends 100 bytes, the manifest says 263680"},
	} {
		t.Run(name, func(t *testing.T) {
			h, i := faulty(t)
			h.misbehave(func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.HasSuffix(r.URL.Path, layerPath(i)) {
					return false
				}
				test.lie(w, i.layers[0])
				return true
			})
			c := newClient(t)
			_, _, err := fetch(t, c, "docker://"+h.host()+"/team/os:v1")
			wantError(t, c, err, i.layerDigest(0), h.host(), "team/os", "does not match its digest", test.want)
			if n := h.count(layerPath(i)); n != 1 {
				t.Errorf("a lie was asked for %d times", n)
			}
		})
	}
	for name, path := range map[string]func(i *testImage) string{
		"manifest": func(i *testImage) string { return "/manifests/" + i.digest().String() },
		"config":   func(i *testImage) string { return "/blobs/" + i.configDigest() },
	} {
		t.Run(name, func(t *testing.T) {
			h, i := faulty(t)
			h.misbehave(func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.HasSuffix(r.URL.Path, path(i)) {
					return false
				}
				w.Header().Set("Content-Type", i.mediaType())
				w.Write([]byte(`{"schemaVersion":2,"config":{},"layers":[]}`))
				return true
			})
			c := newClient(t)
			_, _, err := fetch(t, c, "docker://"+h.host()+"/team/os@"+i.digest().String())
			wantError(t, c, err, path(i)[strings.Index(path(i), "sha256"):], h.host(), "team/os", "match")
		})
	}
}

// A tag's manifest that is not what the registry says itself.
func TestRegistryContradictsItself(t *testing.T) {
	h, i := faulty(t)
	h.misbehave(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/manifests/") {
			return false
		}
		w.Header().Set("Docker-Content-Digest", someDigest)
		w.Header().Set("Content-Type", i.mediaType())
		w.Write(i.manifest)
		return true
	})
	c := newClient(t)
	_, _, err := fetch(t, c, "docker://"+h.host()+"/team/os:v1")
	wantError(t, c, err, someDigest, h.host(), "team/os:v1")
}

// The unpacked layer is not the one that the configuration names.
func TestWrongDiffID(t *testing.T) {
	h := newHub(t)
	i := imageOf(t, "gzip", makeTar(t, file("a", "1")))
	i.tars[0] = []byte("something else")
	h.push(t, "os", "v1", i.build(t))
	c := newClient(t)
	_, _, err := fetch(t, c, "docker://"+h.host()+"/os:v1")
	wantError(t, c, err, "diff_id", i.layerDigest(0))
}

// A connection that breaks is taken up where it broke, or from the start.
func TestRegistryBreaksOff(t *testing.T) {
	for name, test := range map[string]struct {
		ranges, chunked bool
		breaks          int32
		fails           bool
	}{
		"resumed":           {ranges: true, breaks: 2},
		"started over":      {breaks: 2},
		"of unknown length": {chunked: true, breaks: 2},
		"always":            {breaks: 1000, fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			h, i := faulty(t)
			var breaks, resumed atomic.Int32
			h.misbehave(func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.HasSuffix(r.URL.Path, layerPath(i)) {
					return false
				}
				content, status := i.layers[0], http.StatusOK
				if from, ok := strings.CutPrefix(r.Header.Get("Range"), "bytes="); ok && test.ranges {
					n, _ := strconv.Atoi(from[:strings.Index(from, "-")])
					w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", n, len(content)-1, len(content)))
					content, status = content[n:], http.StatusPartialContent
					resumed.Add(1)
				}
				if !test.chunked {
					w.Header().Set("Content-Length", fmt.Sprint(len(content)))
				}
				w.WriteHeader(status)
				if breaks.Add(1) > test.breaks {
					w.Write(content)
					return true
				}
				w.Write(content[:len(content)/2])
				w.(http.Flusher).Flush()
				panic(http.ErrAbortHandler)
			})
			c := newClient(t)
			r := parsed(t, "docker://"+h.host()+"/team/os:v1")
			dest := t.TempDir()
			res, err := c.Resolve(t.Context(), r, "")
			if err == nil {
				_, err = c.Unpack(t.Context(), r, res, dest, func(what string, done, total int64) {
					if done < 0 || done > total {
						t.Errorf("%s: %d of %d", what, done, total)
					}
				})
			}
			if test.fails {
				wantError(t, c, err, h.host(), i.layerDigest(0), "EOF")
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if info, err := os.Stat(dest + "/f"); err != nil || info.Size() != 16<<14 {
				t.Errorf("%v, %v", info, err)
			}
			if test.ranges != (resumed.Load() > 0) {
				t.Errorf("resumed %d times", resumed.Load())
			}
		})
	}
}

func TestRegistryStalls(t *testing.T) {
	defer func(d time.Duration) { stallTimeout = d }(stallTimeout)
	stallTimeout = 200 * time.Millisecond
	h, i := faulty(t)
	h.misbehave(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, layerPath(i)) {
			return false
		}
		w.Write(i.layers[0][:1000])
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		return true
	})
	c := newClient(t)
	_, _, err := fetch(t, c, "docker://"+h.host()+"/team/os:v1")
	wantError(t, c, err, h.host(), "no data came any more")
}

// A busy registry is waited for, though not for ever.
func TestRegistryIsBusy(t *testing.T) {
	defer func(d time.Duration) { patience = d }(patience)
	h, _ := faulty(t)
	wait := "1"
	h.misbehave(func(w http.ResponseWriter, r *http.Request) bool {
		if wait == "" {
			return false
		}
		w.Header().Set("Retry-After", wait)
		w.WriteHeader(http.StatusTooManyRequests)
		if wait == "1" {
			wait = ""
		}
		return true
	})
	mustFetch(t, newClient(t), "docker://"+h.host()+"/team/os:v1")
	wait, patience = "3600", 500*time.Millisecond
	c := newClient(t)
	_, _, err := fetch(t, c, "docker://"+h.host()+"/team/os:v1")
	wantError(t, c, err, h.host(), "it made us wait for too long")
}

func TestRedirect(t *testing.T) {
	h, i := faulty(t)
	elsewhere := newHub(t)
	elsewhere.push(t, "team/os", "v1", i)
	h.misbehave(func(w http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "/blobs/") {
			http.Redirect(w, r, elsewhere.URL+r.URL.Path, http.StatusTemporaryRedirect)
			return true
		}
		return false
	})
	mustFetch(t, newClient(t), "docker://"+h.host()+"/team/os:v1")
	if elsewhere.count("/blobs/") == 0 {
		t.Error("the redirect was not followed")
	}
}

func TestMirrors(t *testing.T) {
	right, i := faulty(t)
	empty, lying, broken := newHub(t), newHub(t), newHub(t)
	lying.push(t, "prefix/team/os", "v1", i)
	lying.misbehave(func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, layerPath(i)) {
			w.Write(make([]byte, len(i.layers[0])))
			return true
		}
		return false
	})
	broken.Close()
	url := "docker://" + right.host() + "/team/os:v1"
	c := newClient(t)
	c.Mirrors = map[string][]string{right.host(): {broken.host(), empty.host(), "http://" + lying.host() + "/prefix"}}
	mustFetch(t, c, url)
	if empty.count("/manifests/v1") != 1 || lying.count("/prefix/team/os/manifests/v1") != 1 || right.count("/manifests/") != 0 {
		t.Errorf("asked: %q, %q, %q", empty.asked, lying.asked, right.asked)
	}
	if lying.count(layerPath(i)) != 1 || right.count(layerPath(i)) != 1 {
		t.Errorf("asked for the layer: %q, %q", lying.asked, right.asked)
	}
	// Who could not be reached is not tried first again.
	hosts, err := c.ask(t.Context(), right.host())
	if err != nil || len(hosts) != 4 || hosts[3].name != broken.host() || hosts[0].name != empty.host() {
		t.Errorf("the next time: %v, %v", hosts, err)
	}
	// One error for each when all of them fail.
	c = newClient(t)
	c.Mirrors = map[string][]string{right.host(): {empty.host()}}
	_, _, err = fetch(t, c, strings.Replace(url, "v1", "v2", 1))
	for _, h := range []*hub{empty, right} {
		if want := h.host() + " has no team/os:v2"; err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %s", err, want)
		}
	}
}

// A mirror of Docker's registry is given by either of that one's names.
func TestMirrorOfDocker(t *testing.T) {
	h := newHub(t)
	h.push(t, "library/debian", "trixie", imageOf(t, "gzip", makeTar(t, file("a", "1"))))
	for _, name := range []string{"docker.io", "index.docker.io"} {
		c := newClient(t)
		c.Mirrors = map[string][]string{name: {h.host()}}
		dest, _ := mustFetch(t, c, "docker://debian:trixie")
		if diff := cmp.Diff([]string{"a=1"}, tree(t, dest)); diff != "" {
			t.Error(diff)
		}
	}
}

func login(t testing.TB, host string) {
	auth := base64.StdEncoding.EncodeToString([]byte("me:secret"))
	writeFile(t, os.Getenv("DOCKER_CONFIG")+"/config.json", fmt.Appendf(nil, `{"auths":{%q:{"auth":%q}}}`, host, auth))
}

func TestBasicAuth(t *testing.T) {
	h, _ := faulty(t)
	h.misbehave(func(w http.ResponseWriter, r *http.Request) bool {
		if user, password, _ := r.BasicAuth(); user == "me" && password == "secret" {
			return false
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="hub"`)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	})
	c := newClient(t)
	_, _, err := fetch(t, c, "docker://"+h.host()+"/team/os:v1")
	wantError(t, c, err, "docker login "+h.host())
	c = newClient(t)
	login(t, h.host())
	mustFetch(t, c, "docker://"+h.host()+"/team/os:v1")
}

func TestBearerAuth(t *testing.T) {
	for name, anonymous := range map[string]bool{"anonymous": true, "login": false} {
		t.Run(name, func(t *testing.T) {
			h, _ := faulty(t)
			h.misbehave(func(w http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path == "/token" {
					user, password, _ := r.BasicAuth()
					if !anonymous && (user != "me" || password != "secret") {
						w.WriteHeader(http.StatusUnauthorized)
					} else {
						fmt.Fprintf(w, `{"token":"for %s"}`, r.FormValue("scope"))
					}
					return true
				}
				if r.Header.Get("Authorization") == "Bearer for repository:team/os:pull" {
					return false
				}
				w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s/token",service="hub",scope="repository:team/os:pull"`, h.URL))
				w.WriteHeader(http.StatusUnauthorized)
				return true
			})
			c := newClient(t)
			if !anonymous {
				_, _, err := fetch(t, c, "docker://"+h.host()+"/team/os:v1")
				wantError(t, c, err, "docker login "+h.host())
				c = newClient(t)
				login(t, h.host())
			}
			mustFetch(t, c, "docker://"+h.host()+"/team/os:v1")
		})
	}
}

func TestCredentialHelper(t *testing.T) {
	h, _ := faulty(t)
	h.misbehave(func(w http.ResponseWriter, r *http.Request) bool {
		if user, password, _ := r.BasicAuth(); user == "helped" && password == "secret" {
			return false
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="hub"`)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	})
	c := newClient(t)
	bin := t.TempDir()
	helper := writeFile(t, bin+"/docker-credential-test", []byte("#!/bin/sh\ncat >/dev/null; echo '{\"Username\":\"helped\",\"Secret\":\"secret\"}'\n"))
	if err := os.Chmod(helper, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	writeFile(t, os.Getenv("DOCKER_CONFIG")+"/config.json", fmt.Appendf(nil, `{"credHelpers":{%q:"test"}}`, h.host()))
	mustFetch(t, c, "docker://"+h.host()+"/team/os:v1")
}

func TestBrokenDockerConfig(t *testing.T) {
	h, _ := faulty(t)
	c := newClient(t)
	writeFile(t, os.Getenv("DOCKER_CONFIG")+"/config.json", []byte("{"))
	_, _, err := fetch(t, c, "docker://"+h.host()+"/team/os:v1")
	wantError(t, c, err, "read Docker's configuration")
}

// With TLS, whose certificate nobody vouches for.
func TestInsecure(t *testing.T) {
	h, i := faulty(t)
	secure := httptest.NewUnstartedServer(h)
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	t.Cleanup(secure.Close)
	host := strings.TrimPrefix(secure.URL, "https://")
	for _, mirror := range []string{host, "https://" + host} {
		c := newClient(t)
		c.Mirrors = map[string][]string{"registry.example": {mirror}}
		mustFetch(t, c, "docker://registry.example/team/os:v1")
		if n := h.count(layerPath(i)); n == 0 {
			t.Errorf("%s was not asked", mirror)
		}
		h.forget()
	}
	// A mirror is insecure as the registry is, without a scheme.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c := newClient(t)
	if _, err := c.remote(ctx, "mirror.example", true); !errors.Is(err, context.Canceled) {
		t.Errorf("an interrupted question was taken for an answer: %v", err)
	}
	c.Insecure = map[string]bool{"docker.io": true}
	if !c.insecure("docker.io") || c.insecure("registry.example") || !c.insecure("[::1]:5000") || !c.insecure("localhost") || c.insecure("127.0.0.1.example") {
		t.Error("what is insecure")
	}
}
