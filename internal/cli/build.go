package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"raptor-make/engine"
	"raptor-make/internal/ui"
	"raptor-make/rapt"
	"raptor-make/recipes"
)

func (inv *invocation) buildCommand() *cobra.Command {
	return &cobra.Command{
		Use: "build TARGET…", Aliases: []string{"b"}, Short: "Build the layers of targets",
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usage(c, "no target given")
			}
			if done, err := inv.recall(c.Context(), args); done {
				return err
			}
			began := time.Now()
			p, err := inv.project()
			if err != nil {
				return err
			}
			return inv.make1(c.Context(), p, engine.Request{Layers: targets(args)}, args, began)
		},
	}
}

// targets are names of the command line.
func targets(names []string) []recipes.Value {
	var list []recipes.Value
	for _, name := range names {
		list = append(list, recipes.Value{Text: name})
	}
	return list
}

// make1 plans a request, which names stand for, and carries it out, or with -n
// shows the plan.
func (inv *invocation) make1(ctx context.Context, p *recipes.Project, req engine.Request, names []string, began time.Time) error {
	e, err := inv.engine(ctx, p, inv.noAct)
	if err != nil {
		return err
	}
	plan, err := inv.plan(ctx, e, req)
	if err != nil {
		return err
	}
	if inv.noAct {
		return printPlan(os.Stdout, plan)
	}
	if err := inv.carryOut(ctx, e, plan); err != nil {
		return err
	}
	inv.recollect(e, plan, names, began)
	return nil
}

// plan makes a plan and tells what is suspicious.
func (inv *invocation) plan(ctx context.Context, e *engine.Engine, req engine.Request) (*engine.Plan, error) {
	plan, err := e.Plan(ctx, req)
	if err != nil {
		return nil, err
	}
	if len(plan.Warnings) > 0 && inv.strict {
		return nil, plan.Warnings
	}
	if len(plan.Warnings) > 0 && inv.quiet == 0 {
		plan.Warnings.Print(os.Stderr, inv.color())
	}
	return plan, nil
}

// carryOut runs a plan and shows what happens. What failed has been told when
// it returns.
func (inv *invocation) carryOut(ctx context.Context, e *engine.Engine, plan *engine.Plan) error {
	if changed := e.Lock.Changed(); inv.make.locked && len(changed) > 0 {
		return rapt.Diagnostics{{Message: fmt.Sprintf("%s would have to change: %s", recipes.LockName, strings.Join(changed, ", ")),
			Help: "run raptor-make without --locked and keep the new lock file"}}
	}
	if err := e.Store.Prepare(); err != nil {
		return err
	}
	if err := e.Lock.Save(); err != nil {
		return err
	}
	err := inv.show(ctx, func(sink engine.Sink) error {
		defer e.Jobserver.Close()
		return e.Run(ctx, plan, sink)
	})
	if plan.Failed != nil {
		err = errors.Join(err, inv.debugShell(ctx, plan.Failed))
	}
	return err
}

// debugShell lets the user look around in a step that failed.
func (inv *invocation) debugShell(ctx context.Context, shell *engine.DebugShell) error {
	defer shell.Close()
	fmt.Fprintf(os.Stderr, "\nA shell in the sandbox of %s, as it was when it failed. Leave it with exit.\n", shell.Step)
	ctx, signals, stop := inv.interrupts.handedOn(ctx)
	defer inv.interrupts.restore()
	defer stop()
	streams, env := onTerminal()
	streams.Signals = signals
	return shell.Run(ctx, streams, env)
}

// show has something done that tells events, and shows them. A failure has been
// told when it returns.
func (inv *invocation) show(ctx context.Context, do func(engine.Sink) error) error {
	display := ui.New(ui.Options{Out: os.Stderr, Mode: inv.progressMode(), Color: inv.color(), Verbosity: inv.verbose - inv.quiet, GitHub: os.Getenv("GITHUB_ACTIONS") == "true"})
	inv.display.Store(display)
	defer inv.closeDisplay()
	defer context.AfterFunc(ctx, display.Interrupt)()
	sink := engine.Sink(display.Event)
	if inv.events != "" {
		events, closer, err := inv.eventSink(display.Event)
		if err != nil {
			return err
		}
		defer closer.Close()
		shown := sink
		sink = func(ev engine.Event) { events(ev); shown(ev) }
	}
	err := do(sink)
	inv.closeDisplay()
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errInterrupted):
		return status(statusInterrupted)
	}
	return status(statusFailed)
}

func (inv *invocation) progressMode() string {
	if inv.make.batch {
		return "plain"
	}
	return inv.progress
}

// closeDisplay gives the terminal back, if a display has it.
func (inv *invocation) closeDisplay() {
	if d := inv.display.Swap(nil); d != nil {
		d.Close()
	}
}

// eventSink is where --events goes; that it fails is told to report.
func (inv *invocation) eventSink(report engine.Sink) (engine.Sink, io.Closer, error) {
	if inv.events == "-" {
		return ui.JSON(os.Stdout, report), io.NopCloser(nil), nil
	}
	f, err := os.Create(inv.events)
	if err != nil {
		return nil, nil, fmt.Errorf("write events: %w", err)
	}
	return ui.JSON(f, report), f, nil
}

// printPlan says what would be done, and why.
func printPlan(w io.Writer, plan *engine.Plan) error {
	verbs := map[engine.StepKind]string{engine.Fetch: "fetch", engine.Build: "build", engine.Job: ""}
	todo := 0
	for _, s := range plan.Steps {
		if s.State == engine.Current {
			continue
		}
		todo++
		would := "would"
		if s.State == engine.Pending {
			would = "may"
		}
		what := strings.TrimSpace(verbs[s.Kind] + " " + s.Name)
		if key := s.Key(); key != "" {
			what += " [" + key + "]"
		}
		fmt.Fprintf(w, "%s %s\n", would, what)
		for _, reason := range s.Reasons {
			fmt.Fprintf(w, "  because %s\n", reason)
		}
	}
	if todo == 0 {
		fmt.Fprintln(w, "nothing to do")
	}
	return nil
}
