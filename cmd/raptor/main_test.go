package main

import (
	"archive/tar"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"raptor-make/internal/cli"
	"raptor-make/internal/usertest"
)

func TestMain(m *testing.M) {
	if os.Getenv(asUser) != "" {
		os.Exit(m.Run()) // with the built programs, which PATH has
	}
	testscript.Main(m, map[string]func(){
		"raptor":      func() { os.Exit(cli.Raptor(os.Args[1:])) },
		"raptor-make": func() { os.Exit(cli.RaptorMake(os.Args[1:])) },
		"on-machine":  onMachine,
	})
}

// TestScripts runs the files in testdata/script: each is one behaviour, seen
// from the command line. Beside testscript's own commands there are
//
//	busybox FILE       makes a root file system of busybox as a tar
//	status N CMD…      runs a command that must end with exit status N
//	layer NAME         sets $layer to the directory of a finished layer
//	[ordinary]         is true for an ordinary user
func TestScripts(t *testing.T) {
	ordinary := os.Getenv(asUser)
	if os.Geteuid() != 0 && ordinary == "" {
		t.Skip("needs root")
	}
	testscript.Run(t, testscript.Params{
		WorkdirRoot:         ordinary,
		Dir:                 "testdata/script",
		RequireUniqueNames:  true,
		RequireExplicitExec: true,
		Condition: func(what string) (bool, error) {
			if what != "ordinary" {
				return false, fmt.Errorf("unknown condition")
			}
			return ordinary != "", nil
		},
		Setup: func(env *testscript.Env) error {
			env.Setenv("RAPTOR_CACHE_DIR", filepath.Join(env.WorkDir, ".cache"))
			env.Setenv("RAPTOR_AGENT", os.Getenv("RAPTOR_AGENT"))
			env.Setenv("RAPTOR_FETCHER", os.Getenv("RAPTOR_FETCHER"))
			env.Setenv("TMPDIR", os.TempDir()) // one below the project would be copied with it
			if ordinary == "" {
				env.Setenv("GOCACHE", goCache(t))
			}
			env.Setenv("PATH", env.Getenv("PATH"))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"busybox": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Check(os.WriteFile(ts.MkAbs(args[0]), busyboxTar(t), 0o644))
			},
			"status": status,
			"layer": func(ts *testscript.TestScript, _ bool, args []string) {
				found, _ := filepath.Glob(ts.MkAbs("layers/" + args[0] + "-*"))
				if len(found) != 1 {
					ts.Fatalf("layers of %s: %v, want one", args[0], found)
				}
				ts.Setenv("layer", found[0])
			},
		},
	})
}

// asUser is the variable that makes TestScripts do its work as an ordinary user,
// in the directory that it names.
const asUser = "RAPTOR_TEST_AS_USER"

// TestScriptsAsUser runs all scripts as an ordinary user: everything that they
// show is the same without root.
func TestScriptsAsUser(t *testing.T) {
	u := usertest.New(t)
	for _, name := range []string{"raptor", "raptor-make"} {
		u.Copy(t, program(t, name), "bin-"+name)
	}
	bin := u.Path("bin")
	if err := os.Mkdir(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"raptor", "raptor-make"} {
		os.Rename(u.Path("bin-"+name), filepath.Join(bin, name))
	}
	u.Copy(t, "testdata", "testdata")
	test := u.Copy(t, os.Args[0], "test")
	work := u.Path("scripts")
	os.Mkdir(work, 0o755)
	u.Give(t, work)
	cmd := u.Command(t.Context(), u.Dir, []string{asUser + "=" + work, "PATH=" + bin + ":" + os.Getenv("PATH")}, test, "-test.run=^TestScripts$", "-test.v")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// goCache lets programs under test build the sandbox's agent when there is no
// RAPTOR_AGENT.
func goCache(t *testing.T) string {
	out, err := exec.Command("go", "env", "GOCACHE").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

func status(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	if exit, ok := err.(*exec.ExitError); ok {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit status %d, want %d", got, want)
	}
}

// busyboxTar is a small root file system: busybox under the names of its
// programs, and a few files.
func busyboxTar(t testing.TB) []byte {
	t.Helper()
	path, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatal("busybox is missing: apt-get install busybox-static")
	}
	program, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	list, err := exec.Command(path, "--list").Output()
	if err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	add := func(h *tar.Header, data string) {
		h.Size = int64(len(data))
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		w.Write([]byte(data))
	}
	for _, dir := range []string{"bin", "etc", "tmp", "root", "old"} {
		add(&tar.Header{Name: dir + "/", Typeflag: tar.TypeDir, Mode: 0o755}, "")
	}
	add(&tar.Header{Name: "bin/busybox", Typeflag: tar.TypeReg, Mode: 0o755}, string(program))
	for name := range strings.FieldsSeq(string(list)) {
		if name != "busybox" {
			add(&tar.Header{Name: "bin/" + name, Typeflag: tar.TypeSymlink, Linkname: "busybox"}, "")
		}
	}
	add(&tar.Header{Name: "etc/passwd", Typeflag: tar.TypeReg, Mode: 0o644}, "root:x:0:0:root:/root:/bin/sh\nada:x:1000:1001::/:/bin/sh\n")
	add(&tar.Header{Name: "etc/group", Typeflag: tar.TypeReg, Mode: 0o644}, "root:x:0:\nada:x:1001:\n")
	add(&tar.Header{Name: "old/file", Typeflag: tar.TypeReg, Mode: 0o644}, "old\n")
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}
