//go:build raptor_embed

package images

import _ "embed"

// The Makefile builds the fetcher before it builds what embeds it.
//
//go:embed fetcher.bin
var embedded []byte
