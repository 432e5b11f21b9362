package rapt

import (
	"slices"
	"sort"
	"strings"
	"unicode"
	"unicode/utf8"

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

// canBeBare tells whether a text is written without quotes. More could be: but
// what a shell would act on keeps its quotes, for people who copy it to one and
// those who wonder.
func canBeBare(text string) bool {
	if text == "" || text[0] == '#' || text[0] == '~' {
		return false
	}
	for i := 0; i < len(text); i++ {
		if c := text[i]; c >= utf8.RuneSelf {
			return !strings.ContainsFunc(text[i:], isUnusual)
		} else if classes[c]&neverBare != 0 {
			return false
		}
	}
	return true
}

// canBeName tells whether the name of a module or image is written without
// quotes: no shell sees those.
func canBeName(text string) bool {
	return canBeBare(strings.NewReplacer("$", "", "?", "", "&", "").Replace(text))
}

// isUnusual tells characters that are better seen in quotes.
func isUnusual(r rune) bool {
	return r < utf8.RuneSelf && classes[r]&neverBare != 0 || unicode.IsSpace(r) || unicode.IsControl(r) || r == utf8.RuneError
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
