package ui

import (
	"os"
	"slices"
	"strings"
	"time"
)

const (
	patience = 150 * time.Millisecond // how long a step runs before there is a region
	every    = 100 * time.Millisecond // how often it is drawn at most
)

// live is the region at the bottom of a terminal that shows what runs. All of
// it is guarded by the Display's mu.
type live struct {
	d         *Display
	screen    screen
	layout    layout
	selection selection
	shown     bool // the region is on the screen, the cursor on its first cell
	drawn     time.Time
	width     int // of the terminal when it was drawn
	height    int
	buffer    []byte
	attached  *attached // nil while nothing listens to keys and signals
	attach    func(*Display) *attached
}

func newLive(d *Display, paint palette) *live {
	return &live{
		d:      d,
		screen: tty{d.opts.Out},
		layout: layout{board: &d.board, paint: paint, glyphs: glyphsFor(os.Getenv)},
		attach: attach,
	}
}

// frame returns what to write for lines that have gathered: the lines and the
// region anew. It arranges for the next frame.
func (l *live) frame(lines []byte) []byte {
	now := l.d.clock.Now()
	wanted := l.wanted(now)
	if wanted && l.shown && len(lines) == 0 && now.Sub(l.drawn) < every/2 {
		l.d.wake(every)
		return nil
	}
	l.next(now)
	switch {
	case wanted:
		if l.attached == nil {
			l.attached = l.attach(l.d)
		}
		l.shown, l.drawn = true, now
		w, h := l.screen.size()
		l.layout.keys, l.layout.stopping = l.attached.keys(!l.d.stopping), l.d.stopping
		l.layout.chosen, l.layout.auto = l.selection.current(&l.d.board, now)
		resized := w != l.width || h != l.height
		l.width, l.height = w, h
		l.buffer = appendFrame(l.buffer[:0], lines, l.layout.rows(w, h, now), resized)
		return l.buffer
	case l.shown && l.screen.foreground():
		l.shown = false
		l.buffer = appendErased(l.buffer[:0], lines)
		return l.buffer
	}
	// In the background, what was drawn belongs to the shell by now.
	l.shown = false
	return lines
}

// wanted says that there should be a region.
func (l *live) wanted(now time.Time) bool {
	b := &l.d.board
	if l.d.closed || b.over || !l.screen.foreground() {
		return false
	}
	return l.shown || slices.ContainsFunc(b.running, func(s *step) bool { return now.Sub(s.since) >= patience })
}

// next arranges for the next frame, if time alone will change anything.
func (l *live) next(now time.Time) {
	b := &l.d.board
	if l.d.closed || b.over || len(b.running) == 0 {
		return
	}
	in := every
	if !l.shown {
		in = max(patience-now.Sub(b.running[0].since), every/2)
	}
	l.d.wake(in)
}

// erase takes the region away until the next frame, and returns what to write.
func (l *live) erase() []byte {
	if !l.shown {
		return nil
	}
	l.shown = false
	return appendErased(nil, nil)
}

// detach stops listening and restores the terminal.
func (l *live) detach() {
	l.d.mu.Lock()
	a := l.attached
	l.attached = nil
	l.d.mu.Unlock()
	a.stop()
}

// press is told of a key, and shows what it did.
func (d *Display) press(k key) {
	d.mu.Lock()
	d.live.selection.press(k, &d.board)
	d.live.drawn = time.Time{}
	d.mu.Unlock()
	d.flush()
}

// redraw draws the region anew, at once.
func (d *Display) redraw() {
	d.mu.Lock()
	d.live.drawn = time.Time{}
	d.mu.Unlock()
	d.flush()
}

// glyphs are the characters of the region that not every terminal has.
type glyphs struct {
	chosen, more, dot, rule, bar, full, empty, arrows string
}

// glyphsFor chooses by the locale, as other programs do.
func glyphsFor(env func(string) string) glyphs {
	locale := env("LC_ALL")
	for _, name := range []string{"LC_CTYPE", "LANG"} {
		if locale == "" {
			locale = env(name)
		}
	}
	locale = strings.ToLower(locale)
	if strings.Contains(locale, "utf-8") || strings.Contains(locale, "utf8") {
		return glyphs{chosen: "▸", more: "…", dot: " · ", rule: "─", bar: "│", full: "█", empty: "░", arrows: "↑↓"}
	}
	return glyphs{chosen: ">", more: "~", dot: ", ", rule: "-", bar: "|", full: "#", empty: "-", arrows: "up/down"}
}
