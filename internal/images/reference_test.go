package images

import (
	"strings"
	"testing"
)

const someDigest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func TestReference(t *testing.T) {
	for _, test := range []struct{ in, want, name string }{
		{"debian", "docker.io/library/debian:latest", "index.docker.io-library-debian-latest"},
		{"debian:trixie", "docker.io/library/debian:trixie", "index.docker.io-library-debian-trixie"},
		{"docker.io/debian:trixie", "docker.io/library/debian:trixie", "index.docker.io-library-debian-trixie"},
		{"index.docker.io/library/debian:trixie", "docker.io/library/debian:trixie", "index.docker.io-library-debian-trixie"},
		{"team/app", "docker.io/team/app:latest", "index.docker.io-team-app-latest"},
		{"debian@" + someDigest, "docker.io/library/debian@" + someDigest, "index.docker.io-library-debian-sha256-0123456789ab"},
		{"debian:13@" + someDigest, "docker.io/library/debian:13@" + someDigest, "index.docker.io-library-debian-13"},
		{"localhost/x", "localhost/x:latest", "localhost-x-latest"},
		{"localhost:5000/a/b/c:d", "localhost:5000/a/b/c:d", "localhost-5000-a-b-c-d"},
		{"127.0.0.1:5000/x", "127.0.0.1:5000/x:latest", "127.0.0.1-5000-x-latest"},
		{"[::1]:5000/x", "[::1]:5000/x:latest", "[--1]-5000-x-latest"},
		{"[::1]/x", "[::1]/x:latest", "[--1]-x-latest"},
		{"registry.example/x", "registry.example/x:latest", "registry.example-x-latest"},
		{"MyHost/x", "MyHost/x:latest", "MyHost-x-latest"},
		{"host:1/a.b/c_d/e__f/g--h", "host:1/a.b/c_d/e__f/g--h:latest", "host-1-a.b-c_d-e__f-g--h-latest"},
		{"x:" + strings.Repeat("t", 128), "docker.io/library/x:" + strings.Repeat("t", 128), "index.docker.io-library-x-" + strings.Repeat("t", 128)},
		{"x:V1.0_a-b", "docker.io/library/x:V1.0_a-b", "index.docker.io-library-x-V1.0_a-b"},
	} {
		r, err := ParseReference(test.in)
		if err != nil {
			t.Errorf("%s: %v", test.in, err)
			continue
		}
		if got := r.String(); got != test.want {
			t.Errorf("%s: got %s, want %s", test.in, got, test.want)
		}
		if got := r.name(); got != test.name {
			t.Errorf("%s: named %s, want %s", test.in, got, test.name)
		}
		again, err := ParseReference(r.String())
		if err != nil || again != r {
			t.Errorf("%s: read again as %v, %v", r, again, err)
		}
	}
}

func TestBadReference(t *testing.T) {
	for in, want := range map[string]string{
		"":                                      "the image is missing",
		"Debian":                                `image name "Debian" must be in lower case`,
		"host.example/Debian":                   `image name "Debian" must be in lower case`,
		"debian:":                               `bad tag ""`,
		"debian:a b":                            `bad tag "a b"`,
		"debian:-x":                             `bad tag "-x"`,
		"debian:a:b":                            "is not made of lower case letters",
		"x:" + strings.Repeat("t", 129):         "bad tag",
		"debian@sha256:12":                      `bad digest "sha256:12"`,
		"debian@latest":                         `bad digest "latest"`,
		"debian@md5:" + strings.Repeat("0", 32): "bad digest",
		"host.example/":                         "the image's name is missing",
		"host.example/a//b":                     `image name "a//b" has an empty part`,
		"/debian":                               "no host name",
		"a/-b":                                  `"-b" is not made of`,
		"a/b_":                                  `"b_" is not made of`,
		"a/b___c":                               `"b___c" is not made of`,
		"a/b._c":                                `"b._c" is not made of`,
		"../../etc":                             "no host name",
		"host.example/../etc":                   `".." is not made of`,
		"host:port/x":                           "bad port",
		"host:/x":                               "bad port",
		"-h.example/x":                          "no host name",
		"[::1/x":                                "no IPv6 address",
		"host.example/" + strings.Repeat("a", 256): "longer than 255",
	} {
		r, err := ParseReference(in)
		if err == nil {
			t.Errorf("%q was read as %s", in, r)
		} else if !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", in, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"docker://debian:trixie", "docker://[::1]:5000/a/b@" + someDigest, "docker://host:1/a.b/c_d/e__f",
		"oci://a/b:tag", "oci://../x.tar@" + someDigest, "tar://x", "tar:///etc/../x",
		"debian://trixie?snapshot=20260101T000000Z&mirror=https://mirror.example/debian&include=g%2b%2b,a",
	} {
		f.Add(seed)
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, url string) {
		r, err := Parse(url, dir, dir)
		if err != nil {
			return
		}
		if r.Name == "" || len(r.Name) > maxName || strings.ContainsAny(r.Name, "/\x00\n ") || strings.HasPrefix(r.Name, ".") || strings.HasPrefix(r.Name, "-") {
			t.Errorf("%q is named %q", url, r.Name)
		}
		switch b := r.Base.(type) {
		case *Reference:
			again, err := ParseReference(b.String())
			if err != nil || again != *b {
				t.Errorf("%q: %s is read again as %v, %v", url, b, again, err)
			}
		case *Tarball:
			if !inside(dir, b.Path) {
				t.Errorf("%q leads to %s", url, b.Path)
			}
		case *Layout:
			if !inside(dir, b.Path) {
				t.Errorf("%q leads to %s", url, b.Path)
			}
		case *Bootstrap:
			for _, word := range append(append([]string{b.Suite}, b.Components...), b.Include...) {
				if strings.HasPrefix(word, "-") || strings.ContainsAny(word, " ,\n\"'/?*[]$`") {
					t.Errorf("%q has the word %q", url, word)
				}
			}
			if strings.ContainsAny(b.URI(), " \n\t[]\"'") {
				t.Errorf("%q has the mirror %q", url, b.URI())
			}
		}
	})
}
