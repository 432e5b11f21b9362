package ui

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"raptor-make/engine"
)

// finish tells how the run ended.
func (p *printer) finish(dst []byte, e *engine.Event) []byte {
	b := p.board
	if e.Elapsed == 0 && !b.begun.IsZero() {
		e.Elapsed = e.Time.Sub(b.begun)
	}
	switch {
	case len(b.failed) > 0:
		return p.failures(dst, e)
	case e.Err != nil:
		return p.stopped(dst, e)
	case p.verbosity >= 0:
		return p.summary(dst, e)
	}
	return dst
}

// stopped tells of a run that ended with an error, but not a step's: it was
// interrupted, for which a caller may have an error of its own, or something
// around the steps went wrong.
func (p *printer) stopped(dst []byte, e *engine.Event) []byte {
	interrupted := errors.Is(e.Err, context.Canceled) || e.Err.Error() == "interrupted"
	if !interrupted {
		dst = p.errorText(dst, e.Err, p.paint.bad.Sprint("error:")+" ")
	}
	if !interrupted && len(p.board.cancelled) == 0 {
		return dst
	}
	word := "Interrupted"
	if !interrupted {
		word = "Stopped"
	}
	return fmt.Appendf(dst, "%s after %s: %s\n", p.paint.bad.Sprint(word), span(e.Elapsed), p.outcome())
}

// mostRows is how many steps the summary lists.
const mostRows = 16

// summary lists what a run of jobs made and how long it took. A run that only
// built layers, or had nothing to do, has said all in its lines.
func (p *printer) summary(dst []byte, e *engine.Event) []byte {
	made := p.board.made
	if !slices.ContainsFunc(made, func(s *step) bool { return s.kind == engine.Job }) {
		return dst
	}
	rows := notable(made)
	width := 0
	for _, s := range rows {
		width = max(width, textWidth(s.shown))
	}
	dst = append(dst, '\n')
	for _, s := range rows {
		dst = fmt.Appendf(dst, "  %s%s  %7s", s.shown, strings.Repeat(" ", width-textWidth(s.shown)), span(s.elapsed))
		if len(s.outputs) > 0 {
			dst = append(dst, "  "+written(s.outputs)...)
		}
		dst = append(dst, '\n')
	}
	if n := len(made) - len(rows); n > 0 {
		dst = fmt.Appendf(dst, "  and %s\n", count(n, "more step"))
	}
	return fmt.Appendf(dst, "%s in %s: %s\n", p.paint.good.Sprint("Finished"), span(e.Elapsed), p.tally())
}

// notable are the steps to list, in the order in which they ended: those with
// outputs first of all, then those that took longest.
func notable(made []*step) []*step {
	if len(made) <= mostRows {
		return made
	}
	order := map[*step]int{}
	for i, s := range made {
		order[s] = i
	}
	rows := slices.Clone(made)
	slices.SortStableFunc(rows, func(a, b *step) int {
		if x, y := len(a.outputs) > 0, len(b.outputs) > 0; x != y {
			if x {
				return -1
			}
			return 1
		}
		return cmp.Compare(b.elapsed, a.elapsed)
	})
	rows = rows[:mostRows]
	slices.SortFunc(rows, func(a, b *step) int { return cmp.Compare(order[a], order[b]) })
	return rows
}

// tally is "2 jobs and 3 layers made, 4 up to date".
func (p *printer) tally() string {
	jobs, layers := 0, 0
	for _, s := range p.board.made {
		if s.kind == engine.Job {
			jobs++
		} else {
			layers++
		}
	}
	text := count(jobs, "job")
	if layers > 0 {
		text += " and " + count(layers, "layer")
	}
	text += " made"
	if p.board.cached > 0 {
		text += fmt.Sprintf(", %d up to date", p.board.cached)
	}
	return text
}
