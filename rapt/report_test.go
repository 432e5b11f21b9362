package rapt

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The golden files hold each diagnostic as people see it. Read them as someone
// who has never seen this language.
func TestDiagnosticsAsPrinted(t *testing.T) {
	const path = "testdata/diagnostics/diagnostics.txt"
	dir, _ := os.Getwd()
	cases := readConformance(t, path)
	var colored bytes.Buffer
	for i, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			problems := c.problems(t)
			if len(problems) == 0 {
				t.Fatal("there is nothing wrong")
			}
			got := problems.Error()
			if *update {
				cases[i].want = got
			} else if got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
			colored.WriteString("=== " + c.name + "\n")
			problems.Print(&colored, true)
		})
	}
	golden := filepath.Join(dir, "testdata/diagnostics/color.golden")
	if *update {
		writeConformance(t, filepath.Join(dir, path), cases)
		if err := os.WriteFile(golden, colored.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(colored.Bytes(), want) {
		t.Error("the colours are not those of color.golden")
	}
}

// problems loads the main file of a case.
func (c conformanceCase) problems(t *testing.T) Diagnostics {
	files := make(map[string]string)
	for name, text := range c.files {
		files[name] = text + "\n"
	}
	program, err := (&Loader{Project: project(t, files)}).Load("main.rapt", Span{}, nil)
	if err != nil {
		return err.(Diagnostics)
	}
	return program.Warnings
}

// Colours change nothing else.
func TestColorsAreColorsOnly(t *testing.T) {
	for _, c := range readConformance(t, "testdata/diagnostics/diagnostics.txt") {
		var colored strings.Builder
		c.problems(t).Print(&colored, true)
		plain := colored.String()
		for _, code := range []string{bold, boldRed, boldYellow, boldBlue, boldGreen, uncolored} {
			plain = strings.ReplaceAll(plain, code, "")
		}
		if strings.TrimSuffix(plain, "\n") != c.want {
			t.Errorf("%s: without its colours it is\n%s", c.name, plain)
		}
	}
}
