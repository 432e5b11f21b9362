// Package cli is the command line of both programs: flags, the wiring of the
// other packages, and exit statuses. Each command is a file of its own.
package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"

	"raptor-make/internal/ui"
	"raptor-make/rapt"
	"raptor-make/sandbox"
)

// Raptor runs the program raptor with its arguments and returns its exit
// status.
func Raptor(args []string) int { return run(newRoot("raptor", args), args) }

// RaptorMake runs the program raptor-make: raptor make.
func RaptorMake(args []string) int {
	inv := &invocation{}
	c := inv.makeCommand()
	c.Use = "raptor-make [NAME…]"
	c.Aliases = nil
	inv.common(c)
	c.Version = version()
	inv.command = "make"
	return run(&root{Command: c, invocation: inv}, args)
}

// A root is a program's command with all below it.
type root struct {
	*cobra.Command
	*invocation
}

// commands are those of raptor, in the order of its help.
var commands = []struct {
	name string
	make func(*invocation) *cobra.Command
}{
	{"build", (*invocation).buildCommand},
	{"run", (*invocation).runCommand},
	{"make", (*invocation).makeCommand},
	{"check", (*invocation).checkCommand},
	{"dump", (*invocation).dumpCommand},
	{"show", (*invocation).showCommand},
	{"graph", (*invocation).graphCommand},
	{"explain", (*invocation).explainCommand},
	{"fmt", (*invocation).fmtCommand},
	{"logs", (*invocation).logsCommand},
	{"clean", (*invocation).cleanCommand},
	{"init", (*invocation).initCommand},
	{"doctor", (*invocation).doctorCommand},
	{"version", (*invocation).versionCommand},
}

// newRoot makes the command of raptor. It has all commands below it, but where
// the first argument names one, only that: each of the others would take a
// hundredth of the time in which raptor starts.
func newRoot(name string, args []string) *root {
	inv := &invocation{}
	c := &cobra.Command{
		Use:   name,
		Short: "Builds layers, runs them as containers, and makes operating system images of them",
		Long: `raptor builds the layers that .rapt files describe, runs them as containers,
and runs the jobs of a Raptor.toml, which turn layers into images.`,
	}
	inv.common(c)
	for _, command := range commands {
		if len(args) > 0 && args[0] == command.name {
			c.AddCommand(command.make(inv))
			c.CompletionOptions.DisableDefaultCmd = true
			return &root{c, inv}
		}
	}
	c.Version = version()
	for _, command := range commands {
		c.AddCommand(command.make(inv))
	}
	return &root{c, inv}
}

// Exit statuses, as documented.
const (
	statusDone        = 0
	statusFailed      = 1   // a build or job failed
	statusWrong       = 2   // the command line or a user's file is wrong
	statusRaptor      = 125 // raptor run: raptor itself failed
	statusNoExec      = 126 // raptor run: the command could not be executed
	statusNotFound    = 127 // raptor run: the command was not found
	statusInterrupted = 130
)

func run(r *root, args []string) int {
	r.SilenceErrors, r.SilenceUsage = true, true
	r.CompletionOptions.HiddenDefaultCmd = false
	r.SetArgs(normalize(r.Command, args))
	r.SetOut(os.Stdout)
	r.SetErr(os.Stderr)
	r.SetFlagErrorFunc(func(c *cobra.Command, err error) error { return &usageError{err, c} })
	ctx, interrupts := interruptible(r.closeDisplay)
	r.interrupts = interrupts
	err := r.ExecuteContext(ctx)
	r.closeImages()
	sandbox.Close()
	return r.finish(err)
}

// A usageError is a mistake on the command line.
type usageError struct {
	err     error
	command *cobra.Command
}

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usage(c *cobra.Command, format string, args ...any) error {
	return &usageError{fmt.Errorf(format, args...), c}
}

// A status is an error that has been told already, or needs no telling: only
// the exit status is left to give.
type status int

func (s status) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

// finish tells an error and turns it into an exit status.
func (inv *invocation) finish(err error) int {
	var s status
	switch {
	case err == nil:
		return statusDone
	case errors.As(err, &s):
		return int(s)
	}
	inv.tell(os.Stderr, err)
	code := statusFailed
	var diagnostics rapt.Diagnostics
	var usage *usageError
	switch {
	case errors.Is(err, errInterrupted):
		return statusInterrupted
	case errors.Is(err, syscall.EIO): // a disk's mistake, not the user's
	case errors.As(err, &diagnostics), errors.As(err, &usage), isUnknownCommand(err):
		code = statusWrong
	}
	if inv.command == "run" || usage != nil && usage.command.Name() == "run" {
		code = statusRaptor // as docker run: all else is the command's own
	}
	return code
}

// isUnknownCommand: cobra has no type for it.
func isUnknownCommand(err error) bool {
	const said = "unknown command"
	return len(err.Error()) > len(said) && err.Error()[:len(said)] == said
}

// tell prints an error for people.
func (inv *invocation) tell(w io.Writer, err error) {
	if errors.Is(err, errInterrupted) {
		fmt.Fprintln(w, "interrupted")
		return
	}
	ui.WriteError(w, err, inv.color())
	var usage *usageError
	if errors.As(err, &usage) {
		fmt.Fprintf(w, "see %s --help\n", usage.command.CommandPath())
	}
}

// warn tells what is no failure.
func (inv *invocation) warn(message string) {
	rapt.Diagnostics{{Severity: rapt.Warning, Message: message}}.Print(os.Stderr, inv.color())
}

func (inv *invocation) color() bool { return ui.ColorWanted(inv.colorFlag, os.Stderr, os.Getenv) }

// version is the module's version, or the commit that it was built from.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	v := info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && v == "(devel)" {
			v = "devel " + s.Value
		}
	}
	return v
}
