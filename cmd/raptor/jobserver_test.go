package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestJobserver runs two raptor-make under one GNU make with -j3: never more
// than three jobs run at once, and more than one does.
func TestJobserver(t *testing.T) {
	const text = `
-- t.rapt --
FROM tar://busybox.tar
MOUNT --simple data /data
CMD "echo >/data/$NAME; sleep 0.2; set -- /data/*; echo $#; rm /data/$NAME"
`
	w := project(t, t.TempDir(), text)
	var toml strings.Builder
	for _, group := range []string{"a", "b"} {
		for _, n := range []string{"1", "2", "3", "4", "5", "6"} {
			toml.WriteString("[run." + group + n + "]\ntarget = \"t\"\nmount.data = \"data\"\nenv.NAME = \"" + group + n + "\"\n")
		}
	}
	toml.WriteString("[group.a]\nrun = [\"a1\", \"a2\", \"a3\", \"a4\", \"a5\", \"a6\"]\n[group.b]\nrun = [\"b1\", \"b2\", \"b3\", \"b4\", \"b5\", \"b6\"]\n")
	write(t, filepath.Join(w.dir, "Raptor.toml"), toml.String())
	write(t, filepath.Join(w.dir, "Makefile"), "all: a b\na b:\n\t+"+program(t, "raptor-make")+" $@\n")
	w.run("raptor", "build", "t")
	for _, style := range []string{"fifo", "pipe"} {
		os.RemoveAll(filepath.Join(w.dir, "layers/.raptor/jobs"))
		cmd := exec.Command("make", "-j3", "--jobserver-style="+style)
		if style == "pipe" {
			cmd = exec.Command("make", "-j3") // older makes know no other
		} else if out, _ := exec.Command("make", "--version").Output(); !strings.Contains(string(out), "Make 4.4") && !strings.Contains(string(out), "Make 4.5") {
			continue
		}
		cmd.Dir = w.dir
		cmd.Env = withoutMakeFlags(os.Environ())
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", style, err, out)
		}
		most, jobs := 0, 0
		for line := range strings.Lines(string(out)) {
			if _, n, ok := strings.Cut(line, " | "); ok {
				jobs++
				most = max(most, int(n[0]-'0'))
			}
		}
		if most > 3 || most < 2 || jobs != 12 {
			t.Errorf("%s: %d jobs ran, at most %d at once; want 12 and 2 or 3\n%s", style, jobs, most, out)
		}
	}
}

func withoutMakeFlags(env []string) []string {
	var kept []string
	for _, v := range env {
		if !strings.HasPrefix(v, "MAKE") && !strings.HasPrefix(v, "MFLAGS") {
			kept = append(kept, v)
		}
	}
	return kept
}
