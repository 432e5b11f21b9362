package images

import (
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
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
