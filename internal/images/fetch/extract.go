package fetch

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/apex/log"
	securejoin "github.com/cyphar/filepath-securejoin"
	"github.com/opencontainers/umoci/oci/layer"
	"golang.org/x/sys/unix"
)

// extraction is how entries of tars become files.
type extraction struct {
	rootless bool // root in a user namespace, where no device can be made
	// marked is whether the tar must end with the mark that tars end with:
	// without another check it may have been cut off between two entries.
	marked bool
}

const (
	xattrPrefix = "SCHILY.xattr."
	// whiteout is the prefix of an entry that deletes; see OCI's image-spec.
	whiteout = ".wh."
	// opaque deletes all that lower layers have in its directory.
	opaque = ".wh..wh..opq"
)

// quiet keeps umoci from logging to the standard error. Its logger is global,
// and nobody else's here.
var quiet = sync.OnceFunc(func() {
	log.SetHandler(log.HandlerFunc(func(*log.Entry) error { return nil }))
})

// extract applies a tar to dest, in which earlier layers may have been unpacked:
// its whiteouts are carried out. No entry gets out of dest, whatever its name
// or the links that are there. The result is in overlayfs's form: what an image
// itself has of overlayfs's attributes is escaped, as overlayfs wants it for
// layers to be nested, and its whiteout devices are taken as whiteouts.
//
// It reads to the end of r, not only of the tar.
func extract(r io.Reader, dest string, opt extraction) error {
	quiet()
	var format layer.DirRootfs
	extractor := layer.NewTarExtractor(&layer.UnpackOptions{OnDiskFormat: format})
	source := &noted{Reader: r}
	entries := tar.NewReader(source)
	parents := parents{dest: dest, made: make(map[string]bool)}
	for n := 0; ; n++ {
		h, err := entries.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("bad tar, after %d entries: %w", n, err)
		}
		name := h.Name
		if ok, err := opt.adapt(h); err != nil {
			return fmt.Errorf("entry %q: %w", name, err)
		} else if !ok {
			continue
		}
		if err := parents.of(h.Name); err != nil {
			return fmt.Errorf("entry %q: %w", name, err)
		}
		if err := extractor.UnpackEntry(dest, h, entries); err != nil {
			if source.err != nil {
				err = source.err
			}
			return fmt.Errorf("entry %q: %w", name, err)
		}
		if err := opt.checkCapability(dest, h); err != nil {
			return fmt.Errorf("entry %q: %w", name, err)
		}
	}
	if _, err := io.Copy(io.Discard, source); err != nil {
		return err
	}
	if opt.marked && !source.endsInZeros() {
		return fmt.Errorf("bad tar: it was cut off: %w", io.ErrUnexpectedEOF)
	}
	return nil
}

// parents makes directories that a tar has no entries for. The extractor would
// make them, too, but with the modes that our umask leaves.
type parents struct {
	dest string
	made map[string]bool
}

func (p parents) of(name string) error {
	dir, file := filepath.Split(layer.CleanPath(name))
	if p.made[dir] || strings.HasPrefix(file, whiteout) {
		return nil
	}
	p.made[dir] = true
	real, err := securejoin.SecureJoin(p.dest, dir)
	if err != nil {
		return err
	}
	var missing []string
	for ; ; real = filepath.Dir(real) {
		_, err := os.Lstat(real)
		if err == nil {
			break
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil // a file is in the way, which the extractor replaces
		}
		missing = append(missing, real)
	}
	for _, dir := range slices.Backward(missing) {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return nil
		}
		if err := os.Chmod(dir, 0o755); err != nil {
			return err
		}
	}
	return nil
}

// noted remembers how reading ended: the error, so that it is told apart from
// those of writing, and the last bytes.
type noted struct {
	io.Reader
	err  error
	last []byte
}

// markSize is the size of the blocks of zeros at a tar's end.
const markSize = 512

func (n *noted) Read(b []byte) (int, error) {
	read, err := n.Reader.Read(b)
	if err != nil && err != io.EOF {
		n.err = err
	}
	if n.last = append(n.last, b[max(0, read-markSize):read]...); len(n.last) > markSize {
		n.last = append(n.last[:0], n.last[len(n.last)-markSize:]...)
	}
	return read, err
}

func (n *noted) endsInZeros() bool {
	return len(n.last) == markSize && bytes.Count(n.last, []byte{0}) == markSize
}

// adapt changes a header to what is to be done about it, and is false for what
// is none of an image's content.
func (opt extraction) adapt(h *tar.Header) (bool, error) {
	dir, file := path.Split(path.Clean("/" + h.Name))
	switch h.Typeflag {
	case tar.TypeXGlobalHeader, 'V', 'M': // comments, GNU's volume labels
		return false, nil
	case tar.TypeCont:
		h.Typeflag = tar.TypeReg
	case tar.TypeChar, tar.TypeBlock:
		// One that cannot be made still takes the place of what was there.
		if (h.Devmajor == 0 && h.Devminor == 0 || opt.rootless) && file != "" {
			file = whiteout + file
			h.Name, h.Typeflag, h.PAXRecords, h.Xattrs = path.Join(dir, file), tar.TypeReg, nil, nil //nolint:staticcheck
		}
	}
	if deleted, ok := strings.CutPrefix(file, whiteout); ok {
		switch {
		// The extractor would take these for what they say, and delete the
		// directory that dest lies in.
		case deleted == "" || deleted == "." || deleted == "..":
			return false, fmt.Errorf("a whiteout of %q", deleted)
		case strings.HasPrefix(deleted, whiteout) && file != opaque:
			return false, nil // book-keeping of aufs
		}
	}
	if h.Xattrs == nil { //nolint:staticcheck // umoci reads this field
		return true, nil
	}
	// Of the two namespaces, overlayfs uses the one it can.
	prefix := "trusted.overlay."
	if opt.rootless {
		prefix = "user.overlay."
	}
	for key, value := range h.Xattrs { //nolint:staticcheck
		if rest, ok := strings.CutPrefix(key, prefix); ok {
			delete(h.Xattrs, key)                    //nolint:staticcheck
			h.Xattrs[prefix+"overlay."+rest] = value //nolint:staticcheck
		}
	}
	return true, nil
}

// checkCapability makes an error of a capability that the file system of dest
// cannot hold, which the extractor passes over: a program without is not the
// image's.
func (opt extraction) checkCapability(dest string, h *tar.Header) error {
	const capability = "security.capability"
	want, ok := h.PAXRecords[xattrPrefix+capability]
	if !ok || h.Typeflag != tar.TypeReg {
		return nil
	}
	dir, file := filepath.Split(layer.CleanPath(h.Name))
	dir, err := securejoin.SecureJoin(dest, dir)
	if err != nil {
		return err
	}
	got := make([]byte, len(want)+64)
	n, err := unix.Lgetxattr(filepath.Join(dir, file), capability, got)
	if err != nil {
		return fmt.Errorf("%s was not kept: %w", capability, err)
	}
	if string(got[:n]) != want {
		return fmt.Errorf("%s was not kept", capability)
	}
	return nil
}
