package engine

import (
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
			if path, err := e.path(written.Text); err == nil && w.byPath[path] == nil {
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
