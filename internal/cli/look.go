package cli

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"raptor-make/rapt"
	"raptor-make/recipes"
)

func (inv *invocation) checkCommand() *cobra.Command {
	return &cobra.Command{
		Use: "check [TARGET…]", Aliases: []string{"c"}, Short: "Find mistakes without building; none named: everything in the project file",
		RunE: func(c *cobra.Command, args []string) error {
			programs, err := inv.programs(c, args)
			if err != nil {
				return err
			}
			if inv.quiet == 0 {
				fmt.Fprintf(os.Stderr, "%d targets are right\n", len(programs))
			}
			return nil
		},
	}
}

func (inv *invocation) dumpCommand() *cobra.Command {
	return &cobra.Command{
		Use: "dump TARGET…", Aliases: []string{"d"}, Short: "Print the instructions of targets after templating, with INCLUDEs expanded",
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usage(c, "no target given")
			}
			programs, err := inv.programs(c, args)
			if err != nil {
				return err
			}
			for i, p := range programs {
				if len(programs) > 1 {
					if i > 0 {
						fmt.Println()
					}
					fmt.Printf("# %s\n", args[i])
				}
				if err := p.Print(os.Stdout); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// programs loads targets, and tells their warnings. None named means all that
// the project file names.
func (inv *invocation) programs(c *cobra.Command, args []string) ([]*rapt.Program, error) {
	p, err := inv.project()
	if err != nil {
		return nil, err
	}
	names := targets(args)
	if len(names) == 0 {
		names = allTargets(p)
	}
	if len(names) == 0 {
		return nil, usage(c, "no target given, and there is no %s that names any", projectFile)
	}
	e, err := inv.engine(p, true)
	if err != nil {
		return nil, err
	}
	programs, found := e.Load(names)
	var errs, warnings rapt.Diagnostics
	for _, d := range found {
		if d.Severity == rapt.Warning {
			warnings = append(warnings, d)
		} else {
			errs = append(errs, d)
		}
	}
	if len(errs) > 0 || len(warnings) > 0 && inv.strict {
		return nil, append(warnings, errs...)
	}
	warnings.Print(os.Stderr, inv.color())
	return programs, nil
}

// allTargets are the modules that a project file names.
func allTargets(p *recipes.Project) []recipes.Value {
	var list []recipes.Value
	seen := map[string]bool{}
	add := func(values ...recipes.Value) {
		for _, v := range values {
			if !seen[v.Text] {
				seen[v.Text] = true
				list = append(list, v)
			}
		}
	}
	for _, j := range p.Jobs {
		add(j.Target)
	}
	for _, g := range p.Groups {
		add(g.Build...)
	}
	return list
}

func (inv *invocation) showCommand() *cobra.Command {
	return &cobra.Command{
		Use: "show [TARGET…]", Aliases: []string{"s"}, Short: "Show the layers of targets as a tree; none named: the whole project",
		RunE: func(c *cobra.Command, args []string) error {
			plan, err := inv.planOnly(c.Context(), args)
			if err != nil {
				return err
			}
			return showPlan(os.Stdout, plan)
		},
	}
}

func (inv *invocation) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		Run: func(c *cobra.Command, _ []string) { fmt.Println("raptor", version()) },
	}
}
