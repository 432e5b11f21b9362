package ui

import (
	"strings"

	"github.com/clipperhouse/displaywidth"
)

// cells measures text in terminal cells; sequences that colour have none.
var cells = displaywidth.Options{ControlSequences: true}

func textWidth(text string) int {
	if ascii(text) {
		return len(text)
	}
	return cells.String(text)
}

func ascii(text string) bool {
	for i := range len(text) {
		if text[i] < ' ' || text[i] >= 0x7f {
			return false
		}
	}
	return true
}

// fit cuts text to at most width cells, and says so with more.
func fit(text string, width int, more string) string {
	if width <= 0 {
		return ""
	}
	if len(text) <= width && ascii(text) {
		return text
	}
	// A very long line is not measured to its end.
	if most := 32*width + 256; len(text) > most {
		text = string(appendClean(nil, []byte(text), false))
		text = strings.ToValidUTF8(text[:min(most, len(text))], "") + more
	}
	if textWidth(more) > width {
		more = ""
	}
	return cells.TruncateString(text, width, more)
}

// pad fits text into exactly width cells.
func pad(text string, width int, more string) string {
	text = fit(text, width, more)
	return text + strings.Repeat(" ", max(width-textWidth(text), 0))
}

// expand replaces tabs with spaces up to the next multiple of eight cells.
func expand(text string) string {
	if !strings.Contains(text, "\t") {
		return text
	}
	var b strings.Builder
	column := 0
	for i, piece := range strings.Split(text, "\t") {
		if i > 0 {
			n := 8 - column%8
			b.WriteString(strings.Repeat(" ", n))
			column += n
		}
		b.WriteString(piece)
		column += textWidth(piece)
	}
	return b.String()
}
