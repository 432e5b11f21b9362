//go:build !raptor_embed

package images

var embedded []byte // nothing: the fetcher is found otherwise
