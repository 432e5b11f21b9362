package images

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"
)

// A tarball is tar://path: a root file system in a tar, compressed or not. Its
// digest is that of the file, as it lies there. Names that begin with ".wh."
// delete, as in layers of images.
type tarball struct{ place }

func parseTarball(path, dir, root string) (string, base, error) {
	p, err := newPlace(path, dir, root)
	return layerName(path), &tarball{p}, err
}

func (t *tarball) resolve(ctx context.Context, c *Client, r *Ref, locked string) (*Resolved, error) {
	if locked != "" {
		return &Resolved{Digest: locked, Pinned: true, Detail: [][2]string{{"content", locked}}}, nil
	}
	f, err := t.open()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if c.Content != nil {
		hex, err := c.Content(f)
		if err != nil {
			return nil, err
		}
		d := digest.NewDigestFromEncoded(digest.SHA256, hex).String()
		return &Resolved{Digest: d, Detail: [][2]string{{"content", d}}}, nil
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, interruptible(ctx, f)); err != nil {
		return nil, err
	}
	d := digest.NewDigest(digest.SHA256, sum).String()
	return &Resolved{Digest: d, Detail: [][2]string{{"content", d}}}, nil
}

func (t *tarball) unpack(ctx context.Context, c *Client, r *Ref, res *Resolved, dest string, p Progress) (*Config, error) {
	f, err := t.open()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	progress := &meter{what: "unpack", total: info.Size(), report: p}
	want := digest.Digest(res.Digest)
	sum := want.Verifier()
	content := io.TeeReader(progress.reader(ctx, f), sum)
	opt := c.extraction()
	opt.marked = true
	if err = extractCompressed(content, dest, opt); err == nil {
		// Behind the tar, or behind its compressed stream, there may be more.
		_, err = io.Copy(io.Discard, content)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", t.path, err)
	}
	if !sum.Verified() {
		return nil, fmt.Errorf("%s has changed since it was resolved to %s", t.path, want)
	}
	progress.finish()
	return &Config{}, nil
}

func (c *Client) extraction() extraction { return extraction{rootless: c.Rootless} }

func extractCompressed(r io.Reader, dest string, opt extraction) error {
	unpacked, err := decompress(bufio.NewReaderSize(r, 1<<17))
	if err != nil {
		return err
	}
	defer unpacked.Close()
	err = extract(unpacked, dest, opt)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("it ends in the middle: %w", err)
	}
	return err
}

// interruptible is a reader that fails once ctx has ended.
func interruptible(ctx context.Context, r io.Reader) io.Reader {
	return readerFunc(func(b []byte) (int, error) {
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		return r.Read(b)
	})
}
