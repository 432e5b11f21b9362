package ui

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/charmbracelet/x/vt"
	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// A child is a scenario that runs on a terminal of its own.
type child struct {
	t      *testing.T
	cmd    *exec.Cmd
	master *os.File
	before unix.Termios
	read   sync.WaitGroup

	mu       sync.Mutex
	emulator *vt.Emulator
	raw      bytes.Buffer
}

func startChild(t *testing.T, scenario string, w, h uint16, env ...string) *child {
	t.Helper()
	c := &child{t: t, cmd: exec.Command(os.Args[0]), emulator: vt.NewEmulator(int(w), int(h))}
	c.cmd.Env = append(os.Environ(), append([]string{"UI_SCENARIO=" + scenario, "TERM=xterm-256color", "LC_ALL=C.UTF-8", "NO_COLOR=", "CLICOLOR_FORCE="}, env...)...)
	master, slave, err := pty.Open()
	if err != nil {
		t.Skipf("no pseudo-terminals: %v", err)
	}
	if err := pty.Setsize(master, &pty.Winsize{Cols: w, Rows: h}); err != nil {
		t.Fatal(err)
	}
	c.master = master
	c.before = c.termios()
	c.cmd.Stdin, c.cmd.Stdout, c.cmd.Stderr = slave, slave, slave
	c.cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true, Setctty: true}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	slave.Close()
	c.read.Go(c.copy)
	t.Cleanup(func() {
		c.cmd.Process.Kill()
		c.master.Close()
	})
	return c
}

func (c *child) copy() {
	buffer := make([]byte, 4096)
	for {
		n, err := c.master.Read(buffer)
		c.mu.Lock()
		c.raw.Write(buffer[:n])
		c.emulator.Write(buffer[:n])
		c.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (c *child) termios() unix.Termios {
	c.t.Helper()
	got, err := unix.IoctlGetTermios(int(c.master.Fd()), unix.TCGETS)
	if err != nil {
		c.t.Fatal(err)
	}
	return *got
}

func (c *child) screen() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.emulator.String()
}

// until waits for the screen to show text.
func (c *child) until(text string) {
	c.t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if screen := c.screen(); strings.Contains(screen, text) {
			return
		} else if time.Now().After(end) {
			c.t.Fatalf("%q was never seen on\n%s", text, screen)
		}
	}
}

// ended waits for the program's end and checks what it leaves behind.
func (c *child) ended() {
	c.t.Helper()
	// The settings are read while the terminal still has a slave.
	c.until("program over")
	if after := c.termios(); after != c.before {
		c.t.Errorf("the terminal was %+v and is %+v", c.before, after)
	}
	if err := c.cmd.Wait(); err != nil {
		c.t.Error(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.emulator.CursorHidden() {
		c.t.Error("the cursor is hidden")
	}
	raw := c.raw.String()
	for _, mode := range []string{"2026", "25", "7"} {
		on, off := strings.LastIndex(raw, "\x1b[?"+mode+"h"), strings.LastIndex(raw, "\x1b[?"+mode+"l")
		if (mode == "2026") == (on > off) {
			c.t.Errorf("mode %s is left as it should not be", mode)
		}
	}
	if screen := c.emulator.String(); strings.Contains(screen, "running") {
		c.t.Errorf("the region is still there:\n%s", screen)
	}
}

func TestTerminalInterrupted(t *testing.T) {
	for name, interrupt := range map[string]func(*child){
		"Ctrl-C":  func(c *child) { c.master.Write([]byte{3}) },
		"SIGTERM": func(c *child) { c.cmd.Process.Signal(unix.SIGTERM) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := startChild(t, "live", 80, 24)
			c.until("running")
			if l := c.termios().Lflag; l&unix.ICANON != 0 || l&unix.ECHO != 0 || l&unix.ISIG == 0 {
				t.Errorf("local modes are %#o while the region is shown", l)
			}
			interrupt(c)
			c.until("Interrupted after")
			c.ended()
		})
	}
}

// While a run stops, which may take a while, the display says so and has put
// the terminal back already: a second interrupt may end the program anywhere.
func TestTerminalStopping(t *testing.T) {
	t.Parallel()
	c := startChild(t, "stubborn", 80, 24)
	c.until("1 running")
	c.master.Write([]byte{3})
	c.until("stopping")
	for end := time.Now().Add(5 * time.Second); c.termios() != c.before; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the terminal is not put back")
		}
	}
	c.cmd.Process.Kill()
	c.cmd.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.emulator.CursorHidden() {
		t.Error("the cursor is hidden after SIGKILL")
	}
}

// Keys select; what is typed is neither echoed nor does Enter push the region up.
func TestTerminalKeys(t *testing.T) {
	t.Parallel()
	c := startChild(t, "live", 80, 24)
	c.until("2 running")
	c.master.Write([]byte("xyz\r\r\r"))
	c.master.Write([]byte("\x1b[B\x1b[B\x1b[B"))
	c.until("▸ run disk")
	c.master.Write([]byte("1"))
	c.until("▸ base")
	screen := c.screen()
	if strings.Contains(screen, "xyz") || strings.Count(screen, "2 running") != 1 {
		t.Errorf("the screen is\n%s", screen)
	}
	c.master.Write([]byte{3})
	c.ended()
}

func TestTerminalFailure(t *testing.T) {
	t.Parallel()
	c := startChild(t, "fail", 100, 50)
	c.until("program over")
	screen := c.screen()
	for _, want := range []string{"base failed after", "exit status 100", "| line 10", "| line 29", "Its full log: .raptor/logs/base.log", "Skipped because base failed: run iso", "Cancelled: run disk"} {
		if !strings.Contains(screen, want) {
			t.Errorf("%q is not on\n%s", want, screen)
		}
	}
	c.ended()
}

// With nothing to do, the terminal is left alone.
func TestTerminalNothingToDo(t *testing.T) {
	t.Parallel()
	c := startChild(t, "nothing", 80, 24, "NO_COLOR=1")
	c.until("program over")
	c.cmd.Wait()
	c.read.Wait()
	want := "[*] Completed [AB1DD71BFD07718B] base\r\n[*] Up to date [0011223344556677] run iso\r\nprogram over\r\n"
	if got := c.raw.String(); got != want {
		t.Errorf("%q was written, want %q", got, want)
	}
}

// A terminal that can't move its cursor gets lines.
func TestTerminalDumb(t *testing.T) {
	t.Parallel()
	c := startChild(t, "fail", 80, 24, "TERM=dumb")
	c.until("program over")
	c.cmd.Wait()
	c.read.Wait()
	if raw := c.raw.String(); strings.Contains(raw, "\x1b") || !strings.Contains(raw, "base | line 7\r\n") {
		t.Errorf("%q was written", raw)
	}
}

func TestColorWanted(t *testing.T) {
	_, slave, err := pty.Open()
	if err != nil {
		t.Skipf("no pseudo-terminals: %v", err)
	}
	file, err := os.Create(t.TempDir() + "/file")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		flag string
		out  *os.File
		env  string
		want bool
	}{
		{"auto", slave, "TERM=xterm", true}, {"", slave, "TERM=xterm", true}, {"auto", slave, "TERM=dumb", false}, {"auto", file, "TERM=xterm", false}, {"auto", nil, "", false},
		{"auto", slave, "TERM=xterm NO_COLOR=1", false}, {"auto", slave, "TERM=xterm NO_COLOR=", true}, {"always", file, "TERM=dumb NO_COLOR=1", true}, {"never", slave, "TERM=xterm CLICOLOR_FORCE=1", false},
		{"auto", file, "CLICOLOR_FORCE=1", true}, {"auto", file, "CLICOLOR_FORCE=0", false}, {"auto", file, "CLICOLOR_FORCE=1 NO_COLOR=1", false},
	} {
		env := func(name string) string {
			for _, pair := range strings.Fields(c.env) {
				if k, v, _ := strings.Cut(pair, "="); k == name {
					return v
				}
			}
			return ""
		}
		if got := ColorWanted(c.flag, c.out, env); got != c.want {
			t.Errorf("ColorWanted(%q, terminal %v, %s) is %v", c.flag, isTerminal(c.out), c.env, got)
		}
	}
}
