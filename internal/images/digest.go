package images

import (
	"errors"
	"fmt"
	"strings"
)

// digestLengths are the algorithms of digests, and how many hex digits each
// has: those of OCI's image-spec.
var digestLengths = map[string]int{"sha256": 64, "sha384": 96, "sha512": 128}

// CheckDigest tells what is wrong with a digest.
func CheckDigest(s string) error {
	algorithm, hex, ok := strings.Cut(s, ":")
	length, known := digestLengths[algorithm]
	var err error
	switch {
	case !ok:
		err = errors.New("it has no algorithm: sha256:…")
	case !known:
		err = fmt.Errorf("unknown algorithm %q: sha256, sha384 or sha512", algorithm)
	case len(hex) != length:
		err = fmt.Errorf("%d hex digits, not %d", len(hex), length)
	case strings.Trim(hex, "0123456789abcdef") != "":
		err = errors.New("it is not made of lower case hex digits")
	default:
		return nil
	}
	return fmt.Errorf("bad digest %q: %w", s, err)
}
