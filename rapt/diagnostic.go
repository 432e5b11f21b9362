package rapt

// A Span is a stretch of an original file: what the user wrote, before any
// template was rendered. Lines and columns count from 1; columns count
// characters, not bytes. EndColumn is the column after the last character.
// A zero Line means that only the file is known.
type Span struct {
	File      string // as shown to the user; absolute, or as named on the command line
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
	Verb string // "included", "built on", "rendered"
	Span Span   // the instruction that named the file
}

// A Diagnostic is one mistake in a user's file, with its place.
type Diagnostic struct {
	Severity Severity
	Message  string // lower case, no full stop
	Span     Span
	Label    string  // written beside the underline: "did you mean FROM?"
	Help     string  // how to mend it, when there is more to say than Label holds
	Chain    []Frame // innermost first
	Source   []byte  // the text of Span.File, so that its lines can be shown
}

// Diagnostics is one or more mistakes, sorted by place. As an error it prints
// all of them without colour.
type Diagnostics []*Diagnostic
