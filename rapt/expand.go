package rapt

import (
	"maps"
	"os"
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

// source notes a file that has a say in the program.
func (x *expansion) source(kind SourceKind, path, written string, ignore func(string, bool) bool) {
	key := sourceKey{kind, path}
	if x.sources[key] {
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
	x.report(r, problem{extent: e, message: why.message, label: why.label, help: why.help})
}

// read renders a file and carries its statements out.
func (x *expansion) read(r *reading, vars map[string]value.Value) {
	r.dir = filepath.Dir(r.path)
	r.lookups = make(map[string]bool)
	t := x.loader.templates[r.path]
	if t == nil {
		content, err := os.ReadFile(r.path)
		if err != nil {
			x.problems = append(x.problems, &Diagnostic{Message: "cannot read the file: " + reason(err).Error(), Span: Span{File: shownPath(r.path)}, Chain: r.chain})
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
	return session{pkg: r.pkg, record: func(kind SourceKind, path, written string) { x.source(kind, path, written, nil) }}
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

// from resolves what the layer stands on.
func (x *expansion) from(r *reading, st *statement) {
	at := r.text.place(st.extent)
	switch {
	case r.parent != nil:
		x.fail(r, st.extent, "FROM cannot stand in a file that is included", "it belongs into a .rapt file")
		return
	case x.program.From != nil:
		x.fail(r, st.extent, "a layer stands on one FROM alone", "the first is on line "+itoa(x.program.From.Span.Line))
		return
	case len(x.program.Build) > 0:
		x.fail(r, st.extent, "FROM must come before all that changes the layer", "line "+itoa(x.program.Build[0].Span.Line)+" comes before it").
			Help = "only MOUNT, ENTRYPOINT and CMD may stand before it"
	}
	w := st.words[0]
	from := &From{Span: at.span, Dir: r.dir, Pkg: r.pkg, written: st.words[0].text}
	x.program.From = from
	if strings.Contains(w.text, "://") {
		from.URL = w.text
		if why := checkImage(w.text, r); why != nil {
			x.refuse(r, w.extent, why)
		}
		return
	}
	name, why := parseModuleName(w.text)
	if why != nil {
		x.refuse(r, w.extent, imageLike(w.text, why))
		return
	}
	base, why := resolve(name, r.pkg, r.dir, layerSuffix)
	if why != nil {
		x.refuse(r, w.extent, why)
		return
	}
	if path := x.loader.cycle(base); path != "" {
		x.fail(r, w.extent, "the layer stands on itself: "+path, "closes the cycle")
		return
	}
	if len(x.loader.loading) >= maxLayers {
		x.fail(r, w.extent, "the layer stands on more than "+itoa(maxLayers)+" others", "")
		return
	}
	program, problems := x.loader.program(base)
	frame := append([]Frame{{Verb: "built on", Span: at.span}}, at.frames...)
	x.problems = append(x.problems, framed(slices.Clone(problems), frame)...)
	from.Base = program
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
		x.unused(r, st, inner)
	}
}

// unused warns of arguments that the included file does not ask for.
func (x *expansion) unused(r *reading, st *statement, inner *reading) {
	for _, a := range st.arguments {
		if inner.lookups[a.name] || inner.template.mentions(a.name) {
			continue
		}
		x.report(r, problem{extent: a.extent, severity: Warning,
			message: shownPath(inner.path) + " does not use the variable " + a.name})
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

// mount declares a mount.
func (x *expansion) mount(r *reading, st *statement) {
	name, dest := st.words[0], st.words[1]
	m := &Mount{Span: r.text.place(st.extent).span, Name: name.text, Dest: dest.text}
	ok := x.mountOptions(r, st, m)
	if name.text == "" || strings.ContainsFunc(name.text, func(c rune) bool { return !isElementRune(c) && c != '.' }) {
		x.fail(r, name.extent, "the name of a mount is made of letters, digits, _, - and dots", "")
		ok = false
	}
	if !strings.HasPrefix(dest.text, "/") {
		x.fail(r, dest.extent, "the path of a mount is absolute: there is no working directory yet", "write /"+dest.text)
		ok = false
	}
	m.Dest = filepath.Clean(dest.text)
	for _, earlier := range x.program.Mounts {
		if earlier.Name == m.Name || earlier.Dest == m.Dest {
			what, at := "the mount "+m.Name, name.extent
			if earlier.Name != m.Name {
				what, at = "a mount at "+m.Dest, dest.extent
			}
			x.fail(r, at, what+" is declared twice", "first on line "+itoa(earlier.Span.Line)+" of "+earlier.Span.File)
			ok = false
			break
		}
	}
	if ok {
		x.program.Mounts = append(x.program.Mounts, m)
	}
}

// mountOptions reads the options of a mount: one of each kind.
func (x *expansion) mountOptions(r *reading, st *statement, m *Mount) bool {
	kinds := map[string]string{
		"--simple": "type", "--file": "type", "--layers": "type", "--overlay": "type",
		"--readonly": "access", "--readwrite": "access", "--optional": "need", "--required": "need",
	}
	types := map[string]MountType{"--simple": MountSimple, "--file": MountFile, "--layers": MountLayers, "--overlay": MountOverlay}
	given := make(map[string]string)
	for _, o := range st.options {
		if earlier := given[kinds[o.name]]; earlier != "" {
			x.fail(r, o.extent, "a mount is not "+earlier+" and "+o.name+" at once", "")
			return false
		}
		given[kinds[o.name]] = o.name
	}
	m.Type = types[given["type"]]
	// Layers are what they are: a container changes them only where it says so.
	m.ReadOnly = given["access"] == "--readonly" || given["access"] == "" && (m.Type == MountLayers || m.Type == MountOverlay)
	m.Optional = given["need"] == "--optional"
	return true
}

// once sets what a program has one of.
func (x *expansion) once(r *reading, st *statement, first *place, to *[]string) {
	if *to != nil {
		x.fail(r, st.extent, st.keyword+" is given twice", "first at "+position(first.span))
		return
	}
	*first = r.text.place(st.extent)
	*to = texts(st.words)
}

func texts(words []word) []string {
	list := make([]string, len(words))
	for i, w := range words {
		list[i] = w.text
	}
	return list
}

// The kinds of images that FROM knows.
var schemes = []string{"docker", "oci", "tar", "debian"}

// checkImage finds what can be told to be wrong with an image without looking
// for it anywhere but in the project.
func checkImage(url string, r *reading) *refusal {
	scheme, rest, _ := strings.Cut(url, "://")
	if !slices.Contains(schemes, scheme) {
		label := "the kinds of images are docker://, oci://, tar:// and debian://"
		if near := Nearest(scheme, schemes); near != "" {
			label = "did you mean " + near + "://?"
		}
		return &refusal{message: "unknown kind of image " + quoteForMessage(scheme+"://"), label: label}
	}
	if rest == "" {
		return &refusal{message: "the image's name is missing behind " + scheme + "://"}
	}
	if scheme != "oci" && scheme != "tar" {
		return nil
	}
	path := besideFile(r.dir, rest)
	if _, err := os.Stat(path); err != nil && scheme == "oci" {
		if i := strings.LastIndexByte(rest, ':'); i > 0 && !strings.Contains(rest[i:], "/") {
			path = besideFile(r.dir, rest[:i])
		}
	}
	if why := confined(r.pkg, path, rest); why != nil {
		return why
	}
	return missingFile(path, rest)
}

// besideFile is the path that a file in dir means by a written one.
func besideFile(dir, written string) string {
	if filepath.IsAbs(written) {
		return filepath.Clean(written)
	}
	return filepath.Join(dir, written)
}

// imageLike adds to the refusal of a module's name what people mean who write
// debian:trixie.
func imageLike(text string, why *refusal) *refusal {
	if strings.Contains(text, ":") {
		why.label = "for an image, write docker://" + text
	}
	return why
}

// evaluate resolves the lookups of an expression.
func (x *expansion) evaluate(r *reading, e *expression) (value.Value, bool) {
	switch e.kind {
	case stringExpression:
		return value.FromString(e.text), true
	case integerExpression:
		return value.FromInt(e.integer), true
	case booleanExpression:
		return value.FromBool(e.integer == 1), true
	case noneExpression:
		return value.None(), true
	case lookupExpression:
		return x.lookup(r, e.path)
	case mapExpression:
		return x.evaluateMap(r, e)
	}
	list, ok := make([]value.Value, len(e.items)), true
	for i, item := range e.items {
		v, fine := x.evaluate(r, item.value)
		list[i], ok = v, ok && fine
	}
	return value.FromSlice(list), ok
}

func (x *expansion) evaluateMap(r *reading, e *expression) (value.Value, bool) {
	m, ok := make(map[string]value.Value, len(e.items)), true
	for _, item := range e.items {
		key, fine := x.evaluate(r, item.key)
		v, fine2 := x.evaluate(r, item.value)
		if !fine || !fine2 {
			ok = false
			continue
		}
		text, isText := plainText(key)
		if !isText {
			x.fail(r, item.key.extent, kindName(key)+" cannot be a key", "")
			ok = false
			continue
		}
		if _, twice := m[text]; twice {
			x.fail(r, item.key.extent, "the key "+quoteForMessage(text)+" is given twice", "")
			ok = false
		}
		m[text] = v
	}
	return value.FromMap(m), ok
}

// lookup finds the value of "name.name".
func (x *expansion) lookup(r *reading, path []word) (value.Value, bool) {
	r.lookups[path[0].text] = true
	v := r.text.lookup(path[0].text)
	if v.IsUndefined() || v.IsCallable() {
		x.fail(r, path[0].extent, "variable "+quoteForMessage(path[0].text)+" is not defined", "").Label = x.nearVariable(r, path[0].text)
		return v, false
	}
	for i, part := range path[1:] {
		v = v.GetAttr(part.text)
		if v.IsUndefined() {
			x.fail(r, part.extent, quoteForMessage(joinWords(path[:i+1]))+" has no "+quoteForMessage(part.text), "")
			return v, false
		}
	}
	if !hasExpression(v) {
		x.fail(r, extent{path[0].start, path[len(path)-1].end}, quoteForMessage(joinWords(path))+" cannot be handed on: it is neither text, number, list nor map", "")
		return v, false
	}
	return v, true
}

func joinWords(path []word) string { return strings.Join(texts(path), ".") }

// nearVariable suggests a variable that the file has.
func (x *expansion) nearVariable(r *reading, name string) string {
	r.template.mentions("")
	var defined []string
	for known := range r.template.names {
		if isName(known) && !r.text.lookup(known).IsUndefined() {
			defined = append(defined, known)
		}
	}
	return didYouMean(name, defined)
}

// arguments evaluates what INCLUDE and RENDER hand on.
func (x *expansion) arguments(r *reading, st *statement) (map[string]value.Value, bool) {
	vars, ok := make(map[string]value.Value, len(st.arguments)+1), true
	for _, a := range st.arguments {
		e := a.value
		if e == nil {
			e = &expression{extent: a.extent, path: []word{{extent: a.extent, text: a.name}}}
		}
		v, fine := x.evaluate(r, e)
		if !fine {
			ok = false
			continue
		}
		vars[a.name] = v
	}
	return vars, ok
}

// writeArguments writes arguments in canonical form.
func writeArguments(b *strings.Builder, vars map[string]value.Value) {
	for _, name := range slices.Sorted(maps.Keys(vars)) {
		b.WriteByte(' ')
		b.WriteString(name)
		b.WriteByte('=')
		quoteValue(b, vars[name])
	}
}
