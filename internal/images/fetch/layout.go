package fetch

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"raptor-make/internal/images"
)

// A layoutImage is an oci:// image.
type layoutImage struct{ *images.Layout }

func (i *layoutImage) resolve(ctx context.Context, c *Client, r *images.Ref) (*images.Resolved, error) {
	want, err := c.wanted()
	if err != nil {
		return nil, err
	}
	l, err := i.openLayout(ctx)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	d, err := i.find(l)
	if err != nil {
		return nil, err
	}
	if d.Digest == "" { // several, one for each platform
		if d, err = choose(l.index.Manifests, want); err != nil {
			return nil, err
		}
	}
	found, m, err := descend(ctx, l, d.Digest, want)
	if err != nil {
		return nil, err
	}
	config, err := configOf(ctx, l, m)
	if err != nil {
		return nil, err
	}
	if err := checkPlatform(config, want); err != nil {
		return nil, err
	}
	return &images.Resolved{Digest: found.String(), Detail: [][2]string{
		{"platform", want.String()},
		{"manifest", found.String()},
	}}, nil
}

// find returns the entry of the layout's index that the URL names. Without a
// descriptor and an error, the whole index is meant.
func (i *layoutImage) find(l *layout) (ispec.Descriptor, error) {
	if i.Digest != "" {
		return ispec.Descriptor{Digest: digest.Digest(i.Digest)}, nil
	}
	var tags []string
	var found []ispec.Descriptor
	for _, d := range l.index.Manifests {
		tag := d.Annotations[ispec.AnnotationRefName]
		if tag != "" {
			tags = append(tags, tag)
		}
		// Some tools write the whole reference.
		if tag == i.Tag || i.Tag == "" || strings.HasSuffix(tag, ":"+i.Tag) {
			found = append(found, d)
		}
	}
	slices.Sort(tags)
	tags = slices.Compact(tags)
	switch {
	case len(l.index.Manifests) == 0:
		return ispec.Descriptor{}, fmt.Errorf("%s holds no image", i.Path)
	case len(found) == 0:
		return ispec.Descriptor{}, fmt.Errorf("%s has no image tagged %q; it has: %s", i.Path, i.Tag, listOr(tags, "no tags at all"))
	case i.Tag == "" && len(tags) > 1:
		return ispec.Descriptor{}, fmt.Errorf("%s holds several images, say which as %s:TAG: %s", i.Path, path.Base(i.Path), listOr(tags, ""))
	case len(found) == 1:
		return found[0], nil
	}
	l.index.Manifests = found
	return ispec.Descriptor{}, nil
}

func listOr(list []string, none string) string {
	if len(list) == 0 {
		return none
	}
	return strings.Join(list, ", ")
}

func (i *layoutImage) unpack(ctx context.Context, c *Client, r *images.Ref, res *images.Resolved, dest string, p images.Progress) (*images.Config, error) {
	want, err := c.wanted()
	if err != nil {
		return nil, err
	}
	l, err := i.openLayout(ctx)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	_, m, err := descend(ctx, l, digest.Digest(res.Digest), want)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s does not hold the image it was resolved to any more: %w", i.Path, err)
	}
	if err != nil {
		return nil, err
	}
	config, err := configOf(ctx, l, m)
	if err != nil {
		return nil, err
	}
	return unpackImage(ctx, l, m, config, dest, c.extraction(), p)
}

// A layout is an opened OCI layout.
type layout struct {
	files files
	path  string // for errors
	index manifest
}

// files are a layout's files, by their names in it.
type files interface {
	open(name string) (io.ReadCloser, error)
	Close() error
}

func (i *layoutImage) openLayout(ctx context.Context) (*layout, error) {
	l := &layout{path: i.Path}
	isDir, err := i.IsDir()
	if err != nil {
		return nil, err
	}
	if isDir {
		l.files = directory{i.Place}
	} else if l.files, err = openArchive(ctx, i.Place); err != nil {
		return nil, fmt.Errorf("%s: %w", i.Path, err)
	}
	raw, err := l.read(ispec.ImageIndexFile)
	if err == nil {
		err = json.Unmarshal(raw, &l.index)
	}
	if err != nil {
		defer l.Close()
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%s is no OCI layout: it has no %s%s", i.Path, ispec.ImageIndexFile, l.otherFormat())
		}
		return nil, fmt.Errorf("%s: %s: %w", i.Path, ispec.ImageIndexFile, err)
	}
	return l, nil
}

// otherFormat is a remark about what the layout is in place of one.
func (l *layout) otherFormat() string {
	if _, err := l.read("manifest.json"); err != nil {
		return ""
	}
	return "; it looks like one of \"docker save\" before Docker 25, push it to a registry or save it anew"
}

func (l *layout) Close() error { return l.files.Close() }

func (l *layout) read(name string) ([]byte, error) {
	f, err := l.files.open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readSmall(f)
}

// readSmall reads what is bounded by maxManifest.
func readSmall(r io.Reader) ([]byte, error) {
	raw, err := io.ReadAll(io.LimitReader(r, maxManifest+1))
	if err == nil && len(raw) > maxManifest {
		err = fmt.Errorf("it is longer than %d MiB", maxManifest>>20)
	}
	return raw, err
}

func blobName(d digest.Digest) string {
	return path.Join(ispec.ImageBlobsDir, d.Algorithm().String(), d.Encoded())
}

func (l *layout) manifest(ctx context.Context, d digest.Digest) ([]byte, error) {
	raw, err := l.read(blobName(d))
	if err == nil {
		err = verify(raw, d)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: blob %s: %w", l.path, d, err)
	}
	return raw, nil
}

func (l *layout) config(ctx context.Context, d digest.Digest) ([]byte, error) {
	return l.manifest(ctx, d)
}

func (l *layout) layer(ctx context.Context, d ispec.Descriptor) (io.ReadCloser, error) {
	f, err := l.files.open(blobName(d.Digest))
	if err != nil {
		return nil, fmt.Errorf("%s: layer %s: %w", l.path, d.Digest, err)
	}
	return f, nil
}

// A directory is a layout that is one.
type directory struct{ images.Place }

func (d directory) open(name string) (io.ReadCloser, error) { return d.Place.Open(name) }

func (d directory) Close() error { return nil }

// An archive is a layout in a tar. Its entries' names are only ever compared,
// never used as paths.
type archive struct {
	file    io.ReaderAt
	close   func() error
	entries map[string]extent
}

// An extent is where in a file an entry's content lies.
type extent struct{ offset, size int64 }

func openArchive(ctx context.Context, p images.Place) (*archive, error) {
	f, err := p.Open()
	if err != nil {
		return nil, err
	}
	a := &archive{file: f, close: f.Close, entries: make(map[string]extent)}
	if err := a.scan(ctx, f); err != nil {
		f.Close()
		return nil, err
	}
	return a, nil
}

// scan notes where the entries lie. The tar reader does not read ahead, and
// seeks over contents: the place it is at is where an entry's content begins.
func (a *archive) scan(ctx context.Context, f io.ReadSeeker) error {
	entries := tar.NewReader(f)
	for {
		h, err := entries.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("not an archive of an OCI layout (an uncompressed tar): %w", err)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		offset, err := f.Seek(0, io.SeekCurrent)
		if err != nil {
			return err
		}
		name := path.Clean(h.Name)
		// A sparse file does not lie there as it is.
		if h.Typeflag == tar.TypeReg && !isSparse(h) {
			a.entries[name] = extent{offset, h.Size}
		}
	}
}

func isSparse(h *tar.Header) bool {
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return h.Format == tar.FormatGNU && h.Typeflag == tar.TypeGNUSparse
}

func (a *archive) open(name string) (io.ReadCloser, error) {
	e, ok := a.entries[name]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return io.NopCloser(io.NewSectionReader(a.file, e.offset, e.size)), nil
}

func (a *archive) Close() error { return a.close() }
