package recipes

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"raptor-make/rapt"
)

var update = flag.Bool("update", false, "write the golden files anew")

// project parses a text that must be right.
func project(t *testing.T, text string) *Project {
	t.Helper()
	p, diagnostics := parse("Raptor.toml", "/project", []byte(text))
	if len(diagnostics) > 0 {
		t.Fatalf("the project is wrong:\n%v", diagnostics)
	}
	return p
}

// TestExample decodes the file that shows every key, with every key in use, and
// with none.
func TestExample(t *testing.T) {
	text, err := os.ReadFile("../Raptor.toml.example")
	if err != nil {
		t.Fatal(err)
	}
	project(t, string(text))
	all := regexp.MustCompile(`(?m)^# ([a-z][a-z.-]* = )`).ReplaceAllString(string(text), "$1")
	p := project(t, all)

	j := p.Job("iso")
	got := map[string]any{
		"target": j.Target.Text, "input": Texts(j.Input), "output": Texts(j.Output), "cache": Texts(j.Cache),
		"mount": Texts(j.Mounts[0].Sources), "env": j.Env[0].Key + "=" + j.Env[0].Value.Text,
		"entrypoint": Texts(j.Entrypoint), "args": Texts(j.Args), "state-dir": j.StateDir.Text, "needs": Texts(j.Needs),
		"network": j.Network.Text, "memory": j.Limits.Memory, "pids": j.Limits.Pids, "timeout": j.Limits.Timeout,
		"store": p.Settings.Store.Text, "platform": p.Settings.Platform.Text, "jobs": p.Settings.Jobs,
		"source-date-epoch": *p.Settings.SourceDateEpoch,
		"mirrors":           Texts(p.Settings.Registries["docker.io"].Mirrors), "insecure": p.Settings.Registries["docker.io"].Insecure,
		"link": p.Link("book").Path.Text, "git": p.Link("extra").Git.Rev.Text,
		"build": Texts(p.Group("release").Build), "run": Texts(p.Group("release").Run),
	}
	want := map[string]any{
		"target": "$recipes.iso", "input": []string{"ssh", "base"}, "output": []string{"live.iso"}, "cache": []string{"cache"},
		"mount": []string{"some/dir"}, "env": "GRUB_TIMEOUT=0",
		"entrypoint": []string{"/bin/sh", "-c"}, "args": []string{"id"}, "state-dir": "state/iso", "needs": []string{"tests"},
		"network": "none", "memory": int64(2 << 30), "pids": int64(1000), "timeout": 30 * time.Minute,
		"store": "layers", "platform": "linux/amd64", "jobs": 4, "source-date-epoch": int64(1767225600),
		"mirrors": []string{"mirror.example:5000"}, "insecure": true,
		"link": "book/example", "git": "v1.2.0",
		"build": []string{"base", "ssh"}, "run": []string{"iso", "%nightly"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the example with every key (-want +got):\n%s", diff)
	}
	everyKey(t, all)
}

// everyKey checks that a text uses each key that the decoder knows.
func everyKey(t *testing.T, text string) {
	t.Helper()
	p := Empty("/project")
	tree, _ := parseTree("Raptor.toml", []byte(text))
	known := map[string][]string{}
	d := &decoder{project: p, known: func(table string, keys []string) { known[table] = keys }}
	d.file(tree)
	for table, keys := range known {
		for _, key := range keys {
			if !regexp.MustCompile(`(?m)(^|[.\[{ ])` + regexp.QuoteMeta(key) + `( =|\.|\])`).MatchString(text) {
				t.Errorf("the example lacks %s of [%s]", key, table)
			}
		}
	}
	if len(known) < 6 {
		t.Errorf("the example has only the tables %v", known)
	}
}

// TestDiagnostics prints what is wrong with each testdata/diagnostics/*.toml
// and compares it with the file of the same name in .txt.
func TestDiagnostics(t *testing.T) {
	files, _ := filepath.Glob("testdata/diagnostics/*.toml")
	if len(files) == 0 {
		t.Fatal("no test data")
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".toml"), func(t *testing.T) {
			_, err := Load(file)
			var diagnostics rapt.Diagnostics
			if !errors.As(err, &diagnostics) {
				t.Fatalf("Load: %v", err)
			}
			var got bytes.Buffer
			diagnostics.Print(&got, false)
			golden := strings.TrimSuffix(file, ".toml") + ".txt"
			if *update {
				if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got.String()); diff != "" {
				t.Errorf("diagnostics (-want +got):\n%s", diff)
			}
		})
	}
}

func TestLoadMissing(t *testing.T) {
	if _, err := Load(filepath.Join(t.TempDir(), "Raptor.toml")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Load of no file: %v", err)
	}
}

func TestLoadEmpty(t *testing.T) {
	p := project(t, "\uFEFF")
	if len(p.Jobs)+len(p.Groups)+len(p.Links) > 0 || p.Settings.Store.Text != DefaultStore {
		t.Errorf("an empty file is %+v", p)
	}
}

func TestLimits(t *testing.T) {
	for _, test := range []struct {
		text    string
		memory  int64
		timeout time.Duration
	}{
		{`memory = 4096`, 4096, 0},
		{`memory = "4096"`, 4096, 0},
		{`memory = "512K"`, 512 << 10, 0},
		{`memory = "2 GiB"`, 2 << 30, 0},
		{`memory = "1T"`, 1 << 40, 0},
		{`timeout = 90`, 0, 90 * time.Second},
		{`timeout = "1h30m"`, 0, 90 * time.Minute},
	} {
		p := project(t, "[run.x]\ntarget = \"t\"\n[run.x.limits]\n"+test.text)
		if l := p.Job("x").Limits; l.Memory != test.memory || l.Timeout != test.timeout {
			t.Errorf("%s: %d bytes, %v", test.text, l.Memory, l.Timeout)
		}
	}
}

const selectable = `
[run.iso]
target = "t"
[run.disk]
target = "t"
[run.both]
target = "t"
[group.both]
build = ["base", "ssh"]
run = ["disk", "%rest"]
[group.rest]
build = ["ssh", "extra"]
run = ["iso", "disk"]
`

func TestSelect(t *testing.T) {
	for _, test := range []struct {
		names, jobs, layers, err string
	}{
		{"", "iso disk both", "", ""},
		{"all", "iso disk both", "", ""},
		{"disk iso disk", "disk iso", "", ""},
		{"both", "both", "", ""},
		{"%both", "disk iso", "base ssh extra", ""},
		{"rest both", "iso disk both", "ssh extra", ""},
		{"iso rest %both", "iso disk", "ssh extra base", ""},
		{"ido", "", "", "did you mean iso?"},
		{"%rets", "", "", "did you mean %rest?"},
		{"nothing-like-it %nor-this", "", "", `unknown job or group "nothing-like-it"; there are iso, disk, both, rest`},
		{"nothing-like-it %nor-this", "", "", `unknown group "%nor-this"; there are %both, %rest`},
	} {
		jobs, layers, err := project(t, selectable).Select(strings.Fields(test.names))
		if test.err != "" {
			if err == nil || !strings.Contains(err.Error(), test.err) {
				t.Errorf("%s: error %v, want %s", test.names, err, test.err)
			}
			continue
		}
		if got := strings.Join(jobNames(jobs), " "); err != nil || got != test.jobs || strings.Join(layers, " ") != test.layers {
			t.Errorf("%s: jobs %s, layers %s, error %v", test.names, got, layers, err)
		}
	}
}

func TestSelectNamedAll(t *testing.T) {
	p := project(t, "[run.a]\ntarget = \"t\"\n[run.b]\ntarget = \"t\"\n[group.all]\nrun = [\"b\"]\n")
	if jobs, _, err := p.Select([]string{"all"}); err != nil || !slices.Equal(jobNames(jobs), []string{"b"}) {
		t.Errorf("a group named all: %v, %v", jobNames(jobs), err)
	}
}

func TestSet(t *testing.T) {
	const text = `
[run.a]
target = "t"
output = "a.img"
env = { KEEP = "1", GONE = "2" }
[run."a.b"]
target = "t"
output = "ab.img"
`
	for _, test := range []struct {
		key, value string
		got        func(*Project) any
		want       any
	}{
		{"run.a.output", "other.img", func(p *Project) any { return Texts(p.Job("a").Output) }, []string{"other.img"}},
		{"run.a.input", `["x", "y"]`, func(p *Project) any { return Texts(p.Job("a").Input) }, []string{"x", "y"}},
		{"run.a.input", `[half`, func(p *Project) any { return Texts(p.Job("a").Input) }, []string{"[half"}},
		{"run.a.args", `[]`, func(p *Project) any { return len(p.Job("a").Args) }, 0},
		{"run.a.env.GONE", "3=4", func(p *Project) any { return p.Job("a").Env[1].Value.Text }, "3=4"},
		{"run.a.env.NEW.DOT", "", func(p *Project) any { return p.Job("a").Env[2].Key }, "NEW.DOT"},
		{"run.a.env", `{ GONE = 5 }`, func(p *Project) any { return p.Job("a").Env[0].Key + p.Job("a").Env[1].Value.Text }, "KEEP5"},
		{"run.a.b.output", "c.img", func(p *Project) any { return Texts(p.Job("a.b").Output) }, []string{"c.img"}},
		{"run.a.limits.timeout", "90", func(p *Project) any { return p.Job("a").Limits.Timeout }, 90 * time.Second},
		{"run.a.limits.pids", "7", func(p *Project) any { return p.Job("a").Limits.Pids }, int64(7)},
		{"run.a.mount.data", "dir", func(p *Project) any { return Texts(p.Job("a").Mounts[0].Sources) }, []string{"dir"}},
	} {
		p := project(t, text)
		if err := p.Set(test.key, test.value); err != nil {
			t.Errorf("%s=%s: %v", test.key, test.value, err)
		} else if diff := cmp.Diff(test.want, test.got(p)); diff != "" {
			t.Errorf("%s=%s (-want +got):\n%s", test.key, test.value, diff)
		}
	}
}

func TestSetWrong(t *testing.T) {
	const text = "[run.a]\ntarget = \"t\"\noutput = \"a.img\"\nenv = { X = \"1\" }\n[run.b]\ntarget = \"t\"\noutput = \"b.img\"\n"
	for _, test := range []struct{ key, value, want string }{
		{"group.a.run", "x", "only values of jobs can be set"},
		{"run.c.output", "x", `unknown job "c"`},
		{"run.a.outptu", "x", "did you mean output?"},
		{"run.a.output", "b.img", "have the same output"},
		{"run.a.output", "", "output is empty"},
		{"run.a.args", "ls", "must be a list of strings"},
		{"run.a.limits.pids", "many", "must be an integer"},
		{"run.a.network", "nine", "did you mean none?"},
		{"run.a.needs", "a", "jobs need each other: a -> a"},
		{"run.a.env.=", "x", "cannot be the name of a variable"},
	} {
		p, before := project(t, text), project(t, text)
		err := p.Set(test.key, test.value)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s=%s: error %v, want %s", test.key, test.value, err, test.want)
		}
		if diff := cmp.Diff(before.Jobs, p.Jobs); diff != "" {
			t.Errorf("%s=%s changed the project (-before +after):\n%s", test.key, test.value, diff)
		}
	}
}

// FuzzParse: no text makes the parser panic, a wrong one has diagnostics with
// places inside it, and a right one is not changed by being read again.
func FuzzParse(f *testing.F) {
	files, _ := filepath.Glob("testdata/diagnostics/*.toml")
	for _, file := range append(files, "../Raptor.toml.example") {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte(selectable))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, diagnostics := parse("Raptor.toml", "/project", text)
		if p == nil && len(diagnostics) == 0 {
			t.Fatal("neither a project nor a reason")
		}
		lines := bytes.Count(text, []byte("\n")) + 1
		for _, d := range diagnostics {
			if d.Span.Line > lines || d.Message == "" {
				t.Errorf("%q on line %d of %d", d.Message, d.Span.Line, lines)
			}
		}
		diagnostics.Print(&bytes.Buffer{}, false)
		if len(diagnostics) > 0 {
			return
		}
		if _, _, err := p.Select(nil); err != nil {
			t.Errorf("select every job: %v", err)
		}
		for _, g := range p.Groups {
			if _, _, err := p.Select([]string{"%" + g.Name}); err != nil {
				t.Errorf("select group %s: %v", g.Name, err)
			}
		}
	})
}
