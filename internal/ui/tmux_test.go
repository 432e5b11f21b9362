package ui

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A tmux is a real terminal with a shell in it.
type tmux struct {
	t      *testing.T
	socket string
}

func startTmux(t *testing.T, w, h int) *tmux {
	t.Helper()
	if _, err := exec.LookPath("tmux"); err != nil {
		t.Skip("tmux is not installed")
	}
	// The name of a socket may not be long, as that of t.TempDir can be.
	dir, err := os.MkdirTemp("", "ui")
	if err != nil {
		t.Fatal(err)
	}
	m := &tmux{t, filepath.Join(dir, "s")}
	t.Cleanup(func() {
		m.do("kill-server")
		os.RemoveAll(dir)
	})
	m.do("-f", os.DevNull, "new-session", "-d", "-x", fmt.Sprint(w), "-y", fmt.Sprint(h), "-s", "x",
		"env", "-u", "NO_COLOR", "-u", "CLICOLOR_FORCE", "PS1=$ ", "LC_ALL=C.UTF-8", "PROGRAM="+os.Args[0], "bash", "--norc", "--noprofile")
	m.until("the shell", func(s string) bool { return strings.HasPrefix(s, "$") })
	return m
}

func (m *tmux) do(args ...string) string {
	m.t.Helper()
	out, err := exec.Command("tmux", append([]string{"-u", "-S", m.socket}, args...)...).CombinedOutput()
	if err != nil {
		m.t.Errorf("tmux %v: %v: %s", args, err, out)
	}
	return string(out)
}

func (m *tmux) keys(keys ...string) { m.do(append([]string{"send-keys", "-t", "x"}, keys...)...) }

func (m *tmux) resize(w, h int) {
	m.do("resize-window", "-t", "x", "-x", fmt.Sprint(w), "-y", fmt.Sprint(h))
}

// screen is what is seen; all is what can be scrolled back to as well.
func (m *tmux) screen() string { return m.do("capture-pane", "-p", "-t", "x") }
func (m *tmux) all() string    { return m.do("capture-pane", "-p", "-J", "-S", "-", "-t", "x") }

func (m *tmux) until(what string, ok func(screen string) bool) string {
	m.t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		screen := m.screen()
		if ok(screen) {
			return screen
		}
		if time.Now().After(end) {
			m.t.Fatalf("%s was never seen; the screen is\n%s", what, screen)
		}
	}
}

func (m *tmux) shows(text string) string {
	m.t.Helper()
	return m.until(text, func(s string) bool { return strings.Contains(s, text) })
}

func (m *tmux) settings() {
	m.t.Helper()
	m.keys("clear; stty -a | grep -o -- '[-]*icanon\\|[-]*echo ' | xargs", "Enter")
	m.until("line mode and echo", func(s string) bool { return strings.HasPrefix(s, "icanon echo") })
}

// The lines of a run are all there in the end, each once, whatever was done to
// the terminal meanwhile.
func TestTmuxResize(t *testing.T) {
	t.Parallel()
	m := startTmux(t, 80, 24)
	m.keys("clear; UI_SCENARIO=live $PROGRAM", "Enter")
	m.shows("2 running")
	for _, size := range [][2]int{{200, 50}, {100, 12}, {120, 5}, {120, 40}, {80, 24}} {
		m.resize(size[0], size[1])
		time.Sleep(4 * every) // what is drawn for another size while it changes is nobody's fault
		screen := m.until("one region", func(s string) bool { return strings.Count(s, " running ") == 1 && strings.Contains(s, "base ") })
		if lines := strings.Split(strings.TrimRight(screen, "\n"), "\n"); len(lines) > size[1] {
			t.Errorf("%d lines on %d rows", len(lines), size[1])
		}
	}
	m.keys("C-c")
	m.shows("program over")
	all := m.all()
	for _, want := range []string{"[*] Completed [1234567890ABCDEF] tools\n", "[*] Completed [675DE2C3A4D8CD82] index.docker.io-library-debian-trixie\n", "Interrupted after"} {
		if strings.Count(all, want) != 1 {
			t.Errorf("%q is there %d times in\n%s", want, strings.Count(all, want), all)
		}
	}
	if strings.Contains(all, "running") {
		t.Errorf("some of the region is left in\n%s", all)
	}
	m.settings()
}

// A terminal too small for what it has to show still shows the most important.
func TestTmuxSmall(t *testing.T) {
	t.Parallel()
	m := startTmux(t, 20, 10)
	m.keys("clear; UI_SCENARIO=many $PROGRAM", "Enter")
	screen := m.until("the steps", func(s string) bool { return strings.Contains(s, "/1000") && strings.Contains(s, "more running") })
	if n := strings.Count(screen, "/1000"); n != 1 {
		t.Errorf("%d summaries on\n%s", n, screen)
	}
	m.keys("C-c")
	m.shows("program over")
}

// Ctrl-Z gives the terminal back, bg goes on without drawing, fg draws again.
func TestTmuxJobControl(t *testing.T) {
	t.Parallel()
	m := startTmux(t, 80, 24)
	m.keys("clear; UI_SCENARIO=live $PROGRAM", "Enter")
	m.shows("2 running")
	m.keys("C-z")
	if screen := m.shows("Stopped"); strings.Contains(screen, "running") {
		t.Errorf("the region is left on\n%s", screen)
	}
	m.settings()
	m.keys("bg", "Enter")
	time.Sleep(500 * time.Millisecond)
	if screen := m.screen(); strings.Contains(screen, "running") {
		t.Errorf("something was drawn in the background:\n%s", screen)
	}
	m.keys("fg", "Enter")
	m.shows("2 running")
	m.shows("select")
	m.keys("Down", "Down")
	m.shows("▸ run disk")
	m.keys("C-c")
	m.shows("program over")
	m.settings()
}
