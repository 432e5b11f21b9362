package images

import (
	"errors"
	"fmt"
	"strings"
)

// A Reference is docker://reference: it names an image of a registry, as "docker pull" reads it:
//
//	reference = [ host "/" ] path [ ":" tag ] [ "@" digest ]
//	host      = ( name { "." name } | "[" IPv6 "]" ) [ ":" port ]
//	path      = component { "/" component }
//	component = alnum { ( "." | "_" | "__" | "-" {"-"} ) alnum }   # lower case
//
// The first element is a host when it holds a dot, a colon or an upper case
// letter, or is "localhost". With a digest, the tag is only decoration.
type Reference struct {
	Host   string // DockerRegistry for Docker's own
	Path   string // "library/debian"
	Tag    string // "latest" when neither tag nor digest is given
	Digest string
}

const (
	DockerRegistry = "docker.io"
	// DockerIndex is what layers of images of Docker's registry are named by.
	DockerIndex   = "index.docker.io"
	dockerLibrary = "library/"
	maxPath       = 255
	maxTag        = 128
)

// ParseReference reads what follows "docker://".
func ParseReference(s string) (Reference, error) {
	var r Reference
	if s == "" {
		return r, errors.New("the image is missing")
	}
	rest, sum, pinned := strings.Cut(s, "@")
	if pinned {
		if err := CheckDigest(sum); err != nil {
			return r, err
		}
		r.Digest = sum
	}
	r.Host, rest = splitHost(rest)
	r.Path = rest
	if i := strings.LastIndexByte(rest, ':'); i >= 0 {
		r.Path, r.Tag = rest[:i], rest[i+1:]
		if err := checkTag(r.Tag); err != nil {
			return r, err
		}
	} else if !pinned {
		r.Tag = "latest"
	}
	if err := CheckHost(r.Host); err != nil {
		return r, err
	}
	if err := CheckPath(r.Path); err != nil {
		return r, err
	}
	if r.Host == DockerRegistry && !strings.Contains(r.Path, "/") {
		r.Path = dockerLibrary + r.Path
	}
	return r, nil
}

func splitHost(s string) (host, rest string) {
	first, rest, ok := strings.Cut(s, "/")
	if !ok || first != "" && first != "localhost" && !strings.ContainsAny(first, ".:") && strings.ToLower(first) == first {
		return DockerRegistry, s
	}
	if first == DockerIndex {
		first = DockerRegistry
	}
	return first, rest
}

// CheckHost tells what is wrong with a registry's host.
func CheckHost(host string) error {
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

// CheckPath tells what is wrong with an image's name in its registry.
func CheckPath(path string) error {
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

// String is the reference in full.
func (r Reference) String() string {
	s := r.Host + "/" + r.Path
	if r.Tag != "" {
		s += ":" + r.Tag
	}
	if r.Digest != "" {
		s += "@" + r.Digest
	}
	return s
}

// name is the reference as the name of a layer. Of a digest its beginning is
// enough: layers are told apart by their keys.
func (r Reference) name() string {
	host := r.Host
	if host == DockerRegistry {
		host = DockerIndex
	}
	s := host + "/" + r.Path
	switch {
	case r.Tag != "":
		s += ":" + r.Tag
	case r.Digest != "":
		algorithm, hex, _ := strings.Cut(r.Digest, ":")
		s += ":" + algorithm + ":" + hex[:12]
	}
	return layerName(s)
}

func parseRegistryImage(s string) (string, any, error) {
	r, err := ParseReference(s)
	if err != nil {
		return "", nil, err
	}
	return r.name(), &r, nil
}

// Detail is what the digest of a manifest is made from.
func (r *Reference) Detail(s *Settings, digest string) ([][2]string, error) {
	want, err := s.ParsePlatform()
	return [][2]string{{"image", r.String()}, {"platform", want.String()}, {"manifest", digest}}, err
}
