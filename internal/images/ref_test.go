package images

import (
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	dir := t.TempDir()
	for url, want := range map[string]string{
		"docker://debian:trixie":       "index.docker.io-library-debian-trixie",
		"oci://images/base:v1":         "images-base-v1",
		"oci://base":                   "base",
		"oci://base.tar@" + someDigest: "base.tar",
		"oci://a:b/c":                  "a-b-c",
		"tar://root.tar.xz":            "root.tar.xz",
		"tar://../x/root.tar":          "x-root.tar",
		"tar:///srv/root.tar":          "srv-root.tar",
		"debian://trixie":              "debian-trixie",
		"debian://trixie?snapshot=20260101T000000Z&mirror=https://mirror.example/archive": "debian-trixie-20260101T000000Z",
	} {
		r, err := Parse(url, dir, "")
		if err != nil {
			t.Errorf("%s: %v", url, err)
		} else if r.Name != want || r.URL != url || r.Scheme != url[:strings.Index(url, ":")] {
			t.Errorf("%s: %+v, want the name %s", url, r, want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for url, want := range map[string]string{
		"debian":                                    "it has no scheme (docker://, oci://, tar://, debian://)",
		"http://x/y":                                `unknown scheme "http"`,
		"docker://":                                 "the image is missing",
		"tar://":                                    "the path is missing",
		"oci://":                                    "the path is missing",
		"oci://x:b c":                               `bad tag "b c"`,
		"oci://x@sha256:1":                          "bad digest",
		"tar://a\nb":                                "character '\\n' in it",
		"debian://":                                 `bad suite ""`,
		"debian://--help":                           `bad suite "--help"`,
		"debian://a/b":                              `bad suite "a/b"`,
		"debian://trixie?x=1":                       `unknown option "x", known are snapshot, mirror, components, include`,
		"debian://trixie?include=--foo":             `bad element "--foo"`,
		"debian://trixie?include=a%20b":             `bad element "a b"`,
		"debian://trixie?include=":                  `bad element ""`,
		"debian://trixie?include=?essential":        `bad element "?essential"`,
		"debian://trixie?include=./x.deb":           `bad element "./x.deb"`,
		"debian://trixie?components=main,../x":      `bad element "../x"`,
		"debian://trixie?include=a&include=b":       `"include" is given twice`,
		"debian://trixie?snapshot=yesterday":        `bad snapshot "yesterday"`,
		"debian://trixie?snapshot=20260101T000000Z": "snapshot needs a mirror",
		"debian://trixie?mirror=mirror.example":     "it is an http:// or https:// URL",
		"debian://trixie?mirror=file:///x":          "it is an http:// or https:// URL",
		"debian://trixie?mirror=http:///x":          "it is a host and a path",
		"debian://trixie?mirror=http://u:p@h/x":     "a password would end up in the image",
		"debian://trixie?mirror=http://h/x%20[y":    "percent-encode",
		"debian://trixie?mirror=http://h/x%0a":      "bad mirror",
	} {
		r, err := Parse(url, "/", "")
		if err == nil {
			t.Errorf("%q was read as %+v", url, r.Base)
		} else if !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "base image "+url+": ") {
			t.Errorf("%q: %v, want %s", url, err, want)
		}
	}
}
