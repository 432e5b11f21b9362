package rapt

import "strings"

// A codeToken is one token of the code in a tag.
type codeToken struct {
	extent
	kind codeTokenKind
}

type codeTokenKind int8

const (
	nameToken codeTokenKind = iota
	textToken               // a string
	numberToken
	signToken // an operator or bracket
)

func (t codeToken) text(source string) string { return source[t.start:t.end] }

// codeTokens splits the code of a tag, as far as names need to be told from
// the rest.
func codeTokens(text string, code extent) []codeToken {
	var tokens []codeToken
	for at := code.start; at < code.end; {
		start := at
		kind := signToken
		switch c := text[at]; {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r':
			at++
			continue
		case isNameStart(c):
			kind = nameToken
			for at < code.end && isNamePart(text[at]) {
				at++
			}
		case c >= '0' && c <= '9':
			kind = numberToken
			for at < code.end && (isNamePart(text[at]) || text[at] == '.') {
				at++
			}
		case c == '"' || c == '\'':
			kind = textToken
			for at++; at < code.end && text[at] != c; at++ {
				if text[at] == '\\' {
					at++
				}
			}
			at = min(at+1, code.end)
		case strings.HasPrefix(text[at:code.end], "==") || strings.HasPrefix(text[at:code.end], "!=") ||
			strings.HasPrefix(text[at:code.end], "<=") || strings.HasPrefix(text[at:code.end], ">="):
			at += 2
		default:
			at++
		}
		tokens = append(tokens, codeToken{extent{start, at}, kind})
	}
	return tokens
}

// Names that are no variables of the user.
var templateWords = map[string]bool{
	"and": true, "or": true, "not": true, "in": true, "is": true, "if": true, "else": true, "elif": true,
	"true": true, "false": true, "none": true, "True": true, "False": true, "None": true,
	"loop": true, "self": true, "super": true, "caller": true, "varargs": true, "kwargs": true,
	"recursive": true, "ignore": true, "missing": true, "with": true, "without": true, "context": true,
	"as": true, "import": true, "required": true, "reversed": true,
}

// A nameFinder finds the names in a piece whose value is asked for.
type nameFinder struct {
	text   string
	tokens []codeToken
}

func (f *nameFinder) is(i int, text string) bool {
	return i >= 0 && i < len(f.tokens) && f.tokens[i].kind != textToken && f.tokens[i].text(f.text) == text
}

// valueNames returns the names in a piece that must have a value when the code
// runs: all but those that "is defined" or "default" ask about, those that the
// tag itself gives a value to, and those that are called.
func valueNames(text string, p piece) []codeToken {
	f := nameFinder{text, codeTokens(text, p.inner)}
	first := f.firstValue(p)
	var names []codeToken
	for i := first; i < len(f.tokens); i++ {
		if f.tokens[i].kind == nameToken && !templateWords[f.tokens[i].text(text)] && f.isValue(p, i) && !f.isGuarded(i) {
			names = append(names, f.tokens[i])
		}
	}
	return names
}

// firstValue is where the values of a tag begin.
func (f *nameFinder) firstValue(p piece) int {
	if p.kind == printed {
		return 0
	}
	if p.kind != tag {
		return len(f.tokens)
	}
	switch p.name {
	case "if", "elif", "do", "include", "extends", "with", "autoescape":
		return 1
	case "for":
		return f.after("in")
	case "set":
		return f.after("=")
	}
	return len(f.tokens)
}

func (f *nameFinder) after(text string) int {
	for i := range f.tokens {
		if f.is(i, text) {
			return i + 1
		}
	}
	return len(f.tokens)
}

// isValue tells whether a name stands where its value is taken.
func (f *nameFinder) isValue(p piece, i int) bool {
	if f.is(i-1, ".") || f.is(i-1, "|") || f.is(i-1, "is") || f.is(i-1, "not") && f.is(i-2, "is") {
		return false // an attribute, a filter, a test
	}
	return !f.is(i+1, "(") && !f.is(i+1, "=") // a call, a keyword argument or a target
}

// isGuarded tells whether the code asks if the name is defined.
func (f *nameFinder) isGuarded(i int) bool {
	at := i + 1
	for at < len(f.tokens) {
		switch {
		case f.is(at, ".") && at+1 < len(f.tokens):
			at += 2
		case f.is(at, "[") || f.is(at, "("):
			at = f.matching(at)
		case f.is(at, "|"):
			return f.is(at+1, "default") || f.is(at+1, "d")
		case f.is(at, "is"):
			if at++; f.is(at, "not") {
				at++
			}
			return f.is(at, "defined") || f.is(at, "undefined")
		default:
			return false
		}
	}
	return false
}

// matching is the index behind the bracket that closes the one at i.
func (f *nameFinder) matching(i int) int {
	depth := 0
	for ; i < len(f.tokens); i++ {
		switch f.tokens[i].text(f.text) {
		case "(", "[", "{":
			depth++
		case ")", "]", "}":
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return i
}

// loopTargets returns the names that a for tag gives values to.
func loopTargets(text string, p piece) []string {
	var names []string
	f := nameFinder{text, codeTokens(text, p.inner)}
	for i := 1; i < len(f.tokens) && !f.is(i, "in"); i++ {
		if f.tokens[i].kind == nameToken {
			names = append(names, f.tokens[i].text(text))
		}
	}
	return names
}

// mentioned adds every name that stands in a tag to a set.
func mentioned(text string, pieces []piece, names map[string]bool) {
	for _, p := range pieces {
		if p.kind != printed && p.kind != tag {
			continue
		}
		for _, t := range codeTokens(text, p.inner) {
			switch t.kind {
			case nameToken:
				names[t.text(text)] = true
			case textToken: // require("name")
				names[strings.Trim(t.text(text), `"'`)] = true
			}
		}
	}
}
