// Package recipes reads what a project says about itself: Raptor.toml, decoded
// and checked; Raptor.lock, which pins what names of the outside world stood
// for; and the standard builders, which are embedded here and unpacked where
// the language can read them.
//
// It refuses to know how anything is executed. It does not load modules, so a
// target that does not exist, or a mount that the target does not declare, is
// found by its caller, who points at the place with [Project.Diagnose].
//
// A [Project] is made by [Load], may be adjusted with [Project.Set] before
// anything else looks at it, and is read-only from then on:
//
//	p, err := recipes.Load("Raptor.toml")
//	if err != nil {
//		return err // rapt.Diagnostics when the file is wrong
//	}
//	jobs, layers, err := p.Select([]string{"release"})
package recipes

import (
	"path/filepath"
	"strings"
	"time"

	"raptor-make/rapt"
)

// A Project is a decoded Raptor.toml. Everything in it is in the order of the
// file.
type Project struct {
	Root string // absolute directory that relative paths start from
	File string // the project file, as it was named; "" if there is none

	Links    []*Link
	Jobs     []*Job
	Groups   []*Group
	Settings Settings

	source []byte
	byName map[string]*Job // of Jobs
}

// A Value is a string of the project file and the place it stands at.
type Value struct {
	Text string
	Span rapt.Span
}

// String returns the text.
func (v Value) String() string { return v.Text }

// Texts returns the texts of values.
func Texts(values []Value) []string {
	if values == nil {
		return nil
	}
	texts := make([]string, len(values))
	for i, v := range values {
		texts[i] = v.Text
	}
	return texts
}

// A Link names a package: a directory or a pinned git source.
type Link struct {
	Name string
	Span rapt.Span // of the name
	Path Value     // a directory, relative to the root; empty if Git is set
	Git  *Git
}

// A Job is one [run.NAME] table: a container to run. Only Target is sure to be
// there.
type Job struct {
	Name string
	Span rapt.Span // of the name

	Target      Value // a module name
	Input       []Value
	Output      []Value
	Cache       []Value
	Mounts      []Mount // mount.NAME, without the three above
	Entrypoint  []Value // replaces the target's when not empty
	Args        []Value // replaces the target's CMD when not empty
	Env         []Var
	StateDir    Value // empty: changes are thrown away
	Needs       []Value
	Description Value
	Network     Value // "", "host" or "none"
	Limits      Limits
}

// A Mount says what a MOUNT of the target is given.
type Mount struct {
	Name    string
	Span    rapt.Span // of the key
	Sources []Value
}

// Bindings returns all that the job says about mounts, input, output and cache
// included, for those that it gives anything.
func (j *Job) Bindings() []Mount {
	var all []Mount
	for _, m := range []Mount{
		{Name: "input", Sources: j.Input},
		{Name: "output", Sources: j.Output},
		{Name: "cache", Sources: j.Cache},
	} {
		if len(m.Sources) > 0 {
			m.Span = m.Sources[0].Span
			all = append(all, m)
		}
	}
	for _, m := range j.Mounts {
		if len(m.Sources) > 0 {
			all = append(all, m)
		}
	}
	return all
}

// A Var is one variable of a job's environment. Numbers and booleans are the
// text that the file writes for them.
type Var struct {
	Key   string
	Span  rapt.Span // of the key
	Value Value
}

// Limits bound what a container may use. Zero is no limit.
type Limits struct {
	Span    rapt.Span // of the first one given
	Memory  int64     // bytes
	Pids    int64
	Timeout time.Duration
}

// A Group is a named set of layers and jobs.
type Group struct {
	Name        string
	Span        rapt.Span // of the name
	Build       []Value   // module names
	Run         []Value   // names of jobs, or "%name" of another group
	Description Value
}

// Settings are the project's own defaults for what options can say as well.
type Settings struct {
	Jobs            int // how many steps run at once; 0 leaves the choice open
	Store           Value
	Platform        Value  // "linux/arm64"; "" is this machine's
	SourceDateEpoch *int64 // seconds; nil if not given
	Registries      map[string]Registry
}

// A Registry says how one registry is reached.
type Registry struct {
	Span     rapt.Span // of its name
	Mirrors  []Value   // tried first, in order
	Insecure bool      // plain HTTP, or a certificate that nobody vouches for
}

// DefaultStore is where layers are kept, below the root, if the project does
// not say otherwise.
const DefaultStore = "layers"

// Empty returns a project without a project file: no jobs, no links. Root is
// made absolute.
func Empty(root string) *Project {
	if abs, err := filepath.Abs(root); err == nil {
		root = abs
	}
	return &Project{Root: root, Settings: Settings{Store: Value{Text: DefaultStore}}}
}

// Abs returns the absolute form of a path that the project file says.
func (p *Project) Abs(path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(p.Root, path)
}

// Job returns the job of that name, or nil.
func (p *Project) Job(name string) *Job {
	if len(p.byName) != len(p.Jobs) { // while the file is still being read
		p.byName = make(map[string]*Job, len(p.Jobs))
		for _, j := range p.Jobs {
			p.byName[j.Name] = j
		}
	}
	return p.byName[name]
}

// Group returns the group of that name, written without its %, or nil.
func (p *Project) Group(name string) *Group {
	for _, g := range p.Groups {
		if g.Name == name {
			return g
		}
	}
	return nil
}

// Link returns the link of that name, or nil.
func (p *Project) Link(name string) *Link {
	for _, l := range p.Links {
		if l.Name == name {
			return l
		}
	}
	return nil
}

// LayerSpan returns the place at which a group names that layer, for a layer
// that Select returned.
func (p *Project) LayerSpan(layer string) rapt.Span {
	for _, g := range p.Groups {
		for _, b := range g.Build {
			if b.Text == layer {
				return b.Span
			}
		}
	}
	return rapt.Span{File: p.File}
}

// Diagnose returns an error that points at a place of the project file. The
// label is written beside the underline and may be empty.
func (p *Project) Diagnose(span rapt.Span, message, label string) *rapt.Diagnostic {
	d := &rapt.Diagnostic{Message: message, Span: span, Label: label}
	if span.File == p.File {
		d.Source = p.source
	}
	return d
}

// resolve returns the absolute path that a source or output of a job means: a
// leading "$link/" is that package's directory. Links whose directory is not
// known here, those from git and those of other packages, stay as written.
func (p *Project) resolve(path string) string {
	name, rest, ok := strings.Cut(path, "/")
	if !ok || !strings.HasPrefix(name, "$") {
		return p.Abs(path)
	}
	if link := p.Link(name[1:]); link != nil && link.Git == nil {
		return filepath.Join(p.Abs(link.Path.Text), rest)
	}
	return filepath.Join(name, rest)
}
