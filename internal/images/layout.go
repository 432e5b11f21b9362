package images

import "strings"

// A Layout is oci://path[:tag][@digest]: an image in an OCI layout, which
// is a directory or a tar of one. What follows the last colon of the path's
// last element is the tag.
type Layout struct {
	Place
	Tag    string
	Digest string
}

func parseLayoutImage(s, dir, root string) (string, any, error) {
	image := &Layout{}
	rest := s
	if i := strings.LastIndex(rest, "@"); i >= 0 && strings.Contains(rest[i:], ":") {
		if err := CheckDigest(rest[i+1:]); err != nil {
			return "", nil, err
		}
		image.Digest, rest = rest[i+1:], rest[:i]
	}
	name := rest
	if i := strings.LastIndexByte(rest, ':'); i > strings.LastIndexByte(rest, '/') {
		image.Tag, rest = rest[i+1:], rest[:i]
		if err := checkTag(image.Tag); err != nil {
			return "", nil, err
		}
	}
	var err error
	image.Place, err = newPlace(rest, dir, root)
	return layerName(name), image, err
}
