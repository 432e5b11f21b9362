package fetch

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestRealRegistry pulls from the registry that Debian's package
// docker-registry brings.
func TestRealRegistry(t *testing.T) {
	program, err := exec.LookPath("docker-registry")
	if err != nil {
		t.Skip("docker-registry is not installed")
	}
	dir := t.TempDir()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	config := fmt.Sprintf("version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: %q, secret: x}\n", dir, address)
	ctx, stop := context.WithCancel(t.Context())
	registry := exec.CommandContext(ctx, program, "serve", writeFile(t, dir+"/config.yml", []byte(config)))
	registry.Stderr = t.Output()
	if err := registry.Start(); err != nil {
		t.Fatal(err)
	}
	defer registry.Wait()
	defer stop()
	waitFor(t, "an answer of the registry", func() bool {
		r, err := http.Get("http://" + address + "/v2/")
		if err == nil {
			r.Body.Close()
		}
		return err == nil && r.StatusCode == http.StatusOK
	})
	// Pushed as to the other hubs, but to this registry.
	h := &hub{registry: httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: address})}
	h.upload = func(repo string, digest string, content []byte) {
		base := "http://" + address
		r, err := http.Post(base+"/v2/"+repo+"/blobs/uploads/", "", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
		to := r.Header.Get("Location")
		if strings.HasPrefix(to, "/") {
			to = base + to
		}
		put, _ := http.NewRequest(http.MethodPut, to+"&digest="+digest, bytes.NewReader(content))
		put.Header.Set("Content-Type", "application/octet-stream")
		r, err = http.DefaultClient.Do(put)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		if r.StatusCode != http.StatusCreated {
			text, _ := io.ReadAll(r.Body)
			t.Fatal(r.Status, string(text))
		}
	}
	for _, algorithm := range []string{"gzip", "zstd"} {
		h.pushIndex(t, "team/os", algorithm, imageOf(t, algorithm, threeLayers(t)...))
		start := time.Now()
		dest, _ := mustFetch(t, newClient(t), "docker://"+address+"/team/os:"+algorithm)
		t.Log(time.Since(start))
		if diff := cmp.Diff(whatIsLeft, tree(t, dest)); diff != "" {
			t.Errorf("unpacked (-want +got):\n%s", diff)
		}
	}
	c := newClient(t)
	_, _, err = fetch(t, c, "docker://"+address+"/team/os:none")
	wantError(t, c, err, address+" has no team/os:none")
	_, _, err = fetch(t, c, "docker://"+address+"/none/os:v1")
	wantError(t, c, err, address+" has no none/os:v1")
}
