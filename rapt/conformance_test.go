package rapt

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write what comes out into the golden files; read it before you keep it")

// A conformanceCase is one section of a file in testdata/conformance:
//
//	=== what it shows
//	the text of main.rapt
//	>>> other.rinc
//	the text of another file
//	---
//	the outcome: the program as Print writes it, then a line for each problem,
//	"error FILE:LINE:COLUMN-ENDCOLUMN: message (label)".
type conformanceCase struct {
	name  string
	files map[string]string
	order []string
	want  string
}

func readConformance(t testing.TB, path string) []conformanceCase {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var cases []conformanceCase
	for i, section := range strings.Split("\n"+string(content), "\n=== ") {
		if i == 0 {
			continue
		}
		name, rest, _ := strings.Cut(section, "\n")
		input, want, found := strings.Cut("\n"+strings.TrimSuffix(rest, "\n")+"\n", "\n---\n")
		if !found {
			t.Fatalf("%s: the case %q has no outcome", path, name)
		}
		c := conformanceCase{name: name, files: make(map[string]string), want: strings.TrimSuffix(want, "\n")}
		for j, file := range strings.Split(input, "\n>>> ") {
			name, text := "main.rapt", strings.TrimPrefix(file, "\n")
			if j > 0 {
				name, text, _ = strings.Cut(file, "\n")
			}
			c.order = append(c.order, name)
			c.files[name] = text
		}
		cases = append(cases, c)
	}
	return cases
}

// outcome loads the main file of a case.
func (c conformanceCase) outcome(t *testing.T) string {
	files := make(map[string]string)
	for name, text := range c.files {
		if name != "main.rapt" || text != "" {
			text += "\n"
		}
		files[name] = text
	}
	l := &Loader{Project: project(t, files)}
	var b strings.Builder
	l.Log = func(level, template, text string) { fmt.Fprintf(&b, "log %s %s: %s\n", level, template, text) }
	program, err := l.Load("main.rapt", Span{}, nil)
	problems := Diagnostics{}
	if err != nil {
		problems = err.(Diagnostics)
	} else {
		if err := program.Print(&b); err != nil {
			t.Fatal(err)
		}
		problems = program.Warnings
	}
	for _, d := range problems {
		b.WriteString(oneLine(d) + "\n")
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// oneLine is a diagnostic in short.
func oneLine(d *Diagnostic) string {
	kind := "error"
	if d.Severity == Warning {
		kind = "warning"
	}
	at := d.Span.File
	if d.Span.Line > 0 {
		at += fmt.Sprintf(":%d:%d", d.Span.Line, d.Span.Column)
		if d.Span.EndLine != d.Span.Line {
			at += fmt.Sprintf("-%d:%d", d.Span.EndLine, d.Span.EndColumn)
		} else {
			at += fmt.Sprintf("-%d", d.Span.EndColumn)
		}
	}
	line := kind + " " + at + ": " + d.Message
	if d.Label != "" {
		line += " (" + d.Label + ")"
	}
	return line
}

func TestConformance(t *testing.T) {
	paths, _ := filepath.Glob("testdata/conformance/*.txt")
	if len(paths) == 0 {
		t.Fatal("no conformance suite")
	}
	dir, _ := os.Getwd()
	for _, path := range paths {
		cases := readConformance(t, path)
		changed := false
		for i, c := range cases {
			t.Run(strings.TrimSuffix(filepath.Base(path), ".txt")+"/"+c.name, func(t *testing.T) {
				got := c.outcome(t)
				if got == c.want {
					return
				}
				if *update {
					cases[i].want, changed = got, true
					return
				}
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			})
		}
		if changed {
			writeConformance(t, filepath.Join(dir, path), cases)
		}
	}
}

func writeConformance(t *testing.T, path string, cases []conformanceCase) {
	var b strings.Builder
	for _, c := range cases {
		b.WriteString("=== " + c.name + "\n")
		for i, name := range c.order {
			if i > 0 {
				b.WriteString(">>> " + name + "\n")
			}
			if c.files[name] != "" {
				b.WriteString(c.files[name] + "\n")
			}
		}
		b.WriteString("---\n")
		if c.want != "" {
			b.WriteString(c.want + "\n")
		}
	}
	if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

// The parser enters just the productions of the grammar, and the suite makes it
// enter every one.
func TestGrammarIsCovered(t *testing.T) {
	grammar, err := os.ReadFile("grammar.ebnf")
	if err != nil {
		t.Fatal(err)
	}
	productions := make(map[string]bool)
	for _, m := range regexp.MustCompile(`(?m)^([A-Za-z-]+) +=`).FindAllStringSubmatch(string(grammar), -1) {
		productions[m[1]] = false
	}
	paths, _ := filepath.Glob("testdata/conformance/*.txt")
	for _, path := range paths {
		for _, c := range readConformance(t, path) {
			for _, text := range c.files {
				p := parser{scanner: scanner{text: text, report: func(problem) {}}}
				p.enter = func(production string) {
					if _, known := productions[production]; !known {
						t.Errorf("the parser enters %q, which the grammar does not have", production)
					}
					productions[production] = true
				}
				p.file()
			}
		}
	}
	for production, entered := range productions {
		if !entered {
			t.Errorf("nothing in the suite enters %q", production)
		}
	}
}

// What Print writes is read as the same program again.
func TestPrintedProgramsParse(t *testing.T) {
	paths, _ := filepath.Glob("testdata/conformance/*.txt")
	for _, path := range paths {
		for _, c := range readConformance(t, path) {
			t.Run(c.name, func(t *testing.T) {
				lines := slices.DeleteFunc(strings.Split(c.want, "\n"), func(line string) bool {
					first, _, _ := strings.Cut(line, " ")
					return !slices.Contains(keywords, first)
				})
				text := strings.Join(lines, "\n") + "\n"
				statements := parse(text, func(p problem) {
					if !strings.Contains(p.message, "decimal") {
						t.Errorf("%s: %q", p.message, text[p.start:p.end])
					}
				})
				for i, st := range statements {
					if got := st.canonical(); got != lines[i] {
						t.Errorf("got %s\nwant %s", got, lines[i])
					}
				}
			})
		}
	}
}
