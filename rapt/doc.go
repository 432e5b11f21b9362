// Package rapt is the language: it turns .rapt and .rinc files into programs.
// Module names, templates, the lexer and parser, what instructions mean,
// diagnostics that point to what a user wrote, and the formatter live here.
//
// It refuses to know layers, processes and project files: a [Program] says what
// is to be done, and never does it.
//
// A file goes through these steps, each in a file of its own:
//
//	module.go    which file a name stands for
//	source.go    its text, and the places in it
//	tags.go      its template split into pieces; names.go, the variables in them
//	weave.go     what the template engine is given in its place
//	template.go  the engine; functions.go and args.go, what we add to it
//	place.go     where each part of the rendered text was written
//	scan.go      words; parse.go and expression.go, statements (grammar.ebnf)
//	expand.go    what statements mean: from.go and container.go; operation.go, those
//	             that change the layer; argument.go, what they hand on
//
// The parser sees rendered text, and diagnostics speak of original text. So a
// template is rendered twice: once as it is, and once with marks that survive
// rendering and say where what follows was written. Nothing depends on the
// second rendering but places.
//
// A [Loader] is made for a project, loads any number of targets, and remembers
// them all. Programs are immutable; a Loader is not safe for concurrent use. It
// does not notice that files change: a new state of the files takes a new one.
//
//	l := &rapt.Loader{Project: &rapt.Package{Root: dir}}
//	program, err := l.Load("web", rapt.Span{}, nil)
//	var mistakes rapt.Diagnostics
//	if errors.As(err, &mistakes) {
//		mistakes.Print(os.Stderr, true)
//	}
package rapt
