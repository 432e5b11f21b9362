package rapt

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A problem is a mistake at a place of the text that is being parsed. Whoever
// owns the text knows which place of a file that is.
type problem struct {
	extent
	severity Severity
	message  string
	label    string
	help     string
}

// A scanner splits instruction text into words and the tokens of expressions.
// It never fails: it reports and goes on, so that one mistake hides no other.
type scanner struct {
	text   string
	pos    int // of the next byte to read
	end    int // of the last token that was read
	quiet  bool
	errors int // that were reported
	report func(problem)
	enter  func(production string) // told of each production; nil but in tests
}

func (s *scanner) entered(production string) {
	if s.enter != nil {
		s.enter(production)
	}
}

func (s *scanner) fail(e extent, label, format string, args ...any) {
	if !s.quiet {
		s.errors++
		s.report(problem{extent: e, message: fmt.Sprintf(format, args...), label: label})
	}
}

func (s *scanner) warn(e extent, label, format string, args ...any) {
	if !s.quiet {
		s.report(problem{extent: e, severity: Warning, message: fmt.Sprintf(format, args...), label: label})
	}
}

// Bytes by what they do to a bare word.
const (
	endsWord  = 1 << iota // white space
	stopsBare             // white space, a quote or a backslash
	shellSign             // a shell would act on it, and it looks that way
	neverBare             // is quoted in what we write
)

var classes = func() (t [256]uint8) {
	for _, c := range " \t\r\v\f\n" {
		t[c] = endsWord | stopsBare
	}
	t['"'], t['\\'] = stopsBare, stopsBare
	for _, c := range "|&;<>$`" {
		t[c] = shellSign
	}
	for c := range 0x80 {
		if c <= ' ' || c == 0x7f || strings.ContainsRune("\"\\|&;<>$`*?[](){}'!", rune(c)) {
			t[c] |= neverBare
		}
	}
	return t
}()

// isBlank tells white space inside a line.
func isBlank(c byte) bool { return c != '\n' && classes[c]&endsWord != 0 }

func (s *scanner) atLineEnd() bool { return s.pos >= len(s.text) || s.text[s.pos] == '\n' }

func (s *scanner) blanks() {
	for s.pos < len(s.text) && isBlank(s.text[s.pos]) {
		s.pos++
	}
}

// space reads what may stand between the tokens of one instruction: blanks, a
// comment at the end of the line, continuations and what they skip.
func (s *scanner) space() {
	for {
		from := s.pos
		s.blanks()
		switch {
		case s.pos >= len(s.text):
			return
		case s.text[s.pos] == '\\' && s.continuation():
		case s.text[s.pos] == '#' && s.atWordStart(from):
			s.entered("comment")
			s.restOfLine()
			return
		default:
			return
		}
	}
}

// atWordStart tells whether a word could start here, so that # is a comment.
func (s *scanner) atWordStart(from int) bool {
	return s.pos > from || s.pos == 0 || classes[s.text[s.pos-1]]&endsWord != 0
}

func (s *scanner) restOfLine() {
	if n := strings.IndexByte(s.text[s.pos:], '\n'); n >= 0 {
		s.pos += n
	} else {
		s.pos = len(s.text)
	}
}

// continuation reads a backslash that ends a line, and the empty lines and
// comments that follow it. It reads nothing if the backslash is another.
func (s *scanner) continuation() bool {
	after := s.pos + 1
	for after < len(s.text) && isBlank(s.text[after]) {
		after++
	}
	if after < len(s.text) && s.text[after] != '\n' {
		return false
	}
	if after > s.pos+1 {
		s.fail(extent{s.pos, after}, "remove the blanks behind it", "a backslash continues a line only as its last character")
	}
	s.pos = min(after+1, len(s.text))
	s.entered("continuation")
	for s.pos < len(s.text) {
		line := s.pos
		s.blanks()
		switch {
		case s.pos < len(s.text) && s.text[s.pos] == '\n':
			s.pos++
		case s.pos < len(s.text) && s.text[s.pos] == '#':
			s.entered("comment")
			s.restOfLine()
			s.pos = min(s.pos+1, len(s.text))
		default:
			s.continued()
			s.pos = line
			return true
		}
	}
	return true
}

// continued warns of a line that looks like an instruction of its own, and is
// none because of a backslash above it.
func (s *scanner) continued() {
	from := s.pos
	s.bare()
	if w := s.text[from:s.pos]; slices.Contains(keywords, w) {
		s.warn(extent{from, s.pos}, "quote it if that is meant", "%s is a word of the instruction above, which a backslash continues", w)
	}
}

// word = ( bare | string ) { bare | string } ;
//
// It is called where a word starts, and returns a word even if what stands
// there is wrong.
func (s *scanner) word() word {
	s.entered("word")
	start := s.pos
	s.bare()
	if s.pos >= len(s.text) || classes[s.text[s.pos]]&endsWord != 0 {
		s.end = s.pos
		return word{extent: extent{start, s.pos}, text: s.text[start:s.pos], plain: true}
	}
	var b strings.Builder
	b.WriteString(s.text[start:s.pos])
	w := word{quoted: s.text[start] == '"', plain: true}
	for s.pos < len(s.text) && classes[s.text[s.pos]]&endsWord == 0 {
		switch s.text[s.pos] {
		case '"':
			w.plain = false
			s.quoted(&b)
		case '\\':
			if s.endsLine(s.pos + 1) {
				w.extent, w.text, s.end = extent{start, s.pos}, b.String(), s.pos
				return w
			}
			s.strayBackslash()
			b.WriteByte('\\')
		default:
			from := s.pos
			s.bare()
			b.WriteString(s.text[from:s.pos])
		}
	}
	w.extent, w.text, s.end = extent{start, s.pos}, b.String(), s.pos
	return w
}

// endsLine tells whether nothing but blanks follows on the line.
func (s *scanner) endsLine(at int) bool {
	for at < len(s.text) && isBlank(s.text[at]) {
		at++
	}
	return at >= len(s.text) || s.text[at] == '\n'
}

// bare = ? any characters but white space, quotes and backslashes ? ;
func (s *scanner) bare() {
	from, all := s.pos, byte(0)
	for s.pos < len(s.text) && classes[s.text[s.pos]]&stopsBare == 0 {
		all |= s.text[s.pos]
		s.pos++
	}
	if s.pos > from {
		s.entered("bare")
	}
	if all >= utf8.RuneSelf {
		s.foreignSpace(from)
	}
}

// foreignSpace warns of characters that look like blanks and separate no words.
func (s *scanner) foreignSpace(from int) {
	bare := s.text[from:s.pos]
	if i := strings.IndexFunc(bare, unicode.IsSpace); i >= 0 {
		r, size := utf8.DecodeRuneInString(bare[i:])
		s.warn(extent{from + i, from + i + size}, "quote it if that is meant", "%U looks like a blank, and is a part of this word", r)
	}
}

func (s *scanner) strayBackslash() {
	s.fail(extent{s.pos, s.pos + 1}, `inside quotes, write it as \\`, "a backslash stands outside of quotes")
	s.pos++
}

// string = '"' { ? any character but quotes, backslashes and newlines ? | escape } '"' ;
func (s *scanner) quoted(b *strings.Builder) {
	s.entered("string")
	open := s.pos
	for s.pos++; s.pos < len(s.text); {
		n := strings.IndexAny(s.text[s.pos:], "\"\\\n")
		if n < 0 {
			n = len(s.text) - s.pos
		}
		b.WriteString(s.text[s.pos : s.pos+n])
		s.pos += n
		if s.atLineEnd() {
			break
		}
		if s.text[s.pos] == '"' {
			s.pos++
			return
		}
		s.escape(b)
	}
	s.fail(extent{open, s.pos}, `for a new line inside of it, write \n`, "this quote is not closed on its line")
}

// escape = "\\" | "\n" | "\t" | '\"' ;
func (s *scanner) escape(b *strings.Builder) {
	s.entered("escape")
	from := s.pos
	s.pos++
	if s.atLineEnd() {
		return // the quote is not closed, which its caller says
	}
	switch s.text[s.pos] {
	case '\\', '"':
		b.WriteByte(s.text[s.pos])
	case 'n':
		b.WriteByte('\n')
	case 't':
		b.WriteByte('\t')
	default:
		r, size := utf8.DecodeRuneInString(s.text[s.pos:])
		s.fail(extent{from, s.pos + size}, `a backslash is written \\; the other escapes are \n, \t and \"`, `unknown escape \%c`, r)
		b.WriteString(s.text[from : s.pos+size])
		s.pos += size
		return
	}
	s.pos++
}

// skip reads the rest of an instruction without a word about it, so that one
// mistake is told once.
func (s *scanner) skip() {
	quiet := s.quiet
	s.quiet = true
	end := s.end
	for s.space(); !s.atLineEnd(); s.space() {
		if s.text[s.pos] == '\\' {
			s.pos++
			continue
		}
		s.word()
	}
	s.quiet, s.end = quiet, max(end, s.end)
}
