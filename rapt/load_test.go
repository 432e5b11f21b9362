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

// mistakes loads a target and returns what is wrong with it, in short.
func mistakes(t *testing.T, p *Package, target string) string {
	t.Helper()
	program, err := (&Loader{Project: p}).Load(target, Span{}, nil)
	if err == nil {
		t.Fatalf("%s loads: %v", target, program.ID)
	}
	var lines []string
	for _, d := range err.(Diagnostics) {
		lines = append(lines, oneLine(d))
	}
	return strings.Join(lines, "\n")
}

func expect(t *testing.T, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestTargets(t *testing.T) {
	p := project(t, map[string]string{
		"web.rapt":            "RUN web\n",
		"images/server@.rapt": "RUN {{ instance }}\n",
		"images/plain.rapt":   "RUN plain\n",
	})
	for target, want := range map[string]string{
		"web":                    "RUN web\n",
		"$.web":                  "RUN web\n",
		"web.rapt":               "RUN web\n",
		"./web.rapt":             "RUN web\n",
		"./web":                  "RUN web\n",
		p.Root + "/web.rapt":     "RUN web\n",
		"images.plain":           "RUN plain\n",
		"images/plain.rapt":      "RUN plain\n",
		"images.server@a.b":      "RUN a.b\n",
		"images/server@a.b":      "RUN a.b\n",
		"images/server@a.b.rapt": "RUN a.b\n",
	} {
		if got := dump(t, p, target); got != want {
			t.Errorf("%s: got %q, want %q", target, got, want)
		}
	}
	for target, want := range map[string]string{
		"wbe":               `error : there is no module "wbe" (did you mean web?)`,
		"images/plian.rapt": `error : there is no file "images/plian.rapt" (did you mean images/plain?)`,
		"images/server":     `error : "images/server" lacks an instance (only images/server@.rapt exists: write images/server@INSTANCE)`,
		"images/server@":    `error : "images/server@" lacks an instance (write images/server@INSTANCE)`,
		"images/plain@x":    `error : "images/plain@x" names an instance of a plain file (only images/plain.rapt exists: write it without @x)`,
		"images.server":     `error : "images.server" lacks an instance (only images/server@.rapt exists: write images.server@INSTANCE)`,
	} {
		expect(t, mistakes(t, p, target), want)
	}
}

// In a project file, paths start at the project's root wherever its user is.
func TestTargetOfProjectFile(t *testing.T) {
	p := project(t, map[string]string{"images/a.rapt": "RUN a\n", "sub/images/a.rapt": "RUN b\n"})
	t.Chdir("sub")
	at := Span{File: "Raptor.toml", Line: 1, Column: 3, EndLine: 1, EndColumn: 8}
	l := &Loader{Project: p}
	program, err := l.Load("images/a.rapt", at, []byte("x = 1\n"))
	if err != nil || program.File != filepath.Join(p.Root, "images/a.rapt") {
		t.Errorf("got %v, %v", program, err)
	}
	_, err = l.Load("nothing", at, []byte("x = 1\n"))
	d := err.(Diagnostics)[0]
	if d.Span != at || string(d.Source) != "x = 1\n" {
		t.Errorf("the place of the name is lost: %+v", d)
	}
	program, err = l.Load("images/a.rapt", Span{}, nil)
	if err != nil || program.File != filepath.Join(p.Root, "sub/images/a.rapt") {
		t.Errorf("on a command line, paths start where the user is: %v, %v", program, err)
	}
}

// linkedProject has a package with a package of its own.
func linkedProject(t *testing.T) *Package {
	p := project(t, map[string]string{
		"main.rapt":         "FROM $lib.base\nINCLUDE $lib.sub.inc\n",
		"other/x.rinc":      "RUN the project\n",
		"lib/base.rapt":     "INCLUDE $own.x\nINCLUDE $other.x\nINCLUDE $.sub.inc\n",
		"lib/sub/inc.rinc":  "RUN inc\nINCLUDE $own.x\n",
		"lib/vendor/x.rinc": "RUN the package\n",
	})
	lib := &Package{Name: "lib", Root: p.Root + "/lib", Project: p}
	lib.Links = map[string]*Package{"own": {Name: "own", Root: p.Root + "/lib/vendor", Project: p}}
	p.Links = map[string]*Package{
		"lib":   lib,
		"own":   {Name: "own", Root: p.Root + "/other", Project: p},
		"other": {Name: "other", Root: p.Root + "/other", Project: p},
	}
	return p
}

func TestLinks(t *testing.T) {
	p := linkedProject(t)
	expect(t, dump(t, p, "main"), "FROM $lib.base\nRUN inc\nRUN the package\n")
	expect(t, dump(t, p, "$lib.base"), "RUN the package\nRUN the project\nRUN inc\nRUN the package\n")
	program, err := (&Loader{Project: p}).Load("lib/base.rapt", Span{}, nil)
	if err != nil || program.Package != p.Links["lib"] {
		t.Errorf("a path into a linked directory belongs to that package: %v, %v", program, err)
	}
	expect(t, mistakes(t, p, "$libb.base"), `error : there is no package $libb (did you mean $lib?)`)
}

func TestConfinement(t *testing.T) {
	files := map[string]string{
		"secret":         "s\n",
		"secret.rinc":    "RUN secret\n",
		"secret.rapt":    "RUN secret\n",
		"git/copy.rapt":  "COPY ../secret /x\nCOPY link /x\nCOPY dirlink/secret /x\nCOPY inside /x\nCOPY up/inside /x\n",
		"git/tmpl.rapt":  "RENDER ../secret /x\nRENDER link /x\n",
		"git/yaml.rapt":  "RUN {{ load_yaml('../secret') }}\nRUN {{ path('link').exists() }}\nRUN {{ load_yaml('link') }}\n",
		"git/incl.rapt":  "RUN a\n{% include '../secret' %}\n",
		"git/incl2.rapt": "{% include 'link' ignore missing %}\nRUN a\n",
		"git/mod.rapt":   "INCLUDE sneaky\n",
		"git/from.rapt":  "FROM sneaky\n",
		"git/tar.rapt":   "FROM tar://../secret\n",
		"git/new.rapt":   "RUN {{ path('../nothing').exists() }}\nRUN {{ path('dangling').exists() }}\n",
		"git/fine.rapt":  "COPY inside /x\nRENDER inside /y\nRUN {{ load_yaml('inside') }} {{ path('inside').exists() }}\n{% include 'inside' %}\n",
		"git/inside":     "RUN\n",
	}
	p := project(t, files)
	for name, to := range map[string]string{
		"git/link": "../secret", "git/dirlink": "..", "git/up": "../git", "git/dangling": "../nothing",
		"git/sneaky.rinc": "../secret.rinc", "git/sneaky.rapt": "../secret.rapt",
	} {
		if err := os.Symlink(to, name); err != nil {
			t.Fatal(err)
		}
	}
	git := &Package{Name: "git", Root: p.Root + "/git", Confined: true, Project: p}
	p.Links = map[string]*Package{"git": git}
	outside := func(what string) string { return `"` + what + `" lies outside of the package $git` }
	for target, want := range map[string]string{
		"copy":  "error git/copy.rapt:1:6-15: " + outside("../secret") + "\nerror git/copy.rapt:2:6-10: " + outside("link") + "\nerror git/copy.rapt:3:6-20: " + outside("dirlink/secret"),
		"tmpl":  "error git/tmpl.rapt:1:8-17: " + outside("../secret") + "\nerror git/tmpl.rapt:2:8-12: " + outside("link"),
		"yaml":  "error git/yaml.rapt:1:8-30: " + outside("../secret") + "\nerror git/yaml.rapt:2:8-20: " + outside("link") + "\nerror git/yaml.rapt:3:8-25: " + outside("link"),
		"incl":  "error git/incl.rapt:2:4-23: " + outside("../secret"),
		"incl2": "error git/incl2.rapt:1:4-33: " + outside("link"),
		"mod":   "error git/mod.rapt:1:9-15: " + outside("sneaky"),
		"from":  "error git/from.rapt:1:6-12: " + outside("sneaky"),
		"tar":   "error git/tar.rapt:1:6-21: " + outside("../secret"),
		"new":   "error git/new.rapt:1:8-26: " + outside("../nothing") + "\nerror git/new.rapt:2:8-24: " + outside("dangling"),
	} {
		expect(t, mistakes(t, p, "$git."+target), want)
	}
	if program, err := (&Loader{Project: p}).Load("$git.fine", Span{}, nil); err == nil {
		t.Errorf("RUN alone is a mistake: %v", program)
	} else if strings.Contains(err.Error(), "outside") {
		t.Error(err)
	}
}

func TestMemory(t *testing.T) {
	p := project(t, map[string]string{
		"a.rapt":     "FROM base@1\n",
		"b.rapt":     "FROM base@1\n",
		"c.rapt":     "FROM base@2\n",
		"base@.rapt": "RUN {{ instance }}\n",
	})
	l := &Loader{Project: p}
	load := func(target string) *Program {
		program, err := l.Load(target, Span{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return program
	}
	a, b, c := load("a"), load("b"), load("c")
	if a.From.Base != b.From.Base || a.From.Base != load("base@1") || a != load("./a.rapt") {
		t.Error("one file and instance is not one program")
	}
	if a.From.Base == c.From.Base {
		t.Error("two instances are one program")
	}
	if got := a.From.Base; got.Name != "base@1" || got.Instance != "1" || !strings.HasSuffix(got.ID, "/base@.rapt@1") {
		t.Errorf("got %q %q %q", got.Name, got.Instance, got.ID)
	}
}

// texts of instructions are what keys are made of.
func TestTextsDependOnMeaningAlone(t *testing.T) {
	load := func(files map[string]string) string {
		p := project(t, files)
		p.Links = map[string]*Package{"one": {Name: "one", Root: p.Root + "/lib", Project: p}, "two": {Name: "two", Root: p.Root + "/lib", Project: p}}
		program, err := (&Loader{Project: p}).Load("main", Span{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		var texts []string
		for _, i := range program.Build {
			texts = append(texts, i.Text)
		}
		return strings.Join(texts, "\n")
	}
	lib := map[string]string{"lib/inc.rinc": "RUN {{ x }}\nENV x\nRENDER t /t x\nCOPY t /t\n", "lib/t": "{{ x }}"}
	with := func(text string) map[string]string {
		files := map[string]string{"main.rapt": text}
		for name, content := range lib {
			files[name] = content
		}
		return files
	}
	plain := load(with("RUN a b\nWRITE \"x y\" /f\nINCLUDE $one.inc x=1\n"))
	expect(t, load(with("# comment\nRUN   \"a\"\tb # more\nWRITE \\\n  \"x\"\" y\" \\\n  /f\n\nINCLUDE $two.inc  x = 1")), plain)
	expect(t, load(with("RUN a b\r\nWRITE \"x y\" /f\r\nINCLUDE $one.inc x=1\r\n")), plain)
	expect(t, load(with("\ufeffRUN a b\nWRITE \"x y\" /f\nINCLUDE $one.inc x=1\n")), plain)
	if other := load(with("RUN a b\nWRITE \"x y\" /f\nINCLUDE $one.inc x=2\n")); other == plain || strings.Contains(other, "=1") {
		t.Errorf("another argument gives the same text: %s", other)
	}
}

func TestSources(t *testing.T) {
	p := project(t, map[string]string{
		"main.rapt": "{% include 'part.j2' %}\n{% include 'missing.j2' ignore missing %}\n$ set d = load_yaml('d.yaml')\n" +
			"$ if path('probe').exists()\n$ endif\nINCLUDE inc\nCOPY dir f /x/\n",
		"inc.rinc": "RENDER t.conf /t\nCOPY f /f\n", "part.j2": "{% import 'm.j2' as m %}\n", "m.j2": "", "d.yaml": "a: 1",
		"t.conf": "{% include 'm.j2' %}{{ load_yaml('d2.yaml').a }}", "d2.yaml": "a: 1", "dir/a": "", "f": "", ".raptorignore": "*.o\n",
	})
	program, err := (&Loader{Project: p}).Load("main", Span{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[SourceKind]string{SourceModule: "module", SourceTemplate: "template", SourceData: "data", SourceCopy: "copy", SourceProbe: "probe"}
	got := make(map[string]bool)
	for _, s := range program.Sources {
		rel, _ := filepath.Rel(p.Root, s.Path)
		got[kinds[s.Kind]+" "+rel] = true
		if s.Kind == SourceCopy && rel == "dir" && (s.Ignore == nil || !s.Ignore("x/y.o", false) || s.Ignore("x/y.c", false)) {
			t.Error("the ignore rules of dir are wrong")
		}
	}
	want := []string{"module main.rapt", "module inc.rinc", "module .raptorignore", "template part.j2", "template m.j2", "template t.conf",
		"probe missing.j2", "probe probe", "data d.yaml", "data d2.yaml", "copy dir", "copy f"}
	for _, w := range want {
		if !got[w] {
			t.Errorf("%s is not among the sources", w)
		}
		delete(got, w)
	}
	for extra := range got {
		t.Errorf("%s is among the sources", extra)
	}
}

func TestDepth(t *testing.T) {
	files := map[string]string{"main.rapt": "INCLUDE i1\n", "deep.rapt": "INCLUDE i2\n"}
	for i := 1; i < 500; i++ {
		files["i"+itoa(i)+".rinc"] = "INCLUDE i" + itoa(i+1) + "\n"
	}
	p := project(t, files)
	got := mistakes(t, p, "main")
	expect(t, got, "error i20.rinc:1:9-12: INCLUDEs are nested more than 20 deep")
	for i := 20; i < 22; i++ {
		os.WriteFile("i"+itoa(i)+".rinc", []byte("RUN end\n"), 0o644)
	}
	expect(t, dump(t, p, "main"), "RUN end\n")
}

func TestFromCycles(t *testing.T) {
	p := linkedProject(t)
	os.WriteFile("main.rapt", []byte("FROM $lib.base\n"), 0o644)
	os.WriteFile("lib/base.rapt", []byte("FROM $lib.inst@a\n"), 0o644)
	os.WriteFile("lib/inst@.rapt", []byte("$ if instance == 'a'\nFROM inst@b\n$ else\nFROM base\n$ endif\n"), 0o644)
	expect(t, mistakes(t, p, "main"), "error lib/inst@.rapt:4:6-10: the layer stands on itself: "+
		"lib/base.rapt -> lib/inst@.rapt (a) -> lib/inst@.rapt (b) -> lib/base.rapt (closes the cycle)")
	os.WriteFile("lib/inst@.rapt", []byte("FROM inst@{{ instance }}a\n"), 0o644)
	expect(t, mistakes(t, p, "main"), "error lib/inst@.rapt:1:6-26: the layer stands on more than 200 others")
}

// What is executed points to where it was written.
func TestSpansOfInstructions(t *testing.T) {
	p := project(t, map[string]string{
		"main.rapt": "RUN a\n$ for x in [1, 2]\n  RUN b {{ x }} \\\n    c\n$ endfor\nINCLUDE inc\n",
		"inc.rinc":  "{% macro m() %}RUN d{% endmacro %}\n\n{{ m() }}\n",
	})
	program, err := (&Loader{Project: p}).Load("main", Span{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, i := range program.Build {
		d := i.Diagnose("failed")
		got = append(got, i.Text+" "+oneLine(d))
		for _, f := range d.Chain {
			got = append(got, "  "+frameText(f))
		}
	}
	expect(t, strings.Join(got, "\n"), `RUN a error main.rapt:1:1-6: failed
RUN b 1 c error main.rapt:3:3-4:6: failed
  with x = 1 in the loop at main.rapt:2:1
RUN b 2 c error main.rapt:3:3-4:6: failed
  with x = 2 in the loop at main.rapt:2:1
RUN d error inc.rinc:1:16-21: failed
  called from inc.rinc:3:1
  included from main.rapt:6:1`)
}

// YAML that is made to harm does none.
func TestHostileYAML(t *testing.T) {
	bomb := "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n"
	for i := 1; i < 10; i++ {
		before := "*a" + itoa(i-1)
		bomb += "a" + itoa(i) + ": &a" + itoa(i) + " [" + strings.Repeat(before+",", 9) + before + "]\n"
	}
	p := project(t, map[string]string{
		"bomb.rapt": "$ set d = load_yaml('bomb.yaml')\n", "bomb.yaml": bomb,
		"deep.rapt": "$ set d = load_yaml('deep.yaml')\n", "deep.yaml": strings.Repeat("[", 100_000),
	})
	for target, want := range map[string]string{"bomb": "aliasing", "deep": "depth"} {
		if got := mistakes(t, p, target); !strings.Contains(got, want) || len(got) > 300 {
			t.Errorf("%s: got %s", target, shortened(got, 300))
		}
	}
}

// Two files may be called by one name, each from its own directory. Sources then
// tell which of them each COPY means.
func TestSourcesOfCopiesAreInOrder(t *testing.T) {
	files := map[string]string{
		"a/copy.rinc": "COPY f {{ to }}\n", "a/f": "a", "b/copy.rinc": "COPY f {{ to }}\n", "b/f": "b",
		"one.rapt": "INCLUDE a.copy to=\"/x\"\nINCLUDE a.copy to=\"/y\"\nINCLUDE b.copy to=\"/z\"\n",
		"two.rapt": "INCLUDE a.copy to=\"/x\"\nINCLUDE b.copy to=\"/y\"\nINCLUDE b.copy to=\"/z\"\n",
	}
	p := project(t, files)
	described := func(target string) string {
		program, err := (&Loader{Project: p}).Load(target, Span{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		for _, i := range program.Build {
			b.WriteString(i.Text + "\n")
		}
		for _, s := range program.Sources {
			if s.Kind == SourceCopy {
				rel, _ := filepath.Rel(p.Root, s.Path)
				b.WriteString(rel + "\n")
			}
		}
		return b.String()
	}
	texts := "COPY f /x\nCOPY f /y\nCOPY f /z\n"
	expect(t, described("one"), texts+"a/f\na/f\nb/f\n")
	expect(t, described("two"), texts+"a/f\nb/f\nb/f\n")
}
