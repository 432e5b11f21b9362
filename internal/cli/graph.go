package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"raptor-make/engine"
	"raptor-make/recipes"
)

func (inv *invocation) graphCommand() *cobra.Command {
	format := "dot"
	formats := map[string]func(io.Writer, *engine.Plan) error{"dot": dot, "mermaid": mermaid, "json": jsonGraph}
	c := &cobra.Command{
		Use: "graph [NAME…]", Short: "Print the graph of jobs, groups or layers; none named: the whole project",
		RunE: func(c *cobra.Command, args []string) error {
			write := formats[format]
			if write == nil {
				return usage(c, "--format takes one of dot, mermaid, json, not %q", format)
			}
			plan, err := inv.planOnly(c.Context(), args)
			if err != nil {
				return err
			}
			return write(os.Stdout, plan)
		},
	}
	c.Flags().StringVar(&format, "format", format, "dot, mermaid or json")
	inv.offlineFlag(c)
	return c
}

func dot(w io.Writer, plan *engine.Plan) error {
	shapes := map[engine.StepKind]string{engine.Fetch: "cylinder", engine.Build: "box", engine.Job: "ellipse"}
	fmt.Fprintln(w, "digraph raptor {\n\trankdir=LR;")
	for _, s := range plan.Steps {
		fmt.Fprintf(w, "\t%q [shape=%s];\n", s.Name, shapes[s.Kind])
	}
	for _, s := range plan.Steps {
		for _, need := range s.Needs {
			fmt.Fprintf(w, "\t%q -> %q;\n", need.Name, s.Name)
		}
	}
	_, err := fmt.Fprintln(w, "}")
	return err
}

func mermaid(w io.Writer, plan *engine.Plan) error {
	brackets := map[engine.StepKind][2]string{engine.Fetch: {"[(", ")]"}, engine.Build: {"[", "]"}, engine.Job: {"([", "])"}}
	id := map[*engine.Step]string{}
	fmt.Fprintln(w, "flowchart LR")
	for i, s := range plan.Steps {
		id[s] = "s" + strconv.Itoa(i)
		name := strings.NewReplacer(`"`, "#quot;", "#", "#35;").Replace(s.Name)
		fmt.Fprintf(w, "    %s%s\"%s\"%s\n", id[s], brackets[s.Kind][0], name, brackets[s.Kind][1])
	}
	for _, s := range plan.Steps {
		for _, need := range s.Needs {
			fmt.Fprintf(w, "    %s --> %s\n", id[need], id[s])
		}
	}
	return nil
}

// jsonGraph prints {"steps": [{"name", "kind", "key", "state", "needs", "outputs"}…]},
// each step after those it needs.
func jsonGraph(w io.Writer, plan *engine.Plan) error {
	type step struct {
		Name    string   `json:"name"`
		Kind    string   `json:"kind"`
		Key     string   `json:"key,omitempty"`
		State   string   `json:"state"`
		Needs   []string `json:"needs"`
		Outputs []string `json:"outputs,omitempty"`
	}
	var graph struct {
		Steps []step `json:"steps"`
	}
	for _, s := range plan.Steps {
		out := step{Name: s.Name, Kind: string(s.Kind), Key: s.Key(), State: state(s), Needs: []string{}}
		for _, need := range s.Needs {
			out.Needs = append(out.Needs, need.Name)
		}
		if s.Job != nil {
			out.Outputs = recipes.Texts(s.Job.Job.Output)
		}
		graph.Steps = append(graph.Steps, out)
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(graph)
}
