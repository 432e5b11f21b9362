package images

import (
	"fmt"
	"strings"
)

// Schemes are the schemes of base images, in the order in which they are told
// to users.
var Schemes = []string{"docker", "oci", "tar", "debian"}

// Parse reads the URL of a base image. Relative paths start in dir; when root
// is not empty, they must not lead out of root, also not through symbolic
// links. That a file is missing is not noticed here but in Resolve.
func Parse(url, dir, root string) (*Ref, error) {
	r, err := parse(url, dir, root)
	if err != nil {
		return nil, fmt.Errorf("base image %s: %w", url, err)
	}
	return r, nil
}

func parse(url, dir, root string) (*Ref, error) {
	scheme, rest, ok := strings.Cut(url, "://")
	if !ok {
		return nil, fmt.Errorf("it has no scheme (%s)", knownSchemes())
	}
	if i := strings.IndexFunc(url, isControl); i >= 0 {
		return nil, fmt.Errorf("character %q in it", url[i])
	}
	r := &Ref{Scheme: scheme, URL: url, dir: dir, root: root}
	var err error
	switch scheme {
	case "docker":
		r.Name, r.Base, err = parseRegistryImage(rest)
	case "oci":
		r.Name, r.Base, err = parseLayoutImage(rest, dir, root)
	case "tar":
		r.Name, r.Base, err = parseTarball(rest, dir, root)
	case "debian":
		r.Name, r.Base, err = parseBootstrap(rest)
	default:
		err = fmt.Errorf("unknown scheme %q (%s)", scheme, knownSchemes())
	}
	if err != nil {
		return nil, err
	}
	return r, nil
}

func knownSchemes() string { return strings.Join(Schemes, "://, ") + "://" }

func isControl(c rune) bool { return c < ' ' || c == 0x7f }

// maxName bounds the name of a layer's directory, to which a key is added, well
// below what file systems allow.
const maxName = 160

// layerName makes one path element of what the user called the image.
func layerName(s string) string {
	s = strings.Map(func(c rune) rune {
		switch {
		case c == '/', c == ':', c == '@', isControl(c), c == ' ':
			return '-'
		}
		return c
	}, s)
	// No hidden file, no "..", nothing that looks like an option.
	s = strings.TrimLeft(s, ".-")
	if s == "" {
		s = "image"
	}
	if len(s) > maxName {
		s = strings.ToValidUTF8(s[:maxName], "")
	}
	return s
}
