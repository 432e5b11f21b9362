package rapt

import (
	"slices"
	"sort"
	"strings"
	"unicode"

	"github.com/mitsuhiko/minijinja/minijinja-go/v2/value"
)

// quoteWord writes a text as one word: bare where it can be.
func quoteWord(text string) string {
	if canBeBare(text) {
		return text
	}
	return quoteText(text)
}

// quoteOperand is quoteWord where an option could stand as well.
func quoteOperand(text string) string {
	if canBeBare(text) && text[0] != '-' {
		return text
	}
	return quoteText(text)
}

func canBeBare(text string) bool {
	if text == "" || text[0] == '#' {
		return false
	}
	for i := 0; i < len(text); i++ {
		c := text[i]
		if c < ' ' || c == 0x7f || classes[c]&stopsBare != 0 {
			return false
		}
		if c >= 0x80 {
			return !strings.ContainsFunc(text[i:], func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }) &&
				!strings.ContainsAny(text[i:], " \t\r\v\f\n\"\\")
		}
	}
	return true
}

// quoteText writes a text in quotes.
func quoteText(text string) string {
	var b strings.Builder
	b.Grow(len(text) + 2)
	b.WriteByte('"')
	for {
		n := strings.IndexAny(text, "\"\\\n\t")
		if n < 0 {
			break
		}
		b.WriteString(text[:n])
		b.WriteByte('\\')
		switch text[n] {
		case '\n':
			b.WriteByte('n')
		case '\t':
			b.WriteByte('t')
		default:
			b.WriteByte(text[n])
		}
		text = text[n+1:]
	}
	b.WriteString(text)
	b.WriteByte('"')
	return b.String()
}

// quoteWords writes texts as words, with blanks between.
func quoteWords(b *strings.Builder, texts []string) {
	for _, text := range texts {
		b.WriteByte(' ')
		b.WriteString(quoteWord(text))
	}
}

// quoteValue writes a value as an expression. What has no expression, such as a
// fraction, is written as templates write it.
func quoteValue(b *strings.Builder, v value.Value) {
	switch v.Kind() {
	case value.KindString:
		s, _ := v.AsString()
		b.WriteString(quoteText(s))
	case value.KindBool, value.KindNumber:
		text, _ := plainText(v)
		b.WriteString(text)
	case value.KindSeq:
		b.WriteByte('[')
		for i, item := range v.Iter() {
			if i > 0 {
				b.WriteString(", ")
			}
			quoteValue(b, item)
		}
		b.WriteByte(']')
	case value.KindMap:
		quoteMap(b, v)
	default:
		b.WriteString("none")
	}
}

func quoteMap(b *strings.Builder, v value.Value) {
	m, _ := v.AsMap()
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	b.WriteByte('{')
	for i, k := range keys {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(quoteText(k))
		b.WriteString(": ")
		quoteValue(b, m[k])
	}
	b.WriteByte('}')
}

// hasExpression tells whether a value can be written as an expression and be
// read again, so that it can be handed on.
func hasExpression(v value.Value) bool {
	switch v.Kind() {
	case value.KindString, value.KindBool, value.KindNumber, value.KindNone:
		return true
	case value.KindSeq:
		return !slices.ContainsFunc(v.Iter(), func(v value.Value) bool { return !hasExpression(v) })
	case value.KindMap:
		m, ok := v.AsMap()
		for _, item := range m {
			ok = ok && hasExpression(item)
		}
		return ok
	}
	return false
}
