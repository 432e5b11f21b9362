package rapt

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mitsuhiko/minijinja/minijinja-go/v2/value"
)

// A templateWriter writes templates at random, in which each line that gives an
// instruction has a number of its own.
type templateWriter struct {
	random *rand.Rand
	b      strings.Builder
	lines  map[string]int // where "RUN tN" stands, from 1
	line   int
	macros int
}

func (w *templateWriter) write(format string, args ...any) {
	text := fmt.Sprintf(format, args...) + "\n"
	w.b.WriteString(text)
	w.line += strings.Count(text, "\n")
}

func (w *templateWriter) instruction(macro bool) {
	name := fmt.Sprintf("t%d", len(w.lines))
	w.lines[name] = w.line + 1
	end := "\n"
	if macro {
		end = ""
	}
	texts := []string{
		"RUN %s a" + end, "  RUN %s {{ x }} b" + end, "RUN %s {{- ' ' }}{{ x -}}  c" + end, "RUN %s {# note #} é {{ x | sh }}" + end,
		"RUN %s \\\n   {{ x }} \\\n b" + end, "RUN %s {% if x %}yes{% else %}no{% endif %}" + end,
		"RUN %s {% for i in [1, 2] %}{{ i }} {% endfor %}" + end, "{% raw %}RUN %s {{ }}{% endraw %}" + end, "{{ 'RUN' }} %s" + end,
		"RUN %s {% set q %}a b{% endset %}{{ q }}" + end,
	}
	w.write("%s", strings.TrimSuffix(strings.Replace(texts[w.random.IntN(len(texts))], "%s", name, 1), "\n"))
}

func (w *templateWriter) block(depth int) {
	for range 1 + w.random.IntN(4) {
		switch n := w.random.IntN(9); {
		case depth > 3 || n < 3:
			w.instruction(false)
		case n == 3:
			w.write("$ for y in ['a', 'b']")
			w.block(depth + 1)
			w.write("$ endfor")
		case n == 4:
			w.write("{%% for y in [1, 2, 3] -%%}\n\n")
			w.block(depth + 1)
			w.write("{%% endfor %%}")
		case n == 5:
			w.write("  $ if x == %q", []string{"a b", "no"}[w.random.IntN(2)])
			w.block(depth + 1)
			w.write("$ else")
			w.block(depth + 1)
			w.write("  $ endif")
		case n == 6:
			w.macros++
			w.write("{%% macro m%d(x) -%%}", w.macros)
			w.instruction(true)
			w.instruction(false)
			w.write("{%% endmacro %%}")
			w.write("{{ m%d('z') }}\n", w.macros)
		case n == 7:
			w.write("# comment {{ x }}\n\n{# comment")
			w.write("over lines -#}\n")
		case n == 8:
			w.write("{%% with x = 'c' %%}")
			w.block(depth + 1)
			w.write("{%% endwith %%}")
		}
	}
}

// Every instruction is placed on the line that it was written on, whatever
// template is around it.
func TestPlacesOfRandomTemplates(t *testing.T) {
	for seed := range uint64(300) {
		w := templateWriter{random: rand.New(rand.NewPCG(seed, 1)), lines: make(map[string]int)}
		w.block(0)
		text := w.b.String()
		l := &Loader{Project: &Package{Root: "/nowhere"}}
		l.prepare()
		vars := map[string]value.Value{"x": value.FromString("a b")}
		r, problems := l.renderTemplate(l.template("/nowhere/x.rapt", []byte(text), newSource), vars, session{}, true)
		if len(problems) > 0 {
			t.Fatalf("seed %d: %v\n%s", seed, Diagnostics(problems), text)
		}
		if len(r.segments) == 0 && !r.identity {
			t.Fatalf("seed %d has no places:\n%s", seed, text)
		}
		for _, st := range parse(r.text, func(p problem) {
			t.Fatalf("seed %d: %s: %q\n%s", seed, p.message, r.text[p.start:p.end], r.text)
		}) {
			want := w.lines[st.words[0].text]
			if got := r.place(st.extent).span; got.Line != want {
				t.Fatalf("seed %d: %q is placed on line %d, not %d, of\n%s", seed, r.text[st.start:st.end], got.Line, want, text)
			}
			word := st.words[0]
			at := r.place(word.extent)
			if at.span.Line == at.span.EndLine {
				runes := []rune(r.source.lineText(at.span.Line - 1))
				if shown := string(runes[at.span.Column-1 : at.span.EndColumn-1]); shown != word.text {
					t.Fatalf("seed %d: %q is placed at %q of\n%s", seed, word.text, shown, text)
				}
			}
		}
		checkFormat(t, text)
	}
}

// A template that is rendered as a file is left as it is: with its line ends.
func TestRenderedFilesKeepLineEnds(t *testing.T) {
	p := project(t, map[string]string{"main.rapt": "RENDER t /t x=1\r\nRENDER u /u\r\n", "t": "a\r\n{{ x }}\r\n$ if x\r\nb\r\n$ endif\r\nc", "u": "\r\n"})
	program, err := (&Loader{Project: p}).Load("main", Span{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"a\r\n1\r\nb\r\nc\n", "\r\n"} {
		if got := program.Build[i].Op.(*Render).Text; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestSpecialFilesAreNotCopied(t *testing.T) {
	p := project(t, map[string]string{"main.rapt": "COPY socket /x\nCOPY dangling /y\n"})
	if err := os.Symlink("nowhere", filepath.Join(p.Root, "dangling")); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat("/dev/null"); err != nil {
		t.Skip("no /dev/null")
	}
	if err := os.Symlink("/dev/null", filepath.Join(p.Root, "socket")); err != nil {
		t.Fatal(err)
	}
	expect(t, mistakes(t, p, "main"), `error main.rapt:1:6-12: "socket" is neither a file nor a directory nor a link`)
}

// The engine searches a file anew at every tag; large files must not notice.
func TestLargeTemplates(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	for name, line := range map[string]string{
		"expressions": "RUN echo {{ 1 }} of many words that make a line\n",
		"statements":  "$ if true\nRUN echo {{ 1 }} of many words\n$ endif\n",
	} {
		text := strings.Repeat(line, 40_000)
		began := time.Now()
		l := &Loader{Project: &Package{Root: "/nowhere"}}
		l.prepare()
		r, problems := l.renderTemplate(l.template("/nowhere/x.rapt", []byte(text), newSource), nil, session{}, true)
		if len(problems) > 0 {
			t.Fatal(problems[0])
		}
		statements := parse(r.text, func(p problem) { t.Fatal(p) })
		if len(statements) != 40_000 {
			t.Errorf("%s: %d instructions", name, len(statements))
		}
		last := r.place(statements[39_999].extent).span
		if want := 40_000*strings.Count(line, "\n") - strings.Count(line, "\n") + 1 + strings.Count(line, "$ if"); last.Line != want {
			t.Errorf("%s: the last is placed on line %d, not %d", name, last.Line, want)
		}
		if took := time.Since(began); took > 15*time.Second {
			t.Errorf("%s: it takes %v", name, took)
		} else {
			t.Logf("%s: %v", name, took)
		}
	}
}
