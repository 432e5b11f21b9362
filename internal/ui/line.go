package ui

import (
	"fmt"
	"strings"

	"raptor-make/engine"
)

// A printer has the lines that all modes have in common.
type printer struct {
	paint     palette
	verbosity int
	board     *board
}

// common appends the lines for what every mode says in the same way.
func (p *printer) common(dst []byte, e *engine.Event, s *step) []byte {
	switch e.Kind {
	case engine.Done, engine.Cached:
		if s != nil {
			dst = p.ended(dst, s)
		}
	case engine.Failed:
		if s != nil && s.state == engine.Failed {
			dst = p.brokeDown(dst, s)
		}
	case engine.Message:
		dst = p.message(dst, e, s)
	case engine.Finished:
		dst = p.finish(dst, e)
	}
	return dst
}

// ended is the line of a step that needs no more work.
//
//	[*] Completed [675DE2C3A4D8CD82] index.docker.io-library-debian-trixie
//	[*] Completed [AB1DD71BFD07718B] run iso -> live.iso (443.2 MB)
//	[*] Up to date [AB1DD71BFD07718B] run iso
func (p *printer) ended(dst []byte, s *step) []byte {
	word, outputs := "Completed", ""
	switch {
	case s.kind == engine.Job && s.state == engine.Cached:
		word = "Up to date"
	case len(s.outputs) > 0:
		outputs = " -> " + written(s.outputs)
	}
	// Appended piece by piece: a run with nothing to do is little else.
	dst = append(dst, p.paint.mark...)
	dst = append(dst, word...)
	dst = p.bracketed(dst, s.key)
	dst = append(dst, ' ')
	dst = append(dst, s.shown...)
	dst = append(dst, outputs...)
	return append(dst, '\n')
}

// brokeDown is the line of a step that failed, when it fails; the end of the
// run tells the rest.
func (p *printer) brokeDown(dst []byte, s *step) []byte {
	dst = append(dst, p.paint.bad.Sprint("[!]")...)
	dst = p.bracketed(append(dst, " Failed"...), s.key)
	return fmt.Appendf(dst, " %s\n", s.shown)
}

func (p *printer) bracketed(dst []byte, key string) []byte {
	if key == "" {
		return dst
	}
	if p.paint.on {
		key = p.paint.key.Sprint(key)
	}
	dst = append(dst, " ["...)
	dst = append(dst, key...)
	return append(dst, ']')
}

func written(outputs []engine.Written) string {
	parts := make([]string, len(outputs))
	for i, o := range outputs {
		parts[i] = fmt.Sprintf("%s (%s)", clean(o.Path), size(o.Bytes))
	}
	return strings.Join(parts, ", ")
}

// message is for the user. Its first line says how grave it is.
func (p *printer) message(dst []byte, e *engine.Event, s *step) []byte {
	level := ""
	switch e.Level {
	case "debug":
		if p.verbosity < 2 {
			return dst
		}
		level = p.paint.faint.Sprint("debug:") + " "
	case "warning":
		if p.verbosity < -1 {
			return dst
		}
		level = p.paint.warn.Sprint("warning:") + " "
	case "error":
		level = p.paint.bad.Sprint("error:") + " "
	default:
		if p.verbosity < 0 {
			return dst
		}
	}
	if s != nil {
		level += s.shown + ": "
	}
	dst = append(dst, level...)
	return appendText(dst, e.Text, "", p.paint.on)
}

// appendText appends text of several lines, each but the first after indent.
func appendText(dst []byte, text, indent string, colour bool) []byte {
	for i, line := range strings.Split(strings.TrimRight(text, "\n"), "\n") {
		if i > 0 {
			dst = append(dst, indent...)
		}
		dst = appendClean(dst, []byte(line), colour)
		dst = append(dst, '\n')
	}
	return dst
}
