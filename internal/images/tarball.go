package images

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
)

// A Tarball is tar://path: a root file system in a tar, compressed or not. Its
// digest is that of the file, as it lies there. Names that begin with ".wh."
// delete, as in layers of images.
type Tarball struct{ Place }

func parseTarball(path, dir, root string) (string, any, error) {
	p, err := newPlace(path, dir, root)
	return layerName(path), &Tarball{p}, err
}

// digest is what the image resolves to. Content, unless it is nil, gives the
// SHA-256 of a file's content in hex.
func (t *Tarball) digest(ctx context.Context, content func(*os.File) (string, error)) (string, error) {
	f, err := t.Open()
	if err != nil {
		return "", err
	}
	defer f.Close()
	if content != nil {
		sum, err := content(f)
		return "sha256:" + sum, err
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, Interruptible(ctx, f)); err != nil {
		return "", err
	}
	return "sha256:" + hex.EncodeToString(sum.Sum(nil)), nil
}

// Interruptible is a reader that fails once ctx has ended, with its cause.
func Interruptible(ctx context.Context, r io.Reader) io.Reader { return interruptible{ctx, r} }

type interruptible struct {
	ctx context.Context
	r   io.Reader
}

func (i interruptible) Read(b []byte) (int, error) {
	if i.ctx.Err() != nil {
		return 0, context.Cause(i.ctx)
	}
	return i.r.Read(b)
}
