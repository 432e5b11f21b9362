package images

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTarball(t *testing.T) {
	content := makeTar(t, dir("etc"), file("etc/os-release", "ID=x"), symlink("bin", "usr/bin"))
	want := []string{"bin->usr/bin", "etc/", "etc/os-release=ID=x"}
	for _, algorithm := range []string{"", "gzip", "xz", "zstd"} {
		t.Run("compression="+algorithm, func(t *testing.T) {
			// The suffix must not matter.
			name := writeFile(t, t.TempDir()+"/root.tar.gz", compressed(t, algorithm, content))
			dest, _ := mustFetch(t, newClient(t), "tar://"+name)
			if diff := cmp.Diff(want, tree(t, dest)); diff != "" {
				t.Errorf("unpacked (-want +got):\n%s", diff)
			}
		})
	}
}
