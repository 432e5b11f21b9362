package cli

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"raptor-make/rapt"
)

func (inv *invocation) checkCommand() *cobra.Command {
	return &cobra.Command{
		Use: "check [TARGET…]", Aliases: []string{"c"}, Short: "Find mistakes without building; none named: everything in the project file",
		RunE: func(c *cobra.Command, args []string) error { return inv.check(c, args) },
	}
}

// check looks at jobs, groups and modules, or at all that the project file has.
func (inv *invocation) check(c *cobra.Command, names []string) error {
	p, err := inv.project()
	if err != nil {
		return err
	}
	if len(names) == 0 && p.File == "" {
		return usage(c, "no target given, and there is no %s that names any", projectFile)
	}
	e, err := inv.engine(c.Context(), p, true)
	if err != nil {
		return err
	}
	req, err := request(e, names)
	if err != nil {
		return err
	}
	modules, found := e.Check(req)
	if err := inv.judge(found); err != nil {
		return err
	}
	if inv.quiet == 0 {
		fmt.Fprintf(os.Stderr, "nothing wrong in %s and %s\n", count(modules, "module"), count(len(req.Jobs), "job"))
	}
	return nil
}

func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// judge tells warnings, and returns errors.
func (inv *invocation) judge(found rapt.Diagnostics) error {
	found = found.Sorted()
	if found.HasErrors() || len(found) > 0 && inv.strict {
		return found
	}
	found.Print(os.Stderr, inv.color())
	return nil
}

func (inv *invocation) dumpCommand() *cobra.Command {
	return &cobra.Command{
		Use: "dump TARGET…", Aliases: []string{"d"}, Short: "Print the instructions of targets after templating, with INCLUDEs expanded",
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usage(c, "no target given")
			}
			programs, err := inv.programs(c.Context(), args)
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

// programs loads targets, and tells their warnings.
func (inv *invocation) programs(ctx context.Context, args []string) ([]*rapt.Program, error) {
	p, err := inv.project()
	if err != nil {
		return nil, err
	}
	e, err := inv.engine(ctx, p, true)
	if err != nil {
		return nil, err
	}
	programs, found := e.Load(targets(args))
	return programs, inv.judge(found)
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
