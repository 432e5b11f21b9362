package rapt

import (
	"bufio"
	"io"
	"strings"
)

// Print writes the instructions of a program, one a line, in canonical form:
// FROM, then those that build the layer with INCLUDEs in their place, then
// those that describe its container.
func (p *Program) Print(w io.Writer) error {
	b := bufio.NewWriter(w)
	if p.From != nil {
		b.WriteString("FROM " + quoteName(p.From.written) + "\n")
	}
	for _, i := range p.Build {
		b.WriteString(i.Text + "\n")
	}
	for _, m := range p.Mounts {
		b.WriteString(m.String() + "\n")
	}
	printCommand(b, "ENTRYPOINT", p.Entrypoint)
	printCommand(b, "CMD", p.Cmd)
	return b.Flush()
}

func quoteName(name string) string {
	if canBeName(name) {
		return name
	}
	return quoteText(name)
}

func printCommand(b *bufio.Writer, keyword string, words []string) {
	if words == nil {
		return
	}
	var line strings.Builder
	line.WriteString(keyword)
	quoteWords(&line, words)
	b.WriteString(line.String() + "\n")
}

// String is the canonical form of the instruction, with every option said.
func (m *Mount) String() string {
	options := map[MountType]string{MountSimple: "--simple", MountFile: "--file", MountLayers: "--layers", MountOverlay: "--overlay"}[m.Type]
	if m.ReadOnly {
		options += " --readonly"
	} else {
		options += " --readwrite"
	}
	if m.Optional {
		options += " --optional"
	} else {
		options += " --required"
	}
	return "MOUNT " + options + " " + quoteOperand(m.Name) + " " + quoteOperand(m.Dest)
}
