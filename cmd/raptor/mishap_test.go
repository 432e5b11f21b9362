package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"raptor-make/internal/usertest"
)

// slow is a project whose steps take long enough to be interrupted in each: a
// build, then a job.
const slowProject = `
-- base.rapt --
FROM tar://busybox.tar
-- build.rapt --
FROM base
RUN sh -c "echo building; sleep 60 & sleep 60"
-- job.rapt --
FROM base
MOUNT --file output /out
CMD sh -c "echo working; echo half >/out; sleep 60 & sleep 60"
-- Raptor.toml --
[run.job]
target = "job"
output = "out/result"
`

// project writes the files of a txtar-like text, and a busybox.tar, to a
// directory.
func project(t *testing.T, dir, text string) terminal {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	// What the programs leave behind is ours then, and can be found.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	parts := regexp.MustCompile(`(?m)^-- (.*) --\n`).FindAllStringSubmatchIndex(text, -1)
	for i, p := range parts {
		end := len(text)
		if i+1 < len(parts) {
			end = parts[i+1][0]
		}
		file := filepath.Join(dir, text[p[2]:p[3]])
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, file, text[p[1]:end])
	}
	if err := os.WriteFile(filepath.Join(dir, "busybox.tar"), busyboxTar(t), 0o644); err != nil {
		t.Fatal(err)
	}
	return terminal{t: t, dir: dir}
}

// projectOf is project for an ordinary user, who has the programs in a directory
// of theirs, too.
func projectOf(t *testing.T, u *usertest.User, name, text string) terminal {
	t.Helper()
	for _, name := range []string{"raptor", "raptor-make"} {
		u.Copy(t, program(t, name), name)
	}
	if err := os.Mkdir(u.Path(name), 0o755); err != nil {
		t.Fatal(err)
	}
	w := project(t, u.Path(name), text)
	u.Give(t, w.dir)
	w.as = u
	return w
}

// TestInterrupt sends SIGINT while a layer is built, a job runs and an image is
// downloaded: all ends within two seconds, and nothing is left behind.
func TestInterrupt(t *testing.T) {
	t.Run("root", func(t *testing.T) {
		testInterrupt(t, func(t *testing.T, text string) terminal { return project(t, t.TempDir(), text) })
	})
	t.Run("user", func(t *testing.T) {
		testInterrupt(t, func(t *testing.T, text string) terminal { return projectOf(t, usertest.New(t), "project", text) })
	})
}

func testInterrupt(t *testing.T, project func(t *testing.T, text string) terminal) {
	silent := silentRegistry(t)
	for _, c := range []struct {
		name, when string
		args       []string
	}{
		{"build", "building", []string{"raptor", "build", "build"}},
		{"job", "working", []string{"raptor-make"}},
		{"download", "", []string{"raptor", "build", "image"}},
		{"link", "", []string{"raptor-make", "-f", "linked.toml"}},
		{"container", "hello", []string{"raptor", "run", "base", "sh", "-c", "echo hello; sleep 60"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := project(t, slowProject+"-- image.rapt --\nFROM docker://"+silent+"/image:1\n"+
				"-- linked.toml --\n[raptor.link]\nfar = { git = \"http://"+silent+"/far.git\", rev = \"main\" }\n[run.job]\ntarget = \"job\"\noutput = \"out\"\n")
			w.run("raptor", "build", "base")
			var said lockedBuffer
			cmd := w.command(c.args...)
			cmd.Stdout, cmd.Stderr = &said, &said
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			for deadline := time.Now().Add(time.Minute); c.when != "" && !strings.Contains(said.String(), c.when); time.Sleep(10 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("never said %q:\n%s", c.when, said.String())
				}
			}
			if c.when == "" {
				time.Sleep(500 * time.Millisecond)
			}
			cmd.Process.Signal(syscall.SIGINT)
			start := time.Now()
			cmd.Wait()
			if took := time.Since(start); took > 2*time.Second {
				t.Errorf("it took %v to end", took)
			}
			if code := cmd.ProcessState.ExitCode(); code != 130 {
				t.Errorf("exit status %d, want 130:\n%s", code, said.String())
			}
			nothingLeft(t, w.dir)
		})
	}
}

// silentRegistry accepts connections and never answers.
func silentRegistry(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { conn.Close() })
		}
	}()
	return l.Addr().String()
}

// nothingLeft fails if a process, a mount, a loop device, a layer under
// construction or a temporary output is left of what ran in dir.
func nothingLeft(t *testing.T, dir string) {
	t.Helper()
	if mounts, _ := os.ReadFile("/proc/self/mountinfo"); bytes.Contains(mounts, []byte(dir)) {
		t.Errorf("mounts are left below %s:\n%s", dir, mounts)
	}
	for deadline := time.Now().Add(time.Second); ; time.Sleep(10 * time.Millisecond) {
		left := orphans()
		if len(left) == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Errorf("processes are left: %q", left)
			break
		}
	}
	if left, _ := os.ReadDir(filepath.Join(dir, "layers/.raptor/build")); len(left) > 0 {
		t.Errorf("layers under construction are left: %v", left)
	}
	filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.Contains(d.Name(), ".raptor-") {
			t.Errorf("%s is left", path)
		}
		return nil
	})
}

// orphans lists the processes that have become children of this one, because
// the programs under test have left them behind.
func orphans() []string {
	var left []string
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range stats {
		text, _ := os.ReadFile(file)
		name := text[:max(0, bytes.LastIndexByte(text, ')'))]
		var state string
		var parent int
		if _, err := fmt.Sscan(string(text[min(len(text), len(name)+1):]), &state, &parent); err != nil || parent != os.Getpid() {
			continue
		}
		var pid int
		fmt.Sscan(string(name), &pid)
		if state == "Z" {
			unix.Wait4(pid, nil, unix.WNOHANG, nil)
			continue
		}
		left = append(left, string(name))
	}
	return left
}

// TestKill kills the whole process group at random times. The next build makes
// what a build from nothing makes, and leaves nothing behind.
func TestKill(t *testing.T) {
	const text = `
-- base.rapt --
FROM tar://busybox.tar
-- app.rapt --
FROM base
RUN sh -c "for i in 1 2 3 4 5 6 7 8; do dd if=/dev/zero of=/f$i bs=1M count=1 2>/dev/null; done"
RUN rm -r /old
COPY Raptor.toml /Raptor.toml
-- job.rapt --
FROM app
MOUNT --layers input /in
MOUNT --file output /out
CMD sh -c "cd /in; find . ! -name raptor.json | sort >/out; cat /f* >>/out"
-- Raptor.toml --
[run.job]
target = "job"
input = "app"
output = "out"
`
	kills := 12
	if os.Getenv("RAPTOR_SOAK") != "" {
		kills = 300
	}
	t.Run("root", func(t *testing.T) {
		testKill(t, kills, project(t, t.TempDir(), text), project(t, t.TempDir(), text))
	})
	t.Run("user", func(t *testing.T) {
		u := usertest.New(t)
		testKill(t, kills/4, projectOf(t, u, "clean", text), projectOf(t, u, "killed", text))
	})
}

func testKill(t *testing.T, kills int, clean, w terminal) {
	start := time.Now()
	clean.run("raptor-make")
	whole := time.Since(start)
	want, err := os.ReadFile(filepath.Join(clean.dir, "out"))
	if err != nil {
		t.Fatal(err)
	}
	seed := rand.Uint64()
	t.Logf("seed %d; a whole build takes %v", seed, whole)
	random := rand.New(rand.NewPCG(seed, 0))
	for i := range kills {
		if i%3 == 0 {
			os.RemoveAll(filepath.Join(w.dir, "layers"))
		}
		cmd := w.command("raptor-make", "-q", "-q")
		if cmd.SysProcAttr == nil {
			cmd.SysProcAttr = &syscall.SysProcAttr{}
		}
		cmd.SysProcAttr.Setpgid = true
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(random.Int64N(int64(whole))))
		whom := cmd.Process.Pid // alone: those that it has started see that it is gone
		if i%2 == 0 {
			whom = -whom
		}
		syscall.Kill(whom, syscall.SIGKILL)
		cmd.Wait()
		if out, err := os.ReadFile(filepath.Join(w.dir, "out")); err == nil && !bytes.Equal(out, want) {
			t.Fatalf("kill %d left half an output", i)
		}
		w.run("raptor-make", "-q", "-q")
		if out, err := os.ReadFile(filepath.Join(w.dir, "out")); err != nil || !bytes.Equal(out, want) {
			t.Fatalf("after kill %d, the build made something else (%v)", i, err)
		}
		nothingLeft(t, w.dir)
		if t.Failed() {
			return
		}
		os.Remove(filepath.Join(w.dir, "out"))
	}
}

// TestFullDisk builds on a file system that fills up in a build step, in a job
// and while a base image is unpacked.
func TestFullDisk(t *testing.T) {
	for _, c := range []struct {
		name, kib string
		args      []string
		where     string
	}{
		{"build", "6000k", []string{"raptor", "build", "fill"}, `fill.rapt:2`},
		{"job", "6000k", []string{"raptor-make"}, "No space left"},
		{"fetch", "3000k", []string{"raptor", "build", "fill"}, "no space left"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+c.kib); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
			w := project(t, dir, "-- fill.rapt --\nFROM tar://busybox.tar\nRUN dd if=/dev/zero of=/big bs=1M count=20\n"+
				"-- job.rapt --\nFROM tar://busybox.tar\nMOUNT --file output /out\nCMD dd if=/dev/zero of=/out bs=1M count=20\n"+
				"-- Raptor.toml --\n[run.job]\ntarget = \"job\"\noutput = \"out\"\n")
			stdout, said, err := w.try(c.args...)
			if exit, ok := err.(*exec.ExitError); !ok || exit.ExitCode() != 1 || !strings.Contains(said, c.where) {
				t.Errorf("got %v, want status 1 and %q:\n%s%s", err, c.where, stdout, said)
			}
			if _, err := os.Stat(filepath.Join(dir, "out")); err == nil {
				t.Error("half an output is left")
			}
			if left, _ := os.ReadDir(filepath.Join(dir, "layers/.raptor/build")); len(left) > 0 {
				t.Errorf("layers under construction are left: %v", left)
			}
		})
	}
}

// TestNoSubordinateIDs says so at once, and touches nothing.
func TestNoSubordinateIDs(t *testing.T) {
	dir := t.TempDir()
	w := project(t, dir, "-- a.rapt --\nWRITE \"x\" /x\n")
	for d := dir; d != "/"; d = filepath.Dir(d) {
		os.Chmod(d, 0o777)
	}
	cmd := w.command("raptor", "build", "a")
	binary, err := os.ReadFile(cmd.Path)
	if err != nil {
		t.Fatal(err)
	}
	cmd.Path = filepath.Join(dir, "raptor")
	if err := os.WriteFile(cmd.Path, binary, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	cmd.Env = []string{"HOME=" + dir, "PATH=" + os.Getenv("PATH")}
	out, err := cmd.CombinedOutput()
	if exit, ok := err.(*exec.ExitError); !ok || exit.ExitCode() != 1 || !strings.Contains(string(out), "as root: usermod --add-subuids") || strings.Count(string(out), "error:") != 1 {
		t.Errorf("got %v:\n%s", err, out)
	}
	if _, err := os.Stat(filepath.Join(dir, "layers")); err == nil {
		t.Error("it made a store")
	}
}

// TestBadRegistries: each is one clear error that names the image, status 1.
func TestBadRegistries(t *testing.T) {
	serve := func(h http.HandlerFunc) string {
		s := httptest.NewServer(h)
		t.Cleanup(s.Close)
		return strings.TrimPrefix(s.URL, "http://")
	}
	for _, c := range []struct{ name, host, says string }{
		{"no such image", serve(http.NotFound), "has no"},
		{"refuses", serve(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }), "orbidden|denied|refuse"},
		{"talks nonsense", serve(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") }), ""},
		{"nobody there", closedPort(t), "refused"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := project(t, t.TempDir(), "-- a.rapt --\nFROM docker://"+c.host+"/some/image:1\n")
			_, said, err := w.try("raptor", "build", "a")
			if exit, ok := err.(*exec.ExitError); !ok || exit.ExitCode() != 1 {
				t.Errorf("got %v, want status 1", err)
			}
			if !regexp.MustCompile(c.says).MatchString(said) || !strings.Contains(said, c.host+"/some/image:1") || strings.Count(said, "error:") != 1 {
				t.Errorf("want one error with %q and the image's name, got:\n%s", c.says, said)
			}
		})
	}
}

// closedPort is an address of loopback where nobody listens.
func closedPort(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// A lockedBuffer may be written and read at once.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// TestOrphansAreFound makes sure that nothingLeft can find something.
func TestOrphansAreFound(t *testing.T) {
	project(t, t.TempDir(), "")
	if out, err := exec.Command("sh", "-c", "sleep 5 >/dev/null 2>&1 & echo").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if left := orphans(); len(left) != 1 || !strings.Contains(left[0], "sleep") {
		t.Errorf("found %q, want the sleep", left)
	} else {
		var pid int
		fmt.Sscan(left[0], &pid)
		syscall.Kill(pid, syscall.SIGKILL)
		time.Sleep(50 * time.Millisecond)
		orphans() // reaps it
	}
}
