package fetch

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"

	"raptor-make/internal/images"
)

// A bootstrap is a debian:// image. Its digest is that of its options, the
// architecture, and the digests that the mirror's Release files give for the
// lists of packages that are used. A snapshot does not change: for one, nobody is
// asked.
type bootstrap struct{ *images.Bootstrap }

func (b *bootstrap) resolve(ctx context.Context, c *Client, r *images.Ref) (*images.Resolved, error) {
	detail, err := b.Options(&c.Settings)
	if err != nil {
		return nil, err
	}
	if b.Snapshot == "" {
		if c.Offline {
			return nil, fmt.Errorf("what the mirror has is %w", errOffline)
		}
		lists, err := b.packageLists(ctx, c, r)
		if err != nil {
			return nil, err
		}
		detail = append(detail, lists...)
	}
	return &images.Resolved{Digest: digestOf(detail).String(), Detail: detail}, nil
}

func digestOf(detail [][2]string) digest.Digest {
	sum := sha256.New()
	for _, label := range detail {
		fmt.Fprintf(sum, "%q=%q\n", label[0], label[1])
	}
	return digest.NewDigest(digest.SHA256, sum)
}

func (b *bootstrap) unpack(ctx context.Context, c *Client, r *images.Ref, res *images.Resolved, dest string, p images.Progress) (*images.Config, error) {
	config, err := b.unpackOnce(ctx, c, r, res, dest, p)
	if !errors.Is(err, errDamaged) || ctx.Err() != nil {
		return config, err
	}
	c.warn(r, "%v; it is made again", err)
	if err := empty(dest); err != nil {
		return nil, err
	}
	return b.unpackOnce(ctx, c, r, res, dest, p)
}

// errDamaged is a bootstrap of the cache that cannot be read any more.
var errDamaged = errors.New("the cached bootstrap is damaged")

func (b *bootstrap) unpackOnce(ctx context.Context, c *Client, r *images.Ref, res *images.Resolved, dest string, p images.Progress) (*images.Config, error) {
	s := store{c.Cache}
	file := s.bootstrap(digest.Digest(res.Digest))
	waiting := func() { p("waiting: another process bootstraps "+b.Suite, 0, 0) }
	err := s.provide(ctx, file, waiting, func(part *os.File) error {
		if c.Offline {
			return fmt.Errorf("the bootstrap is %w", errOffline)
		}
		if res.Pinned && b.Snapshot == "" {
			b.compare(ctx, c, r, res)
		}
		return b.make(ctx, c, r, part, p)
	})
	if err != nil {
		return nil, err
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	progress := &meter{what: "unpack", total: info.Size(), report: p}
	opt := c.extraction()
	opt.marked = true
	if err := extractCompressed(progress.reader(ctx, f), dest, opt); err != nil {
		if ctx.Err() == nil && readable(ctx, file) != nil {
			os.Remove(file)
			err = fmt.Errorf("%w: %w", errDamaged, err)
		}
		return nil, err
	}
	progress.finish()
	return &images.Config{}, nil
}

// readable reads a compressed file of the cache to its end: zstd has checksums,
// though not for nothing at all.
func readable(ctx context.Context, file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	z, err := zstd.NewReader(images.Interruptible(ctx, f))
	if err != nil {
		return err
	}
	defer z.Close()
	n, err := io.Copy(io.Discard, z)
	if n == 0 && err == nil {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// compare tells when the mirror has moved on since the digest was pinned: what
// it had then it cannot give any more.
func (b *bootstrap) compare(ctx context.Context, c *Client, r *images.Ref, res *images.Resolved) {
	now, err := b.resolve(ctx, c, r)
	if err == nil && now.Digest != res.Digest {
		c.warn(r, "the mirror has changed since this was pinned, and no bootstrap of then is in the cache: "+
			"it is made from today's packages; --update pins them, and snapshot= makes it repeatable")
	}
}
