package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"raptor-make/engine"
	"raptor-make/recipes"
	"raptor-make/sandbox"
)

type runOptions struct {
	state   string
	env     []string
	mounts  pairs
	cache   []string
	input   []string
	output  []string
	network string
}

func (inv *invocation) runCommand() *cobra.Command {
	o := &inv.run
	c := &cobra.Command{
		Use: "run [OPTION…] TARGET [ARG…]", Aliases: []string{"r"}, Short: "Build a target, then run a container of it",
		Long: `Builds a target, then runs a container of it: interactively on a terminal. What
the container changes is thrown away, unless a state directory is given. Options
stand before the target, or between it and the first plain word after it; from
that word on, or after --, everything belongs to the container.

The exit status is the command's own; 125 when raptor itself failed, 126 when
the command could not be executed, 127 when it was not found.`,
		RunE: func(c *cobra.Command, args []string) error { return inv.runTarget(c, args) },
	}
	f := c.Flags()
	f.SortFlags = false
	f.StringVarP(&o.state, "state", "s", "", "keep the container's changes in `DIR`")
	f.StringArrayVarP(&o.env, "env", "e", nil, "set a variable, `KEY=VALUE`, or pass one on, KEY; may be repeated")
	f.VarP(&o.mounts, "mount", "M", "fill the mount `NAME SRC`; may be repeated")
	f.StringArrayVarP(&o.cache, "cache", "C", nil, "fill the mount cache with `SRC`")
	f.StringArrayVarP(&o.input, "input", "I", nil, "fill the mount input with `SRC`; may be repeated")
	f.StringArrayVarP(&o.output, "output", "O", nil, "fill the mount output with `SRC`")
	f.StringVar(&o.network, "network", "host", "the network that the container sees: host or none")
	return c
}

func (inv *invocation) runTarget(c *cobra.Command, args []string) error {
	if mounts := inv.run.mounts.list; len(args) == 0 && len(mounts) > 0 {
		last := mounts[len(mounts)-1]
		return usage(c, "no target given: -M takes the name of a mount and what fills it, here %q and %q", last[0], last[1])
	}
	if len(args) == 0 {
		return usage(c, "no target given")
	}
	j, err := inv.container(c, args[0], args[1:])
	if err != nil {
		return err
	}
	if !inv.noAct && os.Geteuid() == 0 && !sandbox.Prepared() { // others begin again first
		sandbox.Prepare()
	}
	if done, err := inv.recallRun(c.Context(), j); done || err != nil {
		return err
	}
	began := time.Now()
	p, err := inv.project()
	if err != nil {
		return err
	}
	e, err := inv.engine(c.Context(), p, inv.noAct)
	if err != nil {
		return err
	}
	plan, err := inv.plan(c.Context(), e, engine.Request{Run: j})
	if err != nil {
		return err
	}
	if inv.noAct {
		err := printPlan(os.Stdout, plan)
		fmt.Printf("would run a container of %s\n", args[0])
		return err
	}
	if err := inv.carryOut(c.Context(), e, plan); err != nil {
		if err == status(statusFailed) {
			return status(statusRaptor)
		}
		return err
	}
	inv.recollect(e, plan, []string{j.Target.Text}, began)
	inv.closeImages()
	return inv.runContainer(c.Context(), e, plan)
}

// container is the job that the options describe.
func (inv *invocation) container(c *cobra.Command, target string, args []string) (*recipes.Job, error) {
	o := &inv.run
	j := &recipes.Job{
		Target: recipes.Value{Text: target}, Args: targets(args), StateDir: recipes.Value{Text: o.state},
		Input: targets(o.input), Output: targets(o.output), Cache: targets(o.cache), Network: recipes.Value{Text: o.network},
	}
	if o.network != "host" && o.network != "none" {
		return nil, usage(c, `--network takes "host" or "none", not %q`, o.network)
	}
	for _, m := range o.mounts.list {
		addMount(j, m[0], m[1])
	}
	for _, e := range o.env {
		key, value, given := strings.Cut(e, "=")
		if key == "" {
			return nil, usage(c, "--env takes KEY=VALUE or KEY, not %q", e)
		}
		if !given {
			if value, given = os.LookupEnv(key); !given {
				continue // as docker run does
			}
		}
		j.Env = append(j.Env, recipes.Var{Key: key, Value: recipes.Value{Text: value}})
	}
	return j, nil
}

func addMount(j *recipes.Job, name, source string) {
	value := recipes.Value{Text: source}
	switch name {
	case "input":
		j.Input = append(j.Input, value)
		return
	case "output":
		j.Output = append(j.Output, value)
		return
	case "cache":
		j.Cache = append(j.Cache, value)
		return
	}
	for i := range j.Mounts {
		if j.Mounts[i].Name == name {
			j.Mounts[i].Sources = append(j.Mounts[i].Sources, value)
			return
		}
	}
	j.Mounts = append(j.Mounts, recipes.Mount{Name: name, Sources: []recipes.Value{value}})
}

// runContainer runs the container on the user's own streams, and turns its end
// into an exit status.
func (inv *invocation) runContainer(ctx context.Context, e *engine.Engine, p *engine.Plan) error {
	streams := sandbox.Streams{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, PassFiles: true}
	var env []string
	if isTerminal() {
		streams, env = onTerminal()
	}
	ctx, signals, stop := inv.interrupts.handedOn(ctx)
	defer stop()
	streams.Signals = signals
	err := e.Container(ctx, p, streams, env)
	var exit *sandbox.ExitError
	var act *sandbox.ActionError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &exit):
		return status(exit.Status)
	case errors.As(err, &act) && act.Op == "exec":
		inv.tell(os.Stderr, fmt.Errorf("%s: %w", p.Run.Job.Target.Text, act))
		if errors.Is(act.Err, syscall.ENOENT) {
			return status(statusNotFound)
		}
		return status(statusNoExec)
	}
	return err
}

// isTerminal tells whether somebody is there to talk to.
func isTerminal() bool {
	return term.IsTerminal(int(os.Stdin.Fd())) && term.IsTerminal(int(os.Stdout.Fd()))
}

// onTerminal are the streams and variables of a program on the user's terminal.
func onTerminal() (streams sandbox.Streams, env []string) {
	if t := os.Getenv("TERM"); t != "" {
		env = append(env, "TERM="+t)
	}
	return sandbox.Streams{Terminal: os.Stdin}, env
}
