package images

import (
	"archive/tar"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"sync"

	"github.com/apex/log"
	securejoin "github.com/cyphar/filepath-securejoin"
	"github.com/opencontainers/umoci/oci/layer"
	"golang.org/x/sys/unix"
)

// extraction is how entries of tars become files.
type extraction struct {
	rootless bool
}

const (
	xattrPrefix = "SCHILY.xattr."
	// whiteout is the prefix of an entry that deletes; see OCI's image-spec.
	whiteout = ".wh."
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
	format.MapOptions.Rootless = opt.rootless
	extractor := layer.NewTarExtractor(&layer.UnpackOptions{OnDiskFormat: format})
	source := &noted{Reader: r}
	entries := tar.NewReader(source)
	for n := 0; ; n++ {
		h, err := entries.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("bad tar, after %d entries: %w", n, err)
		}
		name := h.Name
		if !opt.adapt(h) {
			continue
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
	_, err := io.Copy(io.Discard, r)
	return err
}

// noted remembers the error that reading ended with, so that it is told apart
// from those of writing.
type noted struct {
	io.Reader
	err error
}

func (n *noted) Read(b []byte) (int, error) {
	read, err := n.Reader.Read(b)
	if err != nil && err != io.EOF {
		n.err = err
	}
	return read, err
}

// adapt changes a header to what is to be done about it, and is false for what
// is none of an image's content.
func (opt extraction) adapt(h *tar.Header) bool {
	switch h.Typeflag {
	case tar.TypeXGlobalHeader, 'V', 'M': // comments, GNU's volume labels
		return false
	case tar.TypeCont:
		h.Typeflag = tar.TypeReg
	case tar.TypeReg, tar.TypeDir:
	case tar.TypeChar:
		if h.Devmajor == 0 && h.Devminor == 0 {
			dir, file := filepath.Split(filepath.Clean("/" + h.Name))
			h.Name, h.Typeflag = filepath.Join(dir, whiteout+file), tar.TypeReg
			h.PAXRecords = nil
		}
	}
	if h.Xattrs == nil { //nolint:staticcheck // umoci reads this field
		return true
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
	return true
}

// checkCapability makes an error of a capability that the file system of dest
// cannot hold, which the extractor passes over: a program without is not the
// image's.
func (opt extraction) checkCapability(dest string, h *tar.Header) error {
	const capability = "security.capability"
	want, ok := h.PAXRecords[xattrPrefix+capability]
	if !ok || opt.rootless || h.Typeflag != tar.TypeReg {
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
