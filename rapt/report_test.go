package rapt

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
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

// A mistake on a command line has no place, but all that can be said of it.
func TestDiagnosticsOfCommandLine(t *testing.T) {
	p := project(t, map[string]string{"web.rapt": "RUN true\n", "fw@.rapt": "RUN true\n"})
	for target, want := range map[string]string{
		"wbe": "error: there is no module \"wbe\"\n  = help: did you mean web?\n  = help: looked for wbe.rapt",
		"fw":  "error: \"fw\" lacks an instance\n  = help: only fw@.rapt exists: write fw@INSTANCE",
		"a b": "error: \"a b\" is not the name of a module\n  = help: names are made of letters, digits, _ and -, with dots between",
	} {
		_, err := (&Loader{Project: p}).Load(target, Span{}, nil)
		expect(t, err.Error(), want)
	}
}

// Whatever a diagnostic holds, it is printed in bounded space.
func TestDiagnosticsOfAnyShape(t *testing.T) {
	for _, d := range []*Diagnostic{
		{},
		{Message: "m", Span: Span{File: "f"}},
		{Message: "m", Span: Span{File: "f", Line: 3, Column: 1}},
		{Message: "m", Span: Span{File: "f", Line: 3, Column: 1}, Source: []byte("a\n")},
		{Message: "m", Span: Span{File: "f", Line: 1, Column: 90, EndLine: 1, EndColumn: 3}, Source: []byte("a\n")},
		{Message: "m", Label: "l", Span: Span{File: "f", Line: 1, Column: 2, EndLine: 900, EndColumn: 3}, Source: []byte(strings.Repeat("abc\n", 1000))},
		{Message: "m", Span: Span{File: "f", Line: 1, Column: 5000, EndLine: 1, EndColumn: 9000}, Source: []byte(strings.Repeat("abc", 10000))},
		{Message: "m", Span: Span{File: "f", Line: 1, Column: 2, EndLine: 1, EndColumn: 4}, Source: []byte("\xff\x00\t\x1b[31m")},
	} {
		text := Diagnostics{d}.Error()
		if len(text) > 3000 || strings.ContainsAny(text, "\x00\x1b") {
			t.Errorf("%+v is printed as %q", d, text)
		}
	}
}

// A mistake that is the system's can be told from the user's, and stays one
// error.
func TestDiagnosticsOfTheSystem(t *testing.T) {
	d := Diagnostics{{Message: "unknown"}, {Message: "read x", Err: &fs.PathError{Op: "read", Path: "x", Err: syscall.EIO}}}
	if err := fmt.Errorf("plan: %w", d); !errors.Is(err, syscall.EIO) || errors.Is(err, syscall.ENOENT) {
		t.Errorf("of EIO %t, of ENOENT %t", errors.Is(err, syscall.EIO), errors.Is(err, syscall.ENOENT))
	}
	if errors.Is(d[:1], syscall.EIO) {
		t.Error("an unknown instruction is the disk's mistake")
	}
}

// TestUnreadable: what the system says of a file that is only looked for is told,
// and known to callers.
func TestUnreadable(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"loop", "loop.rapt", "loop.rinc"} {
		if err := os.Symlink(name, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{
		"from": "FROM loop", "image": "FROM tar://loop", "layout": "FROM oci://loop:tag", "include": "INCLUDE loop", "copy": "COPY loop/x /", "render": "RENDER loop /x",
	} {
		if err := os.WriteFile(filepath.Join(dir, name+".rapt"), []byte(text+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, target := range []string{"loop", "./loop", "from", "image", "layout", "include", "copy", "render"} {
		l := &Loader{Project: &Package{Root: dir}}
		_, err := l.Load(target, Span{}, nil)
		if !errors.Is(err, syscall.ELOOP) || !strings.Contains(err.Error(), syscall.ELOOP.Error()) {
			t.Errorf("%s: %v", target, err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "below.rapt"), []byte("COPY from.rapt/x /\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := (&Loader{Project: &Package{Root: dir}}).Load("below", Span{}, nil)
	if !errors.Is(err, syscall.ENOTDIR) || !strings.Contains(err.Error(), syscall.ENOTDIR.Error()) {
		t.Errorf("below a file: %v", err)
	}
}
