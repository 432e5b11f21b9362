package fetch

import (
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"raptor-make/internal/images"
)

// layoutFiles are the files of a layout, by name, that holds images by tag.
func layoutFiles(t testing.TB, images map[string]*testImage) map[string][]byte {
	files := map[string][]byte{"oci-layout": []byte(`{"imageLayoutVersion":"1.0.0"}`)}
	blob := func(b []byte) { files["blobs/sha256/"+digest.FromBytes(b).Encoded()] = b }
	var index ispec.Index
	index.SchemaVersion = 2
	for tag, i := range images {
		d := i.descriptor()
		if tag != "" {
			d.Annotations = map[string]string{ispec.AnnotationRefName: tag}
		}
		index.Manifests = append(index.Manifests, d)
		blob(i.manifest)
		blob(i.config)
		for _, l := range i.layers {
			blob(l)
		}
	}
	files["index.json"] = marshal(t, index)
	return files
}

func writeLayout(t testing.TB, dir string, files map[string][]byte) {
	for name, content := range files {
		writeFile(t, filepath.Join(dir, name), content)
	}
}

func writeArchive(t testing.TB, name string, files map[string][]byte) {
	var entries []entry
	for name, content := range files {
		entries = append(entries, file("./"+name, string(content)))
	}
	writeFile(t, name, makeTar(t, entries...))
}

func TestLayout(t *testing.T) {
	one := imageOf(t, "gzip", threeLayers(t)...)
	two := imageOf(t, "zstd", makeTar(t, file("two", "2")))
	files := layoutFiles(t, map[string]*testImage{"one": one, "two": two})
	base := t.TempDir()
	writeLayout(t, base+"/layout", files)
	writeArchive(t, base+"/layout.tar", files)
	for _, url := range []string{"oci://" + base + "/layout", "oci://" + base + "/layout.tar"} {
		t.Run(filepath.Base(url), func(t *testing.T) {
			dest, config := mustFetch(t, newClient(t), url+":one")
			if diff := cmp.Diff(whatIsLeft, tree(t, dest)); diff != "" {
				t.Errorf("unpacked (-want +got):\n%s", diff)
			}
			if len(config.Env) != 2 {
				t.Errorf("env is %q", config.Env)
			}
			dest, _ = mustFetch(t, newClient(t), url+"@"+two.digest().String())
			if diff := cmp.Diff([]string{"two=2"}, tree(t, dest)); diff != "" {
				t.Errorf("unpacked (-want +got):\n%s", diff)
			}
		})
	}
}

func TestLayoutChooses(t *testing.T) {
	base := t.TempDir()
	arm := forPlatform(t, ispec.Platform{OS: "linux", Architecture: "arm64"})
	x86 := forPlatform(t, amd64)
	single := layoutFiles(t, map[string]*testImage{"": x86})
	writeLayout(t, base+"/single", single)
	writeLayout(t, base+"/foreign", layoutFiles(t, map[string]*testImage{"v1": arm}))
	writeLayout(t, base+"/two", layoutFiles(t, map[string]*testImage{"a": x86, "b": arm}))
	writeLayout(t, base+"/none", layoutFiles(t, nil))
	// Both platforms without tags, and both behind a tag of an index.
	flat := layoutFiles(t, map[string]*testImage{"": x86})
	for name, content := range layoutFiles(t, map[string]*testImage{"": arm}) {
		if name != "index.json" {
			flat[name] = content
		}
	}
	flat["index.json"] = marshal(t, indexOf(x86, arm))
	writeLayout(t, base+"/flat", flat)
	inner := marshal(t, indexOf(arm, x86))
	flat["blobs/sha256/"+digest.FromBytes(inner).Encoded()] = inner
	flat["index.json"] = marshal(t, ispec.Index{Manifests: []ispec.Descriptor{{MediaType: ispec.MediaTypeImageIndex,
		Digest: digest.FromBytes(inner), Annotations: map[string]string{ispec.AnnotationRefName: "v1"}}}})
	writeLayout(t, base+"/nested", flat)

	writeLayout(t, base+"/full", layoutFiles(t, map[string]*testImage{"registry.example/os:v1": x86, "registry.example/os:v2": arm}))
	for _, name := range []string{"full:v1", "single", "two:a", "flat", "nested", "nested:v1"} {
		dest, _ := mustFetch(t, newClient(t), "oci://"+base+"/"+name)
		if diff := cmp.Diff([]string{"arch=amd64"}, tree(t, dest)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	for name, want := range map[string]string{
		"two":                 "/two holds several images, say which as two:TAG: a, b",
		"two:c":               `/two has no image tagged "c"; it has: a, b`,
		"single:c":            `/single has no image tagged "c"; it has: no tags at all`,
		"two:b":               "no image for linux/amd64",
		"foreign":             "no image for linux/amd64; there is only one, for linux/arm64",
		"none":                "/none holds no image",
		"missing":             "no such file or directory",
		"single/..":           "is no OCI layout: it has no index.json",
		"two:a@" + someDigest: "blob " + someDigest,
	} {
		c := newClient(t)
		_, _, err := fetch(t, c, "oci://"+base+"/"+name)
		wantError(t, c, err, want)
	}
}

func TestDamagedLayout(t *testing.T) {
	i := imageOf(t, "gzip", makeTar(t, file("a", "1")))
	for name, damage := range map[string]func(files map[string][]byte){
		i.digest().String(): func(f map[string][]byte) { f["blobs/sha256/"+i.digest().Encoded()] = i.config },
		i.configDigest():    func(f map[string][]byte) { f["blobs/sha256/"+i.configDigest()[7:]] = i.manifest },
		i.layerDigest(0): func(f map[string][]byte) {
			f["blobs/sha256/"+i.layerDigest(0)[7:]] = compressed(t, "gzip", makeTar(t, file("b", "2")))
		},
		"layer " + i.layerDigest(0) + ": ": func(f map[string][]byte) { delete(f, "blobs/sha256/"+i.layerDigest(0)[7:]) },
		"index.json: ":                     func(f map[string][]byte) { f["index.json"] = []byte("{") },
	} {
		files := layoutFiles(t, map[string]*testImage{"": i})
		damage(files)
		base := t.TempDir()
		writeLayout(t, base+"/x", files)
		writeArchive(t, base+"/x.tar", files)
		for _, url := range []string{"oci://" + base + "/x", "oci://" + base + "/x.tar"} {
			c := newClient(t)
			_, _, err := fetch(t, c, url)
			wantError(t, c, err, name, base+"/x")
		}
	}
}

// Names in an archive are no paths.
func TestHostileArchive(t *testing.T) {
	base := t.TempDir()
	writeFile(t, base+"/secret", []byte("{}"))
	for name, entries := range map[string][]entry{
		"symlink":   {symlink("index.json", base+"/secret")},
		"hard link": {hardlink("index.json", base+"/secret")},
		"dots":      {file("../index.json", "{}"), file("x/../../index.json", "{}")},
		"device":    {device("index.json", 1)},
	} {
		writeFile(t, base+"/x.tar", makeTar(t, entries...))
		c := newClient(t)
		_, _, err := fetch(t, c, "oci://"+base+"/x.tar")
		t.Log(name)
		wantError(t, c, err, base+"/x.tar is no OCI layout: it has no index.json")
	}
	writeFile(t, base+"/x.tar", makeTar(t, file("manifest.json", "[]")))
	c := newClient(t)
	_, _, err := fetch(t, c, "oci://"+base+"/x.tar")
	wantError(t, c, err, `it looks like one of "docker save" before Docker 25`)
	writeFile(t, base+"/x.tar", compressed(t, "gzip", makeTar(t, file("a", "1"))))
	_, _, err = fetch(t, c, "oci://"+base+"/x.tar")
	wantError(t, c, err, base+"/x.tar: not an archive of an OCI layout (an uncompressed tar)")
}

func TestLayoutChangesAfterResolve(t *testing.T) {
	base := t.TempDir()
	writeLayout(t, base, layoutFiles(t, map[string]*testImage{"": imageOf(t, "gzip", makeTar(t, file("a", "1")))}))
	c := newClient(t)
	r := parsed(t, "oci://"+base)
	_, err := c.Unpack(t.Context(), r, &images.Resolved{Digest: someDigest}, t.TempDir(), nil)
	wantError(t, c, err, base+" does not hold the image it was resolved to any more")
}
