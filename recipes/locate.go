package recipes

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// The TOML library tells what a file says but not where. locate finds the
// places: of every key, and of every value with all its elements. It reads the
// shape of TOML 1.0, and of 1.1's inline tables over several lines, without
// judging it; what it is given has been, or will be, judged by the library. On
// a text that is not TOML it stops where it no longer understands.

// An extent is a stretch of bytes of the text.
type extent struct{ start, end int }

// A place is where a key and its value stand.
type place struct {
	name  string
	key   extent // the first mention of this part of the key
	value extent // for a table with a header, the header's last part

	keys     []*place          // of a table, in file order
	byName   map[string]*place // the same
	elements []*place          // of an array

	closed  bool // an inline table or another value: nothing may be added later
	headed  bool // a [header] names it
	assigns bool // key = value, or by way of a dotted key
}

// A clash is a key that is given twice.
type clash struct {
	name         string // in full
	first, again extent
}

// A locator reads text from pos on.
type locator struct {
	text    string
	pos     int
	clashes []clash
}

// locate returns the place of the whole text as a table.
func locate(text string) (*place, []clash) {
	l := &locator{text: text}
	root := &place{}
	table := root
	for {
		l.space(true)
		if l.pos >= len(l.text) {
			break
		}
		before := l.pos
		if l.peek() == '[' {
			t, ok := l.header(root)
			if !ok {
				break
			}
			table = t
		} else if !l.assignment(table) {
			break
		}
		if l.pos == before {
			break
		}
	}
	return root, l.clashes
}

func (l *locator) peek() byte {
	if l.pos < len(l.text) {
		return l.text[l.pos]
	}
	return 0
}

func (l *locator) accept(s string) bool {
	if strings.HasPrefix(l.text[l.pos:], s) {
		l.pos += len(s)
		return true
	}
	return false
}

// space skips blanks and comments, and newlines when lines is set.
func (l *locator) space(lines bool) {
	for l.pos < len(l.text) {
		switch c := l.text[l.pos]; {
		case c == ' ' || c == '\t' || c == '\r':
			l.pos++
		case c == '\n' && lines:
			l.pos++
		case c == '#':
			for l.pos < len(l.text) && l.text[l.pos] != '\n' {
				l.pos++
			}
		default:
			return
		}
	}
}

// A part is one of the names of a dotted key.
type part struct {
	name string
	at   extent
}

// header = "[" key "]" | "[[" key "]]"
func (l *locator) header(root *place) (*place, bool) {
	array := l.accept("[[")
	if !array {
		l.accept("[")
	}
	parts, ok := l.key()
	if !ok {
		return nil, false
	}
	end := "]"
	if array {
		end = "]]"
	}
	if !l.accept(end) {
		return nil, false
	}
	table := root
	for i, p := range parts[:len(parts)-1] {
		table = l.descend(table, parts[:i+1], p)
	}
	last := parts[len(parts)-1]
	named := table.byName[last.name]
	if array {
		if named == nil {
			named = table.add(last)
		}
		element := &place{name: last.name, key: last.at, value: last.at, headed: true}
		named.elements = append(named.elements, element)
		return element, true
	}
	switch {
	case named == nil:
		named = table.add(last)
	case named.headed || named.closed || named.assigns:
		l.clash(parts, named, last)
	default: // made by the header of a table below it
		named.value = last.at
	}
	named.headed = true
	return named, true
}

// assignment = key "=" value
func (l *locator) assignment(table *place) bool {
	parts, ok := l.key()
	if !ok || !l.accept("=") {
		return false
	}
	for i, p := range parts[:len(parts)-1] {
		existed := table.byName[p.name] != nil
		table = l.descend(table, parts[:i+1], p)
		if !existed {
			table.assigns = true
		}
	}
	last := parts[len(parts)-1]
	named := table.byName[last.name]
	if named != nil {
		l.clash(parts, named, last)
		named = &place{} // read past the value, keep the first one
	} else {
		named = table.add(last)
	}
	named.closed = true
	return l.value(named)
}

// descend steps from a table into one of its keys, for a header or a dotted
// key that adds something below it.
func (l *locator) descend(table *place, path []part, p part) *place {
	named := table.byName[p.name]
	switch {
	case named == nil:
		return table.add(p)
	case named.closed:
		l.clash(path, named, p)
		return &place{}
	case len(named.elements) > 0:
		return named.elements[len(named.elements)-1]
	}
	return named
}

func (l *locator) clash(path []part, first *place, again part) {
	names := make([]string, len(path))
	for i, p := range path {
		names[i] = quoteKey(p.name)
	}
	l.clashes = append(l.clashes, clash{strings.Join(names, "."), first.key, again.at})
}

func (p *place) add(key part) *place {
	child := &place{name: key.name, key: key.at, value: key.at}
	if p.byName == nil {
		p.byName = make(map[string]*place)
	}
	p.byName[key.name] = child
	p.keys = append(p.keys, child)
	return child
}

// key = name { "." name }
func (l *locator) key() ([]part, bool) {
	var parts []part
	for {
		l.space(false)
		start := l.pos
		name, ok := l.name()
		if !ok {
			return nil, false
		}
		parts = append(parts, part{name, extent{start, l.pos}})
		l.space(false)
		if !l.accept(".") {
			return parts, true
		}
	}
}

// name = bare | "quoted" | 'literal'
func (l *locator) name() (string, bool) {
	start := l.pos
	switch l.peek() {
	case '"':
		if !l.quoted('"', true) {
			return "", false
		}
		return unescape(l.text[start+1 : l.pos-1]), true
	case '\'':
		if !l.quoted('\'', false) {
			return "", false
		}
		return l.text[start+1 : l.pos-1], true
	}
	for l.pos < len(l.text) && isBare(l.text[l.pos]) {
		l.pos++
	}
	return l.text[start:l.pos], l.pos > start
}

func isBare(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-'
}

// quoted skips a string of one line from its opening quote on.
func (l *locator) quoted(quote byte, escapes bool) bool {
	for l.pos++; l.pos < len(l.text); l.pos++ {
		switch c := l.text[l.pos]; {
		case c == quote:
			l.pos++
			return true
		case c == '\n':
			return false
		case c == '\\' && escapes:
			l.pos++
		}
	}
	l.pos = len(l.text)
	return false
}

// block skips a string of several lines from its three opening quotes on. It
// may end in up to five quotes: two of its own and the three closing ones.
func (l *locator) block(quote byte, escapes bool) bool {
	closing := strings.Repeat(string(quote), 3)
	for l.pos += 3; l.pos < len(l.text); l.pos++ {
		if l.text[l.pos] == '\\' && escapes {
			l.pos++
		} else if l.accept(closing) {
			for extra := 0; extra < 2 && l.peek() == quote; extra++ {
				l.pos++
			}
			return true
		}
	}
	l.pos = len(l.text)
	return false
}

// value reads what stands behind "=" or in an array, and sets p.value.
func (l *locator) value(p *place) bool {
	l.space(false)
	start := l.pos
	ok := true
	switch l.peek() {
	case '"', '\'':
		quote := l.peek()
		if strings.HasPrefix(l.text[l.pos:], strings.Repeat(string(quote), 3)) {
			ok = l.block(quote, quote == '"')
		} else {
			ok = l.quoted(quote, quote == '"')
		}
	case '[':
		ok = l.array(p)
	case '{':
		ok = l.inline(p)
	default:
		l.scalar()
		ok = l.pos > start
	}
	p.value = extent{start, l.pos}
	return ok
}

// scalar skips a number, boolean or date. Dates may hold one space.
func (l *locator) scalar() {
	start := l.pos
	for l.pos < len(l.text) && !strings.ContainsRune(",]}#\n\r", rune(l.text[l.pos])) {
		l.pos++
	}
	l.pos = start + len(strings.TrimRight(l.text[start:l.pos], " \t"))
}

// array = "[" [ value { "," value } [ "," ] ] "]"
func (l *locator) array(p *place) bool {
	for l.pos++; ; {
		l.space(true)
		if l.accept("]") {
			return true
		}
		element := &place{closed: true}
		if !l.value(element) {
			return false
		}
		element.key = element.value
		p.elements = append(p.elements, element)
		l.space(true)
		if !l.accept(",") {
			return l.accept("]")
		}
	}
}

// inline = "{" [ key "=" value { "," key "=" value } [ "," ] ] "}"
func (l *locator) inline(p *place) bool {
	for l.pos++; ; {
		l.space(true)
		if l.accept("}") {
			break
		}
		if !l.assignment(p) {
			return false
		}
		l.space(true)
		if !l.accept(",") {
			if !l.accept("}") {
				return false
			}
			break
		}
	}
	return true
}

// unescape undoes the escapes of a basic string of one line.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		i++
		if plain, ok := escapes[s[i]]; ok {
			b.WriteByte(plain)
			continue
		}
		digits := hexDigits[s[i]]
		if n, err := strconv.ParseUint(s[i+1:min(i+1+digits, len(s))], 16, 32); err == nil {
			b.WriteRune(rune(n))
		}
		i = min(i+digits, len(s)-1)
	}
	return b.String()
}

var (
	escapes = map[byte]byte{
		'b': '\b', 't': '\t', 'n': '\n', 'f': '\f', 'r': '\r', 'e': 0x1b, '"': '"', '\\': '\\',
	}
	hexDigits = map[byte]int{'x': 2, 'u': 4, 'U': 8}
)

// quoteKey returns a name as a key of TOML.
func quoteKey(name string) string {
	for i := range len(name) {
		if !isBare(name[i]) {
			return quote(name)
		}
	}
	if name == "" {
		return `""`
	}
	return name
}

// quote returns a basic string of one line.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < ' ' || r == 0x7f:
			b.WriteString(`\u` + strconv.FormatInt(0x10000+int64(r), 16)[1:])
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// A ruler turns byte offsets into lines and columns.
type ruler struct {
	text   string
	starts []int // of each line
}

func newRuler(text string) *ruler {
	r := &ruler{text: text, starts: []int{0}}
	for i := range len(text) {
		if text[i] == '\n' {
			r.starts = append(r.starts, i+1)
		}
	}
	return r
}

// at returns the line and column of an offset, both from 1. Columns count
// characters.
func (r *ruler) at(offset int) (line, column int) {
	offset = max(0, min(offset, len(r.text)))
	low, high := 0, len(r.starts)
	for high-low > 1 {
		if middle := (low + high) / 2; r.starts[middle] <= offset {
			low = middle
		} else {
			high = middle
		}
	}
	return low + 1, utf8.RuneCountInString(r.text[r.starts[low]:offset]) + 1
}
