package images

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// A Bootstrap is debian://suite: apt and all packages of priority "required",
// as in Docker's image of Debian, installed by mmdebstrap. Without a mirror it
// takes the one that mmdebstrap knows, with updates and security updates.
//
//	debian  = suite [ "?" option { "&" option } ]
//	option  = "snapshot=" time | "mirror=" URL | "components=" list | "include=" list
//
// Its digest is that of its options, the architecture, and the digests that the
// mirror's Release files give for the lists of packages that are used. A
// snapshot does not change: for one, nobody is asked.
type Bootstrap struct {
	Suite      string
	Mirror     string // "" is mmdebstrap's choice
	Snapshot   string // "20260101T000000Z"
	Components []string
	Include    []string
}

// bootstrapVersion is part of the digest: it changes when the same options make
// something else.
const bootstrapVersion = "1"

var bootstrapOptions = []string{"snapshot", "mirror", "components", "include"}

func parseBootstrap(s string) (string, any, error) {
	suite, query, _ := strings.Cut(s, "?")
	b := &Bootstrap{Suite: suite, Components: []string{"main"}}
	if !isWord(suite, ".-_") {
		return "", nil, fmt.Errorf("bad suite %q: letters, digits, . _ and -", suite)
	}
	seen := make(map[string]bool)
	for option := range strings.SplitSeq(query, "&") {
		if option == "" {
			continue
		}
		key, value, _ := strings.Cut(option, "=")
		if seen[key] {
			return "", nil, fmt.Errorf("option %q is given twice", key)
		}
		seen[key] = true
		// Not a form's decoding, in which "+" is a space: think of g++.
		value, err := url.PathUnescape(value)
		if err != nil {
			return "", nil, fmt.Errorf("option %q: %w", key, err)
		}
		if err := b.set(key, value); err != nil {
			return "", nil, err
		}
	}
	if b.Snapshot != "" && b.Mirror == "" {
		return "", nil, errors.New("snapshot needs a mirror that keeps snapshots: mirror=https://mirror.example/archive/debian")
	}
	name := "debian-" + suite
	if b.Snapshot != "" {
		name += "-" + b.Snapshot
	}
	return layerName(name), b, nil
}

func (b *Bootstrap) set(key, value string) (err error) {
	switch key {
	case "snapshot":
		b.Snapshot, err = value, checkSnapshot(value)
	case "mirror":
		b.Mirror, err = checkMirror(value)
	case "components":
		b.Components, err = words(key, value, "-")
	case "include":
		b.Include, err = words(key, value, "+.-:=~")
		slices.Sort(b.Include)
		b.Include = slices.Compact(b.Include)
	default:
		err = fmt.Errorf("unknown option %q, known are %s", key, strings.Join(bootstrapOptions, ", "))
	}
	return err
}

// words reads a list whose elements can be nothing but words: no options, no
// patterns, no paths.
func words(key, value, punctuation string) ([]string, error) {
	list := strings.Split(value, ",")
	for _, word := range list {
		if !isWord(word, punctuation) {
			return nil, fmt.Errorf("option %q: bad element %q", key, word)
		}
	}
	return list, nil
}

// isWord is true for what begins with a letter or digit, and else holds these
// and some punctuation.
func isWord(s, punctuation string) bool {
	for i := range len(s) {
		c := s[i]
		if !isLowerAlnum(c) && (c < 'A' || 'Z' < c) && (i == 0 || strings.IndexByte(punctuation, c) < 0) {
			return false
		}
	}
	return s != ""
}

func checkSnapshot(s string) error {
	ok := len(s) == len("20260101T000000Z")
	for i := range len(s) {
		switch i {
		case 8:
			ok = ok && s[i] == 'T'
		case 15:
			ok = ok && s[i] == 'Z'
		default:
			ok = ok && '0' <= s[i] && s[i] <= '9'
		}
	}
	if !ok {
		return fmt.Errorf("bad snapshot %q: it is a time like 20260101T000000Z", s)
	}
	return nil
}

// checkMirror reads a mirror's URL, which ends up in a sources.list.
func checkMirror(s string) (string, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return "", fmt.Errorf("bad mirror: %w", err)
	case u.Scheme != "http" && u.Scheme != "https":
		return "", fmt.Errorf("bad mirror %q: it is an http:// or https:// URL", s)
	case u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.ForceQuery:
		return "", fmt.Errorf("bad mirror %q: it is a host and a path", s)
	case u.User != nil:
		return "", fmt.Errorf("bad mirror %q: a password would end up in the image", u.Redacted())
	case strings.ContainsAny(s, " \t[]\"'\\#|") && !strings.HasPrefix(u.Host, "["):
		return "", fmt.Errorf("bad mirror %q: percent-encode what is no URL's character", s)
	}
	return strings.TrimRight(s, "/"), nil
}

// URI is the mirror as a source of packages; "" is mmdebstrap's choice. A
// snapshot lies below the archive's path, or where the URL says {snapshot}.
func (b *Bootstrap) URI() string {
	if b.Snapshot == "" {
		return b.Mirror
	}
	if strings.Contains(b.Mirror, "{snapshot}") {
		return strings.ReplaceAll(b.Mirror, "{snapshot}", b.Snapshot)
	}
	return b.Mirror + "/" + b.Snapshot
}

// Options are its labelled options, as far as nobody needs to be asked.
func (b *Bootstrap) Options(s *Settings) ([][2]string, error) {
	architecture, err := s.DebianArchitecture()
	if err != nil {
		return nil, err
	}
	detail := [][2]string{
		{"bootstrap", bootstrapVersion},
		{"suite", b.Suite},
		{"architecture", architecture},
		{"components", strings.Join(b.Components, ",")},
	}
	optional := [][2]string{
		{"include", strings.Join(b.Include, ",")},
		{"mirror", b.Mirror},
		{"snapshot", b.Snapshot},
	}
	if s.Epoch != nil {
		optional = append(optional, [2]string{"SOURCE_DATE_EPOCH", fmt.Sprint(*s.Epoch)})
	}
	for _, label := range optional {
		if label[1] != "" {
			detail = append(detail, label)
		}
	}
	return detail, nil
}
