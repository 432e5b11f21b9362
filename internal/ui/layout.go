package ui

import (
	"fmt"
	"strings"
	"time"

	"raptor-make/engine"
)

const (
	mostTail = 8 // rows of output
	margin   = 2 // cells left of everything: the cursor rests there
	mostRule = 60
)

// A layout arranges the live region: a summary, the steps that run, the end of
// the output of one of them.
//
//	  3/12 steps · 2 running · 1m02s    ↑↓ select
//	  debian-trixie    12.3s  ████░░░░  43%  12.3 of 28.4 MB  3.1 MB/s  5s
//	▸ base             35.0s  RUN apt-get install linux-image-amd64
//	  ── base ──────────────────────────────────────────────────
//	  Setting up linux-base (4.12) ...
type layout struct {
	board  *board
	paint  palette
	glyphs glyphs
	chosen *step // whose output is shown; may be nil
	auto   bool  // the user did not choose it
	keys   bool  // keys are read

	stopping bool // there was an interrupt
}

// rows returns at most h-1 rows of less than w cells. Where there is room, it
// leaves some cells and rows of the terminal free: while its user makes it
// smaller, what was drawn a moment ago should still fit, neither be wrapped nor
// scrolled away to where nobody can erase it.
func (l *layout) rows(w, h int, now time.Time) []string {
	w -= 1 + min(w/16, 5)
	rows := []string{l.summary(w, now)}
	avail := h - 2 - min(h/8, 2)
	if avail < 1 {
		return rows
	}
	tail := l.tail(w, avail)
	rows = append(rows, l.steps(w, avail-len(tail), now)...)
	return append(rows, tail...)
}

// summary is the first row: how far the run is.
func (l *layout) summary(w int, now time.Time) string {
	b := l.board
	parts := []string{fmt.Sprintf("%d/%d", b.ended(), max(b.total, b.known))}
	if w >= 30 {
		parts[0] += " steps"
	}
	waiting := 0
	for _, s := range b.running {
		if s.state == engine.Waiting {
			waiting++
		}
	}
	if n := len(b.running) - waiting; n > 0 {
		parts = append(parts, fmt.Sprintf("%d running", n))
	}
	if waiting > 0 && w >= 50 {
		parts = append(parts, fmt.Sprintf("%d waiting", waiting))
	}
	parts = append(parts, span(now.Sub(b.begun)))
	if l.stopping {
		parts = append(parts, "stopping")
	}
	if n := len(b.failed); n > 0 {
		parts = append(parts, fmt.Sprintf("%d failed", n))
	}
	text := fit(strings.Join(parts, l.glyphs.dot), w-margin, l.glyphs.more)
	row := "  " + l.paint.emphasis.Sprint(text)
	hint := l.glyphs.arrows + " select"
	if !l.auto {
		hint += "  esc follow"
	}
	if l.keys && len(b.running) > 1 && margin+textWidth(text)+4+textWidth(hint) <= w {
		row += "    " + l.paint.faint.Sprint(hint)
	}
	return row
}

// tail is the end of the chosen step's output under its name, as far as there
// is room beside the steps.
func (l *layout) tail(w, avail int) []string {
	if l.chosen == nil {
		return nil
	}
	n := min(max(avail-len(l.board.running)-1, avail/2-1), mostTail)
	if n < 1 {
		return nil
	}
	lines := l.chosen.tail.lines(n, l.paint.on)
	if len(lines) == 0 {
		lines = []string{l.paint.faint.Sprint("(no output yet)")}
	}
	name := fit(l.chosen.shown, w-margin-6, l.glyphs.more)
	line := strings.Repeat(l.glyphs.rule, max(min(w, mostRule)-margin-textWidth(name)-4, 0))
	rows := []string{"  " + l.paint.faint.Sprint(strings.Repeat(l.glyphs.rule, 2)) + " " + name + " " + l.paint.faint.Sprint(line)}
	for _, line := range lines {
		rows = append(rows, "  "+fit(expand(line), w-margin, l.glyphs.more))
	}
	return rows
}

// steps are the running ones, in the order in which they started. Where they
// are more than there is room for, the chosen one is among those that are seen.
func (l *layout) steps(w, room int, now time.Time) []string {
	running := l.board.running
	first, hidden := 0, 0
	if len(running) > room {
		shown := max(room-1, 1)
		hidden = len(running) - shown
		for i, s := range running {
			if s == l.chosen && i >= shown {
				first = i - shown + 1
			}
		}
		running = running[first : first+shown]
	}
	width := 0
	for _, s := range running {
		width = max(width, textWidth(s.shown))
	}
	width = min(width, max(w*35/100, 8))
	rows := make([]string, 0, room)
	for _, s := range running {
		rows = append(rows, l.step(s, width, w, now))
	}
	if hidden > 0 && len(rows) < room {
		rows = append(rows, "  "+l.paint.faint.Sprint(fit(fmt.Sprintf("%s%d more running", l.glyphs.more, hidden), w-margin, l.glyphs.more)))
	}
	return rows
}

// step is the row of one step.
func (l *layout) step(s *step, width, w int, now time.Time) string {
	mark := "  "
	if s == l.chosen && len(l.board.running) > 1 {
		mark = l.glyphs.chosen + " "
	}
	name := pad(s.shown, width, l.glyphs.more)
	if l.paint.on {
		name = l.paint.names[s.number%len(l.paint.names)].Sprint(name)
	}
	elapsed := fmt.Sprintf("%6s", span(now.Sub(s.since)))
	row := mark + name + " " + l.paint.faint.Sprint(elapsed)
	rest := w - margin - width - 1 - len(elapsed) - 2
	if rest < 4 {
		return row
	}
	switch {
	case len(s.transfer.items) > 0:
		return row + "  " + l.transfer(&s.transfer, rest, now)
	case s.state == engine.Waiting:
		return row + "  " + l.paint.warn.Sprint(fit(s.detail, rest, l.glyphs.more))
	}
	return row + "  " + fit(s.detail, rest, l.glyphs.more)
}

const (
	leastBar = 8
	mostBar  = 20
)

// transfer is a bar and its numbers, as much of them as there is room for. The
// amounts, which the bar shows as well, are given up before rate and time left.
func (l *layout) transfer(t *transfer, room int, now time.Time) string {
	done, total := t.sum()
	rate := t.rate(now)
	var pace []string
	if rate > 0 {
		pace = []string{size(int64(rate)) + "/s"}
		if total > done {
			pace = append(pace, remaining(float64(total-done)/rate))
		}
	}
	if total <= 0 {
		text := strings.Join(append([]string{size(done)}, pace...), "  ")
		return l.beside(fit(text, room, l.glyphs.more), t, room)
	}
	part := min(float64(done)/float64(total), 1)
	percent := fmt.Sprintf("%3d%%", int(part*100))
	for _, numbers := range [][]string{append([]string{percent, amounts(done, total)}, pace...), append([]string{percent}, pace...), {percent}} {
		text := strings.Join(numbers, "  ")
		if cells := min(room-len(text)-1, mostBar); cells >= leastBar {
			return l.beside(l.bar(part, cells)+" "+text, t, room)
		}
	}
	return percent
}

// beside appends what is transferred, if there is room for it.
func (l *layout) beside(text string, t *transfer, room int) string {
	left := room - textWidth(text) - 2
	if left < 8 {
		return text
	}
	what := clean(t.items[t.last].what)
	if n := len(t.items); n > 1 {
		what += fmt.Sprintf(" (%d in all)", n)
	}
	return text + "  " + l.paint.faint.Sprint(fit(what, left, l.glyphs.more))
}

// remaining is an estimate, and so is given in whole seconds.
func remaining(seconds float64) string {
	if seconds < 59.5 {
		return fmt.Sprintf("%.0fs", max(seconds, 1))
	}
	return span(time.Duration(seconds * float64(time.Second)))
}

func (l *layout) bar(part float64, cells int) string {
	full := int(part*float64(cells) + 0.5)
	return l.paint.good.Sprint(strings.Repeat(l.glyphs.full, full)) + l.paint.faint.Sprint(strings.Repeat(l.glyphs.empty, cells-full))
}

// amounts is "12.3 of 28.4 MB", the unit said once where it is the same.
func amounts(done, total int64) string {
	a, b := size(done), size(total)
	number, unit, _ := strings.Cut(a, " ")
	if strings.HasSuffix(b, " "+unit) {
		return number + " of " + b
	}
	return a + " of " + b
}
