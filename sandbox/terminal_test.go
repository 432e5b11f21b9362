package sandbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A desk is a terminal with somebody in front of it.
type desk struct {
	t      *testing.T
	master *os.File
	slave  *os.File
	mu     sync.Mutex
	seen   bytes.Buffer
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprint("/dev/pts/", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	d := &desk{t: t, master: os.NewFile(uintptr(fd), "master"), slave: slave}
	d.resize(33, 77)
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := d.master.Read(buf)
			d.mu.Lock()
			d.seen.Write(buf[:n])
			d.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() { slave.Close(); d.master.Close() })
	return d
}

func (d *desk) resize(rows, columns uint16) {
	unix.IoctlSetWinsize(int(d.slave.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: columns})
}

func (d *desk) types(text string) { d.master.Write([]byte(text)) }

// waits waits for text, and forgets all up to it.
func (d *desk) waits(text string) {
	d.t.Helper()
	for begun := time.Now(); time.Since(begun) < 10*time.Second; time.Sleep(5 * time.Millisecond) {
		d.mu.Lock()
		all := d.seen.String()
		if i := strings.Index(all, text); i >= 0 {
			d.seen.Next(i + len(text))
			d.mu.Unlock()
			return
		}
		d.mu.Unlock()
	}
	d.t.Fatalf("no %q in %q", text, d.seen.String())
}

func (d *desk) termios() unix.Termios {
	tio, err := unix.IoctlGetTermios(int(d.slave.Fd()), unix.TCGETS)
	if err != nil {
		d.t.Fatal(err)
	}
	return *tio
}

// TestTerminal sits at a shell in a container.
func TestTerminal(t *testing.T) {
	d := newDesk(t)
	b := newBox(t, lower(t))
	b.Build = false
	b.Actions = []Action{&Write{Dest: "/x", Mode: 0o644}, &Exec{Args: []string{"sh", "-i"}, Env: []string{"PATH=/bin", "PS1=ready> ", "TERM=vt100"}}}
	before := d.termios()
	done := make(chan error, 1)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	go func() { _, err := Run(ctx, &b.Spec, Streams{Terminal: d.slave}); done <- err }()
	d.waits("ready> ")
	for _, step := range [][]string{
		{"stty size\n", "33 77"},
		{"tty\n", "/dev/pts/0"},
		{"test -t 0 && test -t 1 && test -t 2 && echo all three\n", "\nall three"},
		{"ls -l /dev/stdout >/dev/null && echo through >/dev/stdout\n", "\nthrough"},
	} {
		d.types(step[0])
		d.waits(step[1])
		d.waits("ready> ")
	}
	d.resize(40, 100)
	unix.Kill(os.Getpid(), unix.SIGWINCH)
	time.Sleep(100 * time.Millisecond)
	d.types("stty size\n")
	d.waits("40 100")
	d.types("sleep 1000\n")
	time.Sleep(300 * time.Millisecond)
	d.types("\x03")
	d.waits("ready> ")
	d.types("echo status $?\n")
	d.waits("status 130")
	d.types("sleep 1000\n")
	time.Sleep(300 * time.Millisecond)
	d.types("\x1a") // Ctrl-Z
	d.waits("Stopped")
	d.types("jobs; kill -KILL %1; wait; echo job''s done\n")
	d.waits("jobs done")
	d.types("(trap '' HUP; sleep 1000) & echo last words; exit 5\n")
	d.waits("last words\r\n")
	var exit *ExitError
	if err := <-done; !errors.As(err, &exit) || exit.Status != 5 || exit.Action != 1 {
		t.Errorf("got %v, want exit status 5", err)
	}
	if after := d.termios(); after != before {
		t.Errorf("the terminal is left in another state:\n%+v\n%+v", before, after)
	}
	// What is typed now is for somebody else.
	d.types("mine\n")
	buf := make([]byte, 10)
	if n, err := d.slave.Read(buf); string(buf[:n]) != "mine\n" {
		t.Errorf("read %q, %v", buf[:n], err)
	}
}

// TestTerminalOutput sees all of what is printed just before the end.
func TestTerminalOutput(t *testing.T) {
	d := newDesk(t)
	b := newBox(t, lower(t))
	b.Build = false
	b.Actions = []Action{sh("seq 1 5000; echo the end")}
	if _, err := Run(context.Background(), &b.Spec, Streams{Terminal: d.slave}); err != nil {
		t.Fatal(err)
	}
	d.waits("4999\r\n5000\r\nthe end\r\n")
}

func TestTerminalFailures(t *testing.T) {
	base := lower(t)
	for _, c := range []struct {
		name   string
		change func(b *box)
	}{
		{"no such program", func(b *box) { b.Actions = []Action{&Exec{Args: []string{"/none"}}} }},
		{"no program at all", func(b *box) { b.Actions = []Action{&Mkdir{Dest: "/etc", Mode: 0o755}} }},
		{"no sandbox", func(b *box) { b.Layers = []string{"/nonexistent"} }},
	} {
		d := newDesk(t)
		b := newBox(t, base)
		b.Build = false
		b.Actions = []Action{sh("true")}
		c.change(b)
		before := d.termios()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		if _, err := Run(ctx, &b.Spec, Streams{Terminal: d.slave}); err == nil || ctx.Err() != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		cancel()
		if d.termios() != before {
			t.Errorf("%s: the terminal is left in another state", c.name)
		}
	}
}

// TestTerminalCancel cancels while nobody takes the output.
func TestTerminalCancel(t *testing.T) {
	d := newDesk(t)
	b := newBox(t, lower(t))
	b.Build = false
	b.Actions = []Action{sh("yes")}
	before := d.termios()
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	fd, stopped := int(d.slave.Fd()), make(chan bool)
	go func() {
		time.Sleep(100 * time.Millisecond)
		unix.IoctlSetInt(fd, unix.TCXONC, 0) // as Ctrl-S does
		close(stopped)
	}()
	begun := time.Now()
	_, err := Run(ctx, &b.Spec, Streams{Terminal: d.slave})
	took := time.Since(begun)
	<-stopped
	unix.IoctlSetInt(fd, unix.TCXONC, 1)
	if !errors.Is(err, context.DeadlineExceeded) || took > 2*time.Second {
		t.Errorf("%v after %v", err, took)
	}
	if d.termios() != before {
		t.Error("the terminal is left in another state")
	}
}
