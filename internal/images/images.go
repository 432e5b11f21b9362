// Package images turns the base images that FROM names into directories:
// images of registries, OCI layouts, tars, and bootstraps from a Debian mirror.
//
// The life of an image: Parse its URL, Resolve it to what exactly is meant (a
// digest, for which the network may be asked), then Unpack it into an empty
// directory. Resolving is repeatable from a lock file: a Resolved is plain
// data. Downloads are kept by digest in the shared cache directory.
package images

import "context"

// A Ref is a parsed base image URL.
type Ref struct {
	Scheme string // "docker", "oci", "tar", "debian"
	URL    string // as the user wrote it
	Name   string // names the layer's directory: "index.docker.io-library-debian-trixie"
	// further fields are this package's own
}

// A Resolved says exactly which image is meant. Two equal Digests are the same
// root file system.
type Resolved struct {
	URL    string // as in Ref
	Digest string // "sha256:…": of the manifest, the tar's content, or the bootstrap's resolved options
	Pinned bool   // the digest came from a lock, nobody was asked
	// Detail is what the digest was made from, labelled, for explanations:
	// {"suite","trixie"}, {"platform","linux/amd64"}, …
	Detail [][2]string
}

// A Config is what an image says about containers of it.
type Config struct {
	Env []string // "K=V"
}

// Progress is told how far a download or an unpacking is. Total is 0 when it is
// not known. It may be called from several goroutines.
type Progress func(what string, done, total int64)

// A Client fetches images. It is safe for concurrent use.
type Client struct {
	// Cache is the directory for downloads, shared by projects and processes.
	Cache string
	// Platform is "os/arch[/variant]"; "" is this machine's.
	Platform string
	// Mirrors of a registry, by its host, tried in order before it.
	Mirrors map[string][]string
	// Insecure registries may be spoken to without TLS. Loopback always is.
	Insecure map[string]bool
	// Offline forbids the network: what is not in Cache is an error.
	Offline bool
}

// The calls, as the engine makes them; bodies to follow:
//
//	func Parse(url, dir string) (*Ref, error)                      // dir: where relative paths start
//	func (c *Client) Resolve(ctx context.Context, r *Ref, locked string) (*Resolved, error)
//	func (c *Client) Unpack(ctx context.Context, r *Ref, res *Resolved, dest string, p Progress) (*Config, error)
var _ context.Context
