package boottest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// sector returns a disk whose boot sector says a text on the serial line, then
// halts, or resets the machine.
func sector(t *testing.T, text string, reset bool) Machine {
	t.Helper()
	code := []byte{
		0x31, 0xc0, 0x8e, 0xd8, // ds = 0
		0xbe, 0x19, 0x7c, 0xba, 0xf8, 0x03, // si = text, dx = the first serial line
		0xac, 0x84, 0xc0, 0x74, 0x03, 0xee, 0xeb, 0xf8, // say byte after byte, until 0
		0xf4, 0xeb, 0xfd, 0x90, 0x90, 0x90, 0x90, // halt for ever
	}
	if reset {
		copy(code[18:], []byte{0xb0, 0xfe, 0xe6, 0x64}) // by the keyboard's controller
	}
	disk := make([]byte, 1<<20) // firmware passes over a disk of one sector
	copy(disk, append(code, text...))
	disk[510], disk[511] = 0x55, 0xaa
	file := filepath.Join(t.TempDir(), "disk,with a comma.img")
	if err := os.WriteFile(file, disk, 0o600); err != nil {
		t.Fatal(err)
	}
	return Machine{Image: file, Memory: 64, Deadline: 20 * time.Second}
}

// A failing test, of which only the failure is wanted.
type failing struct {
	testing.TB
	message string
}

func (f *failing) Helper() {}

func (f *failing) Fatalf(format string, args ...any) {
	f.message = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

// failure returns what a test says that fails, "" if it doesn't.
func failure(t *testing.T, test func(testing.TB)) string {
	t.Helper()
	f := &failing{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		test(f)
	}()
	<-done
	return f.message
}

func TestWait(t *testing.T) {
	s := sector(t, "first\r\nsecond\r\n", false).Boot(t)
	s.Wait("first")
	if got := s.Wait("second"); got != "\r\nsecond" {
		t.Errorf("between the first and the second: %q", got)
	}
}

func TestWaitTooLong(t *testing.T) {
	m := sector(t, "all there is\r\n", false)
	m.Deadline = 2 * time.Second
	if got := failure(t, func(t testing.TB) { m.Boot(t).Wait("more") }); !strings.Contains(got, `did not say "more" in time`) || !strings.Contains(got, "all there is") {
		t.Errorf("the failure says: %s", got)
	}
}

func TestStopped(t *testing.T) {
	m := sector(t, "farewell\r\n", true)
	if got := failure(t, func(t testing.TB) { m.Boot(t).Wait("more") }); !strings.Contains(got, `stopped before it said "more"`) || !strings.Contains(got, "farewell") {
		t.Errorf("the failure says: %s", got)
	}
}

func TestPanic(t *testing.T) {
	m := sector(t, "Kernel panic - not syncing: out of ideas\r\n", false)
	if got := failure(t, func(t testing.TB) { m.Boot(t).Wait("more") }); !strings.Contains(got, "panicked") || !strings.Contains(got, "out of ideas") {
		t.Errorf("the failure says: %s", got)
	}
}

// TestEndsWithTest: nothing is left of a machine whose test is over, and the
// image is as it was.
func TestEndsWithTest(t *testing.T) {
	m := sector(t, "hello\r\n", false)
	before, _ := os.ReadFile(m.Image)
	var pid int
	t.Run("a test", func(t *testing.T) {
		s := m.Boot(t)
		s.Wait("hello")
		pid = s.cmd.Process.Pid
	})
	if pid == 0 {
		t.Skip("needs " + emulator)
	}
	if err := syscall.Kill(pid, 0); err != syscall.ESRCH {
		t.Errorf("the emulator is still there: %v", err)
	}
	if after, _ := os.ReadFile(m.Image); string(after) != string(before) {
		t.Error("the image was written to")
	}
}

// TestOnlyTests: no program contains this package.
func TestOnlyTests(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", "{{.ImportPath}}: {{join .Imports \" \"}}", "raptor-make/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		if name, imports, _ := strings.Cut(line, ": "); slices.Contains(strings.Fields(imports), "raptor-make/internal/boottest") {
			t.Errorf("%s imports it", name)
		}
	}
}

func TestReadable(t *testing.T) {
	if got := readable([]byte("\x1b[2J\x1b[1;31mred\x1b[0m\x1b[?2004h\r\nend\x1b(B")); got != "red\nend" {
		t.Errorf("readable: %q", got)
	}
}
