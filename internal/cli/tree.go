package cli

import (
	"fmt"
	"io"
	"strings"

	"raptor-make/engine"
	"raptor-make/recipes"
)

// showPlan draws layers as a tree that grows from base images, and below it
// the jobs with what they are made of.
func showPlan(w io.Writer, plan *engine.Plan) error {
	t := tree{above: map[*engine.Layer][]*engine.Step{}, w: w}
	width := 0
	for _, s := range plan.Steps {
		if s.Layer != nil {
			t.above[s.Layer.Below] = append(t.above[s.Layer.Below], s)
			width = max(width, len(s.Name)+3*depth(s.Layer))
		}
	}
	t.width = width
	for _, s := range t.above[nil] {
		t.draw(s, "", "")
	}
	for _, s := range plan.Steps {
		if s.Job != nil {
			showJob(w, s)
		}
	}
	return nil
}

func depth(l *engine.Layer) int { return len(l.Stack()) - 1 }

type tree struct {
	above map[*engine.Layer][]*engine.Step
	width int
	w     io.Writer
}

// draw draws a layer after its branch, and what stands on it after indent.
func (t *tree) draw(s *engine.Step, branch, indent string) {
	pad := t.width - len([]rune(branch)) - len(s.Name)
	fmt.Fprintf(t.w, "%s%s%s  [%s]  %s\n", branch, s.Name, strings.Repeat(" ", max(0, pad)), s.Key(), state(s))
	above := t.above[s.Layer]
	for i, a := range above {
		if i == len(above)-1 {
			t.draw(a, indent+"└─ ", indent+"   ")
		} else {
			t.draw(a, indent+"├─ ", indent+"│  ")
		}
	}
}

func state(s *engine.Step) string {
	switch {
	case s.State != engine.Current && len(s.Reasons) > 0 && strings.Contains(s.Reasons[0], "permission denied"):
		return "unknown: " + s.Reasons[0]
	case s.State == engine.Pending:
		return "depends on another job"
	case s.State == engine.Current && s.Kind == engine.Job:
		return "up to date"
	case s.State == engine.Current:
		return "built"
	case s.Kind == engine.Fetch:
		return "to be fetched"
	case s.Kind == engine.Build:
		return "to be built"
	}
	return "to be run"
}

func showJob(w io.Writer, s *engine.Step) {
	j := s.Job.Job
	fmt.Fprintf(w, "\n%s", s.Name)
	if len(j.Output) > 0 {
		fmt.Fprintf(w, " -> %s", strings.Join(recipes.Texts(j.Output), ", "))
	}
	fmt.Fprintf(w, "  %s\n   %s", state(s), j.Target.Text)
	if len(j.Input) > 0 {
		fmt.Fprintf(w, " of %s", strings.Join(recipes.Texts(j.Input), ", "))
	}
	fmt.Fprintln(w)
}
