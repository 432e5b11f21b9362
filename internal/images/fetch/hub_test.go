package fetch

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const someDigest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// A hub is a registry on loopback that keeps a record of what it was asked, and
// can be made to misbehave.
type hub struct {
	*httptest.Server
	registry http.Handler
	upload   func(repo, digest string, content []byte) // if not the simple way

	mu    sync.Mutex
	asked []string
	// fault, if set, may answer a request itself; it says whether it has.
	fault func(w http.ResponseWriter, r *http.Request) bool
}

func newHub(t testing.TB) *hub {
	h := &hub{registry: registry.New(registry.Logger(log.New(io.Discard, "", 0)))}
	h.Server = httptest.NewServer(h)
	t.Cleanup(h.Close)
	return h
}

func (h *hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	h.asked = append(h.asked, r.Method+" "+r.URL.Path)
	fault := h.fault
	h.mu.Unlock()
	if fault == nil || !fault(w, r) {
		h.registry.ServeHTTP(w, r)
	}
}

func (h *hub) misbehave(fault func(w http.ResponseWriter, r *http.Request) bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fault = fault
}

// count is how many requests held the text since the last call of forget.
func (h *hub) count(text string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for _, a := range h.asked {
		if strings.Contains(a, text) {
			n++
		}
	}
	return n
}

func (h *hub) forget() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.asked = nil
}

func (h *hub) host() string { return strings.TrimPrefix(h.URL, "http://") }

// put uploads past all faults.
func (h *hub) put(t testing.TB, method, path, mediaType string, content []byte) {
	t.Helper()
	w := httptest.NewRecorder()
	r := httptest.NewRequest(method, path, bytes.NewReader(content))
	r.Header.Set("Content-Type", mediaType)
	h.registry.ServeHTTP(w, r)
	if w.Code != http.StatusCreated {
		t.Fatalf("%s %s: %d %s", method, path, w.Code, w.Body)
	}
}

func (h *hub) putBlob(t testing.TB, repo string, content []byte) digest.Digest {
	t.Helper()
	d := digest.FromBytes(content)
	if h.upload != nil {
		h.upload(repo, d.String(), content)
		return d
	}
	h.put(t, "POST", fmt.Sprintf("/v2/%s/blobs/uploads/?digest=%s", repo, d), "application/octet-stream", content)
	return d
}

// A testImage is one to be pushed. Its blobs are made by build.
type testImage struct {
	platform ispec.Platform
	env      []string
	layers   [][]byte // compressed tars
	tars     [][]byte // the same, uncompressed
	docker   bool     // Docker's media types, not OCI's

	config, manifest []byte
}

var amd64 = ispec.Platform{OS: "linux", Architecture: "amd64"}

// imageOf makes an image of tars, which are compressed as told.
func imageOf(t testing.TB, algorithm string, tars ...[]byte) *testImage {
	t.Helper()
	i := &testImage{platform: amd64, env: []string{"PATH=/bin", "A=b c"}, tars: tars}
	for _, b := range tars {
		i.layers = append(i.layers, compressed(t, algorithm, b))
	}
	return i.build(t)
}

func (i *testImage) build(t testing.TB) *testImage {
	t.Helper()
	configType, layerType, manifestType := ispec.MediaTypeImageConfig, ispec.MediaTypeImageLayerGzip, ispec.MediaTypeImageManifest
	if i.docker {
		configType = "application/vnd.docker.container.image.v1+json"
		layerType = "application/vnd.docker.image.rootfs.diff.tar.gzip"
		manifestType = "application/vnd.docker.distribution.manifest.v2+json"
	}
	config := ispec.Image{Platform: i.platform}
	config.Config.Env = i.env
	config.RootFS.Type = "layers"
	config.RootFS.DiffIDs = []digest.Digest{}
	m := ispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: manifestType, Layers: []ispec.Descriptor{}}
	for n, b := range i.layers {
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, digest.FromBytes(i.tars[n]))
		m.Layers = append(m.Layers, ispec.Descriptor{MediaType: layerType, Digest: digest.FromBytes(b), Size: int64(len(b))})
	}
	i.config = marshal(t, config)
	m.Config = ispec.Descriptor{MediaType: configType, Digest: digest.FromBytes(i.config), Size: int64(len(i.config))}
	i.manifest = marshal(t, m)
	return i
}

func marshal(t testing.TB, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (i *testImage) digest() digest.Digest { return digest.FromBytes(i.manifest) }

func (i *testImage) mediaType() string {
	if i.docker {
		return "application/vnd.docker.distribution.manifest.v2+json"
	}
	return ispec.MediaTypeImageManifest
}

func (i *testImage) descriptor() ispec.Descriptor {
	return ispec.Descriptor{MediaType: i.mediaType(), Digest: i.digest(), Size: int64(len(i.manifest)), Platform: &i.platform}
}

// push uploads an image; an empty tag leaves it by digest only.
func (h *hub) push(t testing.TB, repo, tag string, i *testImage) {
	t.Helper()
	h.putBlob(t, repo, i.config)
	for _, b := range i.layers {
		h.putBlob(t, repo, b)
	}
	if tag == "" {
		tag = i.digest().String()
	}
	h.put(t, "PUT", "/v2/"+repo+"/manifests/"+tag, i.mediaType(), i.manifest)
}

// pushIndex uploads images and an index of them.
func (h *hub) pushIndex(t testing.TB, repo, tag string, images ...*testImage) digest.Digest {
	t.Helper()
	index := indexOf(images...)
	for _, i := range images {
		h.push(t, repo, "", i)
	}
	raw := marshal(t, index)
	h.put(t, "PUT", "/v2/"+repo+"/manifests/"+tag, ispec.MediaTypeImageIndex, raw)
	return digest.FromBytes(raw)
}

func indexOf(images ...*testImage) ispec.Index {
	index := ispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ispec.MediaTypeImageIndex}
	for _, i := range images {
		index.Manifests = append(index.Manifests, i.descriptor())
	}
	return index
}

func (i *testImage) layerDigest(n int) string { return digest.FromBytes(i.layers[n]).String() }
func (i *testImage) configDigest() string     { return digest.FromBytes(i.config).String() }
