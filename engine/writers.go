package engine

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"raptor-make/recipes"
)

// writers finds the jobs of a project by what they write, however many there
// are.
type writers struct {
	byPath map[string]*recipes.Job
	paths  []string // sorted
	byName map[string]*recipes.Job
}

func (e *Engine) writers() *writers {
	w := &writers{byPath: map[string]*recipes.Job{}, byName: map[string]*recipes.Job{}}
	for _, j := range e.Project.Jobs {
		w.byName[j.Name] = j
		for _, written := range j.Output {
			path, err := e.path(written.Text)
			path = resolved(path)
			if err == nil && w.byPath[path] == nil {
				w.byPath[path] = j
				w.paths = append(w.paths, path)
			}
		}
	}
	slices.Sort(w.paths)
	return w
}

// of lists the jobs that write a path, something below it, or something that
// it lies in.
func (w *writers) of(path string) []*recipes.Job {
	var list []*recipes.Job
	path = resolved(path)
	for dir := path; ; dir = filepath.Dir(dir) {
		if j := w.byPath[dir]; j != nil {
			list = append(list, j)
		}
		if dir == "/" {
			break
		}
	}
	below := strings.TrimSuffix(path, "/") + "/"
	i, _ := slices.BinarySearch(w.paths, below)
	for ; i < len(w.paths) && strings.HasPrefix(w.paths[i], below); i++ {
		list = append(list, w.byPath[w.paths[i]])
	}
	return list
}

// resolved follows the symbolic links of a path as far as it exists.
func resolved(path string) string {
	for dir, rest := path, ""; dir != "/" && dir != "."; dir, rest = filepath.Dir(dir), filepath.Join(filepath.Base(dir), rest) {
		if real, err := filepath.EvalSymlinks(dir); err == nil {
			return filepath.Join(real, rest)
		}
	}
	return path
}

// paths finds inputs that can only be read and are not there, and outputs that
// would overwrite what they are made of.
func (p *planner) paths() {
	sources := map[string]string{resolved(p.Project.Abs(p.Project.File)): "the project file"}
	for _, l := range p.built {
		sources[resolved(l.Program.File)] = "the module of " + l.Name
		for _, s := range l.Program.Sources {
			sources[resolved(s.Path)] = "a source of " + l.Name
		}
	}
	check := func(c *Container) {
		for _, b := range c.bindings {
			what := sources[resolved(b.path)]
			if ext := filepath.Ext(b.path); what == "" && (ext == ".rapt" || ext == ".rinc") && !isGone(b.path) {
				what = "a module"
			}
			switch {
			case b.path == "":
			case b.isOutput() && what != "":
				p.found = append(p.found, p.Project.Diagnose(b.span, fmt.Sprintf("%s would overwrite %s, which is %s", of(c.Job), b.written[0], what), ""))
			case b.isInput() && b.mount.ReadOnly && isGone(b.path) && len(p.writers.of(b.path)) == 0:
				p.found = append(p.found, p.Project.Diagnose(b.span, fmt.Sprintf("%s reads %s, which does not exist", of(c.Job), b.written[0]), "no job writes it"))
			}
		}
	}
	for _, j := range p.Project.Jobs {
		if c := p.jobs[j]; c != nil {
			check(c)
		}
	}
	if p.plan.Run != nil {
		check(p.plan.Run)
	}
}

// before lists the jobs that come before c: those it needs, and those that
// write one of its inputs.
func (w *writers) before(c *Container) []*recipes.Job {
	var list []*recipes.Job
	for _, need := range c.Job.Needs {
		if j := w.byName[need.Text]; j != nil {
			list = append(list, j)
		}
	}
	for _, b := range c.bindings {
		if b.isInput() {
			list = append(list, w.of(b.path)...)
		}
	}
	return slices.DeleteFunc(list, func(j *recipes.Job) bool { return j == c.Job })
}
