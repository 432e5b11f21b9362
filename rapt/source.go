package rapt

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"
)

// An extent is a stretch of a text, in bytes, the end excluded.
type extent struct{ start, end int }

// A source is the text of one file of the user, ready to be read: without a
// byte order mark, with lines that end in "\n", the last one too. Columns and
// lines are the same as in the file.
type source struct {
	path  string // absolute
	shown string // as diagnostics name it
	text  string
	lines []int  // where each line starts; made when first asked for
	bytes []byte // the text again, for diagnostics; likewise

	// Where columns were counted last: lines can be long, and hold many places.
	counted struct{ offset, columns int }
}

// newSource makes a source of what a module's file holds.
func newSource(path string, content []byte) *source {
	text := string(bytes.TrimPrefix(content, []byte("\ufeff")))
	if text != "" && !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	if strings.IndexByte(text, '\r') >= 0 { // also before the end that was missing
		text = withoutReturns(text)
	}
	return &source{path: path, shown: shownPath(path), text: text}
}

// withoutReturns takes away the carriage returns at the ends of lines, however
// many.
func withoutReturns(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		end := strings.TrimSuffix(line, "\n")
		b.WriteString(strings.TrimRight(end, "\r"))
		b.WriteString(line[len(end):])
	}
	return b.String()
}

// exactSource makes a source of a template whose text is not instructions: line
// ends stay as they are.
func exactSource(path string, content []byte) *source {
	text := string(content)
	if text != "" && !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	return &source{path: path, shown: shownPath(path), text: text}
}

// shownPath is how people are told of a file: as seen from where they are, if
// it lies below that.
func shownPath(path string) string {
	dir, err := os.Getwd()
	if err != nil {
		return path
	}
	if rel, err := filepath.Rel(dir, path); err == nil && filepath.IsLocal(rel) {
		return rel
	}
	return path
}

// content is the text for all diagnostics of the file to share.
func (s *source) content() []byte {
	if s.bytes == nil {
		s.bytes = []byte(s.text)
	}
	return s.bytes
}

// starts returns where each line starts, and the end of the text.
func (s *source) starts() []int {
	if s.lines == nil {
		s.lines = make([]int, 1, strings.Count(s.text, "\n")+2)
		for i := 0; i < len(s.text); i++ {
			n := strings.IndexByte(s.text[i:], '\n')
			if n < 0 {
				break
			}
			i += n
			s.lines = append(s.lines, i+1)
		}
	}
	return s.lines
}

// lineOf returns the number of the line that an offset lies on, from 0.
func (s *source) lineOf(offset int) int {
	lines := s.starts()
	low, high := 0, len(lines)
	for high-low > 1 {
		mid := (low + high) / 2
		if lines[mid] <= offset {
			low = mid
		} else {
			high = mid
		}
	}
	return low
}

// line returns the extent of a line, counted from 0, without its end.
func (s *source) line(n int) extent {
	lines := s.starts()
	if n < 0 || n >= len(lines) {
		return extent{len(s.text), len(s.text)}
	}
	end := len(s.text)
	if n+1 < len(lines) {
		end = lines[n+1] - 1
	}
	return extent{lines[n], max(end, lines[n])}
}

// lineText is the text of a line, counted from 0.
func (s *source) lineText(n int) string {
	e := s.line(n)
	return s.text[e.start:e.end]
}

// span turns an extent of the text into a place that people can find.
func (s *source) span(e extent) Span {
	e.start = min(max(e.start, 0), len(s.text))
	e.end = min(max(e.end, e.start), len(s.text))
	first := s.lineOf(e.start)
	span := Span{File: s.shown, Line: first + 1, Column: 1 + s.columns(first, e.start)}
	last := first
	if e.end > s.line(first).end {
		last = s.lineOf(e.end)
	}
	span.EndLine, span.EndColumn = last+1, 1+s.columns(last, e.end)
	return span
}

// columns counts the characters of a line that are left of an offset.
func (s *source) columns(line, offset int) int {
	last := &s.counted
	if start := s.starts()[line]; last.offset > offset || last.offset < start {
		last.offset, last.columns = start, 0
	}
	last.columns += utf8.RuneCountInString(s.text[last.offset:offset])
	last.offset = offset
	return last.columns
}

// trimmed is the extent of the text of a line without the blanks around it.
func (s *source) trimmed(line int) extent {
	e := s.line(line)
	for e.start < e.end && isBlank(s.text[e.start]) {
		e.start++
	}
	for e.end > e.start && isBlank(s.text[e.end-1]) {
		e.end--
	}
	return e
}

// Damage is reported in so many places of a text.
const maxDamage = 10

// damage finds the bytes that no text may hold.
func damage(text string, found func(extent, string)) {
	for i, count := 0, 0; i < len(text) && count < maxDamage; {
		if text[i] != 0 && text[i] < utf8.RuneSelf {
			i++
			continue
		}
		start := i
		if text[i] == 0 {
			for i < len(text) && text[i] == 0 {
				i++
			}
			found(extent{start, i}, "a zero byte, which no text may hold")
			count++
			continue
		}
		for i < len(text) && text[i] >= utf8.RuneSelf {
			if r, size := utf8.DecodeRuneInString(text[i:]); r != utf8.RuneError || size > 1 {
				break
			}
			i++
		}
		if i > start {
			found(extent{start, i}, "bytes that are not UTF-8, the encoding of all files of a project")
			count++
			continue
		}
		_, size := utf8.DecodeRuneInString(text[i:])
		i += size
	}
}

// readFile reads a file of a project. A named pipe would keep us waiting for
// somebody to write to it.
func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() && !info.IsDir() {
		return nil, &fs.PathError{Op: "read", Path: path, Err: errors.New("it is not a regular file")}
	}
	return os.ReadFile(path)
}
