package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestSixteenAtOnce has 16 processes build overlapping targets of one project
// at once. Each layer is built, and each job run, exactly once.
func TestSixteenAtOnce(t *testing.T) {
	var text, toml strings.Builder
	text.WriteString("-- l0.rapt --\nFROM tar://busybox.tar\n")
	for i := 1; i < 12; i++ {
		fmt.Fprintf(&text, "-- l%d.rapt --\nFROM l%d\nRUN sh -c \"echo %d >/f%d; sleep 0.1\"\n", i, (i-1)/2, i, i)
	}
	text.WriteString("-- job.rapt --\nFROM l0\nMOUNT --overlay input /in\nMOUNT --file output /out\nCMD sh -c \"cat /in/f* >/out\"\n")
	for i := 6; i < 12; i++ {
		fmt.Fprintf(&toml, "[run.j%d]\ntarget = \"job\"\ninput = \"l%d\"\noutput = \"out/%d\"\n", i, i, i)
	}
	w := project(t, t.TempDir(), text.String()+"-- Raptor.toml --\n"+toml.String())
	var all sync.WaitGroup
	for p := range 16 {
		all.Go(func() {
			args := []string{"raptor-make", "-q", "--events", filepath.Join(w.dir, fmt.Sprintf("events%d", p))}
			if p%4 != 0 {
				args = append(args, fmt.Sprintf("j%d", 6+p%6), fmt.Sprintf("j%d", 6+(p+2)%6))
			}
			if out, err := w.command(args...).CombinedOutput(); err != nil {
				t.Errorf("process %d: %v\n%s", p, err, out)
			}
		})
	}
	all.Wait()
	times := map[string]int{}
	waited := false
	for p := range 16 {
		text, err := os.ReadFile(filepath.Join(w.dir, fmt.Sprintf("events%d", p)))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			var ev struct{ Kind, Step string }
			if err := json.Unmarshal([]byte(line), &ev); err != nil {
				t.Fatal(err)
			}
			waited = waited || ev.Kind == "waiting"
			if ev.Kind == "done" {
				times[ev.Step]++
			}
		}
	}
	if len(times) != 1+12+1+6 {
		t.Errorf("%d steps were carried out, want 20: %v", len(times), times)
	}
	for step, n := range times {
		if n != 1 {
			t.Errorf("%s was carried out %d times", step, n)
		}
	}
	if !waited {
		t.Error("nobody waited for another: this proved nothing")
	}
	nothingLeft(t, w.dir)
}

// TestCleanBesideABuild removes all layers, again and again, while builds go
// on: none of them fails.
func TestCleanBesideABuild(t *testing.T) {
	w := project(t, t.TempDir(), "-- a.rapt --\nFROM tar://busybox.tar\nRUN sleep 0.1\n-- b.rapt --\nFROM a\nRUN sleep 0.1\n")
	done := make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				if out, err := w.command("raptor", "clean", "--all").CombinedOutput(); err != nil {
					t.Errorf("clean: %v\n%s", err, out)
					return
				}
			}
		}
	})
	for range 8 {
		if out, err := w.command("raptor", "run", "b", "true").CombinedOutput(); err != nil {
			t.Errorf("run: %v\n%s", err, out)
		}
	}
	close(done)
	all.Wait()
}

// TestInterruptAtAnyTime sends SIGINT at random times of a build: all is over
// within two seconds, with status 130 unless the build was done, and nothing is
// left.
func TestInterruptAtAnyTime(t *testing.T) {
	times := 6
	if os.Getenv("RAPTOR_SOAK") != "" {
		times = 50
	}
	w := project(t, t.TempDir(), slowProject+"-- quick.rapt --\nFROM base\nRUN sh -c \"for i in 1 2 3 4 5 6 7 8 9; do echo $i >/f$i; sleep 0.03; done\"\n")
	var longest time.Duration
	defer func() { t.Logf("of %d interrupts the slowest took %v", times, longest) }()
	for i := range times {
		os.RemoveAll(filepath.Join(w.dir, "layers"))
		cmd := w.command("raptor", "build", "quick")
		var said bytes.Buffer
		cmd.Stderr = &said
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		// Not before the program has begun to listen for signals.
		time.Sleep(30*time.Millisecond + rand.N(500*time.Millisecond))
		cmd.Process.Signal(os.Interrupt)
		start := time.Now()
		cmd.Wait()
		took := time.Since(start)
		longest = max(longest, took)
		if took > 2*time.Second {
			t.Errorf("interrupt %d: it took %v", i, took)
		}
		signaled := cmd.ProcessState.Sys().(syscall.WaitStatus).Signaled() && said.Len() == 0 // before it had begun
		if code := cmd.ProcessState.ExitCode(); !signaled && code != 130 && !(code == 0 && strings.Contains(said.String(), "] quick")) {
			t.Errorf("interrupt %d: exit status %d:\n%s", i, code, said.String())
		}
		nothingLeft(t, w.dir)
	}
}

// TestInterruptWithoutADisk has a disk answer no more while a layer, or an
// output, is being made durable: an interrupt ends the build nevertheless. When
// the disk is back, the next build makes what it should and removes what was
// left.
func TestInterruptWithoutADisk(t *testing.T) {
	for what, args := range map[string][]string{"layer": {"raptor", "build", "fill"}, "output": {"raptor-make"}} {
		t.Run(what, func(t *testing.T) {
			// The disk's data are on another, which can be told to take nothing.
			below := newDisk(t, 128)
			disk := newDiskIn(t, below.dir, 64)
			dir := filepath.Join(disk.dir, "project")
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			w := project(t, dir, "-- fill.rapt --\nFROM base\nRUN dd if=/dev/zero of=/data bs=1M count=8\n"+
				"-- base.rapt --\nFROM tar://busybox.tar\n"+
				"-- job.rapt --\nFROM base\nMOUNT --file output /out\nCMD sh -c \"dd if=/dev/zero of=/out bs=1M count=8\"\n"+
				"-- Raptor.toml --\n[run.job]\ntarget = \"job\"\noutput = \"out\"\n")
			w.run("raptor", "build", "base", "job")
			syscall.Sync()
			command(t, "fsfreeze", "--freeze", below.dir)
			thaw := sync.OnceFunc(func() { command(t, "fsfreeze", "--unfreeze", below.dir) })
			defer thaw()
			cmd := w.command(args...)
			var said bytes.Buffer
			cmd.Stderr = &said
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			for deadline := time.Now().Add(time.Minute); !makesDurable(cmd.Process.Pid); time.Sleep(10 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("nothing is being made durable:\n%s", said.String())
				}
			}
			cmd.Process.Signal(os.Interrupt)
			hangs := time.AfterFunc(30*time.Second, func() {
				t.Error("it does not end before the disk is back")
				thaw()
			})
			cmd.Wait()
			hangs.Stop()
			if code := cmd.ProcessState.ExitCode(); code != 130 {
				t.Errorf("exit status %d, want 130:\n%s", code, said.String())
			}
			thaw() // before that, even a look at a directory could wait
			if layers, _ := filepath.Glob(filepath.Join(w.dir, "layers", "fill-*")); len(layers) > 0 {
				t.Errorf("published nevertheless: %v", layers)
			}
			w.run(args...)
			nothingLeft(t, w.dir)
		})
	}
}

// makesDurable tells whether a process has one that waits for the disk, in a
// way in which it cannot even be killed.
func makesDurable(pid int) bool {
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, list := range lists {
		children, _ := os.ReadFile(list)
		for child := range strings.FieldsSeq(string(children)) {
			args, _ := os.ReadFile("/proc/" + child + "/cmdline")
			status, _ := os.ReadFile("/proc/" + child + "/status")
			if bytes.Contains(args, []byte("sync")) && bytes.Contains(status, []byte("State:\tD")) {
				return true
			}
		}
	}
	return false
}

// TestTroubledDisk builds on a file system that is read-only, and on one that
// gives errors from some moment on. One clear error, and when the trouble is
// over the next build makes everything.
func TestTroubledDisk(t *testing.T) {
	const text = "-- fill.rapt --\nFROM tar://busybox.tar\nRUN sh -c \"echo x >/x; sleep 1\"\n" +
		"-- job.rapt --\nFROM fill\nMOUNT --file output /out\nCMD sh -c \"echo made >/out\"\n" +
		"-- Raptor.toml --\n[run.job]\ntarget = \"job\"\noutput = \"out\"\n"
	for _, when := range []string{"before", "during"} {
		t.Run(map[string]string{"before": "read-only", "during": "I/O errors"}[when], func(t *testing.T) {
			dir := newDisk(t, 64).dir
			w := project(t, dir, text)
			remount := func(flags uintptr) error {
				return unix.Mount("", dir, "", unix.MS_REMOUNT|flags, "")
			}
			if when == "before" {
				if err := remount(unix.MS_RDONLY); err != nil {
					t.Fatal(err)
				}
			} else {
				w.run("raptor", "build", "fill")
				os.RemoveAll(filepath.Join(dir, "layers/.raptor/layers"))
				os.MkdirAll(filepath.Join(dir, "layers/.raptor/layers"), 0o755)
				time.AfterFunc(500*time.Millisecond, func() { shutdown(t, dir) })
			}
			_, said, err := w.try("raptor-make")
			if exit, ok := err.(*exec.ExitError); !ok || exit.ExitCode() != 1 || !strings.Contains(said, "rror") && !strings.Contains(said, "read-only") {
				t.Errorf("got %v, want status 1 and a clear error:\n%s", err, said)
			}
			t.Logf("it says:\n%s", said)
			if when == "before" {
				if err := remount(0); err != nil {
					t.Fatal(err)
				}
				w.run("raptor-make")
			}
		})
	}
}

// shutdown makes an ext4 file system fail from now on, as a disk does that is
// torn out: every write gives an I/O error.
func shutdown(t *testing.T, dir string) {
	f, err := os.Open(dir)
	if err != nil {
		t.Error(err)
		return
	}
	defer f.Close()
	const ext4Shutdown, noLogFlush = 0x8004587d, 2 // EXT4_IOC_SHUTDOWN, EXT4_GOING_FLAGS_NOLOGFLUSH
	if err := unix.IoctlSetPointerInt(int(f.Fd()), ext4Shutdown, noLogFlush); err != nil {
		t.Errorf("shut down: %v", err)
	}
}
