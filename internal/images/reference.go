package images

import (
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
)

// A reference names an image of a registry, as "docker pull" reads it:
//
//	reference = [ host "/" ] path [ ":" tag ] [ "@" digest ]
//	host      = ( name { "." name } | "[" IPv6 "]" ) [ ":" port ]
//	path      = component { "/" component }
//	component = alnum { ( "." | "_" | "__" | "-" {"-"} ) alnum }   # lower case
//
// The first element is a host when it holds a dot, a colon or an upper case
// letter, or is "localhost". With a digest, the tag is only decoration.
type reference struct {
	host   string // dockerRegistry for Docker's own
	path   string // "library/debian"
	tag    string // "latest" when neither tag nor digest is given
	digest digest.Digest
}

const (
	dockerRegistry = "docker.io"
	// dockerIndex is what layers of images of Docker's registry are named by.
	dockerIndex   = "index.docker.io"
	dockerLibrary = "library/"
	maxPath       = 255
	maxTag        = 128
)

func parseReference(s string) (reference, error) {
	var r reference
	if s == "" {
		return r, errors.New("the image is missing")
	}
	rest, sum, pinned := strings.Cut(s, "@")
	if pinned {
		d, err := parseDigest(sum)
		if err != nil {
			return r, err
		}
		r.digest = d
	}
	r.host, rest = splitHost(rest)
	r.path = rest
	if i := strings.LastIndexByte(rest, ':'); i >= 0 {
		r.path, r.tag = rest[:i], rest[i+1:]
		if err := checkTag(r.tag); err != nil {
			return r, err
		}
	} else if !pinned {
		r.tag = "latest"
	}
	if err := checkHost(r.host); err != nil {
		return r, err
	}
	if err := checkPath(r.path); err != nil {
		return r, err
	}
	if r.host == dockerRegistry && !strings.Contains(r.path, "/") {
		r.path = dockerLibrary + r.path
	}
	return r, nil
}

func splitHost(s string) (host, rest string) {
	first, rest, ok := strings.Cut(s, "/")
	if !ok || first != "" && first != "localhost" && !strings.ContainsAny(first, ".:") && strings.ToLower(first) == first {
		return dockerRegistry, s
	}
	if first == dockerIndex {
		first = dockerRegistry
	}
	return first, rest
}

func checkHost(host string) error {
	name, port := host, ""
	if strings.HasPrefix(host, "[") {
		end := strings.IndexByte(host, ']')
		if end < 0 || strings.Trim(host[1:end], "0123456789abcdefABCDEF:") != "" || !strings.Contains(host[1:end], ":") {
			return fmt.Errorf("%q is no registry: no IPv6 address", host)
		}
		name, port = "ipv6", host[end+1:]
	} else if i := strings.IndexByte(host, ':'); i >= 0 {
		name, port = host[:i], host[i:]
	}
	if port != "" && (port[0] != ':' || len(port) < 2 || len(port) > 6 || strings.Trim(port[1:], "0123456789") != "") {
		return fmt.Errorf("%q is no registry: bad port", host)
	}
	for part := range strings.SplitSeq(strings.ToLower(name), ".") {
		if part == "" || strings.HasPrefix(part, "-") || strings.HasSuffix(part, "-") ||
			strings.Trim(part, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			return fmt.Errorf("%q is no registry: no host name", host)
		}
	}
	return nil
}

func checkPath(path string) error {
	switch {
	case path == "":
		return errors.New("the image's name is missing")
	case len(path) > maxPath:
		return fmt.Errorf("the image's name is longer than %d characters", maxPath)
	case strings.ToLower(path) != path:
		return fmt.Errorf("image name %q must be in lower case", path)
	}
	for c := range strings.SplitSeq(path, "/") {
		if !isComponent(c) {
			if c == "" {
				return fmt.Errorf("image name %q has an empty part", path)
			}
			return fmt.Errorf("image name %q: %q is not made of lower case letters and digits, separated by one of . _ __ -", path, c)
		}
	}
	return nil
}

// isComponent is true for alphanumeric runs joined by ".", "_", "__" or dashes.
func isComponent(s string) bool {
	separator := ""
	for i := range len(s) {
		if isLowerAlnum(s[i]) {
			separator = ""
			continue
		}
		separator += s[i : i+1]
		switch {
		case i == 0:
			return false
		case separator == ".", separator == "_", separator == "__":
		case strings.Trim(separator, "-") == "":
		default:
			return false
		}
	}
	return s != "" && separator == ""
}

func isLowerAlnum(c byte) bool { return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' }

func checkTag(tag string) error {
	ok := tag != "" && len(tag) <= maxTag && tag[0] != '.' && tag[0] != '-'
	for i := range len(tag) {
		c := tag[i]
		ok = ok && (isLowerAlnum(c) || 'A' <= c && c <= 'Z' || c == '.' || c == '_' || c == '-')
	}
	if !ok {
		return fmt.Errorf("bad tag %q: letters, digits, _ . and -, at most %d", tag, maxTag)
	}
	return nil
}

// parseDigest is digest.Parse with an error that shows the digest.
func parseDigest(s string) (digest.Digest, error) {
	d, err := digest.Parse(s)
	if err != nil {
		return "", fmt.Errorf("bad digest %q: %w", s, err)
	}
	return d, nil
}

// String is the reference in full.
func (r reference) String() string {
	s := r.host + "/" + r.path
	if r.tag != "" {
		s += ":" + r.tag
	}
	if r.digest != "" {
		s += "@" + r.digest.String()
	}
	return s
}

// name is the reference as the name of a layer. Of a digest its beginning is
// enough: layers are told apart by their keys.
func (r reference) name() string {
	host := r.host
	if host == dockerRegistry {
		host = dockerIndex
	}
	s := host + "/" + r.path
	switch {
	case r.tag != "":
		s += ":" + r.tag
	case r.digest != "":
		s += ":" + r.digest.Algorithm().String() + ":" + r.digest.Encoded()[:12]
	}
	return layerName(s)
}
