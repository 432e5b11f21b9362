package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/regclient/regclient/types/descriptor"
	"github.com/regclient/regclient/types/errs"
	"golang.org/x/sync/errgroup"

	"raptor-make/internal/images"
)

// A pull is one image being fetched from its registry, or from the cache. It is
// the contents of that image.
type pull struct {
	client *Client
	image  images.Reference
	report images.Progress

	// Downloads of layers, by digest, closed when the blob is in the cache.
	// Nil until they were started.
	layers map[digest.Digest]chan struct{}
	// failed ends when a download has failed, for that reason.
	failed context.Context
}

// downloads is how many layers are fetched at once.
const downloads = 3

func (p *pull) store() store { return store{p.client.Cache} }

func (p *pull) waiting() { p.report("waiting: another process fetches "+p.image.Path, 0, 0) }

// A getter asks one host for a manifest or a configuration.
type getter func(ctx context.Context, h *remote, d digest.Digest) ([]byte, error)

func (p *pull) manifest(ctx context.Context, d digest.Digest) ([]byte, error) {
	return p.small(ctx, "manifest", d, func(ctx context.Context, h *remote, d digest.Digest) ([]byte, error) {
		r := h.repository(p.image)
		r.Digest = d.String()
		m, err := h.client.ManifestGet(ctx, r)
		if err != nil {
			return nil, err
		}
		return m.RawBody()
	})
}

func (p *pull) config(ctx context.Context, d digest.Digest) ([]byte, error) {
	return p.small(ctx, "configuration", d, func(ctx context.Context, h *remote, d digest.Digest) ([]byte, error) {
		blob, err := h.client.BlobGet(ctx, h.repository(p.image), descriptor.Descriptor{Digest: d})
		if err != nil {
			return nil, err
		}
		defer blob.Close()
		return readSmall(blob)
	})
}

// small returns what get gets, from the cache if it is there.
func (p *pull) small(ctx context.Context, what string, d digest.Digest, get getter) ([]byte, error) {
	file := p.store().blob(d)
	raw, err := cached(file, d)
	if raw != nil || err != nil {
		return raw, err
	}
	what = fmt.Sprintf("%s %s of %s", what, d, p.image.Path)
	err = p.store().provide(ctx, file, p.waiting, func(part *os.File) error {
		raw, err := p.request(ctx, what, d, get)
		if err != nil {
			return err
		}
		_, err = part.Write(raw)
		return err
	})
	if err != nil {
		return nil, err
	}
	raw, err = cached(file, d)
	if raw == nil && err == nil {
		err = fmt.Errorf("cache: %s was removed", file)
	}
	return raw, err
}

// cached reads a small file of the cache; one that is damaged is removed.
func cached(file string, d digest.Digest) ([]byte, error) {
	f, err := os.Open(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := readSmall(f)
	if err != nil || verify(raw, d) != nil {
		return nil, os.Remove(file)
	}
	return raw, nil
}

// request asks the hosts in turn.
func (p *pull) request(ctx context.Context, what string, d digest.Digest, get getter) ([]byte, error) {
	hosts, err := p.client.ask(ctx, p.image.Host)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errPatience)
	defer cancel()
	var failed []error
	for _, h := range hosts {
		raw, err := get(ctx, h, d)
		if err == nil {
			err = verify(raw, d)
		}
		if err == nil {
			return raw, nil
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("%s: %s: %w", h.name, what, context.Cause(ctx))
		}
		failed = append(failed, h.explain(what, err))
	}
	return nil, failures(failed)
}

// start begins to fetch the layers that the cache lacks, and returns a function
// that makes an end of it.
func (p *pull) start(ctx context.Context, layers []ispec.Descriptor) (stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	p.failed = ctx
	progress := &meter{what: "download", report: p.report}
	p.layers = make(map[digest.Digest]chan struct{})
	var missing []ispec.Descriptor
	for _, d := range layers {
		if p.layers[d.Digest] != nil {
			continue
		}
		p.layers[d.Digest] = make(chan struct{})
		if exists(p.store().blob(d.Digest)) {
			close(p.layers[d.Digest])
			continue
		}
		progress.total += d.Size
		missing = append(missing, d)
	}
	var group errgroup.Group
	group.SetLimit(downloads)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for _, d := range missing {
			group.Go(func() error {
				if err := p.fetch(ctx, d, progress); err != nil {
					cancel(err)
					return err
				}
				close(p.layers[d.Digest])
				return nil
			})
		}
		if group.Wait() == nil && len(missing) > 0 {
			progress.finish()
		}
	}()
	return func() { cancel(nil); <-ended }
}

// layer waits for a layer's download, and opens it.
func (p *pull) layer(ctx context.Context, d ispec.Descriptor) (io.ReadCloser, error) {
	select {
	case <-p.layers[d.Digest]:
		return os.Open(p.store().blob(d.Digest))
	case <-p.failed.Done():
		return nil, context.Cause(p.failed)
	}
}

// fetch gets a layer's blob into the cache.
func (p *pull) fetch(ctx context.Context, d ispec.Descriptor, progress *meter) error {
	return p.store().provide(ctx, p.store().blob(d.Digest), p.waiting, func(part *os.File) error {
		hosts, err := p.client.ask(ctx, p.image.Host)
		if err != nil {
			return fmt.Errorf("layer %s of %s: %w", d.Digest, p.image, err)
		}
		var failed []error
		for _, h := range hosts {
			err := p.fetchFrom(ctx, h, d, part, progress)
			if err == nil || isLocal(err) {
				return err
			}
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			failed = append(failed, h.explain(fmt.Sprintf("layer %s of %s", d.Digest, p.image.Path), err))
		}
		return failures(failed)
	})
}

// fetchFrom downloads from one host. What a host refuses or gets wrong it is
// not asked for again; a connection that breaks is, from where it broke if the
// host can (regclient sees to that), else from the start.
func (p *pull) fetchFrom(ctx context.Context, h *remote, d ispec.Descriptor, part *os.File, progress *meter) error {
	for try := 1; ; try++ {
		err := p.copyBlob(ctx, h, d, part, progress)
		if err == nil || try == tries || ctx.Err() != nil || !mayPass(err) {
			return err
		}
	}
}

// mayPass is whether asking again may help.
func mayPass(err error) bool {
	return errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, errStalled) || errors.Is(err, errs.ErrShortRead)
}

var (
	errStalled  = errors.New("no data came any more")
	errPatience = errors.New("it made us wait for too long")
)

// patience is how long a host may take until it begins to send, with all the
// waiting it asks for when it is busy. Tests shorten these two.
var patience = 3 * time.Minute

// stallTimeout is how long a host may pause while it sends.
var stallTimeout = 60 * time.Second

func (p *pull) copyBlob(ctx context.Context, h *remote, d ispec.Descriptor, part *os.File, progress *meter) error {
	if err := rewind(part); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := time.AfterFunc(patience, func() { cancel(errPatience) })
	// The size is not told to regclient, which would only ask again.
	blob, err := h.client.BlobGet(ctx, h.repository(p.image), descriptor.Descriptor{Digest: d.Digest})
	silence.Stop()
	if err != nil {
		return cause(ctx, err)
	}
	defer blob.Close()
	if size := blob.GetDescriptor().Size; size > 0 && size != d.Size {
		return fmt.Errorf("%w: it sends %d bytes, the manifest says %d", errDigest, size, d.Size)
	}
	silence = time.AfterFunc(stallTimeout, func() { cancel(errStalled) })
	defer silence.Stop()
	var done int64
	err = copyVerified(part, d, readerFunc(func(b []byte) (int, error) {
		n, err := blob.Read(b)
		silence.Reset(stallTimeout)
		done += int64(n)
		progress.add(int64(n))
		return n, err
	}))
	if err != nil {
		progress.add(-done)
		return cause(ctx, err)
	}
	return nil
}

// copyVerified copies a blob and checks that it is what its descriptor says.
func copyVerified(part *os.File, d ispec.Descriptor, blob io.Reader) error {
	sum := d.Digest.Verifier()
	n, err := io.Copy(io.MultiWriter(localWriter{part}, sum), io.LimitReader(blob, d.Size+1))
	switch {
	// That the content is wrong regclient notices as well.
	case err != nil && !errors.Is(err, errs.ErrDigestMismatch):
		return err
	case n > d.Size:
		return fmt.Errorf("%w: it sends more than the %d bytes that the manifest says", errDigest, d.Size)
	case n < d.Size:
		return fmt.Errorf("it ends after %d of %d bytes: %w", n, d.Size, io.ErrUnexpectedEOF)
	case !sum.Verified():
		return errDigest
	}
	return nil
}

func rewind(f *os.File) error {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return localError{err}
	}
	if err := f.Truncate(0); err != nil {
		return localError{err}
	}
	return nil
}

// A localError is ours and not the host's: the cache's disk is full, say.
type localError struct{ error }

func (e localError) Unwrap() error { return e.error }

func isLocal(err error) bool {
	var local localError
	return errors.As(err, &local)
}

type localWriter struct{ io.Writer }

func (w localWriter) Write(b []byte) (int, error) {
	n, err := w.Writer.Write(b)
	if err != nil {
		err = localError{err}
	}
	return n, err
}
