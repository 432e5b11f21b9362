package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// A Build is a layer, or the changes of a container, under construction. It
// belongs to the process that holds the lock of its name.
type Build struct {
	Upper string // to be filled
	Work  string // overlayfs's own, on the same file system

	store *Store
	name  string
}

// Begin makes an empty build directory for name, whose lock the caller holds,
// and removes what an earlier, interrupted one left there. Upper has a name that
// no other has: when we are killed, the process that fetches an image lives a
// moment longer, and must not write to the next one's.
func (s *Store) Begin(name string) (*Build, error) {
	dir := s.private("build", name)
	if err := removeAll(dir); err != nil {
		return nil, fmt.Errorf("begin %s: %w", name, err)
	}
	upper := fmt.Sprintf("upper-%x", rand.Uint64())
	b := &Build{Upper: filepath.Join(dir, upper), Work: filepath.Join(dir, "work"), store: s, name: name}
	for _, d := range []string{b.Upper, b.Work} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return nil, fmt.Errorf("begin %s: %w", name, err)
		}
	}
	return b, nil
}

// Discard removes the build directory. After Publish it does nothing.
func (b *Build) Discard() error { return removeAll(filepath.Dir(b.Upper)) }

// Publish makes the layer and its record durable, puts the record in its place
// and lets the layer appear under its name, in this order. A damaged layer that
// stands there is replaced. When ctx ends before the layer is durable, nothing
// appears.
func (b *Build) Publish(ctx context.Context, r *Layer) error {
	if err := b.publish(ctx, r); err != nil {
		return fmt.Errorf("publish %s: %w", b.name, err)
	}
	return b.Discard()
}

func (b *Build) publish(ctx context.Context, r *Layer) error {
	r.Name, r.Made = b.name, time.Now().UTC()
	record := filepath.Join(filepath.Dir(b.Upper), "record.json")
	text, err := encode(r)
	if err == nil {
		err = os.WriteFile(record, text, 0o644)
	}
	if err != nil {
		return fmt.Errorf("write record: %w", err)
	}
	if err := b.store.syncPaths(ctx, true, []string{b.Upper}); err != nil {
		return err
	}
	if err := os.Rename(record, b.store.private("layers", b.name+".json")); err != nil {
		return fmt.Errorf("write record: %w", err)
	}
	if err := b.appear(); err != nil {
		return err
	}
	return b.store.Durable(ctx, b.store.dir)
}

// appear renames the finished tree to its name. What stands there is not the
// layer (its lock is ours and it was a miss): it changes places with the new
// tree, and is removed with the build directory.
func (b *Build) appear() error {
	path := b.store.Path(b.name)
	err := unix.Renameat2(unix.AT_FDCWD, b.Upper, unix.AT_FDCWD, path, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EEXIST) {
		err = unix.Renameat2(unix.AT_FDCWD, b.Upper, unix.AT_FDCWD, path, unix.RENAME_EXCHANGE)
	}
	if err != nil {
		return &fs.PathError{Op: "rename", Path: path, Err: err}
	}
	return nil
}
