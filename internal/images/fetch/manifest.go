package fetch

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/regclient/regclient/types/platform"

	"raptor-make/internal/images"
)

// A manifest is an image's, or an index of several, in Docker's or OCI's form:
// what this package needs of them is spelled alike.
type manifest struct {
	SchemaVersion int                `json:"schemaVersion"`
	MediaType     string             `json:"mediaType"`
	Config        ispec.Descriptor   `json:"config"`
	Layers        []ispec.Descriptor `json:"layers"`
	Manifests     []ispec.Descriptor `json:"manifests"`
}

const (
	// maxManifest is what a manifest or a configuration may be long.
	maxManifest = 8 << 20
	// maxNesting is how deep indexes may lie in indexes.
	maxNesting = 4
)

func (m *manifest) isIndex() bool { return m.Manifests != nil }

// parseManifest reads a manifest or index, and checks what would otherwise have
// to be checked in many places.
func parseManifest(raw []byte) (*manifest, error) {
	m := new(manifest)
	if err := json.Unmarshal(raw, m); err != nil {
		return nil, fmt.Errorf("bad manifest: %w", err)
	}
	switch {
	case m.SchemaVersion == 1:
		return nil, errors.New("the image has a manifest of Docker's first, obsolete format")
	case m.SchemaVersion != 2:
		return nil, fmt.Errorf("bad manifest: schemaVersion %d", m.SchemaVersion)
	// One reader's index must not be another's image.
	case m.isIndex() && (m.Layers != nil || m.Config.Digest != ""):
		return nil, errors.New("bad manifest: it is an image's and an index at once")
	case !m.isIndex() && m.Config.Digest == "":
		return nil, errors.New("bad manifest: neither an image's nor an index")
	}
	all := slices.Concat(m.Manifests, m.Layers)
	if !m.isIndex() {
		all = append(all, m.Config)
	}
	for _, d := range all {
		if err := images.CheckDigest(string(d.Digest)); err != nil {
			return nil, fmt.Errorf("bad manifest: %w", err)
		}
		if d.Size < 0 {
			return nil, fmt.Errorf("bad manifest: %s has the size %d", d.Digest, d.Size)
		}
	}
	return m, nil
}

// verify checks content against its digest.
func verify(raw []byte, want digest.Digest) error {
	if got := want.Algorithm().FromBytes(raw); got != want {
		return fmt.Errorf("%w: want %s, got %s", errDigest, want, got)
	}
	return nil
}

// errDigest is content that is not what its digest says.
var errDigest = errors.New("the content does not match its digest")

// choose returns the entry of an index that suits a platform best.
func choose(entries []ispec.Descriptor, want platform.Platform) (ispec.Descriptor, error) {
	var best *ispec.Descriptor
	var bestPlatform platform.Platform
	var available []string
	compare := platform.NewCompare(want)
	for i, d := range entries {
		if d.Platform == nil {
			// An index of one image need not say what it is for.
			if len(entries) == 1 {
				return d, nil
			}
			continue
		}
		if d.Platform.OS == "unknown" {
			continue // not an image, but an attestation of one
		}
		p := fromOCI(d.Platform)
		available = append(available, p.String())
		if compare.Better(p, bestPlatform) {
			best, bestPlatform = &entries[i], p
		}
	}
	if best == nil {
		slices.Sort(available)
		list := strings.Join(slices.Compact(available), ", ")
		if list == "" {
			list = "none that is named"
		}
		return ispec.Descriptor{}, fmt.Errorf("no image for %s; there is one for: %s", want, list)
	}
	return *best, nil
}

// wanted is the platform that images are wanted for.
func (c *Client) wanted() (platform.Platform, error) {
	p, err := c.ParsePlatform()
	return platform.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant}, err
}

func fromOCI(p *ispec.Platform) platform.Platform {
	return platform.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant,
		OSVersion: p.OSVersion, OSFeatures: p.OSFeatures}
}

// parseConfig reads an image's configuration and checks that it fits the
// manifest.
func parseConfig(raw []byte, m *manifest) (*ispec.Image, error) {
	config := new(ispec.Image)
	if err := json.Unmarshal(raw, config); err != nil {
		return nil, fmt.Errorf("bad image configuration: %w", err)
	}
	if config.RootFS.Type != "layers" {
		return nil, fmt.Errorf("not an image of a root file system (%q, %s)", config.RootFS.Type, m.Config.MediaType)
	}
	if len(config.RootFS.DiffIDs) != len(m.Layers) {
		return nil, fmt.Errorf("bad image: %d layers, but its configuration says %d", len(m.Layers), len(config.RootFS.DiffIDs))
	}
	for _, d := range config.RootFS.DiffIDs {
		if err := images.CheckDigest(string(d)); err != nil {
			return nil, fmt.Errorf("bad image configuration: diff_id: %w", err)
		}
	}
	return config, nil
}

// checkPlatform says whether an image that stands in no index is for another
// platform than the wanted one.
func checkPlatform(config *ispec.Image, want platform.Platform) error {
	got := fromOCI(&config.Platform)
	if got.OS == "" || got.Architecture == "" || platform.Compatible(want, got) {
		return nil
	}
	return fmt.Errorf("no image for %s; there is only one, for %s", want, got)
}
