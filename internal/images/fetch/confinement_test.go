package fetch

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"raptor-make/internal/images"
)

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
		if _, err := images.Parse("tar://"+path, root, root); err == nil || !strings.Contains(err.Error(), "leads out of "+root) {
			t.Errorf("%s: %v", path, err)
		}
		if _, err := images.Parse("tar://"+path, root, ""); err != nil {
			t.Errorf("%s, without a root: %v", path, err)
		}
	}
	c := newClient(t)
	for _, path := range []string{"ok.tar", "./../sub/ok.tar", "../in.tar", "../absin.tar", root + "/sub/ok.tar"} {
		r, err := images.Parse("tar://"+path, root+"/sub", root)
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
		r, err := images.Parse(url, root, root)
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
	r, err := images.Parse("oci://layout", root, root)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := newClient(t).Resolve(t.Context(), r, ""); err == nil || !strings.Contains(err.Error(), "leads out of") {
		t.Errorf("index.json: %v", err)
	}
}
