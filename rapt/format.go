package rapt

import (
	"slices"
	"strings"
)

// Format returns the canonical form of a .rapt or .rinc file: one blank between
// words, quotes where they are needed, continued lines indented, at most one
// empty line on end. It never changes what a file means.
//
// Lines with template code are left as they are, and so is all between tags
// that capture text. Comments and line breaks stay where the user put them. The
// file's name is for diagnostics; if the file has mistakes that keep it from
// being read, they are the error, of type Diagnostics, and nothing is
// formatted.
//
// Formatting what Format returned changes nothing. For `raptor fmt -d`, see
// [Diff].
func Format(content []byte, file string) ([]byte, error) {
	src := newSource(file, content)
	src.shown = file
	f := formatter{source: src, b: &strings.Builder{}}
	report := func(p problem) {
		if p.severity == Error {
			f.problems = append(f.problems, p.diagnostic(place{source: src, span: src.span(p.extent)}))
		}
	}
	damage(src.text, func(e extent, what string) {
		report(problem{extent: e, message: "the file holds " + what})
	})
	pieces, _ := split(src.text, report)
	f.findTemplateLines(pieces)
	f.parse(report)
	if len(f.problems) > 0 {
		return nil, f.problems.Sorted()
	}
	f.file()
	return []byte(f.b.String()), nil
}

// A formatter writes a file anew, statement by statement.
type formatter struct {
	source     *source
	template   []bool      // lines that are left alone
	nested     []bool      // lines inside template blocks, whose indentation is left alone
	statements []statement // sorted
	problems   Diagnostics
	b          *strings.Builder
	empty      bool // the last line written is empty, or none is
}

// findTemplateLines finds what must not be touched.
func (f *formatter) findTemplateLines(pieces []piece) {
	lines := len(f.source.starts())
	f.template, f.nested = make([]bool, lines), make([]bool, lines)
	for _, p := range pieces {
		captured := slices.ContainsFunc(p.blocks, func(b int) bool {
			return slices.Contains([]string{"set", "filter", "call", "macro", "block"}, pieces[b].name)
		})
		first, last := f.source.lineOf(p.start), f.source.lineOf(max(p.end-1, p.start))
		for i := first; i <= last; i++ {
			f.template[i] = f.template[i] || captured || p.kind != copied
			f.nested[i] = f.nested[i] || len(p.blocks) > 0
		}
	}
}

// parse reads the statements. What is wrong on lines that a template changes is
// not for us to say.
func (f *formatter) parse(report func(problem)) {
	f.statements = parse(f.source.text, func(p problem) {
		first, last := f.source.lineOf(p.start), f.source.lineOf(max(p.end-1, p.start))
		if !f.touchesTemplate(first, last) {
			report(p)
		}
	})
	f.statements = slices.DeleteFunc(f.statements, func(st statement) bool {
		return f.touchesTemplate(f.source.lineOf(st.start), f.source.lineOf(st.end))
	})
}

func (f *formatter) touchesTemplate(first, last int) bool {
	// A mistake on a line of its own may be one of what a template continues.
	return slices.Contains(f.template[first:last+1], true) ||
		first > 0 && f.template[first-1] && strings.HasSuffix(f.text(first-1), `\`)
}

func (f *formatter) text(line int) string { return f.source.lineText(line) }

// file writes all lines: those of a statement together.
func (f *formatter) file() {
	f.empty = true
	next := 0
	for line := 0; line < len(f.source.starts()); {
		if next < len(f.statements) && f.source.lineOf(f.statements[next].start) == line {
			line = f.statement(&f.statements[next], line)
			next++
			continue
		}
		f.other(line)
		line++
	}
	text := f.b.String()
	f.b.Reset()
	f.b.WriteString(strings.TrimRight(text, "\n"))
	if f.b.Len() > 0 {
		f.b.WriteByte('\n')
	}
}

// other writes a line that is no statement we may touch.
func (f *formatter) other(line int) {
	text := f.text(line)
	if f.template[line] {
		f.b.WriteString(text + "\n")
		f.empty = false
		return
	}
	blank := strings.TrimSpace(text) == ""
	if blank && f.empty {
		return
	}
	f.empty = blank
	f.b.WriteString(f.outdented(line, text) + "\n")
}

// outdented is a line without the blanks that mean nothing.
func (f *formatter) outdented(line int, text string) string {
	trimmed := strings.Trim(text, " \t\r\v\f")
	if trimmed == "" || !strings.HasPrefix(trimmed, "#") {
		if trimmed == "" {
			return ""
		}
		return text
	}
	return f.indent(line) + trimmed
}

// indent is the indentation of a line that is kept: that inside of template
// blocks.
func (f *formatter) indent(line int) string {
	if !f.nested[line] {
		return ""
	}
	text := f.text(line)
	return text[:blanksBefore(text)]
}

// statement writes a statement and returns the line behind it. What would come
// out as another statement, or lose a comment or a warning, is left as it is.
func (f *formatter) statement(st *statement, line int) int {
	whole := f.b
	f.b = &strings.Builder{}
	next := f.format(st, line)
	formatted := f.b.String()
	f.b = whole
	end := len(f.source.text)
	if next < len(f.source.starts()) {
		end = f.source.starts()[next]
	}
	original := f.source.text[f.source.starts()[line]:end]
	if !sameStatement(original, formatted) || opensTemplate(formatted) && !opensTemplate(original) {
		formatted = original
	}
	f.b.WriteString(formatted)
	f.empty = false
	return next
}

// opensTemplate tells whether the template engine would find something in a
// text. Pieces of a word that are joined can come to that: {"#".
func opensTemplate(text string) bool {
	return strings.Contains(text, "{{") || strings.Contains(text, "{%") || strings.Contains(text, "{#")
}

// sameStatement tells whether two texts are the same one statement, with as
// many comments and the same warnings.
func sameStatement(a, b string) bool {
	read := func(text string) (canonical string, comments int, warnings []string) {
		p := parser{scanner: scanner{text: text, report: func(p problem) { warnings = append(warnings, p.message) }}}
		p.enter = func(production string) {
			if production == "comment" {
				comments++
			}
		}
		p.file()
		for i := range p.statements {
			canonical += p.statements[i].canonical() + "\n"
		}
		return canonical, comments, warnings
	}
	canonical, comments, warnings := read(a)
	again, left, still := read(b)
	return canonical == again && comments == left && slices.Equal(warnings, still) && strings.Count(canonical, "\n") == 1
}

// format writes a statement in canonical form.
func (f *formatter) format(st *statement, line int) int {
	last := f.source.lineOf(max(st.end-1, st.start))
	tokens := st.tokens(f.source.text)
	indent := f.indent(line)
	f.b.WriteString(indent)
	depth := 0
	for i, t := range tokens {
		if i > 0 {
			f.gap(tokens[i-1], t, &depth, indent)
		} else {
			f.b.WriteString(t.text)
		}
	}
	rest := strings.Trim(f.source.text[st.end:f.source.line(last).end], " \t\r\v\f")
	if strings.HasPrefix(rest, "#") {
		f.b.WriteString(" " + rest)
	} else if rest != "" {
		last = f.trailing(st.end) // a continuation that nothing follows
	}
	f.b.WriteByte('\n')
	return last + 1
}

// trailing is the last line of the continuation that ends a statement, and
// writes what comments are in there.
func (f *formatter) trailing(at int) int {
	s := scanner{text: f.source.text, pos: at, quiet: true}
	s.space()
	for _, comment := range gapComments(f.source.text[at:s.pos]) {
		f.b.WriteString("\n" + comment)
	}
	if s.pos >= len(f.source.text) {
		return len(f.source.starts())
	}
	return f.source.lineOf(s.pos)
}

// gap writes what stands between two tokens, and the second of them: a blank,
// or line breaks and comments as they are in the source.
func (f *formatter) gap(before, t token, depth *int, indent string) {
	between := f.source.text[before.end:t.start]
	if t.closes {
		*depth--
	}
	list := *depth > 0 || t.closes
	if before.opens {
		*depth++
	}
	if !strings.Contains(between, "\n") {
		if t.spaced && !before.opens {
			f.b.WriteByte(' ')
		}
		f.b.WriteString(t.text)
		return
	}
	if t.text == "," { // it belongs behind what it follows
		f.b.WriteString(",")
		return
	}
	comments := gapComments(between)
	deeper := indent + "    "
	if list || before.opens {
		deeper = indent + strings.Repeat("    ", *depth)
		if head, _, _ := strings.Cut(between, "\n"); strings.Contains(head, "#") && len(comments) > 0 {
			f.b.WriteString(" " + comments[0])
			comments = comments[1:]
		}
	} else {
		f.b.WriteString(` \`)
	}
	for _, comment := range comments {
		f.b.WriteString("\n" + deeper + comment)
	}
	f.b.WriteString("\n" + deeper + t.atLineStart())
}

// gapComments are the comments in the space between two tokens.
func gapComments(between string) []string {
	var comments []string
	for line := range strings.Lines(between) {
		if at := strings.IndexByte(line, '#'); at >= 0 {
			comments = append(comments, strings.TrimRight(line[at:], " \t\r\v\f\n"))
		}
	}
	return comments
}

// A token is a part of a statement that is written in one piece.
type token struct {
	extent
	text          string // in canonical form
	spaced        bool   // has a blank before it
	quoted        bool   // is a word that was in quotes
	opens, closes bool   // a list or map
}

// atLineStart is a token where it cannot be taken for a template statement, nor,
// if its user has quoted it, for an instruction.
func (t token) atLineStart() string {
	if t.text == "$" || t.quoted && slices.Contains(keywords, t.text) {
		return quoteText(t.text)
	}
	return t.text
}

// canonical is a statement on one line.
func (st *statement) canonical() string {
	var b strings.Builder
	tokens := st.tokens("")
	for i, t := range tokens {
		if i > 0 && t.spaced && !tokens[i-1].opens {
			b.WriteByte(' ')
		}
		b.WriteString(t.text)
	}
	return b.String()
}

// tokens returns the canonical tokens of a statement. With the text that it is
// of, they have their extents, and commas at the ends of lines are kept.
func (st *statement) tokens(text string) []token {
	tokens := []token{{extent: extent{st.start, st.start + len(st.keyword)}, text: st.keyword}}
	add := func(e extent, text string) { tokens = append(tokens, token{extent: e, text: text, spaced: true}) }
	for _, o := range st.options {
		if o.value.end > 0 {
			add(o.extent, o.name+"="+o.value.canonical(canBeBare))
		} else {
			add(o.extent, o.name)
		}
	}
	for i, w := range st.words {
		add(w.extent, st.canonicalWord(i, w))
		tokens[len(tokens)-1].quoted = w.quoted
	}
	for _, a := range st.arguments {
		name := extent{a.start, a.start + len(a.name)}
		add(name, a.name)
		if a.value != nil {
			tokens[len(tokens)-1].text += "="
			tokens[len(tokens)-1].end = a.value.start
			tokens = a.value.tokens(tokens, text, false)
		}
	}
	return tokens
}

// canonicalWord writes a word of a statement: bare if that means the same.
func (st *statement) canonicalWord(i int, w word) string {
	switch st.keyword {
	case "ENV":
		key, v, given := strings.Cut(w.text, "=")
		if !given || !canBeBare(key) {
			return w.canonical(canBeBare)
		}
		return quoteVariable(key, v)
	case "FROM", "INCLUDE":
		return w.canonical(canBeName)
	case "RUN":
		return w.canonical(func(text string) bool { return canBeBare(text) && !looksLikeShell(st.words, i, text) })
	case "COPY", "WRITE", "MKDIR", "RENDER", "MOUNT":
		return w.canonical(func(text string) bool { return canBeBare(text) && text[0] != '-' })
	}
	return w.canonical(canBeBare)
}

// canonical writes a word: as it is if it has no quotes.
func (w word) canonical(bare func(string) bool) string {
	if w.plain || w.text != "" && bare(w.text) {
		return w.text
	}
	return quoteText(w.text)
}

// tokens appends the tokens of an expression.
func (e *expression) tokens(tokens []token, text string, spaced bool) []token {
	add := func(t token) { tokens = append(tokens, t) }
	switch e.kind {
	case stringExpression:
		add(token{extent: e.extent, text: quoteText(e.text), spaced: spaced})
	case integerExpression:
		add(token{extent: e.extent, text: e.integerText(text), spaced: spaced})
	case booleanExpression:
		add(token{extent: e.extent, text: map[int64]string{0: "false", 1: "true"}[e.integer], spaced: spaced})
	case noneExpression:
		add(token{extent: e.extent, text: "none", spaced: spaced})
	case lookupExpression:
		add(token{extent: e.extent, text: joinWords(e.path), spaced: spaced})
	default:
		tokens = e.elements(tokens, text, spaced)
	}
	return tokens
}

// elements appends the tokens of a list or map.
func (e *expression) elements(tokens []token, text string, spaced bool) []token {
	open, end := "[", "]"
	if e.kind == mapExpression {
		open, end = "{", "}"
	}
	tokens = append(tokens, token{extent: extent{e.start, e.start + 1}, text: open, spaced: spaced, opens: true})
	for i, item := range e.items {
		if item.key != nil {
			tokens = item.key.tokens(tokens, text, i > 0)
			last := &tokens[len(tokens)-1]
			last.text += ":"
			last.end = behind(text, last.end, ':')
		}
		tokens = item.value.tokens(tokens, text, i > 0 || item.key != nil)
		last := &tokens[len(tokens)-1]
		if i+1 < len(e.items) {
			last.text += ","
			last.end = behind(text, last.end, ',')
			continue
		}
		if comma := behind(text, last.end, ','); comma > last.end && comma < e.end {
			if s := strings.IndexByte(text[comma:e.end], '\n'); s >= 0 {
				last.text += ","
			}
			last.end = comma
		}
	}
	return append(tokens, token{extent: extent{e.end - 1, e.end}, text: end, closes: true})
}

// behind is the offset behind a sign that follows, with nothing but space and
// comments before it; else the same offset.
func behind(text string, at int, sign byte) int {
	if at > len(text) {
		return at
	}
	p := parser{scanner: scanner{text: text, pos: at, quiet: true}}
	p.layout()
	if p.pos < len(text) && text[p.pos] == sign {
		return p.pos + 1
	}
	return at
}

// integerText is an integer as it was written, for zeros before it are not ours
// to take away.
func (e *expression) integerText(text string) string {
	if e.end <= len(text) {
		return text[e.start:e.end]
	}
	return itoa(int(e.integer))
}
