package rapt

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestFormat(t *testing.T) {
	path := "testdata/format/format.txt"
	cases := readConformance(t, path)
	for i, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			input := c.files["main.rapt"] + "\n"
			got, err := Format([]byte(input), "main.rapt")
			if err != nil {
				t.Fatal(err)
			}
			formatted := strings.TrimSuffix(string(got), "\n")
			checkFormat(t, input)
			if *update {
				cases[i].want = formatted
			} else if formatted != c.want {
				t.Errorf("got\n%s\nwant\n%s", formatted, c.want)
			}
		})
	}
	if *update {
		writeConformance(t, path, cases)
	}
}

// checkFormat checks of any text that its canonical form is its own, and means
// the same.
func checkFormat(t *testing.T, input string) {
	t.Helper()
	once, err := Format([]byte(input), "x.rapt")
	if err != nil {
		return
	}
	twice, err := Format(once, "x.rapt")
	if err != nil {
		t.Fatalf("the canonical form of %q cannot be read: %q\n%v", input, once, err)
	}
	if string(once) != string(twice) {
		t.Fatalf("formatting is not idempotent:\n%q\n%q\n%q", input, once, twice)
	}
	before, ok := meaning(input)
	if !ok {
		return
	}
	after, ok := meaning(string(once))
	if !ok || before != after {
		t.Fatalf("formatting changed the meaning of\n%q\nto\n%q\n%s\n%s", input, once, before, after)
	}
}

// meaning renders and parses a text, as far as it goes on its own.
func meaning(input string) (string, bool) {
	l := &Loader{Project: &Package{Root: "/nowhere"}}
	l.prepare()
	text, problems := l.renderTemplate(l.template("/nowhere/x.rapt", []byte(input), newSource), nil, session{}, false)
	if len(problems) > 0 {
		return "", false
	}
	var b strings.Builder
	for _, st := range parse(text.text, func(p problem) { b.WriteString(p.message + "\n") }) {
		b.WriteString(st.canonical() + "\n")
	}
	return b.String(), true
}

// All that the suites hold keeps its meaning.
func TestFormatKeepsMeaning(t *testing.T) {
	paths, _ := filepath.Glob("testdata/*/*.txt")
	for _, path := range paths {
		for _, c := range readConformance(t, path) {
			for _, text := range c.files {
				checkFormat(t, text)
				checkFormat(t, text+"\n")
			}
		}
	}
	for _, pattern := range []string{"../recipes/builders/*.r*", "../examples/*/*.r*"} {
		paths, _ := filepath.Glob(pattern)
		for _, path := range paths {
			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			checkFormat(t, string(content))
		}
	}
}

func TestFormatRefuses(t *testing.T) {
	for input, want := range map[string]string{
		"RUN a\nFLORG\nRUN \"a\\q\"\n": "error f:2:1-6: unknown instruction \"FLORG\" (did you mean FROM?)\n" +
			"error f:3:7-9: unknown escape \\q (a backslash is written \\\\; the other escapes are \\n, \\t and \\\")",
		"$ if x\nRUN a\n": `error f:1:1-7: the template's "if" is never closed (it needs an "endif")`,
		"RUN \xff\n":      "error f:1:5-6: the file holds bytes that are not UTF-8, the encoding of all files of a project",
	} {
		_, err := Format([]byte(input), "f")
		if err == nil {
			t.Errorf("%q is formatted", input)
			continue
		}
		var lines []string
		for _, d := range err.(Diagnostics) {
			lines = append(lines, oneLine(d))
		}
		expect(t, strings.Join(lines, "\n"), want)
	}
}

func TestDiff(t *testing.T) {
	before := "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\nk\nl\nm\nRUN  x\nlast"
	after := "a\nB\nc\nd\ne\nf\ng\nh\ni\nj\nk\nl\nm\nRUN x\nlast\n"
	expect(t, string(Diff("f.rapt", []byte(before), []byte(after))), `--- f.rapt
+++ f.rapt
@@ -1,5 +1,5 @@
 a
-b
+B
 c
 d
 e
@@ -11,5 +11,5 @@
 k
 l
 m
-RUN  x
-last
\ No newline at end of file
+RUN x
+last
`)
	near := strings.Repeat("x\n", 6)
	if hunks := strings.Count(string(Diff("f", []byte("a\n"+near+"b\n"), []byte("A\n"+near+"B\n"))), "@@ -"); hunks != 1 {
		t.Errorf("changes whose surroundings touch are in %d hunks", hunks)
	}
	if hunks := strings.Count(string(Diff("f", []byte("a\n"+near+"x\nb\n"), []byte("A\n"+near+"x\nB\n"))), "@@ -"); hunks != 2 {
		t.Errorf("changes that are far apart are in %d hunks", hunks)
	}
	if Diff("f", []byte("a"), []byte("a")) != nil {
		t.Error("what is equal differs")
	}
	expect(t, string(Diff("f", nil, []byte("a\n"))), "--- f\n+++ f\n@@ -0,0 +1,1 @@\n+a\n")
}
