package cli

import (
	"fmt"
	"os"
	"strings"
	"sync/atomic"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"raptor-make/engine"
	"raptor-make/internal/images"
	"raptor-make/internal/ui"
)

// An invocation is one call of a program: what its options say.
type invocation struct {
	command string // that runs: "build", "run", …

	links     pairs
	verbose   int
	quiet     int
	noAct     bool
	progress  string
	events    string
	colorFlag string
	strict    bool // warnings are errors

	make makeOptions
	run  runOptions

	startDir string // where raptor was started, if the directory was changed since

	display atomic.Pointer[ui.Display] // that has the terminal just now
	watched *engine.Watch              // what the last plan was made from
	client  *images.Client             // its client

	interrupts *interrupts
}

// common adds the options that all commands have.
func (inv *invocation) common(c *cobra.Command) {
	f := c.PersistentFlags()
	f.SortFlags = false
	f.VarP(&inv.links, "link", "L", "link a directory as a package: `NAME PATH`; may be repeated")
	f.CountVarP(&inv.verbose, "verbose", "v", "say more; may be repeated")
	f.CountVarP(&inv.quiet, "quiet", "q", "say less; may be repeated")
	f.BoolVarP(&inv.noAct, "no-act", "n", false, "print what would be done, and why, but do nothing")
	f.BoolVar(&inv.strict, "warnings-as-errors", false, "let warnings about .rapt files fail the command")
	f.StringVar(&inv.progress, "progress", "auto", "how to show progress: auto, tty, plain or quiet")
	f.StringVar(&inv.events, "events", "", "write events as JSON to `FILE`, one a line; - is standard output")
	f.StringVar(&inv.colorFlag, "color", "auto", "when to use colours: auto, always or never")
	c.PersistentPreRunE = func(c *cobra.Command, _ []string) error {
		inv.command = c.Name()
		if err := fromEnvironment(c.Flags()); err != nil {
			return &usageError{err, c}
		}
		return inv.checkCommon(c)
	}
}

// offlineFlag is for commands that may have to look up base images.
func (inv *invocation) offlineFlag(c *cobra.Command) {
	c.Flags().BoolVar(&inv.make.offline, "offline", false, "use no network to find base images and links")
}

func (inv *invocation) checkCommon(c *cobra.Command) error {
	for _, o := range []struct {
		name, value string
		words       []string
	}{
		{"progress", inv.progress, []string{"auto", "tty", "plain", "quiet"}},
		{"color", inv.colorFlag, []string{"auto", "always", "never"}},
	} {
		if !contains(o.words, o.value) {
			return usage(c, "--%s takes one of %s, not %q", o.name, strings.Join(o.words, ", "), o.value)
		}
	}
	return nil
}

func contains(list []string, s string) bool {
	for _, l := range list {
		if l == s {
			return true
		}
	}
	return false
}

// fromEnvironment gives the options that the command line does not the values
// of their twins in the environment: RAPTOR_NO_ACT for --no-act.
func fromEnvironment(f *pflag.FlagSet) (err error) {
	f.VisitAll(func(o *pflag.Flag) {
		twin := "RAPTOR_" + strings.ToUpper(strings.ReplaceAll(o.Name, "-", "_"))
		value, ok := os.LookupEnv(twin)
		if !ok || o.Changed || value == "" || err != nil {
			return
		}
		if p, isPairs := o.Value.(*pairs); isPairs {
			err = p.fromEnvironment(value)
		} else {
			err = o.Value.Set(value)
		}
		if err != nil {
			err = fmt.Errorf("%s=%s: %w", twin, value, err)
		}
	})
	return err
}

// pairs are the values of an option that takes two words: -L NAME PATH.
type pairs struct{ list [][2]string }

// pairMark joins the two words on their way through the flag library; no
// argument of a process can hold it.
const pairMark = "\x00"

func (p *pairs) Set(text string) error {
	name, value, ok := strings.Cut(text, pairMark)
	if !ok {
		return fmt.Errorf("it takes two words")
	}
	p.list = append(p.list, [2]string{name, value})
	return nil
}

// fromEnvironment reads NAME=VALUE,NAME=VALUE.
func (p *pairs) fromEnvironment(text string) error {
	for part := range strings.SplitSeq(text, ",") {
		name, value, ok := strings.Cut(part, "=")
		if !ok {
			return fmt.Errorf("it takes NAME=VALUE, several separated by commas")
		}
		p.list = append(p.list, [2]string{name, value})
	}
	return nil
}

func (p *pairs) String() string { return "" }
func (p *pairs) Type() string   { return "NAME VALUE" }

// normalize prepares arguments for the flag library: options of two words
// become one, and "--" is put before what belongs to the container of a
// `raptor run`, which begins with the first plain word after the target.
func normalize(root *cobra.Command, args []string) []string {
	n := &normalizer{command: root, args: args}
	for len(n.args) > 0 && !n.ended {
		n.next()
	}
	return append(n.out, n.args...)
}

type normalizer struct {
	command   *cobra.Command
	args, out []string
	words     int // after the command's name
	ended     bool
}

func (n *normalizer) next() {
	arg := n.args[0]
	switch {
	case arg == "--":
		n.ended = true
	case strings.HasPrefix(arg, "-") && len(arg) > 1:
		n.option(arg)
		return
	case n.command.HasSubCommands():
		for _, c := range n.command.Commands() {
			if c.Name() == arg || c.HasAlias(arg) {
				n.command = c
			}
		}
		if n.command.HasSubCommands() {
			n.ended = true // an unknown command: left to be reported
		}
		n.take(1)
	default:
		n.words++
		if n.command.Name() == "run" && n.words == 2 {
			n.out = append(n.out, "--")
			n.ended = true
			return
		}
		n.take(1)
	}
}

func (n *normalizer) take(count int) {
	count = min(count, len(n.args))
	n.out = append(n.out, n.args[:count]...)
	n.args = n.args[count:]
}

func (n *normalizer) lookup(name string, short bool) *pflag.Flag {
	for _, f := range []*pflag.FlagSet{n.command.Flags(), n.command.PersistentFlags(), n.command.InheritedFlags()} {
		if short {
			if o := f.ShorthandLookup(name); o != nil {
				return o
			}
		} else if o := f.Lookup(name); o != nil {
			return o
		}
	}
	return nil
}

// option takes an option with its value.
func (n *normalizer) option(arg string) {
	if name, ok := strings.CutPrefix(arg, "--"); ok {
		name, _, given := strings.Cut(name, "=")
		n.value(n.lookup(name, false), arg, given)
		return
	}
	for i := 1; i < len(arg); i++ {
		o := n.lookup(arg[i:i+1], true)
		if o == nil || o.NoOptDefVal == "" {
			n.value(o, arg, i+1 < len(arg))
			return
		}
	}
	n.take(1)
}

// value takes an option whose value is given in the same word, or follows.
func (n *normalizer) value(o *pflag.Flag, arg string, given bool) {
	switch {
	case o == nil || o.NoOptDefVal != "":
		n.take(1)
	case o.Value.Type() != (*pairs)(nil).Type():
		if given {
			n.take(1)
		} else {
			n.take(2)
		}
	case given && len(n.args) > 1: // -LNAME PATH, --link=NAME PATH
		n.pair(arg, 1)
	case !given && len(n.args) > 2:
		n.pair(arg+"="+n.args[1], 2)
	default:
		n.take(len(n.args)) // too few words: the library says so
	}
}

func (n *normalizer) pair(first string, at int) {
	if strings.HasPrefix(first, "-") && !strings.HasPrefix(first, "--") {
		first = strings.Replace(first, "=", "", 1)
	}
	n.out = append(n.out, first+pairMark+n.args[at])
	n.args = n.args[at+1:]
}
