package fetch

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"

	"raptor-make/internal/images"
)

// A tarball is a tar:// image.
type tarball struct{ *images.Tarball }

func (t *tarball) unpack(ctx context.Context, c *Client, r *images.Ref, res *images.Resolved, dest string, p images.Progress) (*images.Config, error) {
	f, err := t.Open()
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
		return nil, fmt.Errorf("%s: %w", t.Path, err)
	}
	if !sum.Verified() {
		return nil, fmt.Errorf("%s has changed since it was resolved to %s", t.Path, want)
	}
	progress.finish()
	return &images.Config{}, nil
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
