package main

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"raptor-make/internal/usertest"
)

// A terminal is a place from where the walk-through's commands are typed.
type terminal struct {
	t   *testing.T
	dir string
	as  *usertest.User // nil: root
}

// run types a command as the README has it, and returns what it prints on
// standard output and standard error.
func (w terminal) run(args ...string) (stdout, stderr string) {
	w.t.Helper()
	stdout, stderr, err := w.try(args...)
	if err != nil {
		w.t.Fatalf("%s: %v\n%s%s", strings.Join(args, " "), err, stdout, stderr)
	}
	return stdout, stderr
}

func (w terminal) try(args ...string) (stdout, stderr string, err error) {
	w.t.Logf("%s: %s", filepath.Base(w.dir), strings.Join(args, " "))
	var out, said bytes.Buffer
	cmd := w.command(args...)
	cmd.Stdout, cmd.Stderr = &out, &said
	err = cmd.Run()
	return out.String(), said.String(), err
}

// command is one of the programs, which testscript has put into PATH as links
// to this test binary.
func (w terminal) command(args ...string) *exec.Cmd {
	cmd := exec.Command(program(w.t, args[0]), args[1:]...)
	if w.as != nil {
		args[0] = w.as.Path(args[0])
		cmd = w.as.Command(w.t.Context(), w.dir, nil, args...)
	}
	cmd.Dir = w.dir
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

// program is the path of a built binary: that of `make build`, or one built
// for these tests.
func program(t *testing.T, name string) string {
	t.Helper()
	dir, err := programs()
	if err != nil {
		t.Fatalf("build the programs: %v", err)
	}
	return filepath.Join(dir, name)
}

// programs is the directory of the built programs.
var programs = sync.OnceValues(func() (string, error) {
	if dir := os.Getenv("RAPTOR_BIN"); dir != "" {
		return dir, nil
	}
	if out, err := exec.Command("make", "-C", "../..", "binaries").CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return filepath.Abs("../../bin")
})

// TestWalkThrough is the walk-through of the README, word by word, with a
// registry on loopback in the place of Docker's: by root and by an ordinary user.
func TestWalkThrough(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	host := debianRegistry(t)
	t.Run("root", func(t *testing.T) { walkThrough(t, host, t.TempDir(), nil) })
	t.Run("user", func(t *testing.T) {
		u := usertest.New(t)
		for _, name := range []string{"raptor", "raptor-make"} {
			u.Copy(t, program(t, name), name)
		}
		walkThrough(t, host, u.Path("home"), u)
	})
}

// walkThrough does it in a directory.
func walkThrough(t *testing.T, host, root string, u *usertest.User) {
	give := func(path string) {
		if u != nil {
			u.Give(t, path)
		}
	}
	copyTree(t, "../../examples/book", filepath.Join(root, "examples/book"))
	copyTree(t, "testdata/builders", filepath.Join(root, "builders"))
	mirror := fmt.Sprintf("[raptor.registry.\"docker.io\"]\nmirrors = [%q]\n", host)
	write(t, filepath.Join(root, "examples/book/Raptor.toml"), mirror)

	give(root)

	book := terminal{t, filepath.Join(root, "examples/book"), u}
	_, first := book.run("raptor", "build", "ssh")
	want := regexp.MustCompile(`(?m)^\[\*\] Completed \[[0-9A-F]{16}\] index\.docker\.io-library-debian-trixie\n` +
		`\[\*\] Completed \[[0-9A-F]{16}\] base\n\[\*\] Completed \[[0-9A-F]{16}\] ssh$`)
	completed := strings.Join(regexp.MustCompile(`(?m)^\[\*\].*$`).FindAllString(first, -1), "\n")
	if !want.MatchString(completed) {
		t.Errorf("raptor build printed:\n%s", completed)
	}
	start := time.Now()
	_, again := book.run("raptor", "build", "ssh")
	t.Logf("the second build took %v", time.Since(start))
	if strings.TrimSpace(again) != completed {
		t.Errorf("the second build printed:\n%s\nwant:\n%s", again, completed)
	}
	if out, _ := book.run("raptor", "run", "ssh", "id"); out != "uid=0(root) gid=0(root) groups=0(root)\n" {
		t.Errorf("id printed %q", out)
	}
	interactive(t, book)

	// From here on in the directory above, which has its own layers.
	os.Remove(filepath.Join(root, "examples/book/Raptor.toml"))
	write(t, filepath.Join(root, "Raptor.toml"), mirror+`
[raptor.link]
book = "examples/book"
rbuild = "builders"

[run.book-ssh]
target = "$rbuild.deblive"
input = "$book.ssh"
output = "job-liveboot.iso"
cache = "liveboot-cache"
`)
	if err := os.Rename(filepath.Join(book.dir, "layers"), filepath.Join(root, "layers")); err != nil {
		t.Fatal(err)
	}
	os.Rename(filepath.Join(book.dir, "Raptor.lock"), filepath.Join(root, "Raptor.lock"))
	give(filepath.Join(root, "Raptor.toml"))
	top := terminal{t, root, u}
	_, said := top.run("raptor", "run", "-L", "book", "examples/book", "-L", "rbuild", "builders", "-C", "liveboot-cache",
		"-I", "$book.ssh", "-O", "custom-liveboot.iso", "$rbuild.deblive")
	if !strings.Contains(said, completed) {
		t.Errorf("the layers were made anew, or their lines are missing:\n%s", said)
	}
	isBootableISO(t, filepath.Join(root, "custom-liveboot.iso"))
	top.run("raptor", "run", "--link", "book", "examples/book", "--link", "rbuild", "builders", "--cache", "liveboot-cache",
		"--input", "$book.ssh", "--output", "long.iso", "$rbuild.deblive")
	isBootableISO(t, filepath.Join(root, "long.iso"))

	_, said = top.run("raptor-make", "book-ssh")
	if !regexp.MustCompile(`(?m)^\[\*\] Completed \[[0-9A-F]{16}\] run book-ssh -> job-liveboot\.iso \([0-9.]+ MB\)$`).MatchString(said) {
		t.Errorf("raptor-make printed:\n%s", said)
	}
	isBootableISO(t, filepath.Join(root, "job-liveboot.iso"))
	_, said = top.run("raptor-make", "book-ssh")
	if !regexp.MustCompile(`(?m)^\[\*\] Up to date \[[0-9A-F]{16}\] run book-ssh$`).MatchString(said) {
		t.Errorf("raptor-make printed:\n%s", said)
	}
	if os.Getenv("RAPTOR_SOAK") != "" {
		bootISO(t, filepath.Join(root, "custom-liveboot.iso"))
	}
}

// interactive opens a shell in a container, as one does at a desk: on a
// terminal, changing things, leaving.
func interactive(t *testing.T, w terminal) {
	t.Helper()
	for _, session := range []struct{ typed, want string }{
		{"tty; touch /mark; ls / | grep mark; stty size; exit 5\r", "/dev/pts/0"},
		{"ls /mark || echo is gone; exit 5\r", "is gone"},
	} {
		cmd := w.command("raptor", "run", "ssh", "sh")
		screen, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 33, Cols: 99})
		if err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(3*time.Minute, func() { cmd.Process.Kill() })
		var shown bytes.Buffer
		buf := make([]byte, 4096)
		for typed := false; ; {
			n, err := screen.Read(buf)
			shown.Write(buf[:n])
			if err != nil {
				break // the terminal is closed at the end
			}
			if !typed && strings.HasSuffix(strings.TrimRight(shown.String(), " "), "#") {
				typed = true
				io.WriteString(screen, session.typed)
			}
		}
		cmd.Wait()
		screen.Close()
		if !strings.Contains(shown.String(), session.want) {
			t.Errorf("the terminal shows no %q:\n%s", session.want, shown.String())
		}
		if code := cmd.ProcessState.ExitCode(); code != 5 {
			t.Errorf("exit status %d, want 5:\n%s", code, shown.String())
		}
		if session.want == "/dev/pts/0" && !strings.Contains(shown.String(), "33 99") {
			t.Errorf("the terminal inside has another size:\n%s", shown.String())
		}
	}
}

// debianRegistry starts a registry on loopback that has debian:trixie, made of
// a bootstrap, and returns its address.
func debianRegistry(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "debian.rapt"), "FROM debian://trixie\n")
	terminal{t: t, dir: dir}.run("raptor", "build", "debian")
	found, _ := filepath.Glob(filepath.Join(dir, "layers/debian-trixie*"))
	if len(found) != 1 {
		t.Fatalf("layers of the bootstrap: %v", found)
	}
	packed := filepath.Join(dir, "layer.tar")
	if out, err := exec.Command("tar", "--xattrs", "--xattrs-include=*", "-C", found[0], "-cf", packed, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	layer, err := tarball.LayerFromFile(packed, tarball.WithCompressionLevel(1))
	if err != nil {
		t.Fatal(err)
	}
	image, err := mutate.AppendLayers(empty.Image, layer)
	if err == nil {
		image, err = mutate.ConfigFile(image, &v1.ConfigFile{Architecture: "amd64", OS: "linux",
			Config: v1.Config{Env: []string{"FROM_IMAGE=yes"}, Cmd: []string{"bash"}}, RootFS: must(image.ConfigFile()).RootFS})
	}
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	host := strings.TrimPrefix(server.URL, "http://")
	ref, err := name.ParseReference(host + "/library/debian:trixie")
	if err == nil {
		err = remote.Write(ref, image)
	}
	if err != nil {
		t.Fatal(err)
	}
	return host
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func isBootableISO(t *testing.T, file string) {
	t.Helper()
	out, err := exec.Command("xorriso", "-indev", file, "-report_el_torito", "plain", "-report_system_area", "plain").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, want := range []string{`El Torito boot img.*BIOS`, `El Torito boot img.*UEFI`} {
		if !regexp.MustCompile(want).Match(out) {
			t.Errorf("%s: no %s in\n%s", file, want, out)
		}
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func copyTree(t *testing.T, from, to string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		t.Fatal(err)
	}
	var entries []fs.DirEntry
	entries, err := os.ReadDir(from)
	if err != nil || len(entries) == 0 {
		t.Fatalf("%s: %v", from, err)
	}
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	for _, built := range []string{"layers", "Raptor.lock"} {
		os.RemoveAll(filepath.Join(to, built))
	}
}
