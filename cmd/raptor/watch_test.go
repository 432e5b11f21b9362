package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
)

// TestWatch edits files under `raptor-make --watch`: what changed is made again,
// mistakes are told and waited out, and an interrupt ends it.
func TestWatch(t *testing.T) {
	for _, recollected := range []bool{false, true} {
		t.Run(fmt.Sprintf("recollected=%v", recollected), func(t *testing.T) { testWatch(t, recollected) })
	}
}

// testWatch is TestWatch, with a first round that has something to do, or that is
// recollected.
func testWatch(t *testing.T, recollected bool) {
	w := project(t, t.TempDir(), "-- t.rapt --\nFROM tar://busybox.tar\nCOPY dir /dir\nMOUNT --file output /out\nCMD \"cat /dir/* >/out\"\n"+
		"-- Raptor.toml --\n[run.x]\ntarget = \"t\"\noutput = \"out\"\n")
	os.Mkdir(filepath.Join(w.dir, "dir"), 0o755)
	write(t, filepath.Join(w.dir, "dir/a"), "one\n")
	if recollected {
		w.run("raptor-make", "-qq")
		time.Sleep(2100 * time.Millisecond) // until the files are old enough to be trusted
		w.run("raptor-make", "-qq")
	}
	// Directories above may be busy all the time.
	busy := time.NewTicker(50 * time.Millisecond)
	defer busy.Stop()
	go func() {
		for range busy.C {
			os.WriteFile(filepath.Join(filepath.Dir(w.dir), "busy"), nil, 0o644)
		}
	}()
	var said lockedBuffer
	cmd := w.command("raptor-make", "--watch")
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill() })
	waits, rounds := 0, 4
	if recollected {
		rounds--
	}
	await := func(what string, ok func() bool) {
		t.Helper()
		waits++
		for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
			if strings.Count(said.String(), "waiting for a change") >= waits && ok() {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("never came to: %s\n%s", what, said.String())
			}
		}
	}
	holds := func(text string) func() bool {
		return func() bool {
			out, _ := os.ReadFile(filepath.Join(w.dir, "out"))
			return string(out) == text
		}
	}
	await("the first build", holds("one\n"))
	write(t, filepath.Join(w.dir, "dir/a"), "two\n")
	await("an edited file", holds("two\n"))
	write(t, filepath.Join(w.dir, "dir/b"), "three\n")
	await("a new file", holds("two\nthree\n"))
	good, _ := os.ReadFile(filepath.Join(w.dir, "t.rapt"))
	write(t, filepath.Join(w.dir, "t.rapt"), "FLORG\n")
	await("a mistake", func() bool { return strings.Contains(said.String(), "unknown instruction") })
	write(t, filepath.Join(w.dir, "t.rapt"), string(good)+"ENV A=1\n")
	await("the mistake mended", func() bool { return strings.Count(said.String(), "run x ->") >= rounds })
	cmd.Process.Signal(os.Interrupt)
	cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 130 {
		t.Errorf("exit status %d, want 130", code)
	}
}

// TestDebugShell lets a step fail and looks around in what is left of it.
func TestDebugShell(t *testing.T) {
	w := project(t, t.TempDir(), "-- t.rapt --\nFROM tar://busybox.tar\nENV COLOUR=red\nWRITE \"kept\\n\" /before\nWORKDIR /tmp\nRUN sh -c \"echo half >/half; exit 4\"\n"+
		"-- job.rapt --\nFROM tar://busybox.tar\nMOUNT --overlay input /in\nCMD \"echo x >/made; exit 3\"\n"+
		"-- Raptor.toml --\n[run.layer]\ntarget = \"t\"\n[run.job]\ntarget = \"job\"\ninput = \"job\"\nenv.COLOUR = \"blue\"\n")
	for _, c := range []struct{ job, typed, want string }{
		{"layer", "cat /before /half; echo $COLOUR; pwd; exit\r", "kept\r\nhalf\r\nred\r\n/tmp\r\n"},
		{"job", "cat /made; ls -d /in/bin; echo $COLOUR; exit\r", "x\r\n/in/bin\r\nblue\r\n"},
	} {
		cmd := w.command("raptor-make", "--debug-shell", "--progress=plain", c.job)
		screen, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 40, Cols: 120})
		if err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(time.Minute, func() { cmd.Process.Kill() })
		var shown bytes.Buffer
		buf := make([]byte, 4096)
		for typed := false; ; {
			n, err := screen.Read(buf)
			shown.Write(buf[:n])
			if err != nil {
				break
			}
			if !typed && strings.Contains(shown.String(), " # ") {
				typed = true
				io.WriteString(screen, c.typed)
			}
		}
		cmd.Wait()
		screen.Close()
		if !strings.Contains(shown.String(), c.want) {
			t.Errorf("%s: the terminal shows no %q:\n%s", c.job, c.want, shown.String())
		}
		if code := cmd.ProcessState.ExitCode(); code != 1 {
			t.Errorf("%s: exit status %d, want 1", c.job, code)
		}
		nothingLeft(t, w.dir)
	}
}
