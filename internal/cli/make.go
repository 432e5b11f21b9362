package cli

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/hashicorp/go-multierror"
	"github.com/spf13/cobra"

	"raptor-make/engine"
	"raptor-make/rapt"
	"raptor-make/recipes"
)

// makeOptions are the options of make that others leave at their zero values.
type makeOptions struct {
	file      string
	directory string
	jobs      int
	keepGoing bool
	always    bool
	batch     bool
	list      bool
	locked    bool
	update    bool
	offline   bool
	set       []string
	watch     bool
	debug     bool
}

func (inv *invocation) makeCommand() *cobra.Command {
	o := &inv.make
	c := &cobra.Command{
		Use: "make [NAME…]", Short: "Run jobs and groups of the project file; none named: every job",
		Long: `Runs jobs and groups of the project file, after building the layers they need.
NAME is a job or a group; %NAME is the group where a job has the same name, and
"all" is every job. Without a name, every job is run.`,
		RunE: func(c *cobra.Command, args []string) error { return inv.makeJobs(c, args) },
	}
	f := c.Flags()
	f.SortFlags = false
	f.StringVarP(&o.file, "file", "f", "", "the project `FILE` (default Raptor.toml)")
	f.StringVar(&o.directory, "directory", "", "change to `DIR` first")
	f.IntVarP(&o.jobs, "jobs", "j", 0, "how many steps run at once (default: the CPUs that may be used)")
	f.BoolVarP(&o.keepGoing, "keep-going", "k", false, "after a failure, finish what does not depend on it")
	f.BoolVarP(&o.always, "always-make", "B", false, "make everything anew")
	f.BoolVarP(&o.batch, "batch", "b", false, "the same as --progress=plain")
	f.BoolVar(&o.list, "list", false, "list jobs and groups")
	f.BoolVar(&o.locked, "locked", false, "fail if Raptor.lock would have to change")
	f.BoolVar(&o.update, "update", false, "look up anew what Raptor.lock pins")
	f.BoolVar(&o.offline, "offline", false, "use no network to find or fetch base images and links")
	f.BoolVar(&o.watch, "watch", false, "make it again whenever a file that it depends on changes")
	f.BoolVar(&o.debug, "debug-shell", false, "when a step fails, open a shell in its sandbox")
	f.StringArrayVar(&o.set, "set", nil, "give a job another value for this call: `run.NAME.KEY=VALUE`; may be repeated")
	return c
}

func (inv *invocation) makeJobs(c *cobra.Command, names []string) error {
	o := &inv.make
	if c.Flags().Changed("jobs") && o.jobs < 1 {
		return usage(c, "-j takes a number of steps, 1 or more, not %d", o.jobs)
	}
	if o.locked && o.update {
		return usage(c, "--locked and --update exclude each other")
	}
	if o.debug && !isTerminal() {
		return usage(c, "--debug-shell needs a terminal")
	}
	if o.directory != "" {
		here, err := os.Getwd()
		if err != nil {
			return err
		}
		inv.startDir = here
		if err := os.Chdir(o.directory); err != nil {
			return usage(c, "%v", err)
		}
	}
	if o.watch {
		return inv.watch(c, names)
	}
	return inv.makeOnce(c, names)
}

func (inv *invocation) makeOnce(c *cobra.Command, names []string) error {
	o := &inv.make
	if !o.list {
		if done, err := inv.recall(c.Context(), names); done {
			return err
		}
	}
	began := time.Now()
	p, err := inv.project()
	if err != nil {
		return err
	}
	if p.File == "" && !o.list {
		help := "name another with -f, or another directory with --directory"
		if i := slices.IndexFunc(names, p.IsLayer); i >= 0 {
			help = fmt.Sprintf("%s is a layer, which raptor build %s builds", names[i], names[i])
		}
		return rapt.Diagnostics{{Message: "there is no " + projectFile + " here", Help: help}}
	}
	if err := setValues(c, p, o.set); err != nil {
		return err
	}
	if o.list {
		return list(p)
	}
	jobs, layers, err := p.Select(names)
	if err != nil {
		return wrong(err)
	}
	req := engine.Request{Jobs: jobs}
	for _, layer := range layers {
		req.Layers = append(req.Layers, recipes.Value{Text: layer, Span: p.LayerSpan(layer)})
	}
	return inv.make1(c.Context(), p, req, names, began)
}

func setValues(c *cobra.Command, p *recipes.Project, set []string) error {
	for _, s := range set {
		key, value, ok := strings.Cut(s, "=")
		if !ok {
			return usage(c, "--set takes run.NAME.KEY=VALUE, not %q", s)
		}
		if err := p.Set(key, value); err != nil {
			return wrong(err)
		}
	}
	return nil
}

// wrong is an error, or several, of what the user has written.
func wrong(err error) error {
	switch err := err.(type) {
	case rapt.Diagnostics:
		return err
	case *multierror.Error:
		var all rapt.Diagnostics
		for _, e := range err.Errors {
			all = append(all, &rapt.Diagnostic{Message: e.Error()})
		}
		return all
	}
	return rapt.Diagnostics{{Message: err.Error()}}
}

// list prints the jobs and groups, with their descriptions.
func list(p *recipes.Project) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0)
	for _, j := range p.Jobs {
		fmt.Fprintf(w, "%s\t%s\n", j.Name, j.Description.Text)
	}
	for _, g := range p.Groups {
		name := g.Name
		if p.Job(name) != nil {
			name = "%" + name
		}
		fmt.Fprintf(w, "%s\t%s\n", name, describe(g))
	}
	return w.Flush()
}

func describe(g *recipes.Group) string {
	switch {
	case g.Description.Text != "":
		return g.Description.Text
	case len(g.Build)+len(g.Run) == 0:
		return "empty group"
	}
	return "group of " + strings.Join(append(recipes.Texts(g.Build), recipes.Texts(g.Run)...), ", ")
}
