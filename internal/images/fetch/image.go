package fetch

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/regclient/regclient/types/platform"

	"raptor-make/internal/images"
)

// contents is where the parts of an image come from: a registry or a layout.
type contents interface {
	// manifest returns a manifest or an index, verified.
	manifest(ctx context.Context, d digest.Digest) ([]byte, error)
	// config returns a configuration, verified.
	config(ctx context.Context, d digest.Digest) ([]byte, error)
	// layer opens a layer's blob when it is there. What is read is verified
	// by the reader.
	layer(ctx context.Context, d ispec.Descriptor) (io.ReadCloser, error)
}

// descend goes from a manifest or index to the manifest for the platform.
func descend(ctx context.Context, from contents, d digest.Digest, want platform.Platform) (digest.Digest, *manifest, error) {
	for range maxNesting {
		raw, err := from.manifest(ctx, d)
		if err != nil {
			return d, nil, err
		}
		m, err := parseManifest(raw)
		if err != nil {
			return d, nil, fmt.Errorf("%s: %w", d, err)
		}
		if !m.isIndex() {
			return d, m, nil
		}
		entry, err := choose(m.Manifests, want)
		if err != nil {
			return d, nil, err
		}
		d = entry.Digest
	}
	return d, nil, fmt.Errorf("indexes lie in indexes more than %d deep", maxNesting)
}

// configOf returns the configuration of an image.
func configOf(ctx context.Context, from contents, m *manifest) (*ispec.Image, error) {
	raw, err := from.config(ctx, m.Config.Digest)
	if err != nil {
		return nil, err
	}
	return parseConfig(raw, m)
}

// unpackImage applies all layers of an image to dest, in their order.
func unpackImage(ctx context.Context, from contents, m *manifest, config *ispec.Image, dest string, opt extraction, p images.Progress) (*images.Config, error) {
	progress := &meter{what: "unpack", report: p}
	for _, d := range m.Layers {
		progress.total += d.Size
	}
	for i, d := range m.Layers {
		blob, err := from.layer(ctx, d)
		if err != nil {
			return nil, err
		}
		err = unpackLayer(progress.reader(ctx, blob), dest, d.Digest, config.RootFS.DiffIDs[i], opt)
		blob.Close()
		if err != nil {
			return nil, fmt.Errorf("layer %s: %w", d.Digest, err)
		}
	}
	progress.finish()
	return &images.Config{Env: config.Config.Env}, nil
}

// unpackLayer applies one layer, and checks the digests of the blob and of the
// tar in it.
func unpackLayer(blob io.Reader, dest string, want, wantDiff digest.Digest, opt extraction) error {
	sum := want.Verifier()
	blob = bufio.NewReaderSize(io.TeeReader(blob, sum), 1<<17)
	unpacked, err := decompress(blob)
	if err == nil {
		defer unpacked.Close()
		diff := wantDiff.Verifier()
		if err = extract(io.TeeReader(unpacked, diff), dest, opt); err == nil && !diff.Verified() {
			err = fmt.Errorf("%w: the unpacked layer is not the image's diff_id %s", errDigest, wantDiff)
		}
	}
	// If the blob itself is not what it should be, that is the reason of
	// whatever else went wrong.
	if _, rest := io.Copy(io.Discard, blob); rest != nil {
		return errors.Join(err, rest)
	}
	if !sum.Verified() {
		return fmt.Errorf("%w: want %s", errBlob, want)
	}
	return err
}

// errBlob is a blob that is not what its digest says although it was, once.
var errBlob = fmt.Errorf("the blob is damaged: %w", errDigest)
