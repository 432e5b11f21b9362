package rapt

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/mitsuhiko/minijinja/minijinja-go/v2"
	"github.com/mitsuhiko/minijinja/minijinja-go/v2/value"
)

// A Loader loads programs. It remembers what it has loaded: one file and
// instance is one Program, however often and from wherever it is named, and a
// file is read once. It is not safe for concurrent use.
type Loader struct {
	// Project is the package that targets are named in.
	Project *Package
	// Log takes what templates say with info("…") and its like: level is
	// "trace", "debug", "info", "warning" or "error". May be nil.
	Log func(level, template, text string)

	env       *minijinja.Environment
	templates map[string]*template
	versions  map[string]*woven      // of templates, by the engine's names
	data      map[string]value.Value // what load_yaml has read
	marks     []mark
	session   *session
	programs  map[string]*loaded
	loading   []module // FROM by FROM
	ignores   map[string]*ignoreRules
}

// A loaded program, or why there is none.
type loaded struct {
	program  *Program
	problems Diagnostics // errors
	done     bool
}

func (l *Loader) prepare() {
	if l.env != nil {
		return
	}
	l.templates = make(map[string]*template)
	l.versions = make(map[string]*woven)
	l.data = make(map[string]value.Value)
	l.programs = make(map[string]*loaded)
	l.ignores = make(map[string]*ignoreRules)
	l.session = &session{}
	l.env = l.newEnvironment()
}

// Load loads the program of a target: a module name as a project or a command
// line says it, or the path of a .rapt file. The name stands at the place at,
// whose text is source; both are zero for a command line. The error is of type
// Diagnostics.
//
// A program of which something is wrong is not returned, and all that could be
// found wrong with it and with what it is built on is reported.
func (l *Loader) Load(target string, at Span, source []byte) (*Program, error) {
	l.prepare()
	m, refused := l.target(target, at)
	if refused != nil {
		return nil, Diagnostics{{Message: refused.message, Label: refused.label, Help: refused.help, Span: at, Source: source, Err: refused.err}}
	}
	p, problems := l.program(m)
	if len(problems) > 0 {
		return nil, problems.Sorted()
	}
	return p, nil
}

// target finds the module that a target names.
func (l *Loader) target(target string, at Span) (module, *refusal) {
	file, _, _ := strings.Cut(target, "@")
	if strings.ContainsRune(file, '/') || strings.HasSuffix(target, layerSuffix) {
		return l.targetFile(target, at)
	}
	name, refused := parseModuleName(target)
	if refused != nil {
		return module{}, refused
	}
	return resolve(name, l.Project, l.Project.Root, layerSuffix)
}

// targetFile finds the module that a path names. On a command line it starts
// where the user is, as the shell completes it, or else at the project's root.
func (l *Loader) targetFile(target string, at Span) (module, *refusal) {
	bases := []string{l.Project.Root}
	if dir, err := os.Getwd(); err == nil && at.Line == 0 {
		bases = []string{dir, l.Project.Root}
	}
	stem, instance, instanced := strings.Cut(strings.TrimSuffix(target, layerSuffix), "@")
	if !isInstance(instance) { // it names the layer's directory, too
		return module{}, &refusal{message: quoteForMessage(target) + " is not the name of a module", label: instanceRule}
	}
	var path string
	for _, base := range bases {
		path = stem
		if !filepath.IsAbs(path) {
			path = filepath.Join(base, path)
		}
		sought := path + layerSuffix
		if instanced {
			sought = path + "@" + layerSuffix
		}
		if isFile(sought) && (!instanced || instance != "") {
			pkg := l.packageOf(sought)
			return module{path: sought, pkg: pkg, instance: instance}, confined(pkg, sought, target)
		}
	}
	name := moduleName{text: target, elements: []string{filepath.Base(stem)}, instance: instance, instanced: instanced}
	if instanced && instance == "" {
		return module{}, &refusal{message: quoteForMessage(target) + " lacks an instance", label: "write " + stem + "@INSTANCE"}
	}
	r := missingModule(name, path, layerSuffix)
	r.message = strings.Replace(r.message, "no module", "no file", 1)
	return module{}, r
}

// packageOf is the innermost package that a file lies in; the project if it
// lies in none.
func (l *Loader) packageOf(path string) *Package {
	best := l.Project
	seen := make(map[*Package]bool)
	var visit func(p *Package)
	visit = func(p *Package) {
		if p == nil || seen[p] {
			return
		}
		seen[p] = true
		rel, err := filepath.Rel(p.Root, path)
		if err == nil && filepath.IsLocal(rel) && len(p.Root) > len(best.Root) {
			best = p
		}
		for _, linked := range p.Links {
			visit(linked)
		}
	}
	visit(l.Project)
	return best
}

// Nothing can stand on more layers than this.
const maxLayers = 200

// program loads a module as a layer.
func (l *Loader) program(m module) (*Program, Diagnostics) {
	if known := l.programs[m.id()]; known != nil {
		return known.program, known.problems
	}
	known := &loaded{}
	l.programs[m.id()] = known
	l.loading = append(l.loading, m)
	known.program, known.problems = l.expand(m)
	l.loading = l.loading[:len(l.loading)-1]
	known.done = true
	return known.program, known.problems
}

// cycle is the path of FROMs by which a module would stand on itself, or "".
func (l *Loader) cycle(m module) string {
	for i, below := range l.loading {
		if below.id() == m.id() {
			return modulePath(append(l.loading[i:len(l.loading):len(l.loading)], m))
		}
	}
	return ""
}

func modulePath(modules []module) string {
	titles := make([]string, len(modules))
	for i, m := range modules {
		titles[i] = m.title()
	}
	return strings.Join(titles, " -> ")
}

// allowed is confined for the package whose template is being rendered.
func (l *Loader) allowed(path, written string) error {
	if r := confined(l.session.pkg, path, written); r != nil {
		return errors.New(r.message)
	}
	return nil
}
