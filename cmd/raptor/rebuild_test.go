package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

const rebuildProject = `
-- base.rapt --
FROM tar://busybox.tar
RUN sh -c "echo base >/base"
-- app.rapt --
FROM base
$ set data = load_yaml("data.yaml")
COPY conf /etc/app.conf
COPY tree /tree
RENDER page.txt /page name=data.name
INCLUDE part word=data.name
{% include 'snippet.txt' %}
RUN sh -c "cat /etc/app.conf /page /word /snippet >/sum; ls -lR /tree >>/sum"
-- part.rinc --
RUN sh -c "echo {{ word }} >/word"
-- web@.rapt --
FROM app
RUN sh -c "echo {{ instance }} >/instance"
-- builder.rapt --
FROM base
RUN sh -c "echo tools >/tools"
COPY --chmod=755 pack /pack
MOUNT --layers input /input
MOUNT --simple --readonly --optional data /data
MOUNT --simple --optional cache /cache
MOUNT --file output /output
ENTRYPOINT /pack
-- sign.rapt --
FROM base
MOUNT --file --readonly input /in
MOUNT --file output /out
CMD sh -c "wc -c </in >/out"
-- pack --
#!/bin/sh
set -e
{ echo "level $LEVEL args $*"; cat /input/raptor.json; [ ! -d /data ] || cat /data/*; find /input -type f ! -name raptor.json | sort | xargs cat; } >/output
date +%N >/cache/stamp
-- data.yaml --
name: hello
-- conf --
a = 1
-- page.txt --
page of {{ name }}
-- snippet.txt --
WRITE "a snippet" /snippet
-- Raptor.toml --
[run.pack]
target = "builder"
input = ["app", "web@one"]
output = "pack.out"
cache = "cache"
mount.data = "data"
env.LEVEL = 1

[run.sign]
target = "sign"
input = "pack.out"
output = "sign.out"

[run.other]
target = "builder"
input = "base"
output = "other.out"
cache = "cache"
`

// TestRebuildTable is the table of what must run again, and what must not, row
// by row, with real layers in the real sandbox. What ran is what tells "done"
// in the events.
func TestRebuildTable(t *testing.T) {
	w := project(t, t.TempDir(), rebuildProject)
	path := func(name string) string { return filepath.Join(w.dir, name) }
	for name, text := range map[string]string{"tree/a": "a", "tree/sub/b": "b", "data/d": "d"} {
		os.MkdirAll(filepath.Dir(path(name)), 0o755)
		write(t, path(name), text)
	}
	edit := func(name, old, new string) func() {
		return func() { replace(t, path(name), old, new) }
	}
	above := []string{"app", "web@one", "run pack", "run sign"}
	rows := []struct {
		what string
		do   func()
		want []string
	}{
		{"from nothing", func() {}, []string{"busybox.tar", "base", "app", "web@one", "builder", "sign", "run pack", "run sign", "run other"}},
		{"nothing", func() {}, nil},
		{"touch of everything", func() { touchAll(t, w.dir) }, nil},
		{"COPY of a file", edit("conf", "1", "2"), above},
		{"editing back: layers are in the store", edit("conf", "2", "1"), []string{"run pack", "run sign"}},
		{"a file in a copied directory", edit("tree/sub/b", "b", "c"), above},
		{"a new file in a copied directory", func() { write(t, path("tree/new"), "new") }, above},
		{"a file gone from a copied directory", func() { os.Remove(path("tree/new")) }, []string{"run pack", "run sign"}},
		{"RENDER template", edit("page.txt", "page", "Page"), above},
		{"load_yaml", edit("data.yaml", "hello", "bye"), above},
		{"{% include %}", edit("snippet.txt", "a snippet", "another"), above},
		{"INCLUDE", edit("part.rinc", "echo {{ word }}", "echo {{ word }}!"), above},
		{"argument of INCLUDE", edit("app.rapt", "part word=data.name", `part word="x"`), above},
		{"permission bits of a COPY source", func() { os.Chmod(path("conf"), 0o600) }, above},
		{"a comment, blanks and a continued line", edit("base.rapt", "RUN sh -c", "# comment\n\nRUN   sh \\\n  -c"), nil},
		{"RUN of the parent", edit("base.rapt", "echo base", "echo Base"),
			[]string{"base", "app", "web@one", "builder", "sign", "run pack", "run sign", "run other"}},
		{"ENV", edit("app.rapt", "FROM base\n", "FROM base\nENV A=1\n"), above},
		{"instance", edit("Raptor.toml", "web@one", "web@two"), []string{"web@two", "run pack", "run sign"}},
		{"MOUNT of a target: its jobs, but not what reads their output, which is the same", edit("builder.rapt", "MOUNT --file", "MOUNT --simple --optional extra /extra\nMOUNT --file"), []string{"run pack", "run other"}},
		{"CMD of a target", edit("sign.rapt", "wc -c", "wc  -c"), []string{"run sign"}},
		{"ENTRYPOINT of a target", edit("builder.rapt", "ENTRYPOINT /pack", "ENTRYPOINT sh /pack"), []string{"run pack", "run other"}},
		{"env of a job", edit("Raptor.toml", "LEVEL = 1", "LEVEL = 20"), []string{"run pack", "run sign"}},
		{"args of a job", edit("Raptor.toml", "env.LEVEL", "args = [\"x\"]\nenv.LEVEL"), []string{"run pack", "run sign"}},
		{"order of inputs", edit("Raptor.toml", `"app", "web@two"`, `"web@two", "app"`), []string{"run pack", "run sign"}},
		{"output deleted", func() { os.Remove(path("other.out")) }, []string{"run other"}},
		{"output truncated", func() { os.Truncate(path("pack.out"), 3) }, []string{"run pack"}},
		{"output edited", func() { write(t, path("sign.out"), "x") }, []string{"run sign"}},
		{"output replaced by another", func() { os.Rename(path("other.out"), path("sign.out")); write(t, path("other.out"), "y") }, []string{"run sign", "run other"}},
		{"content of a path input", func() { write(t, path("data/d"), "dd") }, []string{"run pack", "run sign"}},
		{"cache", func() { os.RemoveAll(path("cache")) }, nil},
		{"the project moved", func() {
			moved := t.TempDir()
			os.Remove(moved)
			if err := os.Rename(w.dir, moved); err != nil {
				t.Fatal(err)
			}
			w.dir = moved
		}, nil},
	}
	for _, row := range rows {
		row.do()
		if got := w.ran("raptor-make"); !sameSet(got, row.want) {
			t.Errorf("%s: ran %q, want %q", row.what, got, row.want)
		}
	}
}

// ran runs a command and returns the steps that were carried out.
func (w terminal) ran(args ...string) []string {
	w.t.Helper()
	events := filepath.Join(w.t.TempDir(), "events")
	w.run(append(args, "-q", "--events", events)...)
	text, err := os.ReadFile(events)
	if err != nil {
		w.t.Fatal(err)
	}
	var steps []string
	for line := range strings.Lines(string(text)) {
		var ev struct{ Kind, Step string }
		if err := json.Unmarshal([]byte(line), &ev); err != nil {
			w.t.Fatalf("%v in %s", err, line)
		}
		if ev.Kind == "done" {
			steps = append(steps, ev.Step)
		}
	}
	return steps
}

func sameSet(a, b []string) bool {
	a, b = slices.Clone(a), slices.Clone(b)
	slices.Sort(a)
	slices.Sort(b)
	return slices.Equal(a, b)
}

func touchAll(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	for _, e := range entries {
		if e.Type().IsRegular() {
			os.Chtimes(filepath.Join(dir, e.Name()), now, now)
		}
	}
}

// TestRunAgain runs a container twice, so that its start is recollected, and
// once more after each of the things that make it another container.
func TestRunAgain(t *testing.T) {
	const text = `
-- base.rapt --
FROM tar://busybox.tar
WRITE "base\n" /base
-- app.rapt --
FROM base
ENV WORD=hello
COPY conf /etc/app.conf
ENTRYPOINT sh -c "echo $(cat /base /etc/app.conf) $WORD $MORE $http_proxy $0 $*; touch /changed" name
CMD one
-- conf --
conf
`
	edit := func(name, old, new string) func(*testing.T, string) {
		return func(t *testing.T, dir string) { replace(t, filepath.Join(dir, name), old, new) }
	}
	remove := func(pattern string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			found, _ := filepath.Glob(filepath.Join(dir, pattern))
			if len(found) != 1 {
				t.Fatalf("%s: %q", pattern, found)
			}
			os.RemoveAll(found[0])
		}
	}
	rows := []struct {
		what string
		do   func(t *testing.T, dir string)
		args string // of raptor run, by blanks; "app" if empty
		env  string
		want string
	}{
		{what: "nothing", want: "base conf hello name one"},
		{what: "RUN of the parent", do: edit("base.rapt", "base\\n", "Base\\n"), want: "Base conf hello name one"},
		{what: "COPY source", do: edit("conf", "conf", "fnoc"), want: "base fnoc hello name one"},
		{what: "ENV", do: edit("app.rapt", "hello", "bye"), want: "base conf bye name one"},
		{what: "ENTRYPOINT", do: edit("app.rapt", `" name`, `" title`), want: "base conf hello title one"},
		{what: "CMD", do: edit("app.rapt", "CMD one", "CMD two"), want: "base conf hello name two"},
		{what: "mount", do: edit("app.rapt", "CMD", "MOUNT --file conf /base\nCMD"), args: "-M conf conf app", want: "conf conf hello name one"},
		{what: "arguments", args: "app two three", want: "base conf hello name two three"},
		{what: "arguments that look alike", args: `app one" "two`, want: `base conf hello name one" "two`},
		{what: "-e", args: "-e MORE=more app", want: "base conf hello more name one"},
		{what: "-e from the environment", args: "-e MORE app", env: "MORE=ours", want: "base conf hello ours name one"},
		{what: "proxy", env: "http_proxy=http://proxy.example", want: "base conf hello http://proxy.example name one"},
		{what: "another target", args: "base cat /base", want: "base"},
		{what: "layer removed", do: remove("layers/app-*"), want: "base conf hello name one"},
		{what: "store removed", do: remove("layers"), want: "base conf hello name one"},
		{what: "another store", do: func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, "Raptor.toml"), "[raptor]\nstore = \"other\"\n")
			remove("layers")(t, dir)
		}, want: "base conf hello name one"},
	}
	run := func(t *testing.T, w terminal, env string, args ...string) string {
		t.Helper()
		cmd := w.command(append([]string{"raptor", "run"}, args...)...)
		cmd.Env = append(os.Environ(), "RAPTOR_CACHE_DIR="+filepath.Join(w.dir, "cache"), env)
		var told bytes.Buffer
		cmd.Stderr = &told
		said, err := cmd.Output()
		if err != nil {
			t.Fatalf("run %q: %v\n%s", args, err, told.Bytes())
		}
		return string(said)
	}
	var projects []terminal
	for range rows {
		w := project(t, t.TempDir(), text)
		run(t, w, "", "app")
		projects = append(projects, w)
	}
	time.Sleep(2100 * time.Millisecond) // until the files are old enough to be trusted
	for i, row := range rows {
		t.Run(row.what, func(t *testing.T) {
			w := projects[i]
			run(t, w, "", "app")
			recollections, _ := filepath.Glob(filepath.Join(w.dir, "cache/recollections/*"))
			if len(recollections) != 1 {
				t.Fatalf("recollections are %q, want one", recollections)
			}
			if row.what == "nothing" { // one that lies shows that it is heeded
				lie(t, recollections[0], "WORD=hello", "WORD=olleh")
				row.want = strings.Replace(row.want, "hello", "olleh", 1)
			}
			if row.do != nil {
				row.do(t, w.dir)
			}
			args := strings.Fields(row.args)
			if len(args) == 0 {
				args = []string{"app"}
			}
			if got := strings.Join(strings.Fields(run(t, w, row.env, args...)), " "); got != row.want {
				t.Errorf("it says %q, want %q", got, row.want)
			}
			left, _ := filepath.Glob(filepath.Join(w.dir, "*/.raptor/build/*"))
			uses, _ := filepath.Glob(filepath.Join(w.dir, "*/.raptor/uses/[0-9]*"))
			if left = append(left, uses...); len(left) > 0 {
				t.Errorf("%q are left", left)
			}
		})
	}
}

// replace puts other text into a file, in the place of the first that it holds.
func replace(t *testing.T, file, old, new string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil || !strings.Contains(string(text), old) {
		t.Fatalf("%s: no %q in it (%v)", file, old, err)
	}
	write(t, file, strings.Replace(string(text), old, new, 1))
}

// TestLayoutRecollected has a plan on an OCI layout recollected, until the
// layout's index names another image.
func TestLayoutRecollected(t *testing.T) {
	for _, archive := range []bool{false, true} {
		t.Run(fmt.Sprintf("archive=%v", archive), func(t *testing.T) {
			w := project(t, t.TempDir(), "-- app.rapt --\nFROM oci://image\nENV WORD=hello\nENTRYPOINT sh -c \"echo $(cat /which) $WORD\"\n")
			// In its place, so that nothing about the project's directory changes.
			renew := func(which string) {
				layout := filepath.Join(w.dir, "image")
				if !archive {
					writeLayout(t, layout, which)
					return
				}
				dir := t.TempDir()
				writeLayout(t, dir, which)
				packed, err := exec.Command("tar", "-C", dir, "-c", ".").Output()
				if err != nil {
					t.Fatal(err)
				}
				write(t, layout, string(packed))
			}
			run := func(want string) {
				t.Helper()
				cmd := w.command("raptor", "run", "app")
				cmd.Env = append(os.Environ(), "RAPTOR_CACHE_DIR="+filepath.Join(w.dir, "cache"))
				if out, err := cmd.Output(); string(out) != want || err != nil {
					t.Errorf("it says %q (%v), want %q", out, err, want)
				}
			}
			renew("first")
			run("first hello\n")
			time.Sleep(2100 * time.Millisecond)
			run("first hello\n")
			recollections, _ := filepath.Glob(filepath.Join(w.dir, "cache/recollections/*"))
			if len(recollections) != 1 {
				t.Fatalf("recollections are %q, want one", recollections)
			}
			lie(t, recollections[0], "hello", "olleh") // shows that it is heeded
			run("first olleh\n")
			renew("other")
			run("other hello\n")
		})
	}
}

// TestLinksLeadElsewhere has a plan recollected, and then lets a symbolic link of
// the project lead to something else that is just as old.
func TestLinksLeadElsewhere(t *testing.T) {
	const base = "FROM tar://busybox.tar\n"
	rows := []struct {
		what, text string
		link       string // leads from here to NAME.1, then to NAME.2 beside it
		args       []string
	}{
		{what: "tar", link: "which.tar", text: "-- app.rapt --\nFROM tar://which.tar\nCMD cat /which\n"},
		{what: "directory of a tar", link: "at", text: "-- app.rapt --\nFROM tar://at/which.tar\nCMD cat /which\n"},
		{what: "OCI layout", link: "layout", text: "-- app.rapt --\nFROM oci://layout\nCMD cat /which\n"},
		{what: "source of COPY", link: "src", text: "-- src.1 --\n1\n-- src.2 --\n2\n-- app.rapt --\n" + base + "COPY src /which\nCMD cat /which\n"},
		{what: "directory of a source of COPY", link: "src", text: "-- src.1/which --\n1\n-- src.2/which --\n2\n-- app.rapt --\n" + base + "COPY src/which /which\nCMD cat /which\n"},
		{what: "copied directory", link: "src", text: "-- src.1/which --\n1\n-- src.2/which --\n2\n-- app.rapt --\n" + base + "COPY src/ /\nCMD cat /which\n"},
		{what: "template", link: "w.txt", text: "-- w.txt.1 --\n1\n-- w.txt.2 --\n2\n-- app.rapt --\n" + base + "RENDER w.txt /which\nCMD cat /which\n"},
		{what: "data", link: "d.yaml", text: "-- d.yaml.1 --\nw: 1\n-- d.yaml.2 --\nw: 2\n-- app.rapt --\n" + base + "WRITE \"{{ load_yaml(\"d.yaml\").w }}\\n\" /which\nCMD cat /which\n"},
		{what: "INCLUDE", link: "i.rinc", text: "-- i.rinc.1 --\nWRITE \"1\\n\" /which\n-- i.rinc.2 --\nWRITE \"2\\n\" /which\n-- app.rapt --\n" + base + "INCLUDE i\nCMD cat /which\n"},
		{what: "module", link: "mid.rapt", text: "-- mid.rapt.1 --\n" + base + "WRITE \"1\\n\" /which\n-- mid.rapt.2 --\n" + base + "WRITE \"2\\n\" /which\n-- app.rapt --\nFROM mid\nCMD cat /which\n"},
		{what: "package", link: "pkg", args: []string{"-L", "p", "pkg"}, text: "-- pkg.1/mid.rapt --\nFROM tar://busybox.tar\nWRITE \"1\\n\" /which\n-- pkg.2/mid.rapt --\nFROM tar://busybox.tar\nWRITE \"2\\n\" /which\n-- app.rapt --\nFROM $p.mid\nCMD cat /which\n"},
		{what: "ignored files", link: ".raptorignore", text: "-- src/which --\n1\n-- .raptorignore.1 --\nother\n-- .raptorignore.2 --\nwhich\n-- app.rapt --\n" + base + "WRITE \"2\\n\" /which\nCOPY src/ /\nCMD cat /which\n"},
		{what: "project file", link: "Raptor.toml", text: "-- Raptor.toml.1 --\n[raptor.link]\np = \"pkg1\"\n-- Raptor.toml.2 --\n[raptor.link]\np = \"pkg2\"\n" +
			"-- pkg1/w --\n1\n-- pkg2/w --\n2\n-- pkg1/m.rapt --\n" + base + "COPY w /which\n-- pkg2/m.rapt --\n" + base + "COPY w /which\n-- app.rapt --\nFROM $p.m\nCMD cat /which\n"},
	}
	run := func(t *testing.T, w terminal, args []string) string {
		t.Helper()
		cmd := w.command(append(append([]string{"raptor", "run"}, args...), "app")...)
		cmd.Env = append(os.Environ(), "RAPTOR_CACHE_DIR="+filepath.Join(w.dir, "cache"))
		var told bytes.Buffer
		cmd.Stderr = &told
		said, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v\n%s", err, told.Bytes())
		}
		return string(said)
	}
	lead := func(t *testing.T, w terminal, link, n string) {
		t.Helper()
		path := filepath.Join(w.dir, link)
		err := os.Symlink(filepath.Base(link)+"."+n, path+".new")
		if err == nil {
			err = os.Rename(path+".new", path)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	var projects []terminal
	for _, row := range rows {
		w := project(t, t.TempDir(), row.text)
		for _, n := range []string{"1", "2"} {
			packed := string(addToTar(t, busyboxTar(t), "which", n+"\n"))
			switch row.link {
			case "which.tar":
				write(t, filepath.Join(w.dir, row.link+"."+n), packed)
			case "at":
				os.Mkdir(filepath.Join(w.dir, row.link+"."+n), 0o755)
				write(t, filepath.Join(w.dir, row.link+"."+n, "which.tar"), packed)
			case "layout":
				writeLayout(t, filepath.Join(w.dir, row.link+"."+n), n+"\n")
			}
		}
		for _, dir := range []string{"pkg.1", "pkg.2", "pkg1", "pkg2"} { // each a package with a base of its own
			if _, err := os.Stat(filepath.Join(w.dir, dir)); err == nil {
				write(t, filepath.Join(w.dir, dir, "busybox.tar"), string(busyboxTar(t)))
			}
		}
		lead(t, w, row.link, "1")
		projects = append(projects, w)
	}
	time.Sleep(2100 * time.Millisecond)
	for i, row := range rows {
		t.Run(row.what, func(t *testing.T) {
			w := projects[i]
			if got := run(t, w, row.args); got != "1\n" {
				t.Fatalf("it says %q, want 1", got)
			}
		})
	}
	time.Sleep(2100 * time.Millisecond)
	for i, row := range rows {
		t.Run(row.what+" elsewhere", func(t *testing.T) {
			w := projects[i]
			run(t, w, row.args)
			recollections, _ := filepath.Glob(filepath.Join(w.dir, "cache/recollections/*"))
			if len(recollections) != 1 {
				t.Fatalf("recollections are %q, want one", recollections)
			}
			lead(t, w, row.link, "2")
			if got := run(t, w, row.args); got != "2\n" {
				t.Errorf("it says %q, want 2", got)
			}
		})
	}
}

// writeLayout makes an OCI layout of an image of busybox, in which a file holds a
// word.
func writeLayout(t *testing.T, dir, word string) {
	t.Helper()
	layer := addToTar(t, busyboxTar(t), "which", word)
	blob := func(mediaType string, b []byte) map[string]any {
		hex := fmt.Sprintf("%x", sha256.Sum256(b))
		write(t, filepath.Join(dir, "blobs/sha256", hex), string(b))
		return map[string]any{"mediaType": "application/vnd.oci.image." + mediaType, "digest": "sha256:" + hex, "size": len(b)}
	}
	encode := func(v any) []byte {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	if err := os.MkdirAll(filepath.Join(dir, "blobs/sha256"), 0o755); err != nil {
		t.Fatal(err)
	}
	top := blob("layer.v1.tar", layer)
	config := blob("config.v1+json", encode(map[string]any{"architecture": runtime.GOARCH, "os": "linux", "config": map[string]any{},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []any{top["digest"]}}}))
	manifest := blob("manifest.v1+json", encode(map[string]any{"schemaVersion": 2, "config": config, "layers": []any{top}}))
	write(t, filepath.Join(dir, "index.json"), string(encode(map[string]any{"schemaVersion": 2, "manifests": []any{manifest}})))
	write(t, filepath.Join(dir, "oci-layout"), `{"imageLayoutVersion":"1.0.0"}`)
}

// What one binary found out is not taken over by another: that may see it in
// another way.
func TestAnotherBinaryPlansAnew(t *testing.T) {
	w := project(t, t.TempDir(), "-- app.rapt --\nFROM tar://busybox.tar\nENV WORD=hello\nENTRYPOINT sh -c \"echo $WORD\"\n")
	original := program(t, "raptor")
	binary := filepath.Join(w.dir, "raptor")
	install := func() {
		t.Helper()
		if out, err := exec.Command("cp", "--preserve=timestamps", "--remove-destination", original, binary).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	run := func(want string) {
		t.Helper()
		cmd := exec.Command(binary, "run", "app")
		cmd.Dir = w.dir
		cmd.Env = append(os.Environ(), "RAPTOR_CACHE_DIR="+filepath.Join(w.dir, "cache"))
		if out, err := cmd.Output(); string(out) != want || err != nil {
			t.Errorf("it says %q (%v), want %q", out, err, want)
		}
	}
	install()
	run("hello\n")
	time.Sleep(2100 * time.Millisecond)
	run("hello\n")
	recollections, _ := filepath.Glob(filepath.Join(w.dir, "cache/recollections/*"))
	if len(recollections) != 1 {
		t.Fatalf("recollections are %q, want one", recollections)
	}
	lie(t, recollections[0], "hello", "olleh") // shows that it is heeded
	run("olleh\n")
	install()
	run("hello\n")
}

// addToTar adds a file at a tar's end.
func addToTar(t *testing.T, archive []byte, name, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	r := tar.NewReader(bytes.NewReader(archive))
	for {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err == nil {
			err = w.WriteHeader(h)
		}
		if err == nil {
			_, err = io.Copy(w, r)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text))}); err != nil {
		t.Fatal(err)
	}
	w.Write([]byte(text))
	w.Close()
	return b.Bytes()
}

// lie puts other text of the same length into a recollection.
func lie(t *testing.T, file, old, new string) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	body := bytes.ReplaceAll(data[:len(data)-4], []byte(old), []byte(new))
	data = binary.LittleEndian.AppendUint32(body, crc32.ChecksumIEEE(body))
	if err := os.WriteFile(file, data, 0o644); err != nil {
		t.Fatal(err)
	}
}
