package rapt

import (
	"path/filepath"
	"slices"
	"strings"

	"github.com/mitsuhiko/minijinja/minijinja-go/v2/value"
)

// INCLUDEs may be nested so deep.
const maxDepth = 20

// An expansion makes a program of a module and all that it includes.
type expansion struct {
	loader   *Loader
	program  *Program
	problems Diagnostics
	sources  map[sourceKey]bool

	entrypoint, cmd place // where they were given
}

type sourceKey struct {
	kind SourceKind
	path string
}

// A reading is one file of an expansion, with the variables it was given.
type reading struct {
	module
	dir      string
	parent   *reading
	depth    int
	chain    []Frame // the INCLUDEs that led to it
	text     *rendering
	template *template
	lookups  map[string]bool // the variables that its instructions asked for
	partial  bool            // its template failed in parts, which are hidden
}

// expand makes the program of a module, or says why it cannot.
func (l *Loader) expand(m module) (*Program, Diagnostics) {
	name := strings.TrimSuffix(strings.TrimSuffix(filepath.Base(m.path), layerSuffix), "@")
	if m.instance != "" {
		name += "@" + m.instance
	}
	x := &expansion{
		loader:  l,
		program: &Program{ID: m.id(), Name: name, File: m.path, Package: m.pkg, Instance: m.instance},
		sources: make(map[sourceKey]bool),
	}
	vars := make(map[string]value.Value)
	if m.instance != "" {
		vars["instance"] = value.FromString(m.instance)
	}
	x.source(SourceModule, m.path, filepath.Base(m.path), nil)
	x.read(&reading{module: m}, vars)
	problems := x.problems.Sorted()
	var errors Diagnostics
	for _, d := range problems {
		if d.Severity == Warning {
			x.program.Warnings = append(x.program.Warnings, d)
		} else {
			errors = append(errors, d)
		}
	}
	if len(errors) > 0 {
		return nil, problems
	}
	return x.program, nil
}

// source notes a file that has a say in the program: once, unless it is copied.
// Of copies there is a source for each in the order of the instructions, whose
// texts name files as they were written: two instructions of two directories may
// name two files by the same words, and only the order tells keys which is which.
func (x *expansion) source(kind SourceKind, path, written string, ignore func(string, bool) bool) {
	key := sourceKey{kind, path}
	if x.sources[key] && kind != SourceCopy {
		return
	}
	x.sources[key] = true
	x.program.Sources = append(x.program.Sources, &Source{Kind: kind, Path: path, Written: written, Ignore: ignore})
}

// report adds a problem of a reading's text.
func (x *expansion) report(r *reading, p problem) *Diagnostic {
	at := r.text.place(p.extent)
	d := p.diagnostic(at)
	d.Chain = slices.Concat(at.frames, r.chain)
	x.problems = append(x.problems, d)
	return d
}

func (x *expansion) fail(r *reading, e extent, message, label string) *Diagnostic {
	return x.report(r, problem{extent: e, message: message, label: label})
}

func (x *expansion) refuse(r *reading, e extent, why *refusal) {
	x.report(r, problem{extent: e, message: why.message, label: why.label, help: why.help}).Err = why.err
}

// read renders a file and carries its statements out.
func (x *expansion) read(r *reading, vars map[string]value.Value) {
	r.dir = filepath.Dir(r.path)
	r.lookups = make(map[string]bool)
	t := x.loader.templates[r.path]
	if t == nil {
		content, err := readFile(r.path)
		if err != nil {
			x.problems = append(x.problems, &Diagnostic{Message: "cannot read the file: " + reason(err).Error(), Span: Span{File: shownPath(r.path)}, Chain: r.chain, Err: err})
			return
		}
		t = x.loader.template(r.path, content, newSource)
	}
	r.template = t
	text, problems := x.loader.renderTemplate(t, vars, x.session(r), true)
	problems = framed(problems, r.chain)
	if r.parent != nil {
		suggestArgument(problems, "INCLUDE")
	}
	x.problems = append(x.problems, problems...)
	if text == nil {
		return
	}
	r.text = text
	r.partial = len(problems) > 0
	damaged := false
	if !text.identity {
		damage(text.text, func(e extent, what string) {
			damaged = true
			x.fail(r, e, "the template gives "+what, "")
		})
	}
	if damaged {
		return
	}
	statements := parse(text.text, func(p problem) {
		if !r.partial || !hides(linesAround(text.text, p.extent)) {
			x.report(r, p)
		}
	})
	for i := range statements {
		if st := &statements[i]; !r.partial || !hides(text.text[st.start:st.end]) {
			x.statement(r, st)
		}
	}
}

// suggestArgument says of variables that a file lacks how it can be given them.
func suggestArgument(problems []*Diagnostic, keyword string) {
	for _, d := range problems {
		if d.undefined != "" && d.Label == "" {
			d.Help = "hand it over with " + keyword + " … " + d.undefined + "=VALUE"
		}
	}
}

// hides tells whether a text holds what a failed expression did not give.
func hides(text string) bool { return strings.Contains(text, hiddenText) }

// linesAround is the whole of the lines that an extent touches.
func linesAround(text string, e extent) string {
	start := strings.LastIndexByte(text[:min(e.start, len(text))], '\n') + 1
	end := min(e.end, len(text))
	if n := strings.IndexByte(text[end:], '\n'); n >= 0 {
		end += n
	}
	return text[start:end]
}

func (x *expansion) session(r *reading) session {
	return session{
		pkg:    r.pkg,
		record: func(kind SourceKind, path, written string) { x.source(kind, path, written, nil) },
		warn:   func(d *Diagnostic) { x.problems = append(x.problems, d) },
	}
}

// statement carries one statement out.
func (x *expansion) statement(r *reading, st *statement) {
	switch st.keyword {
	case "FROM":
		x.from(r, st)
	case "INCLUDE":
		x.include(r, st)
	case "MOUNT":
		x.mount(r, st)
	case "ENTRYPOINT":
		x.once(r, st, &x.entrypoint, &x.program.Entrypoint)
	case "CMD":
		x.once(r, st, &x.cmd, &x.program.Cmd)
	default:
		if op, text := x.operation(r, st); op != nil {
			x.add(r, st, op, text)
		}
	}
}

func (x *expansion) add(r *reading, st *statement, op Op, text string) {
	at := r.text.place(st.extent)
	chain := r.chain
	if len(at.frames) > 0 {
		chain = slices.Concat(at.frames, r.chain)
	}
	x.program.Build = append(x.program.Build, &Instruction{Span: at.span, Chain: chain, Text: text, Op: op, source: at.source})
}

// include runs the statements of another file here.
func (x *expansion) include(r *reading, st *statement) {
	w := st.words[0]
	name, why := parseModuleName(w.text)
	if why == nil {
		var m module
		if m, why = resolve(name, r.pkg, r.dir, includeSuffix); why == nil {
			x.includeModule(r, st, m)
			return
		}
	}
	x.refuse(r, w.extent, why)
	x.arguments(r, st)
}

func (x *expansion) includeModule(r *reading, st *statement, m module) {
	vars, ok := x.arguments(r, st)
	if path := includeCycle(r, m); path != "" {
		x.fail(r, st.words[0].extent, "the file includes itself: "+path, "closes the cycle")
		return
	}
	if r.depth >= maxDepth {
		x.fail(r, st.words[0].extent, "INCLUDEs are nested more than "+itoa(maxDepth)+" deep", "")
		return
	}
	if !ok {
		return // what it lacks would be missed in there again
	}
	at := r.text.place(st.extent)
	if m.instance == "" {
		m.instance = r.instance
	}
	if _, given := vars["instance"]; !given && m.instance != "" {
		vars["instance"] = value.FromString(m.instance)
	}
	inner := &reading{module: m, parent: r, depth: r.depth + 1}
	inner.chain = slices.Concat([]Frame{{Verb: "included", Span: at.span}}, at.frames, r.chain)
	x.source(SourceModule, m.path, st.words[0].text, nil)
	x.read(inner, vars)
	if inner.text != nil && !inner.partial {
		x.unused(r, st, inner.template, inner.lookups)
	}
}

// unused warns of arguments that a template does not ask for, nor its
// instructions, which asked for lookups.
func (x *expansion) unused(r *reading, st *statement, t *template, lookups map[string]bool) {
	for _, a := range st.arguments {
		if lookups[a.name] || t.mentions(a.name) {
			continue
		}
		x.report(r, problem{extent: a.extent, severity: Warning,
			message: t.source.shown + " does not use the variable " + a.name})
	}
}

func includeCycle(r *reading, m module) string {
	var path []module
	for at := r; at != nil; at = at.parent {
		path = append(path, at.module)
		if at.path == m.path {
			slices.Reverse(path)
			return modulePath(append(path, m))
		}
	}
	return ""
}
