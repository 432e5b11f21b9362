package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"raptor-make/engine"
	"raptor-make/recipes"
)

func (inv *invocation) explainCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "explain [NAME…]", Short: "Say for each step of jobs, groups or layers whether it would run, and what changed",
		RunE: func(c *cobra.Command, args []string) error {
			plan, err := inv.planOnly(c.Context(), args)
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

// planOnly plans what names stand for, to be looked at, nothing left out: jobs,
// groups, or else modules.
func (inv *invocation) planOnly(ctx context.Context, names []string) (*engine.Plan, error) {
	p, err := inv.project()
	if err != nil {
		return nil, err
	}
	e, err := inv.engine(ctx, p, true)
	if err != nil {
		return nil, err
	}
	req, err := request(e, names)
	if err != nil {
		return nil, err
	}
	return inv.plan(ctx, e, req)
}

// request is what names stand for: jobs, groups, or else modules; none means
// the whole project. Nothing is left out of its plan.
func request(e *engine.Engine, names []string) (engine.Request, error) {
	p, req := e.Project, engine.Request{Whole: true}
	if len(names) == 0 && p.File == "" {
		return req, wrong(fmt.Errorf("nothing named, and there is no %s here", projectFile))
	}
	if len(names) == 0 {
		req.Jobs = p.Jobs
		for _, g := range p.Groups {
			req.Layers = append(req.Layers, g.Build...)
		}
	}
	for _, name := range names {
		jobs, layers, selectErr := p.Select([]string{name})
		if selectErr != nil {
			module := recipes.Value{Text: name}
			if _, err := os.Stat(p.Abs(name + ".rapt")); err != nil && len(p.Jobs) > 0 && !strings.ContainsAny(name, "$./@") {
				return req, wrong(selectErr) // it is neither
			}
			req.Layers = append(req.Layers, module)
			continue
		}
		req.Jobs = append(req.Jobs, jobs...)
		for _, layer := range layers {
			req.Layers = append(req.Layers, recipes.Value{Text: layer, Span: p.LayerSpan(layer)})
		}
	}
	return req, nil
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
