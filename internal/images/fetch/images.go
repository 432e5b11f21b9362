// Package fetch fetches base images: from registries, OCI layouts, tars, and
// from a Debian mirror with mmdebstrap. It is the part of package images that
// needs the network and the libraries for images, and runs in the fetcher's
// process.
package fetch

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"

	"raptor-make/internal/images"
)

// A Client fetches images. It is safe for concurrent use, and any number of
// processes may share its Cache. Its fields must not change once it is in use.
type Client struct {
	images.Settings

	// Log, if set, gives the writer for what programs print while r is
	// fetched. The writer may be nil.
	Log func(r *images.Ref) io.Writer
	// Warn, if set, is told what the user should know although nothing fails.
	Warn func(r *images.Ref, message string)

	remotes remotes
	sweep   sync.Once
}

// A base is what a scheme makes of a URL.
type base interface {
	unpack(ctx context.Context, c *Client, r *images.Ref, res *images.Resolved, dest string, p images.Progress) (*images.Config, error)
}

// A resolver is a base that it takes more to resolve than [images.Settings.Known]
// does.
type resolver interface {
	resolve(ctx context.Context, c *Client, r *images.Ref) (*images.Resolved, error)
}

func baseOf(r *images.Ref) base {
	switch b := r.Base.(type) {
	case *images.Reference:
		return &registryImage{b}
	case *images.Layout:
		return &layoutImage{b}
	case *images.Tarball:
		return &tarball{b}
	case *images.Bootstrap:
		return &bootstrap{b}
	}
	panic("a reference that was not parsed")
}

// Resolve is [images.Client.Resolve].
func (c *Client) Resolve(ctx context.Context, r *images.Ref, locked string) (*images.Resolved, error) {
	res, err := c.Known(ctx, r, locked, nil)
	if res != nil || err != nil {
		return res, err
	}
	c.begin()
	if res, err = baseOf(r).(resolver).resolve(ctx, c, r); err != nil {
		return nil, fmt.Errorf("resolve %s: %w", r.URL, cause(ctx, err))
	}
	res.URL = r.URL
	return res, nil
}

// Unpack is [images.Client.Unpack].
func (c *Client) Unpack(ctx context.Context, r *images.Ref, res *images.Resolved, dest string, p images.Progress) (*images.Config, error) {
	if err := c.Check(r, res.Digest); err != nil {
		return nil, err
	}
	c.begin()
	if p == nil {
		p = func(string, int64, int64) {}
	}
	if err := prepareRoot(dest); err != nil {
		return nil, fmt.Errorf("unpack %s: %w", r.URL, err)
	}
	config, err := baseOf(r).unpack(ctx, c, r, res, dest, p)
	if err != nil {
		return nil, fmt.Errorf("unpack %s: %w", r.URL, cause(ctx, err))
	}
	return config, nil
}

func (c *Client) begin() { c.sweep.Do(func() { store{c.Cache}.sweep() }) }

func (c *Client) warn(r *images.Ref, format string, args ...any) {
	if c.Warn != nil {
		c.Warn(r, fmt.Sprintf(format, args...))
	}
}

func (c *Client) log(r *images.Ref) io.Writer {
	if c.Log != nil {
		if w := c.Log(r); w != nil {
			return w
		}
	}
	return io.Discard
}

// cause is why an operation ended: when its context has, that, and not what
// the libraries below have made of it.
func cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// prepareRoot gives the directory what an image's root has unless the image
// says otherwise.
func prepareRoot(dest string) error {
	entries, err := os.ReadDir(dest)
	if err != nil {
		return err
	}
	if len(entries) > 0 {
		return fmt.Errorf("%s is not empty", dest)
	}
	return os.Chmod(dest, 0o755)
}
