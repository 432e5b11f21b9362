package recipes

import (
	"fmt"
	"slices"
	"strings"

	"raptor-make/rapt"
)

// check finds what is wrong between the parts of a project, each of which is
// right in itself.
func (p *Project) check() rapt.Diagnostics {
	c := &checker{Project: p}
	for _, j := range p.Jobs {
		c.job(j)
	}
	c.outputs()
	for _, g := range p.Groups {
		c.members(g)
	}
	c.cycles("jobs need each other", jobNames(p.Jobs), func(name string) []edge {
		return edgesTo(c.Job(name).Needs, func(v Value) (string, bool) { return v.Text, c.Job(v.Text) != nil })
	})
	c.cycles("groups contain each other", groupNames(p.Groups), func(name string) []edge {
		return edgesTo(c.Group(name[1:]).Run, func(v Value) (string, bool) {
			group, ok := strings.CutPrefix(v.Text, "%")
			return v.Text, ok && c.Group(group) != nil
		})
	})
	return c.found
}

// A checker collects what is wrong with a project.
type checker struct {
	*Project
	found rapt.Diagnostics
}

func (c *checker) fail(span rapt.Span, label, format string, args ...any) *rapt.Diagnostic {
	d := c.Diagnose(span, fmt.Sprintf(format, args...), label)
	c.found = append(c.found, d)
	return d
}

func (c *checker) job(j *Job) {
	if j.Target.Text == "" {
		c.fail(j.Span, "needs a target, the name of a module", "job %s has no target", j.Name)
	}
	for _, need := range j.Needs {
		if c.Job(need.Text) != nil {
			continue
		}
		label := didYouMean(need.Text, jobNames(c.Jobs))
		if c.Group(strings.TrimPrefix(need.Text, "%")) != nil {
			label = "that is a group; name its jobs"
		}
		c.fail(need.Span, label, "job %s needs %s, which is no job", j.Name, need.Text)
	}
}

// outputs finds outputs that are written twice.
func (c *checker) outputs() {
	type writer struct {
		job *Job
		at  rapt.Span
	}
	writers := make(map[string]writer)
	for _, j := range c.Jobs {
		for _, out := range j.Output {
			path := c.resolve(out.Text)
			first, taken := writers[path]
			if !taken {
				writers[path] = writer{j, out.Span}
				continue
			}
			label := "also written by " + first.job.Name
			if first.at.Line > 0 {
				label += fmt.Sprintf(", on line %d", first.at.Line)
			}
			if first.job == j {
				c.fail(out.Span, "", "job %s writes %s twice", j.Name, out.Text)
			} else {
				c.fail(out.Span, label, "jobs %s and %s have the same output, %s", first.job.Name, j.Name, out.Text)
			}
		}
	}
}

// members checks that what a group runs exists.
func (c *checker) members(g *Group) {
	for _, m := range g.Run {
		name, group := strings.CutPrefix(m.Text, "%")
		switch {
		case group && c.Group(name) == nil:
			c.fail(m.Span, didYouMean(m.Text, groupNames(c.Groups)), "group %s runs %s, which is no group", g.Name, m.Text)
		case !group && c.Job(name) == nil:
			label := didYouMean(name, jobNames(c.Jobs))
			switch {
			case c.Group(name) != nil:
				label = "that is a group: write %" + name
			case c.IsLayer(name):
				label = "that is a layer: write build = [" + quote(name) + "]"
			}
			c.fail(m.Span, label, "group %s runs %s, which is no job", g.Name, m.Text)
		}
	}
}

// An edge leads from one job or group to another, for a reason in the file.
type edge struct {
	to   string
	span rapt.Span
}

func edgesTo(values []Value, leads func(Value) (string, bool)) []edge {
	var edges []edge
	for _, v := range values {
		if to, ok := leads(v); ok {
			edges = append(edges, edge{to, v.Span})
		}
	}
	return edges
}

// cycles reports each cycle once, with its whole path, at the edge that closes
// it.
func (c *checker) cycles(what string, names []string, edges func(string) []edge) {
	var path []string
	state := make(map[string]int) // 1: on the path; 2: all that it leads to is known
	var visit func(string)
	visit = func(name string) {
		state[name] = 1
		path = append(path, name)
		for _, e := range edges(name) {
			switch state[e.to] {
			case 0:
				visit(e.to)
			case 1:
				cycle := append(slices.Clone(path[slices.Index(path, e.to):]), e.to)
				c.fail(e.span, "closes the cycle", "%s: %s", what, strings.Join(cycle, " -> "))
			}
		}
		path = path[:len(path)-1]
		state[name] = 2
	}
	for _, name := range names {
		if state[name] == 0 {
			visit(name)
		}
	}
}

func jobNames(jobs []*Job) []string {
	names := make([]string, len(jobs))
	for i, j := range jobs {
		names[i] = j.Name
	}
	return names
}

// groupNames returns the names of groups with their %.
func groupNames(groups []*Group) []string {
	names := make([]string, len(groups))
	for i, g := range groups {
		names[i] = "%" + g.Name
	}
	return names
}
