package recipes

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/hashicorp/go-multierror"

	"raptor-make/rapt"
)

// everyJob is the name that means every job, unless a job or group has it.
const everyJob = "all"

// Select returns the jobs and layers that names stand for: jobs, groups,
// "%group" where a job has the group's name, or "all". No names at all mean
// every job. Each job and layer comes once, in the order in which the names
// lead to it. Names that lead nowhere are an error that holds them all.
func (p *Project) Select(names []string) (jobs []*Job, layers []string, err error) {
	if len(names) == 0 {
		return slices.Clone(p.Jobs), nil, nil
	}
	s := &selection{project: p, groups: make(map[*Group]bool)}
	for _, name := range names {
		if e := s.add(name); e != nil {
			err = multierror.Append(err, e)
		}
	}
	if err != nil {
		return nil, nil, err
	}
	return s.jobs, s.layers, nil
}

// A selection grows by one name after the other.
type selection struct {
	project *Project
	jobs    []*Job
	layers  []string
	groups  map[*Group]bool // already expanded
}

func (s *selection) add(name string) error {
	if group, ok := strings.CutPrefix(name, "%"); ok {
		if g := s.project.Group(group); g != nil {
			s.group(g)
			return nil
		}
		return unknownName("group", name, groupNames(s.project.Groups))
	}
	if j := s.project.Job(name); j != nil {
		s.job(j)
		return nil
	}
	if g := s.project.Group(name); g != nil {
		s.group(g)
		return nil
	}
	if name == everyJob {
		for _, j := range s.project.Jobs {
			s.job(j)
		}
		return nil
	}
	if s.project.IsLayer(name) {
		return fmt.Errorf("%s is a layer, not a job or group; raptor build %s builds it", name, name)
	}
	known := jobNames(s.project.Jobs)
	for _, g := range s.project.Groups {
		if s.project.Job(g.Name) == nil {
			known = append(known, g.Name)
		}
	}
	return unknownName("job or group", name, known)
}

func (s *selection) job(j *Job) {
	if !slices.Contains(s.jobs, j) {
		s.jobs = append(s.jobs, j)
	}
}

// group adds what a group names. The project has been checked: its members
// exist, and it does not contain itself.
func (s *selection) group(g *Group) {
	if s.groups[g] {
		return
	}
	s.groups[g] = true
	for _, layer := range g.Build {
		if !slices.Contains(s.layers, layer.Text) {
			s.layers = append(s.layers, layer.Text)
		}
	}
	for _, member := range g.Run {
		if name, ok := strings.CutPrefix(member.Text, "%"); ok {
			s.group(s.project.Group(name))
		} else {
			s.job(s.project.Job(member.Text))
		}
	}
}

// IsLayer tells whether a name is that of a layer of the project: in dots, or a
// path.
func (p *Project) IsLayer(name string) bool {
	stem, _, instanced := strings.Cut(strings.TrimSuffix(name, ".rapt"), "@")
	if instanced {
		stem += "@"
	}
	for _, path := range []string{stem, strings.ReplaceAll(stem, ".", "/")} {
		if info, err := os.Stat(p.Abs(path + ".rapt")); err == nil && info.Mode().IsRegular() {
			return true
		}
	}
	return false
}

// unknownName says that there is no such name, and what there is.
func unknownName(what, name string, known []string) error {
	switch near := rapt.Nearest(name, known); {
	case near != "":
		return fmt.Errorf("unknown %s %q; did you mean %s?", what, name, near)
	case len(known) == 0:
		return fmt.Errorf("unknown %s %q; the project has none", what, name)
	default:
		return fmt.Errorf("unknown %s %q; there are %s", what, name, strings.Join(known, ", "))
	}
}
