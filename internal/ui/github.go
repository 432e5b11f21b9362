package ui

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"raptor-make/engine"
)

// mostHeld is how much of a step's output is held back, in bytes. More than
// that is printed as several groups.
const mostHeld = 4 << 20

// github shows a run in the log of a workflow: the output of each step as one
// group, printed when the step ends, so that steps that run side by side are
// not mixed; warnings and failures as annotations.
type github struct {
	plain
	held map[*step]*held
}

// held is output that waits for its group to be printed.
type held struct {
	text  []byte
	parts int // groups printed so far
}

func newGitHub(p printer) *github {
	return &github{plain: plain{printer: p}, held: map[*step]*held{}}
}

func (g *github) show(dst []byte, e *engine.Event, s *step) []byte {
	switch {
	case e.Kind == engine.Message:
		return g.annotate(dst, e, s)
	case s == nil:
		return append(dst, disarm(g.common(nil, e, s))...)
	}
	switch e.Kind {
	case engine.Output:
		h := g.hold(s)
		h.text = g.output(h.text, e, s)
		if len(h.text) >= mostHeld {
			dst = g.group(dst, s, true)
		}
		return dst
	case engine.Started:
		return g.says(dst, s, "started") // or else nothing is seen until it ends
	case engine.Detail:
		h := g.hold(s)
		h.text = g.says(h.text, s, s.detail)
		return dst
	case engine.Done, engine.Cached, engine.Failed, engine.Cancelled, engine.Skipped:
		if g.streams[s] != nil {
			h := g.hold(s)
			h.text = g.endOutput(h.text, s)
		}
		dst = g.group(dst, s, false)
	}
	dst = append(dst, disarm(g.plain.show(nil, e, s))...)
	if e.Kind == engine.Failed && s.state == engine.Failed {
		dst = workflowCommand(dst, "error", s.shown, firstLine(s.err))
	}
	return dst
}

func (g *github) hold(s *step) *held {
	h := g.held[s]
	if h == nil {
		h = &held{}
		g.held[s] = h
	}
	return h
}

// group prints what was held back of a step.
func (g *github) group(dst []byte, s *step, more bool) []byte {
	h := g.held[s]
	if h == nil {
		return dst
	}
	title := s.shown
	if h.parts++; h.parts > 1 || more {
		title = fmt.Sprintf("%s (part %d)", title, h.parts)
	}
	if len(h.text) > 0 {
		dst = fmt.Appendf(dst, "::group::%s\n", escapeData(title))
		dst = append(dst, disarm(h.text)...)
		dst = append(dst, "::endgroup::\n"...)
	}
	h.text = h.text[:0]
	if !more {
		delete(g.held, s)
	}
	return dst
}

// disarm makes text that comes from elsewhere no workflow command. The form
// "::name::" counts at the start of a line only, the older form "##[name]"
// anywhere.
func disarm(text []byte) []byte {
	if !bytes.Contains(text, []byte("::")) && !bytes.Contains(text, []byte("##[")) {
		return text
	}
	var safe []byte
	for line := range bytes.Lines(bytes.ReplaceAll(text, []byte("##["), []byte("# #["))) {
		rest := bytes.TrimLeft(line, " \t")
		if bytes.HasPrefix(rest, []byte("::")) {
			safe = append(safe, ": "...)
			rest = rest[1:]
			line = rest
		}
		safe = append(safe, line...)
	}
	return safe
}

func (g *github) rest(dst []byte, now time.Time) []byte {
	for _, s := range g.board.running {
		if g.streams[s] != nil {
			h := g.hold(s)
			h.text = g.endOutput(h.text, s)
		}
		dst = g.group(dst, s, false)
	}
	return append(dst, disarm(g.unfinished(nil, now))...)
}

// annotate shows messages so that the workflow's page shows them as well.
func (g *github) annotate(dst []byte, e *engine.Event, s *step) []byte {
	title := ""
	if s != nil {
		title = s.shown
	}
	switch e.Level {
	case "warning", "error":
		return workflowCommand(dst, e.Level, title, e.Text)
	}
	return append(dst, disarm(g.message(nil, e, s))...)
}

func workflowCommand(dst []byte, name, title, text string) []byte {
	if title != "" {
		name += " title=" + escapeProperty(title)
	}
	return fmt.Appendf(dst, "::%s::%s\n", name, escapeData(strings.TrimRight(text, "\n")))
}

var (
	dataEscapes     = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A")
	propertyEscapes = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C")
)

func escapeData(text string) string     { return dataEscapes.Replace(text) }
func escapeProperty(text string) string { return propertyEscapes.Replace(text) }
