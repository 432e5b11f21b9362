package ui

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"raptor-make/engine"
)

const (
	lastLines   = 20 // of the output of a failed step
	inFull      = 10 // failed steps that are shown with their output
	errorIndent = "  "
)

// WriteError writes an error as it should be seen at the end of a run or of a
// command that has none. An error with a method
//
//	Print(w io.Writer, color bool)
//
// somewhere in its chain writes itself; several errors joined in one are
// written one after the other; any other is one "error: …".
func WriteError(w io.Writer, err error, colour bool) {
	p := printer{paint: newPalette(colour)}
	w.Write(p.errorText(nil, err, p.paint.bad.Sprint("error:")+" "))
}

// errorText appends an error. prefix goes before one that does not print itself.
func (p *printer) errorText(dst []byte, err error, prefix string) []byte {
	if several := parts(err); len(several) > 0 {
		for _, one := range several {
			dst = p.errorText(dst, one, prefix)
		}
		return dst
	}
	var self interface {
		Print(w io.Writer, color bool)
	}
	if errors.As(err, &self) {
		var b bytes.Buffer
		self.Print(&b, p.paint.on)
		return appendText(dst, b.String(), "", p.paint.on)
	}
	dst = append(dst, prefix...)
	return appendText(dst, err.Error(), errorIndent, p.paint.on)
}

// parts are the errors that one error joins, if it does.
func parts(err error) []error {
	switch e := err.(type) { //nolint:errorlint // one that is wrapped has words around it
	case interface{ WrappedErrors() []error }: // go-multierror
		return e.WrappedErrors()
	case interface{ Unwrap() []error }: // errors.Join
		return e.Unwrap()
	}
	return nil
}

func firstLine(err error) string {
	if err == nil {
		return "failed"
	}
	text, _, _ := strings.Cut(strings.TrimSpace(err.Error()), "\n")
	return clean(text)
}

// failures tells what failed and what came of it.
func (p *printer) failures(dst []byte, e *engine.Event) []byte {
	b := p.board
	for i, s := range b.failed {
		if i == inFull {
			dst = fmt.Appendf(dst, "\nand %s: %s\n", count(len(b.failed)-i, "more failed step"), listing(b.failed[i:]))
			break
		}
		dst = p.failure(dst, s)
	}
	dst = append(dst, '\n')
	dst = p.notRun(dst)
	return fmt.Appendf(dst, "%s after %s: %s\n", p.paint.bad.Sprint("Failed"), span(e.Elapsed), p.outcome())
}

// unfinished tells of failures when the run is cut short: nothing else will.
func (p *printer) unfinished(dst []byte, now time.Time) []byte {
	if p.board.over || len(p.board.failed) == 0 {
		return dst
	}
	return p.failures(dst, &engine.Event{Elapsed: now.Sub(p.board.begun)})
}

// notRun tells what was skipped, a line for each cause, and what was cancelled.
func (p *printer) notRun(dst []byte) []byte {
	var causes []string
	skipped := map[string][]*step{}
	for _, s := range p.board.skipped {
		if skipped[s.cause] == nil {
			causes = append(causes, s.cause)
		}
		skipped[s.cause] = append(skipped[s.cause], s)
	}
	for _, cause := range causes {
		because := ""
		if cause != "" {
			because = " because " + cause
		}
		dst = fmt.Appendf(dst, "Skipped%s: %s\n", because, listing(skipped[cause]))
	}
	if len(p.board.cancelled) > 0 {
		dst = fmt.Appendf(dst, "Cancelled: %s\n", listing(p.board.cancelled))
	}
	return dst
}

// failure is one failed step: the error, the end of its output, its log.
func (p *printer) failure(dst []byte, s *step) []byte {
	after := ""
	if s.elapsed > 0 {
		after = " after " + span(s.elapsed)
	}
	dst = fmt.Appendf(dst, "\n%s\n", p.paint.bad.Sprint(s.shown+" failed"+after))
	if s.err != nil {
		dst = p.errorText(dst, s.err, p.paint.bad.Sprint("error:")+" ")
	}
	if lines := s.tail.lines(lastLines, p.paint.on); len(lines) > 0 {
		dst = append(dst, "The end of its output:\n"...)
		for _, line := range lines {
			dst = fmt.Appendf(dst, "%s %s\n", p.paint.faint.Sprint("  |"), line)
		}
	}
	if s.log != "" {
		dst = fmt.Appendf(dst, "Its full log: %s\n", clean(s.log))
	}
	return dst
}

// outcome counts how the steps of a run ended.
func (p *printer) outcome() string {
	b := p.board
	stopped := 0
	for _, s := range b.cancelled {
		if s.began {
			stopped++
		}
	}
	var counts []string
	add := func(n int, word string) {
		if n > 0 {
			counts = append(counts, fmt.Sprintf("%d %s", n, word))
		}
	}
	add(len(b.failed), "failed")
	add(len(b.made), "done")
	add(b.cached, "up to date")
	add(len(b.skipped), "skipped")
	add(stopped, "stopped")
	add(max(len(b.cancelled)-stopped, 0)+max(b.total-b.ended(), 0), "not started")
	return cmp.Or(strings.Join(counts, ", "), "nothing done")
}
