package ui

import (
	"os"

	"github.com/fatih/color"
	"golang.org/x/sys/unix"
)

// ColorWanted decides whether to write colours to out. flag is the value of
// --color; "always" and "never" are obeyed, anything else means: not with
// NO_COLOR, always with CLICOLOR_FORCE (other than 0), and else on a terminal
// that is not TERM=dumb.
func ColorWanted(flag string, out *os.File, env func(string) string) bool {
	switch {
	case flag == "always":
		return true
	case flag == "never", env("NO_COLOR") != "":
		return false
	}
	if force := env("CLICOLOR_FORCE"); force != "" && force != "0" {
		return true
	}
	return env("TERM") != "dumb" && isTerminal(out)
}

func isTerminal(f *os.File) bool {
	if f == nil {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// A palette has the colours by what they mean. Without colour they print their
// text as it is, whatever the library itself thinks of standard output.
type palette struct {
	on                                    bool
	good, key, bad, warn, faint, emphasis *color.Color
	names                                 []*color.Color // told apart by eye, one for each step
	mark                                  string         // of a step that ended well
}

func newPalette(on bool) palette {
	c := func(a ...color.Attribute) *color.Color {
		c := color.New(a...)
		if on {
			c.EnableColor()
		} else {
			c.DisableColor()
		}
		return c
	}
	good := c(color.FgGreen, color.Bold)
	return palette{
		mark:     good.Sprint("[*]") + " ",
		on:       on,
		good:     good,
		key:      c(color.FgHiBlack),
		bad:      c(color.FgRed, color.Bold),
		warn:     c(color.FgYellow, color.Bold),
		faint:    c(color.FgHiBlack),
		emphasis: c(color.Bold),
		names: []*color.Color{
			c(color.FgCyan), c(color.FgMagenta), c(color.FgBlue), c(color.FgYellow), c(color.FgGreen), c(color.FgHiCyan),
		},
	}
}

// name is a step's name in the step's own colour.
func (p palette) name(s *step) string {
	return p.names[s.number%len(p.names)].Sprint(s.shown)
}
