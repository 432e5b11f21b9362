package images

import (
	"os"
	"path/filepath"
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
			t.Errorf("%q was read as %+v", url, r.base)
		} else if !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "base image "+url+": ") {
			t.Errorf("%q: %v, want %s", url, err, want)
		}
	}
}

// A package from elsewhere must not read files of its surroundings.
func TestConfinement(t *testing.T) {
	base := t.TempDir()
	root := filepath.Join(base, "package")
	tarball := makeTar(t, file("secret", "x"))
	writeFile(t, base+"/secret.tar", tarball)
	writeFile(t, root+"/sub/ok.tar", tarball)
	for link, to := range map[string]string{
		"out.tar": "../secret.tar", "abs.tar": base + "/secret.tar", "outdir": "..", "in.tar": "sub/ok.tar", "absin.tar": root + "/sub/ok.tar",
	} {
		if err := os.Symlink(to, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{"../secret.tar", base + "/secret.tar", "out.tar", "abs.tar", "outdir/secret.tar", "../missing.tar", "outdir/missing.tar"} {
		if _, err := Parse("tar://"+path, root, root); err == nil || !strings.Contains(err.Error(), "leads out of "+root) {
			t.Errorf("%s: %v", path, err)
		}
		if _, err := Parse("tar://"+path, root, ""); err != nil {
			t.Errorf("%s, without a root: %v", path, err)
		}
	}
	c := newClient(t)
	for _, path := range []string{"ok.tar", "./../sub/ok.tar", "../in.tar", "../absin.tar", root + "/sub/ok.tar"} {
		r, err := Parse("tar://"+path, root+"/sub", root)
		if err == nil {
			_, err = c.Resolve(t.Context(), r, "")
		}
		if err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// A link that appears after Parse does not lead out either.
func TestConfinementLater(t *testing.T) {
	base := t.TempDir()
	writeFile(t, base+"/secret.tar", makeTar(t, file("secret", "x")))
	writeLayout(t, base+"/layout", layoutFiles(t, map[string]*testImage{"": imageOf(t, "gzip", makeTar(t, file("x", "")))}))
	root := base + "/package"
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	for url, to := range map[string]string{"tar://a.tar": "../secret.tar", "oci://layout": "../layout"} {
		r, err := Parse(url, root, root)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(to, filepath.Join(root, strings.Split(url, "://")[1])); err != nil {
			t.Fatal(err)
		}
		if _, err := newClient(t).Resolve(t.Context(), r, ""); err == nil || !strings.Contains(err.Error(), "leads out of") {
			t.Errorf("%s: %v", url, err)
		}
	}
	// Nor does one within a layout.
	if err := os.Remove(root + "/layout"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(root+"/layout", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../../layout/index.json", root+"/layout/index.json"); err != nil {
		t.Fatal(err)
	}
	r, err := Parse("oci://layout", root, root)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := newClient(t).Resolve(t.Context(), r, ""); err == nil || !strings.Contains(err.Error(), "leads out of") {
		t.Errorf("index.json: %v", err)
	}
}
