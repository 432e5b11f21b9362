package ui

import (
	"fmt"
	"time"

	"raptor-make/engine"
)

// plain shows a run as lines: what programs print as "name | text", what
// happens to a step as "name: text".
type plain struct {
	printer
	streams map[*step]*streams
}

// streams are the two outputs of a step, each with the line it is in.
type streams struct {
	prefix   string
	out, err splitter
}

func (p *plain) show(dst []byte, e *engine.Event, s *step) []byte {
	if s == nil {
		return p.common(dst, e, s)
	}
	switch e.Kind {
	case engine.Output:
		return p.output(dst, e, s)
	case engine.Progress:
		return p.progress(dst, e, s)
	case engine.Waiting:
		return p.says(dst, s, s.detail)
	case engine.Started:
		if p.verbosity >= 1 {
			return p.says(dst, s, "started")
		}
	case engine.Detail:
		if p.verbosity >= 1 {
			return p.says(dst, s, s.detail)
		}
	case engine.Done, engine.Cached, engine.Failed, engine.Cancelled, engine.Skipped:
		dst = p.endOutput(dst, s)
	}
	return p.common(dst, e, s)
}

func (p *plain) says(dst []byte, s *step, text string) []byte {
	return fmt.Appendf(dst, "%s: %s\n", p.paint.name(s), text)
}

func (p *plain) output(dst []byte, e *engine.Event, s *step) []byte {
	o := p.streams[s]
	if o == nil {
		if p.streams == nil {
			p.streams = map[*step]*streams{}
		}
		o = &streams{prefix: p.paint.name(s) + " | "}
		p.streams[s] = o
	}
	in := &o.out
	if e.Stderr {
		in = &o.err
	}
	in.feed(e.Data, func(line []byte) { dst = p.line(dst, o.prefix, line) })
	return dst
}

func (p *plain) line(dst []byte, prefix string, line []byte) []byte {
	dst = append(dst, prefix...)
	dst = appendClean(dst, line, p.paint.on)
	return append(dst, '\n')
}

// endOutput prints the lines that were not finished.
func (p *plain) endOutput(dst []byte, s *step) []byte {
	o := p.streams[s]
	if o == nil {
		return dst
	}
	delete(p.streams, s)
	emit := func(line []byte) { dst = p.line(dst, o.prefix, line) }
	o.out.flush(emit)
	o.err.flush(emit)
	return dst
}

func (p *plain) rest(dst []byte, now time.Time) []byte {
	for _, s := range p.board.running {
		dst = p.endOutput(dst, s)
	}
	return p.unfinished(dst, now)
}

const (
	seldom = 10 * time.Second // a transfer is reported at least as often
	often  = time.Second      // and at most as often
)

// progress reports a transfer when it starts, when it ends, and sparsely in
// between: each quarter, or each 10 s.
func (p *plain) progress(dst []byte, e *engine.Event, s *step) []byte {
	i := &s.transfer.items[s.transfer.last]
	first := i.told.IsZero()
	since := e.Time.Sub(i.told)
	quarter := i.total > 0 && i.done*4/i.total > i.toldDone*4/i.total
	switch {
	case i.ended() && i.toldDone == i.total && !first:
		return dst
	case first, i.ended(), since >= seldom && i.done != i.toldDone, quarter && since >= often:
	default:
		return dst
	}
	i.told, i.toldDone = e.Time, i.done
	return p.says(dst, s, i.report(first, e.Time))
}

func (i *item) report(first bool, now time.Time) string {
	what := clean(i.what)
	switch {
	case i.ended() && first:
		return fmt.Sprintf("%s: %s", what, size(i.total))
	case i.ended():
		return fmt.Sprintf("%s: %s in %s", what, size(i.total), span(now.Sub(i.began)))
	case i.total > 0:
		return fmt.Sprintf("%s: %d%%, %s of %s", what, i.done*100/i.total, size(i.done), size(i.total))
	}
	return fmt.Sprintf("%s: %s", what, size(i.done))
}
