package rapt

import (
	"cmp"
	"errors"
	"os"
	"slices"
	"strings"
)

// A Span is a stretch of an original file: what the user wrote, before any
// template was rendered. Lines and columns count from 1; columns count
// characters, not bytes. EndColumn is the column after the last character.
// A zero Line means that only the file is known.
type Span struct {
	File      string // as shown to the user: relative where it lies below the current directory, else absolute
	Line      int
	Column    int
	EndLine   int
	EndColumn int
}

// Severity tells an error, which makes a program unusable, from a warning.
type Severity int

const (
	Error Severity = iota
	Warning
)

// A Frame is one link of the chain that led to a file.
type Frame struct {
	// Verb says how: "included", "built on" and "rendered" by an instruction;
	// "called" by a tag of a template, such as a macro's; "read" by a function
	// of a template; "repeated" by a loop.
	Verb string
	Span Span   // the instruction or tag
	Note string // of "repeated": the variables of the loop
}

// A Diagnostic is one mistake in a user's file, with its place.
type Diagnostic struct {
	Severity Severity
	Message  string // lower case, no full stop
	Span     Span
	Label    string  // written beside the underline: "did you mean FROM?"
	Help     string  // how to mend it, when there is more to say than Label holds
	Chain    []Frame // innermost first
	Source   []byte  // the text of Span.File, so that its lines can be shown; shared, not to be changed

	Err error // what the system said, where that is known to be why

	undefined string // the variable that a template lacks
}

// Diagnostics is one or more mistakes, sorted by place. As an error it prints
// all of them without colour.
type Diagnostics []*Diagnostic

// Is tells whether one of them is due to an error of the system. (To unwrap
// them would make them several errors, each to be told for itself.)
func (d Diagnostics) Is(target error) bool {
	return slices.ContainsFunc(d, func(d *Diagnostic) bool { return d.Err != nil && errors.Is(d.Err, target) })
}

func (d Diagnostics) Error() string {
	var b strings.Builder
	d.Print(&b, false)
	return strings.TrimSuffix(b.String(), "\n")
}

// HasErrors tells whether not all of them are warnings.
func (d Diagnostics) HasErrors() bool {
	return slices.ContainsFunc(d, func(d *Diagnostic) bool { return d.Severity == Error })
}

// Sorted returns the diagnostics by place, each once: the same mistake at the
// same place is one, however it was reached.
func (d Diagnostics) Sorted() Diagnostics {
	sorted := slices.Clone(d)
	slices.SortStableFunc(sorted, func(a, b *Diagnostic) int {
		return cmp.Or(
			strings.Compare(a.Span.File, b.Span.File),
			cmp.Compare(a.Span.Line, b.Span.Line),
			cmp.Compare(a.Span.Column, b.Span.Column),
			cmp.Compare(a.Severity, b.Severity),
			cmp.Compare(a.Span.EndLine, b.Span.EndLine),
			cmp.Compare(a.Span.EndColumn, b.Span.EndColumn),
			strings.Compare(a.Message, b.Message),
		)
	})
	return slices.CompactFunc(sorted, func(a, b *Diagnostic) bool {
		return a.Span == b.Span && a.Message == b.Message && a.Severity == b.Severity && a.Label == b.Label
	})
}

// diagnostic is an error at a place.
func (p place) diagnostic(message, label string) *Diagnostic {
	d := &Diagnostic{Message: message, Label: label, Span: p.span, Chain: p.frames}
	if p.source != nil {
		d.Source = p.source.content()
	}
	return d
}

func (p problem) diagnostic(at place) *Diagnostic {
	d := at.diagnostic(p.message, p.label)
	d.Severity, d.Help = p.severity, p.help
	return d
}

// Diagnose is an error in carrying out an instruction of a user's file, with
// the text around the place.
func (i *Instruction) Diagnose(message string) *Diagnostic {
	d := &Diagnostic{Message: message, Span: i.Span, Chain: i.Chain}
	if i.source != nil {
		d.Source = i.source.content()
	} else if content, err := os.ReadFile(i.Span.File); err == nil {
		d.Source = []byte(newSource(i.Span.File, content).text)
	}
	return d
}

// quoteForMessage shows what a user wrote, in quotes and not too long.
func quoteForMessage(text string) string {
	return `"` + strings.NewReplacer("\n", `\n`, "\t", `\t`, `"`, `\"`).Replace(shortened(text, maxShownValue)) + `"`
}
