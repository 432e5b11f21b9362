package rapt

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// project writes files into a directory that becomes the current one, and
// makes it the root of a project.
func project(t *testing.T, files map[string]string) *Package {
	t.Helper()
	dir := t.TempDir()
	t.Chdir(dir)
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return &Package{Root: dir}
}

// dump loads a target and prints it.
func dump(t *testing.T, p *Package, target string) string {
	t.Helper()
	program, err := (&Loader{Project: p}).Load(target, Span{}, nil)
	if err != nil {
		t.Fatalf("loading %s:\n%v", target, err)
	}
	var b strings.Builder
	if err := program.Print(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestRecipesLoad(t *testing.T) {
	builders, err := filepath.Abs("../recipes/builders")
	if err != nil {
		t.Fatal(err)
	}
	example, _ := filepath.Abs("../examples/debian-live")
	recipes := &Package{Name: "recipes", Root: builders}
	p := &Package{Root: example, Links: map[string]*Package{"recipes": recipes}}
	recipes.Project = p
	l := &Loader{Project: p}
	for _, target := range []string{"base", "ssh", "$recipes.iso"} {
		program, err := l.Load(target, Span{}, nil)
		if err != nil {
			t.Errorf("%s:\n%v", target, err)
			continue
		}
		for _, w := range program.Warnings {
			t.Errorf("%s: %v", target, Diagnostics{w})
		}
		if len(program.Build) == 0 || program.From == nil {
			t.Errorf("%s: no instructions, or no FROM", target)
		}
	}
}
