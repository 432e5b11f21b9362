package rapt

import (
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/mitsuhiko/minijinja/minijinja-go/v2/value"
)

// seed gives a fuzzer all texts of the suites.
func seed(f *testing.F) {
	paths, _ := filepath.Glob("testdata/*/*.txt")
	for _, path := range paths {
		for _, c := range readConformance(f, path) {
			for _, text := range c.files {
				f.Add(text)
			}
		}
	}
}

// checkSpan checks that an extent lies in a text, between characters.
func checkSpan(t *testing.T, text string, e extent, what string) {
	if e.start < 0 || e.end < e.start || e.end > len(text) {
		t.Fatalf("the extent %v of %s is not within %d bytes", e, what, len(text))
	}
	for _, at := range []int{e.start, e.end} {
		if at < len(text) && utf8.ValidString(text) && !utf8.RuneStart(text[at]) {
			t.Fatalf("the extent %v of %s splits a character of %q", e, what, text)
		}
	}
}

// Whatever the text, a word that is quoted is read as that word.
func FuzzScan(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, text string) {
		s := scanner{text: text, report: func(p problem) { checkSpan(t, text, p.extent, p.message) }}
		for s.pos < len(text) {
			before := s.pos
			if s.space(); s.atLineEnd() {
				s.pos++
				continue
			}
			w := s.word()
			checkSpan(t, text, w.extent, w.text)
			if s.pos == before || w.end != s.pos {
				if s.pos == before && text[s.pos] != '\\' {
					t.Fatalf("no progress at %d of %q", s.pos, text)
				}
				s.pos = max(s.pos, before+1)
			}
			if again := (&scanner{text: quoteWord(w.text), report: func(p problem) { t.Fatal(p) }}).word(); again.text != w.text {
				t.Fatalf("%q is quoted as %s, which is %q", w.text, quoteWord(w.text), again.text)
			}
		}
	})
}

// What is parsed and printed is parsed as the same again.
func FuzzParse(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, text string) {
		statements := parse(text, func(p problem) { checkSpan(t, text, p.extent, p.message) })
		for _, st := range statements {
			checkSpan(t, text, st.extent, st.keyword)
			canonical := st.canonical()
			again := parse(canonical, func(p problem) {
				if p.severity == Error {
					t.Fatalf("%q is printed as %q: %s", text[st.start:st.end], canonical, p.message)
				}
			})
			if len(again) != 1 || again[0].canonical() != canonical {
				t.Fatalf("%q is printed as %q, which is another", text[st.start:st.end], canonical)
			}
		}
	})
}

// A text with marks is the text without, and all that it gives was written
// somewhere.
func FuzzTemplate(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 4096 || strings.Contains(text, "range") || strings.Contains(text, "lipsum") {
			t.Skip("takes too long")
		}
		l := &Loader{Project: &Package{Root: "/nowhere"}}
		l.prepare()
		few := uint64(10_000)
		l.env.SetFuel(&few)
		tmpl := l.template("/nowhere/x.rapt", []byte(text), newSource)
		r, problems := l.renderTemplate(tmpl, map[string]value.Value{"x": value.FromString("a b"), "l": value.FromSlice([]value.Value{value.FromInt(1)})}, session{}, true)
		for _, d := range problems {
			checkDiagnostic(t, d)
		}
		if r == nil {
			return
		}
		for _, st := range parse(r.text, func(p problem) { checkDiagnostic(t, p.diagnostic(r.place(p.extent))) }) {
			checkDiagnostic(t, problem{extent: st.extent}.diagnostic(r.place(st.extent)))
		}
	})
}

func checkDiagnostic(t *testing.T, d *Diagnostic) {
	lines := strings.Split(string(d.Source), "\n")
	s := d.Span
	if s.Line == 0 {
		return
	}
	if s.Line > len(lines) || s.EndLine > len(lines) || s.EndLine < s.Line || s.Line == s.EndLine && s.EndColumn < s.Column ||
		s.Column-1 > utf8.RuneCountInString(lines[s.Line-1]) || s.EndColumn-1 > utf8.RuneCountInString(lines[s.EndLine-1]) {
		t.Fatalf("the span %+v of %q is not within %q", s, d.Message, d.Source)
	}
	Diagnostics{d}.Print(&strings.Builder{}, true)
}

// The canonical form of anything is its own, and means the same.
func FuzzFormat(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 4096 || strings.Contains(text, "range") || strings.Contains(text, "lipsum") {
			t.Skip("takes too long")
		}
		checkFormat(t, text)
	})
}
