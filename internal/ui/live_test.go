package ui

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/charmbracelet/x/vt"

	"raptor-make/engine"
)

// A glass is a terminal that a test looks at, with a Display on it.
type glass struct {
	*Display
	clock         *setClock
	emulator      *vt.Emulator
	width, height int
	writes        int
	frames        int
	background    bool
	raw           bytes.Buffer
}

func newGlass(w, h int, o Options) *glass {
	g := &glass{clock: newSetClock(), emulator: vt.NewEmulator(w, h), width: w, height: h}
	d := newDisplay(o, g, g.clock)
	d.view = &scroll{printer{paint: newPalette(o.Color), verbosity: o.Verbosity, board: &d.board}}
	d.live = newLive(d, newPalette(o.Color))
	d.live.screen = g
	d.live.layout.glyphs = glyphsFor(func(string) string { return "C.UTF-8" })
	d.live.attach = func(*Display) *attached { return nil }
	g.Display = d
	return g
}

func (g *glass) size() (int, int) { return g.width, g.height }
func (g *glass) foreground() bool { return !g.background }

// Write is what the kernel's terminal does with it before the emulator has it.
func (g *glass) Write(b []byte) (int, error) {
	g.writes++
	g.frames += bytes.Count(b, []byte(beginFrame))
	g.raw.Write(b)
	g.emulator.Write(bytes.ReplaceAll(b, []byte("\n"), []byte("\r\n")))
	return len(b), nil
}

func (g *glass) resize(w, h int) {
	g.width, g.height = w, h
	g.emulator.Resize(w, h)
	g.redraw()
}

// lines are all that the terminal has, what has scrolled off included.
func (g *glass) lines() []string {
	var lines []string
	for y := range g.emulator.ScrollbackLen() {
		var line strings.Builder
		for x := range g.width {
			if c := g.emulator.ScrollbackCellAt(x, y); c != nil {
				line.WriteString(c.Content)
			}
		}
		lines = append(lines, line.String())
	}
	lines = append(lines, strings.Split(g.emulator.String(), "\n")...)
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " \r")
	}
	for len(lines) > 0 && lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	return lines
}

// send shows an event now.
func (g *glass) send(e engine.Event) {
	e.Time = g.clock.Now()
	g.Event(e)
}

// book is a run in the middle: a download, a layer that prints, a job that waits.
func (g *glass) book() {
	g.send(engine.Event{Kind: engine.PlanMade, Total: 12})
	g.send(layer(engine.Cached, "tools"))
	g.send(engine.Event{Kind: engine.Started, Step: debian, Type: engine.Fetch})
	g.send(layer(engine.Started, "base"))
	g.send(text(layer(engine.Detail, "base"), "RUN apt-get install -y linux-image-amd64 systemd live-boot"))
	for i := range 40 {
		g.send(loading(int64(i)*1_000_000, 48_900_000))
		g.send(output(layer("", "base"), fmt.Sprintf("Setting up package-%d:amd64 (1.%d-1) ...\n", i, i)))
		if i == 20 {
			g.send(output(layer("", "base"), "wide: 日本語の長い行がここにあります🚀 and a\ttab\x1b[5A\x1b]0;x\x07\n"))
			g.send(job(engine.Started, "a-job-with-a-long-name"))
			g.send(text(job(engine.Waiting, "disk"), "process 4711, which builds base"))
		}
		g.clock.advance(50 * time.Millisecond)
	}
}

func TestLiveScreens(t *testing.T) {
	for _, size := range [][2]int{{80, 24}, {200, 50}, {30, 10}, {20, 6}, {40, 4}, {80, 2}, {5, 3}} {
		for _, colour := range []bool{false, true} {
			name := fmt.Sprintf("%dx%d", size[0], size[1])
			t.Run(fmt.Sprint(name, " colour=", colour), func(t *testing.T) {
				g := newGlass(size[0], size[1], Options{Color: colour})
				g.book()
				got := strings.Join(g.lines(), "\n") + "\n"
				golden(t, "live-"+name+".screen", []byte(got))
			})
		}
	}
}

// What a terminal has in the end is what plain would have printed, without the
// output of programs, whatever was drawn in between.
func TestLiveLeavesOnlyLines(t *testing.T) {
	for _, s := range scripts() {
		for _, size := range [][2]int{{200, 50}, {200, 4}, {200, 70}} {
			t.Run(fmt.Sprint(s.name, size), func(t *testing.T) {
				g := newGlass(size[0], size[1], Options{})
				g.emulator.SetScrollbackSize(1000)
				var want bytes.Buffer
				p := newDisplay(Options{}, &want, newSetClock())
				p.view = &scroll{printer{paint: newPalette(false), board: &p.board}}
				for _, e := range s.events {
					g.Event(e)
					p.Event(e)
					g.clock.advance(time.Second)
				}
				if got := strings.Join(g.lines(), "\n") + "\n"; got != trimmed(want.String()) {
					t.Errorf("the terminal has\n%s\nwant\n%s", got, want.String())
				}
				if s.name == "jobs" && g.frames < 10 {
					t.Errorf("only %d frames were drawn", g.frames)
				}
			})
		}
	}
}

func trimmed(text string) string {
	lines := strings.Split(text, "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return strings.Join(lines, "\n")
}

// At any time the terminal has the lines, then the region, then nothing; and
// the cursor is on the region's first cell.
func TestLiveAnyTime(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 0))
		g := newGlass(20+r.IntN(100), 3+r.IntN(30), Options{Color: seed%2 == 0})
		var lines []string
		running := map[int]bool{}
		g.send(engine.Event{Kind: engine.PlanMade, Total: 100})
		for i := range 150 {
			n := r.IntN(30)
			e := layer("", fmt.Sprint("step", n))
			switch {
			case !running[n]:
				running[n] = true
				e.Kind = engine.Started
			case r.IntN(6) == 0:
				delete(running, n)
				e.Kind = engine.Done
				lines = append(lines, "[*] Completed [AB1DD71BFD07718B] "+e.Step)
			default:
				e = output(e, strings.Repeat("output ", r.IntN(30))+"\n")
			}
			g.send(e)
			g.clock.advance(time.Duration(r.IntN(300)) * time.Millisecond)
			if !g.live.shown {
				continue
			}
			g.redraw() // so that the clock is the region's
			rows := g.live.layout.rows(g.width, g.height, g.clock.Now())
			want := append(wrapped(lines, g.width), stripped(rows)...)
			if got := g.lines(); strings.Join(got, "\n") != strings.Join(want, "\n") {
				t.Fatalf("seed %d, event %d, %dx%d: the terminal has\n%s\nwant\n%s", seed, i, g.width, g.height, strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
			top := len(want) - len(rows) - g.emulator.ScrollbackLen()
			if at := g.emulator.CursorPosition(); at.X != 0 || at.Y != top {
				t.Fatalf("seed %d: the cursor is at %v, the region at row %d", seed, at, top)
			}
			if g.emulator.CursorHidden() {
				t.Fatal("the cursor is hidden between frames")
			}
		}
	}
}

func wrapped(lines []string, width int) []string {
	var rows []string
	for _, line := range lines {
		for len(line) > width {
			rows = append(rows, strings.TrimRight(line[:width], " "))
			line = line[width:]
		}
		rows = append(rows, line)
	}
	return rows
}

func stripped(rows []string) []string {
	plain := make([]string, len(rows))
	for i, row := range rows {
		plain[i] = strings.TrimRight(string(appendClean(nil, []byte(row), false)), " ")
	}
	return plain
}

// A terminal that cuts its lines when it is made narrower, as xterm does, shows
// the region once, whatever its size was.
func TestLiveResized(t *testing.T) {
	g := newGlass(100, 30, Options{})
	g.book()
	for _, size := range [][2]int{{60, 30}, {120, 40}, {80, 24}, {42, 24}, {100, 16}, {100, 30}} {
		g.resize(size[0], size[1])
		rows := g.live.layout.rows(g.width, g.height, g.clock.Now())
		want := append([]string{"[*] Completed [AB1DD71BFD07718B] tools"}, stripped(rows)...)
		if got := g.lines(); strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("%v: the terminal has\n%s\nwant\n%s", size, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

// A run that has nothing to do, or is quick, never draws.
func TestLiveNotForQuickRuns(t *testing.T) {
	g := newGlass(80, 24, Options{})
	g.live.attach = func(*Display) *attached { t.Error("attached"); return nil }
	for i := range 50 {
		g.send(layer(engine.Started, fmt.Sprint("step", i)))
		g.clock.advance(100 * time.Millisecond)
		g.send(layer(engine.Done, fmt.Sprint("step", i)))
	}
	g.send(engine.Event{Kind: engine.Finished})
	if g.frames > 0 || strings.Contains(g.raw.String(), "\x1b") {
		t.Errorf("%d frames were drawn", g.frames)
	}
	g.clock.advance(time.Minute)
	if len(g.clock.calls) > 0 {
		t.Error("a timer is left")
	}
}

// However much happens, there are at most ten frames in a second, and lines
// wait no longer than for the next.
func TestLiveFrameRate(t *testing.T) {
	g := newGlass(80, 24, Options{})
	g.send(layer(engine.Started, "base"))
	g.clock.advance(patience)
	before := g.writes
	for i := range 10_000 {
		g.send(output(layer("", "base"), "line\n"))
		if i%100 == 0 {
			g.send(layer(engine.Cached, fmt.Sprint("step", i)))
		}
		g.clock.advance(time.Millisecond)
	}
	if n := g.writes - before; n < 95 || n > 101 {
		t.Errorf("%d writes in 10 s", n)
	}
	if g.frames != g.writes {
		t.Errorf("%d frames in %d writes", g.frames, g.writes)
	}
}

func TestLiveSelection(t *testing.T) {
	g := newGlass(80, 24, Options{})
	shown := func() string {
		g.redraw()
		for _, line := range g.lines() {
			if strings.HasPrefix(line, "▸ ") {
				return strings.Fields(line)[1]
			}
		}
		return ""
	}
	expect := func(what, want string) {
		t.Helper()
		if got := shown(); got != want {
			t.Errorf("%s: %q is selected, want %q", what, got, want)
		}
	}
	for _, name := range []string{"a", "b", "c"} {
		g.send(layer(engine.Started, name))
	}
	g.clock.advance(patience)
	expect("nothing printed", "")
	g.send(output(layer("", "b"), "from b\n"))
	expect("b printed", "b")
	g.clock.advance(time.Second)
	g.send(output(layer("", "c"), "from c\n"))
	expect("b printed a second ago", "b")
	g.clock.advance(settled)
	expect("c printed last", "c")
	g.press(key{kind: up})
	expect("up", "b")
	g.clock.advance(10 * settled)
	g.send(output(layer("", "c"), "from c\n"))
	expect("chosen", "b")
	g.press(key{kind: choose, number: 1})
	expect("1", "a")
	if all := strings.Join(g.lines(), "\n"); !strings.Contains(all, "(no output yet)") {
		t.Errorf("the screen is\n%s", all)
	}
	g.press(key{kind: choose, number: 9})
	g.press(key{kind: up})
	expect("no ninth, none above", "a")
	g.send(layer(engine.Done, "a"))
	expect("the chosen one ended", "c")
	g.press(key{kind: down})
	g.press(key{kind: release})
	g.send(layer(engine.Done, "c"))
	expect("one left, no mark needed", "")
}

func TestKeys(t *testing.T) {
	for in, want := range map[string]string{
		"\x1b[A": "[{0 0}]", "\x1bOB": "[{1 0}]", "\x1b[1;5A": "[{0 0}]", "kj": "[{0 0} {1 0}]", "1": "[{2 1}]", "\x1b": "[{3 0}]", "0": "[{3 0}]",
		"x\x1b[Cq\n": "[]", "\x1b[200~": "[]", "\x1b[": "[]", "\x1b[A\x1b[B": "[{0 0} {1 0}]",
	} {
		if got := fmt.Sprint(keysOf([]byte(in))); got != want {
			t.Errorf("keysOf(%q) is %s, want %s", in, got, want)
		}
	}
}

// In the background nothing is drawn, but lines are still printed.
func TestLiveBackground(t *testing.T) {
	g := newGlass(80, 24, Options{})
	g.send(layer(engine.Started, "base"))
	g.background = true
	g.clock.advance(time.Second)
	g.send(layer(engine.Cached, "other"))
	g.clock.advance(time.Second)
	if g.frames > 0 || !strings.Contains(g.raw.String(), "other") {
		t.Fatalf("in the background %q was written", g.raw.String())
	}
	g.background = false
	g.clock.advance(time.Second)
	if g.frames == 0 {
		t.Error("nothing was drawn back in the foreground")
	}
}

// A terminal that takes nothing does not hold up the run.
func TestLiveStoppedTerminal(t *testing.T) {
	stuck := make(chan struct{})
	g := newGlass(80, 24, Options{})
	g.w = writerFunc(func(b []byte) (int, error) { <-stuck; return len(b), nil })
	g.send(layer(engine.Started, "base"))
	go g.clock.advance(time.Second)
	done := make(chan struct{})
	go func() {
		for range 10_000 {
			g.send(output(layer("", "base"), "line\n"))
		}
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Error("events wait for the terminal")
	}
	close(stuck)
}

// After an interrupt nothing waits for a terminal or a pipe that takes nothing.
func TestInterruptDoesNotWait(t *testing.T) {
	stuck := make(chan struct{})
	defer close(stuck)
	w := writerFunc(func(b []byte) (int, error) { <-stuck; return len(b), nil })
	for name, d := range map[string]*Display{"plain": newDisplay(Options{}, w, systemClock{}), "live": liveDisplay(w, 80, 24)} {
		t.Run(name, func(t *testing.T) {
			d.Event(layer(engine.Started, "base"))
			begun := time.Now()
			time.AfterFunc(300*time.Millisecond, d.Interrupt)
			for range 10_000 {
				d.Event(output(layer("", "base"), strings.Repeat("line\n", 20)))
			}
			time.Sleep(max(0, 300*time.Millisecond-time.Since(begun)))
			d.Interrupt()
			d.Event(layer(engine.Cancelled, "base"))
			d.Event(engine.Event{Kind: engine.Finished, Err: context.Canceled})
			d.Close()
			if took := time.Since(begun); took > 2*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }
