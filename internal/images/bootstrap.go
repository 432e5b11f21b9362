package images

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	"github.com/regclient/regclient/types/platform"
)

// A bootstrap is debian://suite: apt and all packages of priority "required",
// as in Docker's image of Debian, installed by mmdebstrap. Without a mirror it
// takes the one that mmdebstrap knows, with updates and security updates.
//
//	debian  = suite [ "?" option { "&" option } ]
//	option  = "snapshot=" time | "mirror=" URL | "components=" list | "include=" list
//
// Its digest is that of its options, the architecture, and the digests that the
// mirror's Release files give for the lists of packages that are used. A
// snapshot does not change: for one, nobody is asked.
type bootstrap struct {
	suite      string
	mirror     string // "" is mmdebstrap's choice
	snapshot   string // "20260101T000000Z"
	components []string
	include    []string
}

// bootstrapVersion is part of the digest: it changes when the same options make
// something else.
const bootstrapVersion = "1"

var bootstrapOptions = []string{"snapshot", "mirror", "components", "include"}

func parseBootstrap(s string) (string, base, error) {
	suite, query, _ := strings.Cut(s, "?")
	b := &bootstrap{suite: suite, components: []string{"main"}}
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
	if b.snapshot != "" && b.mirror == "" {
		return "", nil, errors.New("snapshot needs a mirror that keeps snapshots: mirror=https://mirror.example/archive/debian")
	}
	name := "debian-" + suite
	if b.snapshot != "" {
		name += "-" + b.snapshot
	}
	return layerName(name), b, nil
}

func (b *bootstrap) set(key, value string) (err error) {
	switch key {
	case "snapshot":
		b.snapshot, err = value, checkSnapshot(value)
	case "mirror":
		b.mirror, err = checkMirror(value)
	case "components":
		b.components, err = words(key, value, "-")
	case "include":
		b.include, err = words(key, value, "+.-:=~")
		slices.Sort(b.include)
		b.include = slices.Compact(b.include)
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

// uri is the mirror as a source of packages; "" is mmdebstrap's choice. A
// snapshot lies below the archive's path, or where the URL says {snapshot}.
func (b *bootstrap) uri() string {
	if b.snapshot == "" {
		return b.mirror
	}
	if strings.Contains(b.mirror, "{snapshot}") {
		return strings.ReplaceAll(b.mirror, "{snapshot}", b.snapshot)
	}
	return b.mirror + "/" + b.snapshot
}

func (b *bootstrap) resolve(ctx context.Context, c *Client, r *Ref, locked string) (*Resolved, error) {
	detail, err := b.options(c)
	if err != nil {
		return nil, err
	}
	if locked != "" {
		return &Resolved{Digest: locked, Pinned: true, Detail: detail}, nil
	}
	if b.snapshot == "" {
		if c.Offline {
			return nil, fmt.Errorf("what the mirror has is %w", errOffline)
		}
		lists, err := b.packageLists(ctx, c, r)
		if err != nil {
			return nil, err
		}
		detail = append(detail, lists...)
	}
	return &Resolved{Digest: digestOf(detail).String(), Detail: detail}, nil
}

// options are the labelled options, as far as nobody needs to be asked.
func (b *bootstrap) options(c *Client) ([][2]string, error) {
	architecture, err := c.debianArchitecture()
	if err != nil {
		return nil, err
	}
	detail := [][2]string{
		{"bootstrap", bootstrapVersion},
		{"suite", b.suite},
		{"architecture", architecture},
		{"components", strings.Join(b.components, ",")},
	}
	optional := [][2]string{
		{"include", strings.Join(b.include, ",")},
		{"mirror", b.mirror},
		{"snapshot", b.snapshot},
	}
	if c.Epoch != nil {
		optional = append(optional, [2]string{"SOURCE_DATE_EPOCH", fmt.Sprint(*c.Epoch)})
	}
	for _, label := range optional {
		if label[1] != "" {
			detail = append(detail, label)
		}
	}
	return detail, nil
}

func digestOf(detail [][2]string) digest.Digest {
	sum := sha256.New()
	for _, label := range detail {
		fmt.Fprintf(sum, "%q=%q\n", label[0], label[1])
	}
	return digest.NewDigest(digest.SHA256, sum)
}

// debianArchitecture is Debian's name of the platform.
func (c *Client) debianArchitecture() (string, error) {
	p, err := parsePlatform(c.Platform)
	if err != nil {
		return "", err
	}
	if name, ok := debianName(p); ok {
		return name, nil
	}
	return "", fmt.Errorf("Debian has no architecture for the platform %s", p)
}

func debianName(p platform.Platform) (string, bool) {
	if p.OS != "linux" {
		return "", false
	}
	switch p.Architecture {
	case "amd64", "arm64", "loong64", "riscv64", "s390x":
		return p.Architecture, true
	case "386":
		return "i386", true
	case "ppc64le":
		return "ppc64el", true
	case "mips64le":
		return "mips64el", true
	case "arm":
		if p.Variant == "v7" || p.Variant == "v8" {
			return "armhf", true
		}
		return "armel", true
	}
	return "", false
}

func (b *bootstrap) unpack(ctx context.Context, c *Client, r *Ref, res *Resolved, dest string, p Progress) (*Config, error) {
	config, err := b.unpackOnce(ctx, c, r, res, dest, p)
	if !errors.Is(err, errDamaged) || ctx.Err() != nil {
		return config, err
	}
	c.warn(r, "%v; it is made again", err)
	if err := empty(dest); err != nil {
		return nil, err
	}
	return b.unpackOnce(ctx, c, r, res, dest, p)
}

// errDamaged is a bootstrap of the cache that cannot be read any more.
var errDamaged = errors.New("the cached bootstrap is damaged")

func (b *bootstrap) unpackOnce(ctx context.Context, c *Client, r *Ref, res *Resolved, dest string, p Progress) (*Config, error) {
	s := store{c.Cache}
	file := s.bootstrap(digest.Digest(res.Digest))
	waiting := func() { p("waiting: another process bootstraps "+b.suite, 0, 0) }
	err := s.provide(ctx, file, waiting, func(part *os.File) error {
		if c.Offline {
			return fmt.Errorf("the bootstrap is %w", errOffline)
		}
		if res.Pinned && b.snapshot == "" {
			b.compare(ctx, c, r, res)
		}
		return b.make(ctx, c, r, part, p)
	})
	if err != nil {
		return nil, err
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	progress := &meter{what: "unpack", total: info.Size(), report: p}
	opt := c.extraction()
	opt.marked = true
	if err := extractCompressed(progress.reader(ctx, f), dest, opt); err != nil {
		if ctx.Err() == nil && readable(ctx, file) != nil {
			os.Remove(file)
			err = fmt.Errorf("%w: %w", errDamaged, err)
		}
		return nil, err
	}
	progress.finish()
	return &Config{}, nil
}

// readable reads a compressed file of the cache to its end: zstd has checksums,
// though not for nothing at all.
func readable(ctx context.Context, file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	z, err := zstd.NewReader(interruptible(ctx, f))
	if err != nil {
		return err
	}
	defer z.Close()
	n, err := io.Copy(io.Discard, z)
	if n == 0 && err == nil {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// compare tells when the mirror has moved on since the digest was pinned: what
// it had then it cannot give any more.
func (b *bootstrap) compare(ctx context.Context, c *Client, r *Ref, res *Resolved) {
	now, err := b.resolve(ctx, c, r, "")
	if err == nil && now.Digest != res.Digest {
		c.warn(r, "the mirror has changed since this was pinned, and no bootstrap of then is in the cache: "+
			"it is made from today's packages; --update pins them, and snapshot= makes it repeatable")
	}
}
