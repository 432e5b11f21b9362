package images

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	regmanifest "github.com/regclient/regclient/types/manifest"
)

// A registryImage is docker://reference.
type registryImage struct{ reference }

func parseRegistryImage(s string) (string, base, error) {
	r, err := parseReference(s)
	if err != nil {
		return "", nil, err
	}
	return r.name(), &registryImage{r}, nil
}

func (i *registryImage) resolve(ctx context.Context, c *Client, r *Ref, locked string) (*Resolved, error) {
	want, err := parsePlatform(c.Platform)
	if err != nil {
		return nil, err
	}
	detail := func(manifest string) [][2]string {
		return [][2]string{
			{"image", i.reference.String()},
			{"platform", want.String()},
			{"manifest", manifest},
		}
	}
	if locked != "" {
		return &Resolved{Digest: locked, Pinned: true, Detail: detail(locked)}, nil
	}
	p := &pull{client: c, image: i.reference, report: func(string, int64, int64) {}}
	top := i.digest
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
	return &Resolved{Digest: d.String(), Detail: detail(d.String())}, nil
}

// lookUp asks what the image's tag stands for. The manifest goes to the cache.
func (p *pull) lookUp(ctx context.Context) (digest.Digest, error) {
	hosts, err := p.client.ask(ctx, p.image.host)
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
		r.Tag = p.image.tag
		m, err := h.client.ManifestGet(ctx, r)
		if err == nil {
			return p.keep(ctx, m)
		}
		if ctx.Err() != nil {
			return "", fmt.Errorf("%s: %w", h.name, context.Cause(ctx))
		}
		failed = append(failed, h.explain(p.image.path+":"+p.image.tag, err))
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

func (i *registryImage) unpack(ctx context.Context, c *Client, r *Ref, res *Resolved, dest string, report Progress) (*Config, error) {
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

func (i *registryImage) unpackOnce(ctx context.Context, c *Client, res *Resolved, dest string, report Progress) (*Config, error) {
	want, err := parsePlatform(c.Platform)
	if err != nil {
		return nil, err
	}
	p := &pull{client: c, image: i.reference, report: report}
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
