package rapt

import (
	"slices"
	"strings"
)

// The template engine says little about where in a template a text came from,
// and less about where a mistake is. So templates are split into pieces here
// first, by the engine's own rules: what it copies, and the tags between.

// A piece is one part of a template. The pieces of a template cover it.
type piece struct {
	extent // with the delimiters; of a line statement: its whole line
	kind   pieceKind
	inner  extent // between the delimiters
	name   string // the first word of a block tag: "if", "endfor"
	line   bool   // a line statement, "$ …"

	trimsLeft, trimsRight bool // removes white space of the text beside it

	// The block tags that it stands in, by their index, outermost first.
	blocks []int
}

type pieceKind int8

const (
	copied  pieceKind = iota // text
	printed                  // {{ … }}
	tag                      // {% … %}, and line statements
	remark                   // {# … #}
	raw                      // {% raw %} … {% endraw %}
)

// A splitter splits a template.
type splitter struct {
	text   string
	pos    int
	from   int // where the text that is copied begins
	pieces []piece
	open   []int // block tags that are not closed yet
	report func(problem)
	failed bool
}

// isTemplate tells whether the engine would change a text at all.
func isTemplate(text string) bool {
	for rest := text; ; {
		n := strings.IndexByte(rest, '{')
		if n < 0 || n+1 >= len(rest) {
			break
		}
		if c := rest[n+1]; c == '{' || c == '%' || c == '#' {
			return true
		}
		rest = rest[n+1:]
	}
	for rest := text; ; {
		n := strings.Index(rest, "$ ")
		if n < 0 {
			return false
		}
		before := strings.TrimRight(rest[:n], " \t")
		if before == "" && len(rest) == len(text) || strings.HasSuffix(before, "\n") {
			return true
		}
		rest = rest[n+1:]
	}
}

// split splits a template, or reports why it cannot.
func split(text string, report func(problem)) ([]piece, bool) {
	s := splitter{text: text, report: report}
	for s.pos < len(text) && !s.failed {
		s.step()
	}
	s.copy(len(text))
	if s.failed {
		return nil, false // what is still open may follow from that
	}
	for _, open := range s.open {
		p := s.pieces[open]
		s.fail(s.shownTag(p), `it needs an "end`+p.name+`"`, "the template's %q is never closed", p.name)
	}
	return s.pieces, !s.failed
}

func (s *splitter) fail(e extent, label, format string, args ...any) {
	sc := scanner{report: s.report}
	sc.fail(e, label, format, args...)
	s.failed = true
}

// shownTag is the part of a tag that errors underline.
func (s *splitter) shownTag(p piece) extent {
	if !p.line {
		return p.extent
	}
	text := s.text[p.start:p.end]
	lead := len(text) - len(strings.TrimLeft(text, " \t"))
	return extent{p.start + lead, p.start + len(strings.TrimRight(text, " \t\r\n"))}
}

// step goes to the next tag and reads it.
func (s *splitter) step() {
	if s.pos == 0 || s.text[s.pos-1] == '\n' {
		if at := s.pos + blanksBefore(s.text[s.pos:]); strings.HasPrefix(s.text[at:], "$ ") {
			s.statementLine(at)
			return
		}
	}
	n := strings.IndexAny(s.text[s.pos:], "{\n")
	if n < 0 {
		s.pos = len(s.text)
		return
	}
	s.pos += n
	if s.text[s.pos] == '\n' || s.pos+1 >= len(s.text) {
		s.pos++
		return
	}
	switch s.text[s.pos+1] {
	case '{':
		s.delimited(printed, "}}", "expression")
	case '%':
		if !s.rawBlock() {
			s.delimited(tag, "%}", "tag")
		}
	case '#':
		s.comment()
	default:
		s.pos++
	}
}

func blanksBefore(text string) int { return len(text) - len(strings.TrimLeft(text, " \t")) }

// copy ends the text before a tag.
func (s *splitter) copy(end int) {
	if end > s.from {
		s.add(piece{extent: extent{s.from, end}, kind: copied})
	}
}

func (s *splitter) add(p piece) {
	p.blocks = slices.Clone(s.open)
	s.pieces = append(s.pieces, p)
	s.from = p.end
	s.pos = p.end
}

// statementLine reads "$ …" up to the end of the line, or beyond it while
// brackets are open.
func (s *splitter) statementLine(dollar int) {
	p := piece{kind: tag, line: true, extent: extent{start: s.pos}}
	end, next, ok := s.code(dollar+2, "\n")
	if !ok {
		s.fail(extent{dollar, dollar + 1 + len(strings.TrimRight(firstLine(s.text[dollar+1:]), " \t"))}, "", "this template statement is not complete: a bracket or quote is open")
		return
	}
	p.inner, p.end = extent{dollar + 2, end}, next
	s.copy(p.start)
	s.block(p)
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}

// delimited reads a tag that begins here and ends with close.
func (s *splitter) delimited(kind pieceKind, close, what string) {
	p := piece{kind: kind, extent: extent{start: s.pos}}
	at := s.pos + 2
	if at < len(s.text) && (s.text[at] == '-' || s.text[at] == '+') {
		p.trimsLeft = s.text[at] == '-'
		at++
	}
	end, next, ok := s.code(at, close)
	if !ok {
		s.fail(extent{s.pos, s.pos + len(firstLine(s.text[s.pos:]))}, "", "this template %s is never closed with %s", what, close)
		return
	}
	p.trimsRight = s.text[end] == '-'
	p.inner, p.end = extent{at, end}, next
	s.copy(p.start)
	if kind == tag {
		s.block(p)
		return
	}
	s.add(p)
}

// code finds the end of the code that begins at an offset: where its closing
// delimiter begins, with its sign, and where the text goes on.
func (s *splitter) code(at int, close string) (end, next int, ok bool) {
	depth := 0
	for at < len(s.text) {
		c := s.text[at]
		if depth == 0 {
			rest := s.text[at:]
			if strings.HasPrefix(rest, close) {
				return at, at + len(close), true
			}
			if (c == '-' || c == '+') && close != "\n" && strings.HasPrefix(rest[1:], close) {
				return at, at + 1 + len(close), true
			}
		}
		switch c {
		case '(', '[', '{':
			depth++
		case ')', ']', '}':
			depth--
		case '"', '\'':
			for at++; at < len(s.text) && s.text[at] != c; at++ {
				if s.text[at] == '\\' {
					at++
				}
			}
			if at >= len(s.text) {
				return len(s.text), len(s.text), false
			}
		}
		at++
	}
	return at, at, close == "\n" && depth == 0
}

func (s *splitter) comment() {
	n := strings.Index(s.text[s.pos+2:], "#}")
	if n < 0 {
		s.fail(extent{s.pos, s.pos + 2}, "", "this template comment is never closed with #}")
		return
	}
	p := piece{kind: remark, extent: extent{s.pos, s.pos + n + 4}}
	p.inner = extent{p.start + 2, p.end - 2}
	p.trimsLeft = s.text[p.start+2] == '-'
	p.trimsRight = n > 0 && s.text[p.end-3] == '-'
	s.copy(p.start)
	s.add(p)
}

// rawBlock reads {% raw %} up to its {% endraw %}.
func (s *splitter) rawBlock() bool {
	opening, ok := basicTag(s.text[s.pos:], "raw")
	if !ok {
		return false
	}
	for at := s.pos + opening; ; {
		n := strings.Index(s.text[at:], "{%")
		if n < 0 {
			s.fail(extent{s.pos, s.pos + opening}, "", "this raw block is never closed with {%% endraw %%}")
			return true
		}
		at += n
		if closing, ok := basicTag(s.text[at:], "endraw"); ok {
			p := piece{kind: raw, extent: extent{s.pos, at + closing}, inner: extent{s.pos + opening, at}}
			p.trimsLeft, p.trimsRight = s.text[s.pos+2] == '-', s.text[p.end-3] == '-'
			s.copy(p.start)
			s.add(p)
			return true
		}
		at += 2
	}
}

// basicTag tells the length of "{% name %}" at the start of a text.
func basicTag(text, name string) (int, bool) {
	rest := text[2:]
	rest = strings.TrimLeft(strings.TrimLeft(rest, "-+"), " \t\r\n")
	rest, found := strings.CutPrefix(rest, name)
	if !found {
		return 0, false
	}
	rest = strings.TrimLeft(rest, " \t\r\n")
	if rest != "" && (rest[0] == '-' || rest[0] == '+') {
		rest = rest[1:]
	}
	if !strings.HasPrefix(rest, "%}") {
		return 0, false
	}
	return len(text) - len(rest) + 2, true
}

// Tags that enclose what follows, up to their end.
var enclosing = map[string]bool{
	"for": true, "if": true, "with": true, "block": true, "macro": true,
	"call": true, "filter": true, "autoescape": true, "set": true,
}

// The statements of templates.
var templateStatements = strings.Fields(`autoescape block break call continue do elif else endautoescape endblock endcall
	endfilter endfor endif endmacro endset endwith extends filter for from if import include macro set with`)

// block adds a block tag, and matches it with the one that it closes.
func (s *splitter) block(p piece) {
	tokens := codeTokens(s.text, p.inner)
	if len(tokens) > 0 && tokens[0].kind == nameToken {
		p.name = tokens[0].text(s.text)
	}
	if opened, ends := strings.CutPrefix(p.name, "end"); ends && enclosing[opened] {
		if !s.matches(p, opened) {
			return
		}
		s.open = s.open[:len(s.open)-1]
		s.add(p)
		return
	}
	if p.name != "" && !slices.Contains(templateStatements, p.name) {
		s.fail(s.shownTag(p), didYouMean(p.name, templateStatements), "unknown template statement %s", quoteForMessage(p.name))
		return
	}
	s.add(p)
	if enclosing[p.name] && (p.name != "set" || !slices.ContainsFunc(tokens, func(t codeToken) bool { return t.text(s.text) == "=" })) {
		s.open = append(s.open, len(s.pieces)-1)
	}
}

func (s *splitter) matches(p piece, opened string) bool {
	if len(s.open) == 0 {
		s.fail(s.shownTag(p), "", "nothing is open here that %q could close", p.name)
		return false
	}
	if inner := s.pieces[s.open[len(s.open)-1]]; inner.name != opened {
		line := 1 + strings.Count(s.text[:s.shownTag(inner).start], "\n")
		s.fail(s.shownTag(p), `"end`+inner.name+`" must come first`, "%q closes nothing: the %q of line %d is still open", p.name, inner.name, line)
		return false
	}
	return true
}
