// Package images turns the base images that FROM names into directories:
// images of registries, OCI layouts, tars, and bootstraps from a Debian mirror.
//
// The life of an image: Parse its URL, Resolve it to what exactly is meant (a
// digest, for which the network may be asked), then Unpack it into an empty
// directory. Resolving is repeatable from a lock file: a Resolved is plain
// data. Downloads are kept by digest in the shared cache directory.
//
//	ref, err := images.Parse("docker://debian:trixie", dir, "")
//	client := &images.Client{Settings: images.Settings{Cache: "/var/cache/raptor"}}
//	resolved, err := client.Resolve(ctx, ref, "")
//	config, err := client.Unpack(ctx, ref, resolved, emptyDir, nil)
//
// It refuses to know what a project, a layer's key or a lock file is.
//
// What speaks to registries and unpacks is not here but in package fetch, and
// that in a program of its own, the fetcher: a Client starts it when there is
// something to fetch, and most calls of raptor do without. The libraries that it
// needs would double the time that raptor takes to start. It also keeps
// everything that reads what strangers have made out of the process that holds
// the locks and writes the records.
//
// # The cache
//
// Other packages may keep their own directories beside these:
//
//	blobs/sha256/<hex>          manifests, configurations and layers of registries, as served
//	bootstraps/<hex>.tar.zst    root file systems of debian://, by the digest they resolved to
//	….part, ….root              what is being made at the moment
//
// A file appears under its final name by a rename, complete and verified. While
// it is made, its ".part" is locked (flock), so that each is fetched once
// however many processes want it, and so that what a killed process has left
// behind is told apart: its lock is free. The next one that fetches removes it.
// All files are verified when they are used; one that was damaged meanwhile, by
// a power failure say, is removed and fetched again.
//
// # What is trusted
//
// Nothing that comes from outside. Content is checked against its digest before
// anything is made of it, down to the diff_ids of the unpacked layers; no entry
// of a tar leads out of the directory it is unpacked to; and files of a project
// whose root was given are not read outside that root, also not through
// symbolic links. What a tag, a Debian mirror or a tar stands for is believed
// when it is resolved, and only then.
package images

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// A Ref is a parsed base image URL.
type Ref struct {
	Scheme string // "docker", "oci", "tar", "debian"
	URL    string // as the user wrote it
	Name   string // names the layer's directory: "index.docker.io-library-debian-trixie"

	// Base is *Reference, *Layout, *Tarball or *Bootstrap.
	Base any

	dir, root string // as Parse was given them
}

// Files are those of which one changes, symbolic links followed, when what the
// image resolves to does; none if that is not a question of files. Of a layout
// that is the archive, or the directory and its index: all others are named by
// their digests.
func (r *Ref) Files() []string {
	switch b := r.Base.(type) {
	case *Tarball:
		return []string{b.Path}
	case *Layout:
		return []string{b.Path, filepath.Join(b.Path, "index.json")}
	}
	return nil
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

// Progress is told how far a download or an unpacking is: what is one of
// "download", "unpack", "bootstrap: " and a stage, or "waiting: " and for what.
// Done and total are bytes of the whole image; total is 0 when it is not known.
// Done goes back where a download had to start over. It may be called from
// several goroutines, some ten times a second at most.
type Progress func(what string, done, total int64)

// Settings are how images are found and fetched.
type Settings struct {
	// Cache is the directory for downloads, shared by projects and processes.
	Cache string
	// Platform is "os/arch[/variant]"; "" is this machine's, without regard to
	// what its processor can do beyond the architecture's first version.
	Platform string
	// Mirrors of a registry, by its host, tried in order before it. A mirror
	// is a host, "http://" or "https://" may stand before and a path behind it.
	Mirrors map[string][]string
	// Insecure registries, and their mirrors, may be spoken to without TLS, or
	// with certificates that nobody vouches for. Loopback always may.
	Insecure map[string]bool
	// Offline forbids the network: what is not in Cache is an error.
	Offline bool
	// Epoch is SOURCE_DATE_EPOCH, seconds: no file that a bootstrap makes is
	// younger, and it is part of what debian:// resolves to. Nil is unset.
	Epoch *int64
	// Rootless says that we are root in a user namespace: devices, which cannot be
	// made there, are left out.
	Rootless bool
}

// A Client fetches images. It is safe for concurrent use, and any number of
// processes may share its Cache. Its fields must not change once it is in use.
type Client struct {
	Settings

	// Log, if set, gives the writer for what programs print while r is
	// fetched. The writer may be nil.
	Log func(r *Ref) io.Writer
	// Content, if set, gives the SHA-256 of a file's content, in hex: for a
	// caller that remembers it, so that an unchanged tar is read once.
	Content func(f *os.File) (string, error)
	// Warn, if set, is told what the user should know although nothing fails.
	Warn func(r *Ref, message string)

	fetcher fetcher
}

// Resolve says which image a Ref stands for just now, or, when locked is the
// Digest of an earlier Resolved, that one, without asking anybody: that it can
// still be had is seen when it is unpacked.
func (c *Client) Resolve(ctx context.Context, r *Ref, locked string) (*Resolved, error) {
	res, err := c.Known(ctx, r, locked, c.Content)
	if res == nil && err == nil {
		res, err = c.fetcher.resolve(ctx, c, r)
	}
	return res, err
}

// Unpack fills the empty directory dest with the image's root file system, in
// the form of a layer, and verifies it on the way. What was downloaded stays in
// the cache. After an error dest holds some part of the image; it is the
// caller's to remove. Progress may be nil.
func (c *Client) Unpack(ctx context.Context, r *Ref, res *Resolved, dest string, p Progress) (*Config, error) {
	if res == nil {
		return nil, errors.New("unpack: not resolved")
	}
	if err := c.Check(r, res.Digest); err != nil {
		return nil, err
	}
	return c.fetcher.unpack(ctx, c, r, res, dest, p)
}

// Close ends what the Client has started. Nothing may be going on.
func (c *Client) Close() { c.fetcher.close() }

// Known resolves what no network and no image library is needed for: what is
// locked, and tars. It is nil for everything else. Content is as in Client.
func (s *Settings) Known(ctx context.Context, r *Ref, locked string, content func(*os.File) (string, error)) (*Resolved, error) {
	if err := s.Check(r, locked); err != nil {
		return nil, err
	}
	res, err := s.known(ctx, r, locked, content)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("resolve %s: %w", r.URL, err)
	}
	return res, nil
}

func (s *Settings) known(ctx context.Context, r *Ref, locked string, content func(*os.File) (string, error)) (res *Resolved, err error) {
	res = &Resolved{URL: r.URL, Digest: locked, Pinned: locked != ""}
	tarball, isTarball := r.Base.(*Tarball)
	switch {
	case isTarball && !res.Pinned:
		res.Digest, err = tarball.digest(ctx, content)
		if err != nil {
			return nil, err
		}
	case !res.Pinned:
		return nil, nil
	}
	switch b := r.Base.(type) {
	case *Tarball:
		res.Detail = [][2]string{{"content", res.Digest}}
	case *Layout:
		res.Detail = [][2]string{{"manifest", locked}}
	case *Bootstrap:
		res.Detail, err = b.Options(s)
	case *Reference:
		res.Detail, err = b.Detail(s, locked)
	}
	return res, err
}

// Check tells whether a reference, and a digest unless it is "", can be worked
// with.
func (s *Settings) Check(r *Ref, digest string) error {
	switch {
	case s.Cache == "":
		return errors.New("images: no cache directory given")
	case r == nil || r.Base == nil:
		return errors.New("images: the reference was not parsed")
	}
	if digest != "" {
		if err := CheckDigest(digest); err != nil {
			return fmt.Errorf("%s: %w", r.URL, err)
		}
	}
	return nil
}
