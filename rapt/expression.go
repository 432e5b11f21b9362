package rapt

import (
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Nothing that people write is nested as deep as this.
const maxNesting = 100

// argumentList reads the arguments up to the end of the instruction.
func (p *parser) argumentList(st *statement) bool {
	for {
		p.space()
		if p.atLineEnd() {
			return true
		}
		a, ok := p.argument()
		if !ok {
			return false
		}
		for _, earlier := range st.arguments {
			if earlier.name == a.name {
				p.fail(a.extent, "", "the argument %s is given twice", a.name)
				return false
			}
		}
		st.arguments = append(st.arguments, a)
	}
}

// argument = name [ "=" expression ] ;
func (p *parser) argument() (argument, bool) {
	p.entered("argument")
	name, ok := p.name()
	if !ok {
		p.unexpected("the name of an argument")
		return argument{}, false
	}
	a := argument{extent: name.extent, name: name.text}
	if reserved[name.text] {
		p.fail(name.extent, "", "%s cannot be the name of an argument", name.text)
		return a, false
	}
	p.space()
	if p.atLineEnd() || p.text[p.pos] != '=' {
		return a, true
	}
	p.take()
	p.space()
	if a.value, ok = p.expression(); !ok {
		return a, false
	}
	a.end = p.end
	return a, p.separated()
}

// Names that mean something else in expressions or templates.
var reserved = map[string]bool{
	"true": true, "false": true, "none": true, "True": true, "False": true, "None": true,
	"and": true, "or": true, "not": true, "in": true, "is": true, "if": true, "else": true,
	"self": true, "loop": true, "super": true, "caller": true,
}

// separated makes sure that an argument does not touch what follows.
func (p *parser) separated() bool {
	if p.pos >= len(p.text) || classes[p.text[p.pos]]&endsWord != 0 || p.text[p.pos] == '\\' && p.endsLine(p.pos+1) {
		return true
	}
	p.unexpected("white space behind the argument")
	return false
}

// take reads one byte that is a token.
func (p *parser) take() {
	p.pos++
	p.end = p.pos
}

// layout reads the space between the tokens of a list or map, in which line
// ends count for nothing.
func (p *parser) layout() {
	for {
		p.space()
		if p.pos >= len(p.text) || p.text[p.pos] != '\n' {
			return
		}
		p.pos++
	}
}

// expression = lookup | string | integer | boolean | "none" | list | map ;
func (p *parser) expression() (*expression, bool) {
	p.entered("expression")
	e := &expression{extent: extent{p.pos, p.pos}}
	if p.atLineEnd() {
		p.unexpected("a value")
		return e, false
	}
	ok := false
	switch c := p.text[p.pos]; {
	case c == '"':
		ok = p.string(e)
	case c == '[':
		ok = p.nested(e, p.list)
	case c == '{':
		ok = p.nested(e, p.mapping)
	case c == '-' || c >= '0' && c <= '9':
		ok = p.number(e)
	case isNameStart(c):
		ok = p.lookup(e)
	default:
		p.unexpected("a value")
	}
	e.end = p.end
	return e, ok
}

func (p *parser) string(e *expression) bool {
	e.kind = stringExpression
	var b strings.Builder
	p.quoted(&b)
	e.text = b.String()
	p.end = p.pos
	return true
}

// integer = [ "-" ] digit { digit } ;
func (p *parser) number(e *expression) bool {
	p.entered("integer")
	e.kind = integerExpression
	from := p.pos
	for p.pos++; p.pos < len(p.text) && (isNamePart(p.text[p.pos]) || p.text[p.pos] == '.'); p.pos++ {
	}
	p.end = p.pos
	at, text := extent{from, p.pos}, p.text[from:p.pos]
	digits := strings.TrimPrefix(text, "-")
	if strings.Trim(digits, "0123456789") != "" || digits == "" {
		label := "quote it if it is a text"
		if strings.Trim(digits, "0123456789.") == "" && digits != "" {
			label = "there are no fractions here; quote it if it is a text"
		}
		p.fail(at, label, "%s is not an integer", text)
		return false
	}
	value, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		p.fail(at, "", "the integer %s is out of range: it does not fit 64 bits", text)
		return false
	}
	if len(digits) > 1 && digits[0] == '0' {
		p.warn(at, "quote it to keep the zeros", "%s is the decimal number %d", text, value)
	}
	e.integer = value
	return true
}

// lookup  = name { "." name } ;
// boolean = "true" | "false" ;
func (p *parser) lookup(e *expression) bool {
	name, _ := p.name()
	switch name.text {
	case "true", "false":
		p.entered("boolean")
		e.kind = booleanExpression
		if name.text == "true" {
			e.integer = 1
		}
		return true
	case "none":
		e.kind = noneExpression
		return true
	}
	p.entered("lookup")
	e.path = append(e.path, name)
	for p.pos < len(p.text) && p.text[p.pos] == '.' {
		p.take()
		part, ok := p.name()
		if !ok {
			p.unexpected("a name behind the dot")
			return false
		}
		e.path = append(e.path, part)
	}
	return true
}

// nested reads a list or map, unless it lies too deep in others.
func (p *parser) nested(e *expression, read func(*expression) bool) bool {
	if p.depth == maxNesting {
		p.fail(extent{p.pos, p.pos + 1}, "", "lists and maps are nested more than %d deep", maxNesting)
		return false
	}
	p.depth++
	open := p.pos
	p.take()
	ok := read(e)
	p.depth--
	if ok || p.depth > 0 {
		return ok
	}
	if p.pos >= len(p.text) {
		p.fail(extent{open, open + 1}, "", "%q is never closed", p.text[open])
	} else if p.atKeyword() {
		p.fail(extent{open, open + 1}, "", "%q is not closed before the next instruction", p.text[open])
	}
	p.resume(open)
	return false
}

// atKeyword tells whether a line starts here, and with a keyword.
func (p *parser) atKeyword() bool {
	start := strings.LastIndexByte(p.text[:p.pos], '\n') + 1
	if strings.TrimLeft(p.text[start:p.pos], " \t") != "" {
		return false
	}
	first, _, _ := strings.Cut(firstLine(p.text[p.pos:]), " ")
	return slices.Contains(keywords, first)
}

// resume finds where the next instruction may begin behind a list or map that
// is wrong: where its brackets are closed, or a line starts with a keyword.
func (p *parser) resume(open int) {
	p.pos = open
	for depth := 0; p.pos < len(p.text); {
		depth += openBrackets(p.text[p.pos : p.pos+len(firstLine(p.text[p.pos:]))])
		p.restOfLine()
		first, _, _ := strings.Cut(strings.TrimLeft(firstLine(p.text[min(p.pos+1, len(p.text)):]), " \t"), " ")
		if depth <= 0 || slices.Contains(keywords, first) {
			return
		}
		p.pos = min(p.pos+1, len(p.text))
	}
}

// openBrackets counts the brackets that a line opens, less those it closes.
func openBrackets(line string) int {
	depth, quoted := 0, false
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '[' || c == '{':
			depth++
		case c == ']' || c == '}':
			depth--
		}
	}
	return depth
}

// list = "[" [ expression { "," expression } [ "," ] ] "]" ;
func (p *parser) list(e *expression) bool {
	p.entered("list")
	e.kind = listExpression
	for {
		if done, ok := p.closed(']'); done {
			return ok
		}
		value, ok := p.expression()
		if !ok {
			return false
		}
		e.items = append(e.items, entry{value: value})
		if done, ok := p.comma(']'); done {
			return ok
		}
	}
}

// map   = "{" [ entry { "," entry } [ "," ] ] "}" ;
// entry = expression ":" expression ;
func (p *parser) mapping(e *expression) bool {
	p.entered("map")
	e.kind = mapExpression
	for {
		if done, ok := p.closed('}'); done {
			return ok
		}
		p.entered("entry")
		key, ok := p.expression()
		if !ok {
			return false
		}
		if key.kind == listExpression || key.kind == mapExpression {
			p.fail(key.extent, "", "a list or a map cannot be a key")
			return false
		}
		p.layout()
		if p.pos >= len(p.text) || p.atKeyword() {
			return false
		}
		if p.text[p.pos] != ':' {
			p.unexpected("a colon behind the key")
			return false
		}
		p.take()
		p.layout()
		value, ok := p.expression()
		if !ok {
			return false
		}
		e.items = append(e.items, entry{key, value})
		if done, ok := p.comma('}'); done {
			return ok
		}
	}
}

// closed reads the end of a list or map, if it stands here. It is done too
// when the text ends first.
func (p *parser) closed(end byte) (done, ok bool) {
	p.layout()
	if p.pos >= len(p.text) {
		return true, false
	}
	if p.text[p.pos] == end {
		p.take()
		return true, true
	}
	return p.atKeyword(), false
}

// comma reads the comma between two elements, or the end.
func (p *parser) comma(end byte) (done, ok bool) {
	if done, ok := p.closed(end); done {
		return true, ok
	}
	if p.text[p.pos] != ',' {
		p.unexpected("a comma or " + string(end))
		return true, false
	}
	p.take()
	return false, false
}

// name = ( letter | "_" ) { letter | digit | "_" } ;
func (p *parser) name() (word, bool) {
	from := p.pos
	for p.pos < len(p.text) && isNamePart(p.text[p.pos]) && (p.pos > from || isNameStart(p.text[p.pos])) {
		p.pos++
	}
	if p.pos == from {
		return word{}, false
	}
	p.entered("name")
	p.end = p.pos
	return word{extent: extent{from, p.pos}, text: p.text[from:p.pos], plain: true}, true
}

// unexpected reports what stands here in place of what should.
func (p *parser) unexpected(wanted string) {
	if p.atLineEnd() {
		p.fail(extent{p.pos, p.pos}, "", "the line ends where %s should be", wanted)
		return
	}
	r, size := utf8.DecodeRuneInString(p.text[p.pos:])
	label := ""
	switch r {
	case '\'':
		label = "texts stand in double quotes"
	case '(':
		label = "lists are written with [ and ]"
	case '-':
		label = "a name is made of letters, digits and _"
	}
	shown := strconv.QuoteRune(r)
	if r == '\'' {
		shown = `"'"`
	}
	p.fail(extent{p.pos, p.pos + size}, label, "unexpected %s in place of %s", shown, wanted)
}

func isNameStart(c byte) bool {
	return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

func isNamePart(c byte) bool { return isNameStart(c) || c >= '0' && c <= '9' }

// isName tells whether a text can be the name of a variable.
func isName(s string) bool {
	for i := range len(s) {
		if !isNamePart(s[i]) || i == 0 && !isNameStart(s[i]) {
			return false
		}
	}
	return s != ""
}
