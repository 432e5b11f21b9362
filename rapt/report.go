package rapt

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// After so many diagnostics the rest is counted only: nobody reads on.
const maxPrinted = 200

// Lines of source are shown up to this width, in columns.
const maxWidth = 160

// Print writes diagnostics as people read them: the message, the place, and
// the lines around it with the exact span underlined.
func (d Diagnostics) Print(w io.Writer, color bool) {
	var b bytes.Buffer
	p := printer{Buffer: &b, color: color}
	for i, diagnostic := range d {
		if i > 0 {
			b.WriteByte('\n')
		}
		if i == maxPrinted {
			p.paint(bold, fmt.Sprintf("and %d more", len(d)-i))
			b.WriteByte('\n')
			break
		}
		p.diagnostic(diagnostic)
	}
	w.Write(b.Bytes())
}

// Colours, as terminals know them.
const (
	bold       = "\x1b[1m"
	boldRed    = "\x1b[1;31m"
	boldYellow = "\x1b[1;33m"
	boldBlue   = "\x1b[1;34m"
	boldGreen  = "\x1b[1;32m"
	uncolored  = "\x1b[0m"
)

// A printer writes diagnostics.
type printer struct {
	*bytes.Buffer
	color bool
	width int // of the line numbers
}

func (p *printer) paint(color, text string) {
	if p.color && text != "" {
		p.WriteString(color + text + uncolored)
	} else {
		p.WriteString(text)
	}
}

func (p *printer) diagnostic(d *Diagnostic) {
	kind, color := "error", boldRed
	if d.Severity == Warning {
		kind, color = "warning", boldYellow
	}
	p.paint(color, kind)
	p.paint(bold, ": "+visible(d.Message))
	p.WriteByte('\n')
	if d.Span.File == "" {
		p.width = 0
		if d.Label != "" {
			p.note("help", d.Label)
		}
		p.notes(d)
		return
	}
	lines := sourceLines(d)
	p.width = 1
	if len(lines) > 0 {
		p.width = len(strconv.Itoa(lines[len(lines)-1].number))
	}
	p.WriteString(strings.Repeat(" ", p.width+1))
	p.paint(boldBlue, "--> ")
	p.WriteString(position(d.Span) + "\n")
	p.source(d, lines, color)
	p.notes(d)
}

func position(s Span) string {
	if s.Line == 0 {
		return s.File
	}
	return fmt.Sprintf("%s:%d:%d", s.File, s.Line, s.Column)
}

// A shownLine is a line of source as it is printed.
type shownLine struct {
	number     int
	text       string
	start, end int // the underlined columns, from 0; none if equal and not marked
	marked     bool
}

// At most so many lines of a span are shown.
const maxSpanLines = 6

// sourceLines are the lines of a diagnostic's source to show: those of its
// span, one before and one behind.
func sourceLines(d *Diagnostic) []shownLine {
	if d.Span.Line == 0 || d.Source == nil {
		return nil
	}
	last := min(max(d.Span.EndLine, d.Span.Line), d.Span.Line+maxSpanLines-1)
	var lines []shownLine
	number := 0
	for rest := d.Source; number <= last; {
		line, after, found := bytes.Cut(rest, []byte("\n"))
		number++
		if !found && len(line) == 0 && number != d.Span.Line {
			break
		}
		if number >= d.Span.Line-1 {
			lines = append(lines, showLine(string(line), number, d.Span))
		}
		if !found {
			break
		}
		rest = after
	}
	return lines
}

// showLine prepares one line: tabs become blanks, what a terminal would act on
// becomes harmless, and of a long line a part is left.
func showLine(text string, number int, span Span) shownLine {
	shown := shownLine{number: number, marked: number >= span.Line && number <= max(span.EndLine, span.Line)}
	from, to := 0, 0
	if shown.marked {
		from, to = 0, utf8.RuneCountInString(text)
		if number == span.Line {
			from = span.Column - 1
		} else {
			from = utf8.RuneCountInString(text) - utf8.RuneCountInString(strings.TrimLeft(text, " \t"))
		}
		if number == max(span.EndLine, span.Line) {
			to = span.EndColumn - 1
		}
	}
	var b strings.Builder
	column, character := 0, 0
	shown.start, shown.end = -1, -1
	for _, r := range text {
		if character == from {
			shown.start = column
		}
		if character == to {
			shown.end = column
		}
		character++
		if r == '\t' {
			n := 4 - column%4
			b.WriteString(strings.Repeat(" ", n))
			column += n
			continue
		}
		r = harmless(r)
		b.WriteRune(r)
		column += runeWidth(r)
	}
	if shown.start < 0 {
		shown.start = column
	}
	if shown.end < 0 {
		shown.end = column
	}
	shown.text = strings.TrimRight(b.String(), " ")
	shown.clip()
	return shown
}

// clip leaves a window around what is underlined of a line that is too long.
func (l *shownLine) clip() {
	runes := []rune(l.text)
	if len(runes) <= maxWidth {
		return
	}
	from := max(0, min(l.start-maxWidth/3, len(runes)-maxWidth))
	to := min(from+maxWidth, len(runes))
	l.start, l.end = max(l.start-from, 0), min(max(l.end-from, 0), maxWidth)
	window := runes[from:to]
	if from > 0 {
		window[0] = '…'
	}
	if to < len(runes) {
		window[len(window)-1] = '…'
	}
	l.text = string(window)
}

// harmless replaces characters that a terminal would act on.
func harmless(r rune) rune {
	if r == utf8.RuneError || unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
		return '�'
	}
	return r
}

// visible is a text that a terminal shows as it is.
func visible(text string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' {
			return r
		}
		return harmless(r)
	}, text)
}

// runeWidth is how many columns a character takes in a terminal.
func runeWidth(r rune) int {
	switch {
	case unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf):
		return 0
	case r >= 0x1100 && (r <= 0x115f || r >= 0x2e80 && r <= 0xa4cf || r >= 0xac00 && r <= 0xd7a3 ||
		r >= 0xf900 && r <= 0xfaff || r >= 0xfe30 && r <= 0xfe6f || r >= 0xff00 && r <= 0xff60 ||
		r >= 0xffe0 && r <= 0xffe6 || r >= 0x1f300 && r <= 0x1faff || r >= 0x20000 && r <= 0x3fffd):
		return 2
	}
	return 1
}

func (p *printer) gutter(number int) {
	text := strings.Repeat(" ", p.width)
	if number > 0 {
		text = fmt.Sprintf("%*d", p.width, number)
	}
	p.paint(boldBlue, " "+text+" |")
}

// source writes the lines, each marked one with its underline.
func (p *printer) source(d *Diagnostic, lines []shownLine, color string) {
	if len(lines) == 0 {
		if d.Label != "" {
			p.note("help", d.Label)
		}
		return
	}
	p.gutter(0)
	p.WriteByte('\n')
	final := d.Span.Line
	for _, l := range lines {
		if l.marked {
			final = l.number
		}
	}
	for _, l := range lines {
		p.gutter(l.number)
		if l.text != "" {
			p.WriteString(" " + l.text)
		}
		p.WriteByte('\n')
		if !l.marked {
			continue
		}
		p.gutter(0)
		p.WriteString(strings.Repeat(" ", l.start+1))
		line := strings.Repeat("^", max(l.end-l.start, 1))
		if l.number == final && d.Label != "" {
			line += " " + visible(d.Label)
		}
		p.paint(color, line)
		p.WriteByte('\n')
	}
	p.gutter(0)
	p.WriteByte('\n')
}

// notes writes what led to the place, and how to mend it.
func (p *printer) notes(d *Diagnostic) {
	for _, f := range d.Chain {
		p.note("", frameText(f))
	}
	if d.Help != "" {
		p.note("help", d.Help)
	}
}

func (p *printer) note(kind, text string) {
	p.WriteString(strings.Repeat(" ", p.width+2))
	p.paint(boldBlue, "= ")
	if kind != "" {
		p.paint(boldGreen, kind)
		p.WriteString(": ")
	}
	p.WriteString(visible(text))
	p.WriteByte('\n')
}

// frameText is one link of a chain in words.
func frameText(f Frame) string {
	at := position(f.Span)
	switch f.Verb {
	case "included":
		return "included from " + at
	case "called":
		return "called from " + at
	case "built on":
		return "the base of " + at
	case "declared":
		return "declared at " + at
	case "repeated":
		return "with " + f.Note + " in the loop at " + at
	}
	return f.Verb + " by " + at
}
