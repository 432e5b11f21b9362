package rapt

import (
	"slices"
	"strings"
)

// A parser reads instruction text by the grammar of grammar.ebnf. Each function
// is headed by its production.
type parser struct {
	scanner
	depth      int // of lists and maps
	statements []statement

	// The words and options of the instruction that is being read, and where
	// they are moved to when it has been: many instructions share one array.
	words       []word
	options     []option
	wordStore   []word
	optionStore []option
}

// stored moves what was read to the end of a store, or of a new one of a size.
func stored[T any](store, read []T, size int) (moved, grown []T) {
	if len(read) == 0 {
		return nil, store
	}
	if len(read) > cap(store)-len(store) {
		store = make([]T, 0, max(size, len(read)))
	}
	start := len(store)
	store = append(store, read...)
	return store[start:len(store):len(store)], store
}

// storeSize is what a text of this length may need, up to a limit.
func (p *parser) storeSize() int { return min(1024, len(p.text)/4) }

// parse reads all statements of a text. What is not well formed is reported,
// and left out.
func parse(text string, report func(problem)) []statement {
	p := parser{scanner: scanner{text: text, report: report}}
	p.statements = make([]statement, 0, strings.Count(text, "\n"))
	p.file()
	return p.statements
}

// file = { statement } ;
func (p *parser) file() {
	p.entered("file")
	for p.pos < len(p.text) {
		p.statement()
	}
}

// statement = ( FROM | RUN | … | comment | ) newline ;
func (p *parser) statement() {
	p.entered("statement")
	p.space()
	if !p.atLineEnd() {
		errors := p.errors
		st, ok := p.instruction()
		if ok && p.errors == errors {
			st.end = p.end
			p.words, p.options = st.words, st.options // grown, maybe
			st.words, p.wordStore = stored(p.wordStore, st.words, p.storeSize())
			st.options, p.optionStore = stored(p.optionStore, st.options, p.storeSize())
			p.statements = append(p.statements, st)
		} else {
			p.skip()
		}
		p.shellQuotes(&st)
	}
	if p.pos < len(p.text) {
		p.pos++ // the newline
	}
}

func (p *parser) instruction() (statement, bool) {
	keyword := p.word()
	st := statement{extent: keyword.extent, keyword: keyword.text, words: p.words[:0], options: p.options[:0]}
	if !keyword.plain {
		p.fail(keyword.extent, "a keyword has no quotes", "unknown instruction %s", quoteForMessage(keyword.text))
		return st, false
	}
	switch keyword.text {
	case "FROM":
		return st, p.from(&st)
	case "RUN", "ENTRYPOINT", "CMD":
		return st, p.command(&st)
	case "ENV":
		return st, p.env(&st)
	case "WORKDIR":
		return st, p.workdir(&st)
	case "WRITE":
		return st, p.write(&st)
	case "MKDIR":
		return st, p.mkdir(&st)
	case "COPY":
		return st, p.copy(&st)
	case "RENDER":
		return st, p.render(&st)
	case "INCLUDE":
		return st, p.include(&st)
	case "MOUNT":
		return st, p.mount(&st)
	}
	p.unknownKeyword(keyword)
	return st, false
}

func (p *parser) unknownKeyword(w word) {
	label := didYouMean(w.text, keywords)
	switch upper := strings.ToUpper(w.text); {
	case slices.Contains(keywords, upper):
		label = "keywords are upper case: " + upper
	case foreign[upper] != "":
		label = foreign[upper]
	case strings.HasPrefix(w.text, "$"):
		label = "a template statement begins with a dollar and a space"
	case label == "":
		label = "no instruction has this name"
	}
	p.fail(w.extent, label, "unknown instruction %s", quoteForMessage(w.text))
}

// FROM = "FROM" base ;
// base = word ;
func (p *parser) from(st *statement) bool {
	p.entered("FROM")
	p.entered("base")
	return p.one(st, "what it is from, a module's name or docker://…") && p.finished(st, "FROM takes one name")
}

// RUN        = "RUN" word { word } ;
// ENTRYPOINT = "ENTRYPOINT" word { word } ;
// CMD        = "CMD" word { word } ;
func (p *parser) command(st *statement) bool {
	p.entered(st.keyword)
	if p.listForm(st) {
		return false
	}
	errors := p.errors
	if p.allWords(st); p.errors == errors {
		p.commandLine(st)
	}
	return p.enough(st, 1, "a program, with its arguments")
}

// ENV      = "ENV" variable { variable } ;
// variable = word ;
func (p *parser) env(st *statement) bool {
	p.entered("ENV")
	p.allWords(st)
	ok := true
	for _, w := range st.words {
		p.entered("variable")
		ok = p.variable(w, settingForm(st.words)) && ok
	}
	return p.enough(st, 1, "a variable: KEY=value, or KEY alone for the template's variable of that name") && ok
}

// variable reads one variable; meant is how the whole instruction may have been
// meant.
func (p *parser) variable(w word, meant string) bool {
	key, _, given := strings.Cut(w.text, "=")
	label := "letters, digits and _"
	if meant != "" {
		label = "write " + meant
	}
	switch {
	case key == "" && given:
		p.fail(w.extent, "write KEY=value, without blanks", "the name of a variable is missing before =")
	case key == "":
		p.fail(w.extent, "", "the name of a variable is empty")
	case given && strings.ContainsAny(key, " \t\n\x00"), !given && !isName(key):
		p.fail(w.extent, label, "%s cannot be the name of a variable", quoteForMessage(key))
	default:
		return true
	}
	return false
}

// WORKDIR = "WORKDIR" word ;
func (p *parser) workdir(st *statement) bool {
	p.entered("WORKDIR")
	return p.one(st, "a directory") && p.finished(st, "WORKDIR takes one directory")
}

// WRITE = "WRITE" { file-option } word word ;
func (p *parser) write(st *statement) bool {
	p.entered("WRITE")
	ok := p.allOptions(st, fileOptions)
	return ok && p.one(st, "the text to write, and the path of the file") && p.one(st, "the path of the file to write") &&
		p.finished(st, "WRITE takes one text and one path: quote a text that has blanks")
}

// MKDIR = "MKDIR" { file-option | "-p" } word ;
func (p *parser) mkdir(st *statement) bool {
	p.entered("MKDIR")
	ok := p.allOptions(st, mkdirOptions)
	return ok && p.one(st, "the directory to make") && p.finished(st, "MKDIR makes one directory")
}

// COPY = "COPY" { file-option } word { word } word ;
func (p *parser) copy(st *statement) bool {
	p.entered("COPY")
	ok := p.allOptions(st, fileOptions)
	p.allWords(st)
	for _, w := range st.words[min(1, len(st.words)):] {
		if name, _, _ := strings.Cut(w.text, "="); w.plain && slices.Contains(fileOptions, name) {
			p.fail(w.extent, "put it before the paths", "the option %s stands behind a path", name)
			ok = false
		}
	}
	return ok && p.enough(st, 2, "what to copy, and where to")
}

// RENDER = "RENDER" { file-option } word word { argument } ;
func (p *parser) render(st *statement) bool {
	p.entered("RENDER")
	ok := p.allOptions(st, fileOptions)
	return ok && p.one(st, "the template, and the path of the file to write") && p.one(st, "the path of the file to write") &&
		p.argumentList(st)
}

// INCLUDE = "INCLUDE" word { argument } ;
func (p *parser) include(st *statement) bool {
	p.entered("INCLUDE")
	return p.one(st, "the name of the module to include") && p.argumentList(st)
}

// MOUNT = "MOUNT" { mount-option } word word ;
func (p *parser) mount(st *statement) bool {
	p.entered("MOUNT")
	ok := p.allOptions(st, mountOptions)
	return ok && p.one(st, "the name of the mount, and where it appears") && p.one(st, "the path where it appears") &&
		p.finished(st, "MOUNT takes one name and one path")
}

// allWords reads all words up to the end of the instruction.
func (p *parser) allWords(st *statement) {
	for p.space(); !p.atLineEnd(); p.space() {
		st.words = append(st.words, p.word())
	}
}

// one reads one word, which must be there.
func (p *parser) one(st *statement, what string) bool {
	if p.space(); p.atLineEnd() {
		p.missing(st, what)
		return false
	}
	st.words = append(st.words, p.word())
	return true
}

func (p *parser) enough(st *statement, count int, what string) bool {
	if len(st.words) < count {
		p.missing(st, what)
		return false
	}
	return true
}

func (p *parser) missing(st *statement, what string) {
	p.fail(extent{st.start, p.end}, "", "%s needs %s", st.keyword, what)
}

// finished makes sure that nothing follows.
func (p *parser) finished(st *statement, label string) bool {
	p.space()
	if p.atLineEnd() {
		return true
	}
	rest := extent{p.pos, p.pos}
	p.skip()
	rest.end = p.end
	p.fail(rest, label, "too much for one %s", st.keyword)
	return false
}

// file-option  = "--chmod" ( "=" | blank ) word | "--chown" ( "=" | blank ) word ;
// mount-option = "--simple" | "--file" | … ;
//
// allOptions reads options up to the first word that is none.
func (p *parser) allOptions(st *statement, known []string) bool {
	ok := true
	for {
		p.space()
		if p.atLineEnd() || p.text[p.pos] != '-' {
			return ok
		}
		before, end := p.pos, p.end
		w := p.word()
		name, value, given := strings.Cut(w.text, "=")
		if !slices.Contains(known, name) {
			if !strings.HasPrefix(w.text, "--") && !slices.Contains(known, "-p") {
				p.pos, p.end = before, end
				return ok
			}
			p.unknownOption(st, w, name, known)
			ok = false
			continue
		}
		ok = p.option(st, w, name, value, given) && ok
	}
}

func (p *parser) option(st *statement, w word, name, value string, given bool) bool {
	o := option{extent: w.extent, name: name}
	takesValue := slices.Contains(fileOptions, name)
	switch {
	case takesValue:
		p.entered("file-option")
	case name != "-p":
		p.entered("mount-option")
	}
	switch {
	case !takesValue && given:
		p.fail(w.extent, "", "%s takes no value", name)
		return false
	case takesValue && given:
		o.value = word{extent: extent{w.start + len(name) + 1, w.end}, text: value, plain: w.plain}
	case takesValue:
		if p.space(); p.atLineEnd() {
			p.fail(w.extent, "", "%s lacks its value", name)
			return false
		}
		o.value = p.word()
		o.end = o.value.end
	}
	for _, earlier := range st.options {
		if earlier.name == name {
			p.fail(o.extent, "", "%s is given twice", name)
			return false
		}
	}
	st.options = append(st.options, o)
	return true
}

func (p *parser) unknownOption(st *statement, w word, name string, known []string) {
	label := didYouMean(name, known)
	if label == "" {
		label = "the options are " + strings.Join(known, ", ")
	}
	at := w.extent
	if w.plain {
		at.end = w.start + len(name)
	}
	p.fail(at, label, "%s has no option %s", st.keyword, name)
}
