package recipes

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A builder is one of the scripts, outside its container: with directories of
// its own in the place of the container's.
type builder struct {
	t    *testing.T
	root string
}

func newBuilder(t *testing.T) builder {
	t.Helper()
	root := t.TempDir()
	b := builder{t, root}
	places := strings.NewReplacer("/usr/lib/raptor", root+"/lib", "/input", root+"/input", "/output", root+"/output", "/cache", root+"/cache")
	scripts, err := filepath.Glob("builders/scripts/*")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range scripts {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		b.write("lib/"+filepath.Base(file), places.Replace(string(text)))
	}
	b.write("input/etc/hostname", "x\n")
	b.write("output/.keep", "")
	return b
}

func (b builder) write(name, text string) {
	b.t.Helper()
	file := filepath.Join(b.root, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o755); err != nil {
		b.t.Fatal(err)
	}
}

// run runs a script with options and returns what it says, on both streams.
func (b builder) run(script string, options ...string) (string, error) {
	cmd := exec.Command("bash", filepath.Join(b.root, "lib", script))
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH") + ":/usr/sbin:/sbin", "TMPDIR=" + b.root}, options...)
	out, err := cmd.CombinedOutput()
	return strings.ReplaceAll(string(out), b.root, ""), err
}

// TestOptions: wrong options are all reported, before any work.
func TestOptions(t *testing.T) {
	for _, test := range []struct {
		script  string
		options []string
		want    []string
	}{
		{"iso", []string{"GRUB_TIMEOUT=soon", "COMPRESSION=rar", "VOLUME_ID=a b", "KERNEL_ARGS=a\nb", "SOURCE_DATE_EPOCH=now"}, []string{
			`GRUB_TIMEOUT is "soon"; it takes seconds, a whole number from 0 to 3600`,
			`COMPRESSION is "rar"; it takes one of zstd, xz, gzip, lz4, none`,
			`VOLUME_ID is "a b"; it takes 1 to 32 letters`,
			`KERNEL_ARGS holds a line break`,
			`SOURCE_DATE_EPOCH is "now"`,
		}},
		{"iso", nil, []string{"the input has no raptor.json"}},
		{"disk-image", []string{"OUTPUT_FORMAT=zip", "EFI_MB=1", "BOOT_MB=-3", "FREE_MB=1.5", "USED_MB="}, []string{
			`OUTPUT_FORMAT is "zip"; it takes one of raw, qcow2, vmdk, vdi, vhdx`,
			`EFI_MB is "1"; it takes MiB, a whole number from 8 to 4095`,
			`BOOT_MB is "-3"`, `FREE_MB is "1.5"`, `USED_MB is ""`,
		}},
		{"disk-image", []string{"SIZE_MB=9999999999", "FREE_MB=10"}, []string{`SIZE_MB is "9999999999"`, "it leaves nothing for FREE_MB or USED_MB to say"}},
		{"disk-image", []string{"RAPTOR_OUTPUT=out/disk.qcow2"}, []string{"the output disk.qcow2 is named as qcow2 is, but OUTPUT_FORMAT is raw"}},
		{"disk-image", nil, []string{"install the package linux-image-amd64", "install the package systemd-sysv"}},
		{"tarball", []string{"RAPTOR_OUTPUT=rootfs.zip", "EXCLUDE=/ ../etc a/./b"}, []string{
			`the output is "rootfs.zip"; it must end in .tar`,
			`EXCLUDE names the whole tree`, `EXCLUDE names "../etc"`, `EXCLUDE names "a/./b"`,
		}},
	} {
		out, err := newBuilder(t).run(test.script, test.options...)
		if err == nil {
			t.Errorf("%s with %q did not fail:\n%s", test.script, test.options, out)
		}
		for _, want := range test.want {
			if !strings.Contains(out, want) {
				t.Errorf("%s with %q did not say %s:\n%s", test.script, test.options, want, out)
			}
		}
		if lines := strings.Count(out, "\n"); lines != len(test.want) {
			t.Errorf("%s with %q said %d things, want %d:\n%s", test.script, test.options, lines, len(test.want), out)
		}
	}
}

func TestLayersWithoutKernel(t *testing.T) {
	for name, files := range map[string][]string{
		`x has no kernel (no /boot/vmlinuz-*): install the package linux-image-amd64 in it`: {"input/l1/etc/x"},
		`x has a kernel but no initrd for it`:                                               {"input/l1/boot/vmlinuz-1", "input/l1/boot/initrd.img-2"},
		`x has a kernel with an unusable version in its name: "1$x"`:                        {"input/l1/boot/vmlinuz-1$x", "input/l1/boot/initrd.img-1$x"},
		`x has no live-boot: install the package live-boot in it`:                           {"input/l1/boot/vmlinuz-1", "input/l1/boot/initrd.img-1"},
		`layer l1 of x is not mounted below /input`:                                         nil,
	} {
		if _, err := exec.LookPath("jq"); err != nil {
			t.Skip("needs jq")
		}
		b := newBuilder(t)
		b.write("input/raptor.json", `{"targets": ["x"], "layers": {"x": ["l1"]}}`)
		for _, file := range files {
			b.write(file, "")
		}
		if out, err := b.run("iso"); err == nil || !strings.Contains(out, name) {
			t.Errorf("want %s, got %v:\n%s", name, err, out)
		}
	}
}

// TestTarball packs a tree twice, with what is awkward in it.
func TestTarball(t *testing.T) {
	for _, tool := range []string{"pigz", "tar"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip("needs " + tool)
		}
	}
	var first string
	for i := range 2 {
		b := newBuilder(t)
		b.write("input/a", "later than it should be")
		b.write("input/drop/me", "")
		b.write("input/usr/share/doc/x/copyright", "")
		b.write("input/"+"n\xff\nl", "")
		if err := os.Link(filepath.Join(b.root, "input/a"), filepath.Join(b.root, "input/z")); err != nil {
			t.Fatal(err)
		}
		out, err := b.run("tarball", "RAPTOR_OUTPUT=x.tar.gz", "SOURCE_DATE_EPOCH=1000000000", "EXCLUDE=/drop/\n/usr/share/*/x")
		if err != nil {
			t.Fatalf("%v:\n%s", err, out)
		}
		file := filepath.Join(b.root, "output/rootfs.tar")
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = string(text)
		} else if first != string(text) {
			t.Error("the same tree gave other bytes")
		}
		list, err := exec.Command("tar", "--utc", "--full-time", "-tvzf", file).Output()
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"2001-09-09 01:46:40 ./a\n", "./z link to ./a\n", "./usr/share/doc/\n", `n\377\nl`} {
			if !strings.Contains(string(list), want) {
				t.Errorf("the tar lacks %s:\n%s", want, list)
			}
		}
		for _, none := range []string{"drop", "copyright", "doc/x"} {
			if strings.Contains(string(list), none) {
				t.Errorf("the tar has %s:\n%s", none, list)
			}
		}
	}
}

// TestBytes writes numbers into a file and reads them back; the checksum is
// that of RFC 3720.
func TestBytes(t *testing.T) {
	b := newBuilder(t)
	b.write("lib/test", `set -euo pipefail
. `+b.root+`/lib/bytes.bash
. `+b.root+`/lib/format.bash
file=`+b.root+`/bytes
truncate -s 32 "$file"
crc32c "$file" 0 32; echo
patch_bytes "$file" 3 "$(little_endian 305419896 8)"
hex_at "$file" 2 6; echo
number_at "$file" 3 8; echo
stat -c %s "$file"
`)
	if out, err := b.run("test"); err != nil || out != "2324772522\n007856341200\n305419896\n32\n" {
		t.Errorf("%v: %q", err, out)
	}
}
