package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	regmanifest "github.com/regclient/regclient/types/manifest"

	"raptor-make/internal/images"
)

// A registryImage is a docker:// image.
type registryImage struct{ *images.Reference }

func (i *registryImage) resolve(ctx context.Context, c *Client, r *images.Ref) (*images.Resolved, error) {
	want, err := c.wanted()
	if err != nil {
		return nil, err
	}
	p := &pull{client: c, image: *i.Reference, report: func(string, int64, int64) {}}
	top := digest.Digest(i.Digest)
	if top == "" {
		if top, err = p.lookUp(ctx); err != nil {
			return nil, err
		}
	}
	d, m, err := descend(ctx, p, top, want)
	if err != nil {
		return nil, err
	}
	config, err := configOf(ctx, p, m)
	if err != nil {
		return nil, err
	}
	if err := checkPlatform(config, want); err != nil {
		return nil, err
	}
	detail, err := i.Detail(&c.Settings, d.String())
	return &images.Resolved{Digest: d.String(), Detail: detail}, err
}

// lookUp asks what the image's tag stands for. The manifest goes to the cache.
func (p *pull) lookUp(ctx context.Context) (digest.Digest, error) {
	hosts, err := p.client.ask(ctx, p.image.Host)
	if errors.Is(err, errOffline) {
		return "", fmt.Errorf("what %s stands for is %w", p.image, err)
	}
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errPatience)
	defer cancel()
	var failed []error
	for _, h := range hosts {
		r := h.repository(p.image)
		r.Tag = p.image.Tag
		m, err := h.client.ManifestGet(ctx, r)
		if err == nil {
			return p.keep(ctx, m)
		}
		if ctx.Err() != nil {
			return "", fmt.Errorf("%s: %w", h.name, context.Cause(ctx))
		}
		failed = append(failed, h.explain(p.image.Path+":"+p.image.Tag, err))
	}
	return "", failures(failed)
}

func (p *pull) keep(ctx context.Context, m regmanifest.Manifest) (digest.Digest, error) {
	raw, err := m.RawBody()
	if err != nil {
		return "", err
	}
	d := digest.FromBytes(raw)
	return d, p.store().provide(ctx, p.store().blob(d), p.waiting, func(part *os.File) error {
		_, err := part.Write(raw)
		return err
	})
}

func (i *registryImage) unpack(ctx context.Context, c *Client, r *images.Ref, res *images.Resolved, dest string, report images.Progress) (*images.Config, error) {
	config, err := i.unpackOnce(ctx, c, res, dest, report)
	if !errors.Is(err, errBlob) || ctx.Err() != nil {
		return config, err
	}
	// A blob of the cache was damaged since it was verified, and has been
	// removed: once more, with a new one.
	c.warn(r, "%v; it is fetched again", err)
	if err := empty(dest); err != nil {
		return nil, err
	}
	return i.unpackOnce(ctx, c, res, dest, report)
}

func (i *registryImage) unpackOnce(ctx context.Context, c *Client, res *images.Resolved, dest string, report images.Progress) (*images.Config, error) {
	want, err := c.wanted()
	if err != nil {
		return nil, err
	}
	p := &pull{client: c, image: *i.Reference, report: report}
	_, m, err := descend(ctx, p, digest.Digest(res.Digest), want)
	if err != nil {
		return nil, err
	}
	config, err := configOf(ctx, p, m)
	if err != nil {
		return nil, err
	}
	stop := p.start(ctx, m.Layers)
	defer stop()
	result, err := unpackImage(ctx, p, m, config, dest, c.extraction(), report)
	if errors.Is(err, errBlob) {
		p.discard(m)
	}
	return result, err
}

// discard removes the layers from the cache that are not what they should be.
func (p *pull) discard(m *manifest) {
	for _, d := range m.Layers {
		file := p.store().blob(d.Digest)
		f, err := os.Open(file)
		if err != nil {
			continue
		}
		sum := d.Digest.Verifier()
		_, err = io.Copy(sum, f)
		f.Close()
		if err != nil || !sum.Verified() {
			os.Remove(file)
		}
	}
}

// empty removes what is in a directory.
func empty(dir string) error {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if err == nil {
			err = os.RemoveAll(filepath.Join(dir, e.Name()))
		}
	}
	return err
}
