package rapt

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mitsuhiko/minijinja/minijinja-go/v2"
	"github.com/mitsuhiko/minijinja/minijinja-go/v2/value"
)

// An undefinedName is the cause of an error of the engine: a name had no value.
type undefinedName struct {
	name  string
	known []string
	call  bool // asked for by require
}

func (u *undefinedName) Error() string { return "undefined variable " + u.name }

// A dataMistake is the cause of an error of the engine: a file that it read is
// damaged at a place of its own.
type dataMistake struct {
	source  *source
	line    int // from 1; 0 is unknown
	message string
}

func (m *dataMistake) Error() string { return m.message }

// templateError turns an error of the engine into what the user made wrong, and
// says which piece of the template does that, if it can be hidden; else -1.
func (l *Loader) templateError(t *template, vars map[string]value.Value, err error) ([]*Diagnostic, int) {
	var frames []Frame
	at := place{source: t.source, span: Span{File: t.source.shown}}
	outer := -1 // the include by which the template comes to fail
	for {
		var e *minijinja.Error
		if !errors.As(err, &e) {
			break
		}
		found, text := l.errorPlace(e)
		if found.source != nil {
			at = found
		}
		if e.Cause != nil && (e.Kind == minijinja.ErrBadInclude || e.Kind == minijinja.ErrEvalBlock) {
			frames = append([]Frame{{Verb: "included", Span: at.span}}, frames...)
			outer = max(outer, l.culprit(t, e))
			err = e.Cause
			continue
		}
		if l.session.broken != nil && errors.Is(err, errBroken) {
			return framed(l.session.broken.diagnostics(), append([]Frame{{Verb: "included", Span: at.span}}, frames...)), max(outer, l.culprit(t, e))
		}
		if culprit := l.culprit(t, e); culprit >= 0 {
			outer = culprit
		}
		return framed(l.engineMistake(e, at, text), frames), outer
	}
	if at.span.Line == 0 {
		at = l.lastPlace(t, vars)
	}
	return framed([]*Diagnostic{at.diagnostic(engineMessage(err.Error()), "")}, frames), -1
}

// culprit is the piece of a template that fails, if hiding it leaves a template
// to look at: one that prints a value, sets a variable to it, or includes.
func (l *Loader) culprit(t *template, e *minijinja.Error) int {
	name := l.realName(e)
	path, _ := versionOf(name)
	version := l.versions[name]
	if path != t.source.path || version == nil || e.Span == nil || e.Kind == minijinja.ErrOutOfFuel {
		return -1
	}
	at := version.origin(extent{int(e.Span.StartOffset), int(e.Span.EndOffset)})
	for i, p := range t.pieces {
		if p.start <= at.start && at.start < p.end && (p.kind == printed || p.name == "set" || p.name == "include") {
			return i
		}
	}
	return -1
}

// framed hangs what led to a template on what is wrong in it.
func framed(ds []*Diagnostic, frames []Frame) []*Diagnostic {
	for i, d := range ds {
		framed := *d
		framed.Chain = append(slices.Clone(d.Chain), frames...)
		ds[i] = &framed
	}
	return ds
}

// errorPlace is the place that the engine's error names, and the code there.
func (l *Loader) errorPlace(e *minijinja.Error) (place, string) {
	name := l.realName(e)
	path, _ := versionOf(name)
	t, version := l.templates[path], l.versions[name]
	if t == nil || e.Span == nil || version == nil {
		return place{}, ""
	}
	at := version.origin(extent{int(e.Span.StartOffset), int(e.Span.EndOffset)})
	at = t.chainAt(t.codeAt(at))
	return place{source: t.source, span: t.source.span(at)}, t.source.text[at.start:at.end]
}

// realName is the engine's name of the template that an error is in. Where one
// extends another, the engine takes the one for the other; of names that are
// not defined we know what stands at the place.
func (l *Loader) realName(e *minijinja.Error) string {
	var name *undefinedName
	if e.Span == nil || !errors.As(e.Cause, &name) || name.call {
		return e.Name
	}
	call := needCall(name.name)
	stands := func(w *woven) bool {
		return w != nil && int(e.Span.StartOffset) < len(w.text) && strings.HasPrefix(w.text[e.Span.StartOffset:], call)
	}
	if stands(l.versions[e.Name]) {
		return e.Name
	}
	_, mode := versionOf(e.Name)
	for _, other := range slices.Sorted(maps.Keys(l.versions)) {
		if _, m := versionOf(other); m == mode && stands(l.versions[other]) {
			return other
		}
	}
	return e.Name
}

// codeAt narrows a place that the engine names to the code in one tag: it names
// all of an if or for with what is inside.
func (t *template) codeAt(e extent) extent {
	text := t.source.text
	for _, p := range t.pieces {
		if e.start < p.start || e.start >= p.end || p.kind != printed && p.kind != tag {
			continue
		}
		e.start = max(e.start, p.inner.start)
		e.end = max(min(e.end, p.inner.end), e.start)
		inner := text[e.start:e.end]
		e.start += len(inner) - len(strings.TrimLeft(inner, " \t\n"))
		e.end = max(e.end-len(inner)+len(strings.TrimRight(inner, " \t\n")), e.start)
		if p.kind == tag && (p.name == "if" || p.name == "elif" || p.name == "for") {
			f := nameFinder{text, codeTokens(text, p.inner)}
			if first := f.firstValue(p); first < len(f.tokens) && e.start < f.tokens[first].start {
				e.start = f.tokens[first].start // the values, without the keyword
			}
		}
		return e
	}
	return e
}

// chainAt is the value whose attribute cannot be had, where the engine names
// the attribute: it means "a.b" when it says ".c".
func (t *template) chainAt(e extent) extent {
	text := t.source.text
	if e.start >= e.end || text[e.start] != '.' && text[e.start] != '[' {
		return e
	}
	start := e.start
	for start > 0 && (isNamePart(text[start-1]) || strings.IndexByte(".[]\"'", text[start-1]) >= 0) {
		start--
	}
	end := e.end
	if last := strings.LastIndexAny(text[start:e.end], ".["); last > 0 {
		end = start + last
	}
	return extent{start, end}
}

// engineMistake says what an error of the engine means.
func (l *Loader) engineMistake(e *minijinja.Error, at place, code string) []*Diagnostic {
	var name *undefinedName
	var data *dataMistake
	switch {
	case errors.As(e.Cause, &name):
		return []*Diagnostic{undefinedMistake(name, at)}
	case errors.As(e.Cause, &data):
		where := Span{File: data.source.shown}
		if data.line > 0 {
			where = data.source.span(data.source.trimmed(data.line - 1))
		}
		d := place{source: data.source, span: where}.diagnostic(data.message, "")
		d.Chain = []Frame{{Verb: "read", Span: at.span}}
		return []*Diagnostic{d}
	}
	message, label := engineMessage(e.Message), ""
	switch e.Kind {
	case minijinja.ErrUndefinedVar:
		code = undefinedCode(code)
		message, label = code+" is not defined", l.nearAttribute(code)
	case minijinja.ErrUnknownFilter:
		message, label = "unknown filter "+quoteForMessage(e.Message), didYouMean(e.Message, knownFilters)
	case minijinja.ErrUnknownTest:
		message, label = "unknown test "+quoteForMessage(e.Message), didYouMean(e.Message, knownTests)
	case minijinja.ErrUnknownFunction:
		called, _, _ := strings.Cut(code, "(")
		message, label = "unknown function "+quoteForMessage(called), didYouMean(called, knownFunctions)
	case minijinja.ErrOutOfFuel:
		message = "the template takes too many steps: does a loop or a macro never end?"
	case minijinja.ErrTemplateNotFound:
		if message, label = missingTemplate(e.Message); e.Cause != nil {
			message, label = e.Cause.Error(), ""
		}
	}
	return []*Diagnostic{at.diagnostic(message, label)}
}

// engineMessage is the engine's text without its decoration.
func engineMessage(message string) string {
	message = strings.TrimPrefix(message, "invalid operation: ")
	return strings.ReplaceAll(message, needFunction, "")
}

// nearAttribute suggests an attribute that there is, for code such as "a.b.c".
func (l *Loader) nearAttribute(code string) string {
	path := strings.Split(code, ".")
	v := l.session.needed
	if len(path) < 2 || path[0] != l.session.neededName {
		return ""
	}
	for _, name := range path[1 : len(path)-1] {
		v = v.GetAttr(name)
	}
	return didYouMean(path[len(path)-1], keysOf(v))
}

// keysOf are the keys of a map, none of another value.
func keysOf(v value.Value) []string {
	m, _ := v.AsMap()
	return slices.Collect(maps.Keys(m))
}

func undefinedMistake(u *undefinedName, at place) *Diagnostic {
	label := didYouMean(u.name, u.known)
	message := "variable " + quoteForMessage(u.name) + " is not defined"
	if u.call {
		message = "variable " + quoteForMessage(u.name) + " is required, and not defined"
	}
	d := at.diagnostic(message, label)
	d.undefined = u.name
	if u.name == "instance" && label == "" {
		d.Label = "only a file that is named with an instance, as in name@instance, has one"
	}
	return d
}

// undefinedCode is the part of a tag's code that had no value.
func undefinedCode(code string) string {
	code = strings.Join(strings.Fields(code), " ")
	if before, _, piped := strings.Cut(code, " |"); piped {
		code = before
	}
	return shortened(code, maxShownValue)
}

// missingTemplate says which file was looked for.
func missingTemplate(path string) (message, label string) {
	message = "there is no template " + shownPath(path)
	if near := nearestEntry(path); near != "" {
		label = "did you mean " + near + "?"
	}
	return message, label
}

// nearestEntry is the name in a path's directory that is nearest to its last
// element.
func nearestEntry(path string) string {
	entries, _ := os.ReadDir(filepath.Dir(path))
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return Nearest(filepath.Base(path), names)
}

// lastPlace finds how far a template came before an error that has no place.
func (l *Loader) lastPlace(t *template, vars map[string]value.Value) place {
	l.session.quiet = true
	l.session.rounds = nil
	out, _ := l.execute(t, vars, markAll)
	at := place{source: t.source, span: Span{File: t.source.shown}}
	if i := strings.LastIndex(out, "\x00("); i >= 0 && !strings.Contains(out[i:], closeMark) {
		id, _, _ := strings.Cut(out[i+2:], "\x00")
		for n, m := range l.marks {
			if id == itoa(n) {
				e := (&template{source: m.source, pieces: l.templates[m.source.path].pieces}).codeAt(m.extent)
				return place{source: m.source, span: m.source.span(e)}
			}
		}
	}
	return at
}

// What the engine and we offer, for suggestions: it does not tell.
var (
	knownFilters = strings.Fields(`abs attr batch bool capitalize chain count d default dictsort e escape escape_sh
		first float format groupby indent int items join last length lines list lower map max min pprint reject
		rejectattr replace reverse round safe select selectattr sh slice sort split string sum title tojson
		trim unique upper urlencode zip`)
	knownTests = strings.Fields(`boolean defined divisibleby endingwith eq equalto even false filter float ge gt
		greaterthan in integer iterable le lessthan lower lt mapping ne none number odd safe sameas sequence
		startingwith string test true undefined upper`)
	knownFunctions = strings.Fields(`Args cycler debug dict error header info joiner load_yaml namespace path
		range require trace warning`)
)
