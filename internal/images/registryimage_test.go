package images

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func newClient(t testing.TB) *Client {
	t.Setenv("DOCKER_CONFIG", t.TempDir()) // nobody's own logins
	return &Client{Cache: t.TempDir(), Platform: "linux/amd64"}
}

// fetch resolves and unpacks, and returns the directory.
func fetch(t testing.TB, c *Client, url string) (string, *Config, error) {
	t.Helper()
	r, err := Parse(url, t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	res, err := c.Resolve(context.Background(), r, "")
	if err != nil {
		return "", nil, err
	}
	dest := t.TempDir()
	config, err := c.Unpack(context.Background(), r, res, dest, nil)
	return dest, config, err
}

func mustFetch(t testing.TB, c *Client, url string) (string, *Config) {
	t.Helper()
	dest, config, err := fetch(t, c, url)
	if err != nil {
		t.Fatal(err)
	}
	return dest, config
}

// threeLayers has every kind of deletion. What is left of it is whatIsLeft.
func threeLayers(t testing.TB) [][]byte {
	return [][]byte{
		makeTar(t, dir("etc"), file("etc/keep", "1"), file("etc/gone", "1"), dir("opt"), dir("opt/a"), file("opt/a/old", "1"),
			dir("srv"), file("srv/x", "1"), symlink("lib", "usr/lib"), dir("usr"), dir("usr/lib"), file("usr/lib/so", "1"), file("was-file", "1")),
		makeTar(t, file("etc/.wh.gone", ""), dir("opt/a"), file("opt/a/new", "2"), file("opt/a/.wh..wh..opq", ""),
			file(".wh.srv", ""), file("lib/through", "2"), hardlink("etc/hard", "etc/keep"), dir("was-file")),
		makeTar(t, file("etc/keep", "3"), device("usr/lib/so", 0)),
	}
}

var whatIsLeft = []string{
	"etc/", "etc/hard=1", "etc/keep=3", "lib->usr/lib", "opt/", "opt/a/", "opt/a/new=2",
	"usr/", "usr/lib/", "usr/lib/through=2", "was-file/",
}

func TestPull(t *testing.T) {
	for _, algorithm := range []string{"gzip", "zstd", ""} {
		t.Run("compression="+algorithm, func(t *testing.T) {
			h := newHub(t)
			h.push(t, "team/os", "v1", imageOf(t, algorithm, threeLayers(t)...))
			c := newClient(t)
			dest, config := mustFetch(t, c, "docker://"+h.host()+"/team/os:v1")
			if diff := cmp.Diff(whatIsLeft, tree(t, dest)); diff != "" {
				t.Errorf("unpacked (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff([]string{"PATH=/bin", "A=b c"}, config.Env); diff != "" {
				t.Errorf("env (-want +got):\n%s", diff)
			}
		})
	}
}
