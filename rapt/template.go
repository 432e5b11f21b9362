package rapt

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/mitsuhiko/minijinja/minijinja-go/v2"
	"github.com/mitsuhiko/minijinja/minijinja-go/v2/syntax"
	"github.com/mitsuhiko/minijinja/minijinja-go/v2/value"
)

// A template is one file as the engine knows it. The engine knows each under
// several names: that of the file, and those of its marked versions.
type template struct {
	source   *source
	pieces   []piece
	problems []problem       // why it cannot be rendered
	names    map[string]bool // that stand in its tags; made when first asked for
}

// The engine ends a template that takes more steps than this: in a second or
// so, and many times what a large layer takes.
const maxSteps = 20_000_000

// What a template gives may not be longer than this.
const maxRendered = 256 << 20

func (l *Loader) newEnvironment() *minijinja.Environment {
	env := minijinja.NewEnvironment()
	env.SetUndefinedBehavior(minijinja.UndefinedStrict)
	env.SetDebug(true) // without it, errors have no places
	env.SetSyntax(syntax.DefaultSyntax())
	env.SetWhitespace(syntax.WhitespaceConfig{KeepTrailingNewline: true})
	env.SetAutoEscapeFunc(func(string) minijinja.AutoEscape { return minijinja.AutoEscapeNone })
	fuel := uint64(maxSteps)
	env.SetFuel(&fuel)
	env.SetPathJoinCallback(l.joinTemplate)
	env.SetLoader(func(name string) (string, error) { return "", l.noTemplate(name) })
	l.addFunctions(env)
	return env
}

// versionName is the engine's name of a version of a template.
func versionName(path string, mode markMode, hidden []int) string {
	if mode == markNothing && len(hidden) == 0 {
		return path
	}
	name := path + "\x00" + strconv.Itoa(int(mode))
	for _, piece := range hidden {
		name += "\x00" + strconv.Itoa(piece)
	}
	return name
}

func versionOf(name string) (path string, mode markMode) {
	path, rest, found := strings.Cut(name, "\x00")
	if found {
		digits, _, _ := strings.Cut(rest, "\x00")
		n, _ := strconv.Atoi(digits)
		mode = markMode(n)
	}
	return path, mode
}

// joinTemplate resolves what {% include %}, {% import %} and {% extends %}
// name, and hands it to the engine.
func (l *Loader) joinTemplate(name, parent string) string {
	parentPath, mode := versionOf(parent)
	path := filepath.Join(filepath.Dir(parentPath), name)
	if filepath.IsAbs(name) {
		path = filepath.Clean(name)
	}
	full := versionName(path, mode, nil)
	if err := l.allowed(path, name); err != nil {
		l.session.refused[full] = refusedTemplate{name, err}
		return full
	}
	content, err := readFile(path)
	if err != nil {
		l.record(SourceProbe, path, name)
		if !errors.Is(err, os.ErrNotExist) {
			l.session.refused[full] = refusedTemplate{name, reason(err)}
		}
		return full
	}
	l.record(SourceTemplate, path, name)
	t := l.template(path, content, newSource)
	if len(t.problems) > 0 {
		l.session.broken = t
		l.session.refused[full] = refusedTemplate{name, errBroken}
		return full
	}
	l.register(t, mode, nil)
	return full
}

// errBroken is the engine's error for a template whose problems are known.
var errBroken = errors.New("template is broken")

// noTemplate is the error for a template that joinTemplate did not register.
func (l *Loader) noTemplate(name string) error {
	path, _ := versionOf(name)
	missing := minijinja.NewError(minijinja.ErrTemplateNotFound, path)
	if why := l.session.refused[name]; why.err != nil {
		return missing.WithCause(why.err)
	}
	return missing
}

// template returns the template of a file's content, new or known.
func (l *Loader) template(path string, content []byte, read func(string, []byte) *source) *template {
	if t, ok := l.templates[path]; ok {
		return t
	}
	t := &template{source: read(path, content)}
	l.templates[path] = t
	note := func(p problem) { t.problems = append(t.problems, p) }
	damage(t.source.text, func(e extent, what string) { note(problem{extent: e, message: "the file holds " + what}) })
	if len(t.problems) > 0 || !isTemplate(t.source.text) {
		return t
	}
	t.pieces, _ = split(t.source.text, note)
	if len(t.problems) == 0 {
		l.register(t, markNothing, nil)
	}
	return t
}

// register tells the engine of a version of a template.
func (l *Loader) register(t *template, mode markMode, hidden []int) {
	name := versionName(t.source.path, mode, hidden)
	if l.versions[name] != nil {
		return
	}
	pieces := t.pieces
	if pieces == nil && t.source.text != "" {
		pieces = []piece{{extent: extent{0, len(t.source.text)}, kind: copied}}
	}
	version := weave(t.source, pieces, mode, hidden, &l.marks)
	l.versions[name] = version
	if err := l.env.AddTemplate(name, version.text); err != nil && mode == markNothing && len(hidden) == 0 {
		t.problems = append(t.problems, t.syntaxProblem(err))
	}
}

// syntaxProblem turns what the engine says of a template it cannot read into a
// problem. It names no more than a line.
func (t *template) syntaxProblem(err error) problem {
	message, line := err.Error(), 0
	if e := reflect.Indirect(reflect.ValueOf(err)); e.Kind() == reflect.Struct {
		if f := e.FieldByName("Detail"); f.Kind() == reflect.String {
			message = f.String()
		}
		if f := e.FieldByName("Line"); f.CanUint() {
			line = int(f.Uint())
		}
	}
	if rest, found := strings.CutPrefix(message, "syntax error at line "); found {
		number, rest, _ := strings.Cut(rest, ",")
		_, message, _ = strings.Cut(rest, ": ")
		line, _ = strconv.Atoi(number)
	}
	message = strings.NewReplacer("end of variable block", "}}", "end of block", "end of the tag", "end of input", "end of the file").Replace(message)
	return problem{extent: t.tagOnLine(line - 1), message: "the template cannot be read: " + message}
}

// tagOnLine is the tag that stands on a line, if there is one alone; else the
// line.
func (t *template) tagOnLine(line int) extent {
	at := t.source.line(line)
	var only extent
	count := 0
	for _, p := range t.pieces {
		if (p.kind == printed || p.kind == tag) && p.start <= at.end && p.end > at.start {
			only = (&splitter{text: t.source.text}).shownTag(p)
			count++
		}
	}
	if count == 1 {
		return only
	}
	return t.source.trimmed(line)
}

// A session is one rendering as it goes on: what its functions may do.
type session struct {
	pkg     *Package
	record  func(SourceKind, string, string)
	warn    func(*Diagnostic)
	quiet   bool                       // renders again, and says nothing twice
	refused map[string]refusedTemplate // by the engine's name
	broken  *template
	last    *minijinja.State
	rounds  [][]value.Value

	// The variable that was asked for last: what is wrong is mostly about it.
	neededName string
	needed     value.Value

	hidden        []int // pieces of the template that have failed, sorted
	hidesVariable bool  // one of them sets a variable
}

// A refusedTemplate is one that is there, and cannot be had.
type refusedTemplate struct {
	written string
	err     error
}

// record notes that a file has a say in what is being loaded.
func (l *Loader) record(kind SourceKind, path, written string) {
	if l.session.record != nil {
		l.session.record(kind, path, written)
	}
}

// When an expression fails, it is hidden and the template rendered again, so
// that other mistakes are found as well: so many times.
const maxHidden = 20

// hiddenText is what a hidden expression gives. Nothing is said of an
// instruction that it is in.
const hiddenText = "\x01"

// renderTemplate renders a template with its variables. If places are asked
// for, the rendering knows them. What is wrong is returned, each with its
// place; there may be a text nevertheless, with hiddenText in it.
func (l *Loader) renderTemplate(t *template, vars map[string]value.Value, s session, places bool) (*rendering, []*Diagnostic) {
	if len(t.problems) > 0 {
		return nil, t.diagnostics()
	}
	fromVars := func(name string) value.Value {
		if v, ok := vars[name]; ok {
			return v
		}
		return value.Undefined()
	}
	if t.pieces == nil {
		return &rendering{text: t.source.text, source: t.source, identity: true, lookup: fromVars}, nil
	}
	outer := l.session
	defer func() { l.session = outer }()
	s.refused = make(map[string]refusedTemplate)
	l.session = &s
	text, problems, ok := l.renderAll(t, vars, places)
	if !ok {
		return nil, problems
	}
	r := &rendering{text: text, source: t.source}
	if places {
		r = l.findPlaces(t, vars, text)
	}
	if r.lookup = fromVars; s.last != nil {
		r.lookup = s.last.Lookup
	} else if exports := l.exports(t, vars); exports != nil {
		r.lookup = exports
	}
	return r, problems
}

// renderAll renders a template, without the expressions that fail.
func (l *Loader) renderAll(t *template, vars map[string]value.Value, retry bool) (string, []*Diagnostic, bool) {
	var problems []*Diagnostic
	s := l.session
	for {
		text, err := l.execute(t, vars, markNothing)
		if err == nil {
			return text, append(problems, l.swallowed(t)...), true
		}
		if s.hidesVariable {
			return "", problems, false // what fails now may well follow from that
		}
		found, culprit := l.templateError(t, vars, err)
		problems = append(problems, found...)
		if culprit < 0 || len(s.hidden) == maxHidden || !retry || slices.Contains(s.hidden, culprit) {
			return "", problems, false
		}
		clear(s.refused) // it has been told
		s.hidden = append(s.hidden, culprit)
		slices.Sort(s.hidden)
		s.hidesVariable = s.hidesVariable || t.pieces[culprit].name == "set"
		s.quiet = true
	}
}

// swallowed is what "ignore missing" must not ignore: templates that are there,
// and cannot be had.
func (l *Loader) swallowed(t *template) []*Diagnostic {
	var problems []*Diagnostic
	for _, name := range slices.Sorted(maps.Keys(l.session.refused)) {
		why := l.session.refused[name]
		at := place{source: t.source, span: Span{File: t.source.shown}}
		for _, p := range t.pieces {
			if p.name == "include" && strings.Contains(t.source.text[p.start:p.end], why.written) {
				at.span = t.source.span(t.codeAt(p.extent))
				break
			}
		}
		if errors.Is(why.err, errBroken) {
			problems = append(problems, framed(l.session.broken.diagnostics(), []Frame{{Verb: "included", Span: at.span}})...)
		} else {
			problems = append(problems, at.diagnostic(why.err.Error(), ""))
		}
	}
	return problems
}

func (l *Loader) execute(t *template, vars map[string]value.Value, mode markMode) (text string, err error) {
	l.register(t, mode, l.session.hidden)
	tmpl, err := l.env.GetTemplate(versionName(t.source.path, mode, l.session.hidden))
	if err != nil {
		return "", err
	}
	var out limitedBuilder
	// The engine is not ours, and its input is anybody's: what makes it panic,
	// such as a width beyond all measure, is a mistake in that input.
	defer func() {
		if p := recover(); p != nil {
			text, err = out.String(), fmt.Errorf("the template engine gives up: %v", p)
		}
	}()
	err = tmpl.RenderToWrite(vars, &out)
	return out.String(), err
}

// exports is for templates that extend others, where the engine runs nothing
// behind the blocks.
func (l *Loader) exports(t *template, vars map[string]value.Value) func(string) value.Value {
	l.session.quiet = true
	tmpl, err := l.env.GetTemplate(versionName(t.source.path, markNothing, l.session.hidden))
	if err != nil {
		return nil
	}
	state, err := tmpl.EvalToState(vars)
	if err != nil {
		return nil
	}
	return state.Lookup
}

// findPlaces renders a template again, with marks.
func (l *Loader) findPlaces(t *template, vars map[string]value.Value, text string) *rendering {
	last := l.session.last
	l.session.quiet = true
	defer func() { l.session.last = last }()
	for _, mode := range []markMode{markAll, markOutside} {
		l.session.rounds = nil
		marked, err := l.execute(t, vars, mode)
		if err != nil {
			continue
		}
		if r, ok := readMarks(text, marked, t.source, l.marks, l.session.rounds); ok {
			return r
		}
	}
	return &rendering{text: text, source: t.source}
}

// A limitedBuilder takes the text of a template, up to what is sane.
type limitedBuilder struct{ strings.Builder }

func (b *limitedBuilder) WriteString(s string) (int, error) {
	if b.Len()+len(s) > maxRendered {
		return 0, minijinja.NewError(minijinja.ErrInvalidOperation, fmt.Sprintf("the template's text is longer than %d MB", maxRendered>>20))
	}
	return b.Builder.WriteString(s)
}

func (t *template) diagnostics() []*Diagnostic {
	var ds []*Diagnostic
	for _, p := range t.problems {
		ds = append(ds, p.diagnostic(place{source: t.source, span: t.source.span(p.extent)}))
	}
	return ds
}

// mentions tells whether a template asks for a variable, as far as can be told
// from its text.
func (t *template) mentions(name string) bool {
	if t.names == nil {
		t.names = make(map[string]bool)
		mentioned(t.source.text, t.pieces, t.names)
	}
	return t.names[name] || t.names["include"] || t.names["extends"] || t.names["import"]
}
