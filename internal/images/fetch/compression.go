package fetch

import (
	"bufio"
	"bytes"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// maxWindow bounds the memory that a zstd stream can ask for: that of
// "zstd --ultra --long=29".
const maxWindow = 512 << 20

// decompress returns the content of a gzip, xz, zstd or uncompressed stream.
// What it begins with decides, not what it is called.
func decompress(r io.Reader) (io.ReadCloser, error) {
	b := bufio.NewReaderSize(r, 1<<16)
	magic, err := b.Peek(6)
	if err != nil && err != io.EOF {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(b) // it decompresses ahead
		if err != nil {
			return nil, fmt.Errorf("gzip: %w", err)
		}
		return named{z, "gzip", func() { z.Close() }}, nil
	case isZstd(magic):
		z, err := zstd.NewReader(b, zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, fmt.Errorf("zstd: %w", err)
		}
		return named{z, "zstd", z.Close}, nil
	case bytes.HasPrefix(magic, []byte("\xfd7zXZ\x00")):
		z, err := xz.NewReader(b)
		if err != nil {
			return nil, fmt.Errorf("xz: %w", err)
		}
		return named{z, "xz", func() {}}, nil
	case bytes.HasPrefix(magic, []byte("BZh")):
		return nil, fmt.Errorf("compressed by bzip2: only gzip, xz and zstd are supported")
	}
	return io.NopCloser(b), nil
}

// isZstd is true for a frame and for the skippable ones that pzstd begins with.
func isZstd(magic []byte) bool {
	return bytes.HasPrefix(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}) ||
		len(magic) >= 4 && magic[0]&0xf0 == 0x50 && bytes.Equal(magic[1:4], []byte{0x2a, 0x4d, 0x18})
}

// named is a decompressing reader whose errors say which.
type named struct {
	io.Reader
	name  string
	close func()
}

func (n named) Read(b []byte) (int, error) {
	read, err := n.Reader.Read(b)
	if err != nil && err != io.EOF {
		err = fmt.Errorf("%s: %w", n.name, err)
	}
	return read, err
}

func (n named) Close() error {
	n.close()
	return nil
}
