package images

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"raptor-make/internal/helper"
)

func newClient(t testing.TB) *Client {
	t.Helper()
	c := &Client{Settings: Settings{Cache: t.TempDir(), Platform: "linux/amd64", Rootless: os.Geteuid() != 0}}
	t.Cleanup(c.Close)
	return c
}

// tarOf makes a tar of one file, whose name no JSON could hold.
func tarOf(t testing.TB, file string) {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: "caf\xe9", Mode: 0o644, Size: 2, Uid: os.Getuid(), Gid: os.Getgid(), Format: tar.FormatGNU}); err != nil {
		t.Fatal(err)
	}
	w.Write([]byte("hi"))
	w.Close()
	if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

func parsed(t testing.TB, url, dir string) *Ref {
	t.Helper()
	r, err := Parse(url, dir, dir)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// hanging is a registry that never answers, and says when it was asked.
func hanging(t testing.TB) (host string, asked <-chan struct{}) {
	came, done := make(chan struct{}, 8), make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		came <- struct{}{}
		select {
		case <-done:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(func() { close(done); s.Close() })
	return strings.TrimPrefix(s.URL, "http://"), came
}

// TestFetcher takes a tar through a directory whose name is no text.
func TestFetcher(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d\xe9j\xe0 \"vu\"\n")
	dest := filepath.Join(dir, "dest")
	if err := os.MkdirAll(dest, 0o755); err != nil {
		t.Fatal(err)
	}
	tarOf(t, dir+"/a.tar")
	c := newClient(t)
	c.Cache = filepath.Join(dir, "cache")
	r := parsed(t, "tar://a.tar", dir)
	res, err := c.Resolve(t.Context(), r, "")
	if err != nil || res.Pinned || res.URL != r.URL || !strings.HasPrefix(res.Digest, "sha256:") {
		t.Fatalf("%+v, %v", res, err)
	}
	if c.fetcher.process != nil {
		t.Error("a tar was resolved by the fetcher")
	}
	var last [2]int64
	_, err = c.Unpack(t.Context(), r, res, dest, func(what string, done, total int64) { last = [2]int64{done, total} })
	if err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(dest + "/caf\xe9"); string(text) != "hi" {
		t.Errorf("%q, %v", text, err)
	}
	if last[0] == 0 || last[0] != last[1] {
		t.Errorf("the last progress was %d of %d", last[0], last[1])
	}
	// A second time the directory is not empty: the fetcher's errors are ours.
	_, err = c.Unpack(t.Context(), r, res, dest, nil)
	if want := "unpack tar://a.tar: " + dest + " is not empty"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

// TestFetcherIsCalledOff ends a request, but not the process nor other requests.
func TestFetcherIsCalledOff(t *testing.T) {
	host, asked := hanging(t)
	c := newClient(t)
	r := parsed(t, "docker://"+host+"/os:v1", "/")
	reason := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	other := make(chan error, 1)
	go func() {
		_, err := c.Resolve(t.Context(), parsed(t, "docker://"+host+"/other:v1", "/"), "")
		other <- err
	}()
	go func() { <-asked; <-asked; cancel(reason) }()
	if _, err := c.Resolve(ctx, r, ""); err != reason {
		t.Errorf("%v, want %v", err, reason)
	}
	select {
	case err := <-other:
		t.Errorf("the other request ended, too: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	c.fetcher.process.cmd.Process.Signal(syscall.SIGINT) // as the terminal does
	time.Sleep(100 * time.Millisecond)
	c.fetcher.process.cmd.Process.Kill()
	if err := <-other; err == nil || !strings.Contains(err.Error(), "the process that fetches images ended without a word: signal: killed") {
		t.Errorf("%v", err)
	}
	// The next request has a new one.
	dir := t.TempDir()
	tarOf(t, dir+"/a.tar")
	tarball := parsed(t, "tar://a.tar", dir)
	res, err := c.Resolve(t.Context(), tarball, "")
	if err == nil {
		_, err = c.Unpack(t.Context(), tarball, res, t.TempDir(), nil)
	}
	if err != nil {
		t.Error(err)
	}
}

// TestFetcherDiesWithUs kills a process whose fetcher waits for a registry.
func TestFetcherDiesWithUs(t *testing.T) {
	if host := os.Getenv(waitFor); host != "" {
		c := newClient(t)
		go func() {
			for {
				if c.fetcher.mu.Lock(); c.fetcher.process != nil {
					fmt.Println(c.fetcher.process.cmd.Process.Pid)
					return
				}
				c.fetcher.mu.Unlock()
			}
		}()
		c.Resolve(t.Context(), parsed(t, "docker://"+host+"/os:v1", "/"), "")
		return
	}
	host, asked := hanging(t)
	us := exec.Command(os.Args[0], "-test.run=^TestFetcherDiesWithUs$")
	us.Env = append(os.Environ(), waitFor+"="+host, "TMPDIR="+t.TempDir()) // it does not get to removing its own
	out, err := us.StdoutPipe()
	if err == nil {
		err = us.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer us.Wait()
	defer us.Process.Kill()
	var pid int
	if _, err := fmt.Fscan(out, &pid); err != nil {
		t.Fatal(err)
	}
	<-asked
	if err := syscall.Kill(pid, 0); err != nil {
		t.Fatalf("process %d: %v", pid, err)
	}
	us.Process.Kill()
	for until := time.Now().Add(10 * time.Second); !gone(pid); time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			t.Fatal("the fetcher lives on")
		}
	}
}

const waitFor = "RAPTOR_TEST_WAIT_FOR"

// gone tells whether a process has ended, even if nobody has noticed yet.
func gone(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(stat), ") Z ")
}

// TestKnown resolves without a fetcher what it takes none for.
func TestKnown(t *testing.T) {
	c := newClient(t)
	for url, want := range map[string]string{
		"docker://debian:trixie": "[[image docker.io/library/debian:trixie] [platform linux/amd64] [manifest " + someDigest + "]]",
		"debian://trixie":        "[[bootstrap 1] [suite trixie] [architecture amd64] [components main]]",
		"tar://missing.tar":      "[[content " + someDigest + "]]",
		"oci://missing":          "[[manifest " + someDigest + "]]",
	} {
		res, err := c.Resolve(t.Context(), parsed(t, url, "/"), someDigest)
		if err != nil || !res.Pinned || res.Digest != someDigest || res.URL != url {
			t.Errorf("%s: %+v, %v", url, res, err)
		} else if got := strings.TrimSpace(fmt.Sprint(res.Detail)); got != want {
			t.Errorf("%s: %s, want %s", url, got, want)
		}
	}
	if c.fetcher.process != nil {
		t.Error("the fetcher was started")
	}
	if _, err := c.Resolve(t.Context(), parsed(t, "docker://debian", "/"), "sha256:x"); err == nil || !strings.Contains(err.Error(), "bad digest") {
		t.Errorf("%v", err)
	}
}

// TestFetcherIsNotMixedUp has the program's file at all places among descriptors
// that others use: where it is handed over it must be the program, not one of them.
func TestFetcherIsNotMixedUp(t *testing.T) {
	dir := t.TempDir()
	tarOf(t, dir+"/a.tar")
	program, err := fetcherProgram.Read()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { fetcherProgram = helper.Program{Name: "raptor-fetcher", Embedded: program} }()
	r := parsed(t, "tar://a.tar", dir)
	for n := range 12 {
		var fill []*os.File
		for range n {
			f, err := os.Open(os.DevNull)
			if err != nil {
				t.Fatal(err)
			}
			fill = append(fill, f)
		}
		fetcherProgram = helper.Program{Name: "raptor-fetcher", Embedded: program}
		file, err := fetcherProgram.File()
		for _, f := range fill {
			f.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
		c := newClient(t)
		res, err := c.Resolve(t.Context(), r, "")
		dest := t.TempDir()
		if err == nil {
			_, err = c.Unpack(t.Context(), r, res, dest, nil)
		}
		if text, rerr := os.ReadFile(dest + "/caf\xe9"); err != nil || string(text) != "hi" {
			t.Errorf("with the program at %d: %v, %q, %v", file.Fd(), err, text, rerr)
		}
		c.Close()
		file.Close()
	}
}
