package cli

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"raptor-make/engine"
	"raptor-make/recipes"
)

func (inv *invocation) explainCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "explain [NAME…]", Short: "Say for each step of jobs, groups or layers whether it would run, and what changed",
		RunE: func(c *cobra.Command, args []string) error {
			p, err := inv.project()
			if err != nil {
				return err
			}
			e, err := inv.engine(p, true)
			if err != nil {
				return err
			}
			plan, err := inv.planNames(c.Context(), e, args)
			if err != nil {
				return err
			}
			explain(os.Stdout, plan)
			return nil
		},
	}
	inv.offlineFlag(c)
	return c
}

// planNames plans what names stand for, nothing left out: jobs, groups, or
// else modules.
func (inv *invocation) planNames(ctx context.Context, e *engine.Engine, names []string) (*engine.Plan, error) {
	req := engine.Request{Whole: true}
	if len(names) == 0 {
		req.Jobs = e.Project.Jobs
		for _, g := range e.Project.Groups {
			req.Layers = append(req.Layers, g.Build...)
		}
	}
	for _, name := range names {
		jobs, layers, err := e.Project.Select([]string{name})
		if err != nil {
			req.Layers = append(req.Layers, recipes.Value{Text: name})
			continue
		}
		req.Jobs = append(req.Jobs, jobs...)
		for _, layer := range layers {
			req.Layers = append(req.Layers, recipes.Value{Text: layer, Span: e.Project.LayerSpan(layer)})
		}
	}
	return inv.plan(ctx, e, req)
}

func explain(w io.Writer, plan *engine.Plan) {
	for _, s := range plan.Steps {
		key := ""
		if s.Key() != "" {
			key = " [" + s.Key() + "]"
		}
		fmt.Fprintf(w, "%s%s: %s\n", s.Name, key, state(s))
		for _, reason := range s.Reasons {
			fmt.Fprintf(w, "  because %s\n", reason)
		}
	}
}
