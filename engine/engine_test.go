package engine_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"raptor-make/engine"
	"raptor-make/internal/images"
	"raptor-make/internal/store"
	"raptor-make/rapt"
	"raptor-make/recipes"
	"raptor-make/sandbox"
)

// A world is a project on disk with an engine whose steps are played by the
// test: a layer becomes a file that lists its actions, a job writes its target's
// layers and its environment to its outputs.
type world struct {
	t   *testing.T
	dir string

	mu   sync.Mutex
	ran  []string // layers without their keys, jobs as "run NAME"
	fail map[string]error
	slow map[string]chan struct{} // a job waits for its channel to be closed
	tags map[string]string        // digests of images

	player    engine.Executor // nil: execute
	workers   int
	keepGoing bool
	always    bool
	update    bool
	epoch     string
}

func newWorld(t *testing.T, files map[string]string) *world {
	w := newWorldIn(t, t.TempDir())
	for name, text := range files {
		w.write(name, text)
	}
	return w
}

func newWorldIn(t *testing.T, dir string) *world {
	return &world{t: t, dir: dir, fail: map[string]error{}, slow: map[string]chan struct{}{}, tags: map[string]string{}, workers: 2}
}

func (w *world) write(name, text string) {
	w.t.Helper()
	path := filepath.Join(w.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) read(name string) string {
	w.t.Helper()
	text, err := os.ReadFile(filepath.Join(w.dir, name))
	if err != nil {
		w.t.Fatal(err)
	}
	return string(text)
}

func (w *world) engine() *engine.Engine {
	w.t.Helper()
	p := recipes.Empty(w.dir)
	if file := filepath.Join(w.dir, "Raptor.toml"); fileExists(file) {
		var err error
		if p, err = recipes.Load(file); err != nil {
			w.t.Fatal(err)
		}
	}
	s, err := store.Open(filepath.Join(w.dir, "layers"))
	if err != nil {
		w.t.Fatal(err)
	}
	lock, err := recipes.LoadLock(filepath.Join(w.dir, "Raptor.lock"))
	if err != nil {
		w.t.Fatal(err)
	}
	pkg := &rapt.Package{Root: w.dir, Links: map[string]*rapt.Package{}}
	for _, l := range p.Links {
		pkg.Links[l.Name] = &rapt.Package{Name: l.Name, Root: p.Abs(l.Path.Text), Project: pkg}
	}
	watch := &engine.Watch{}
	execute := w.player
	if execute == nil {
		execute = w.execute
	}
	return &engine.Engine{
		Watch:   watch,
		Project: p, Package: pkg, Loader: &rapt.Loader{Project: pkg}, Store: s, Digests: engine.LoadDigests(s.Remembered(), watch),
		Images: w, Lock: lock, Execute: execute, Platform: "linux/amd64", Workers: w.workers,
		KeepGoing: w.keepGoing, Always: w.always, Update: w.update, Epoch: w.epoch,
	}
}

func fileExists(path string) bool { _, err := os.Stat(path); return err == nil }

// Resolve and Unpack play the registry.
func (w *world) Resolve(_ context.Context, r *images.Ref, locked string) (*images.Resolved, error) {
	if locked != "" {
		return &images.Resolved{URL: r.URL, Digest: locked, Pinned: true}, nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	sum := sha256.Sum256([]byte(r.URL + w.tags[r.URL]))
	return &images.Resolved{URL: r.URL, Digest: "sha256:" + hex.EncodeToString(sum[:])}, nil
}

func (w *world) Unpack(_ context.Context, r *images.Ref, res *images.Resolved, dest string, _ images.Progress) (*images.Config, error) {
	w.note(r.Name)
	return &images.Config{Env: []string{"IMAGE=" + r.Name}}, os.WriteFile(filepath.Join(dest, "image"), []byte(res.Digest), 0o644)
}

func (w *world) note(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ran = append(w.ran, name)
}

func (w *world) execute(ctx context.Context, spec *sandbox.Spec, streams sandbox.Streams) (sandbox.Result, error) {
	if spec.Build {
		return w.executeLayer(spec, streams)
	}
	job := spec.Actions[0].(*sandbox.Exec)
	name := job.Args[len(job.Args)-1]
	w.note("run " + name)
	if ch := w.slow[name]; ch != nil {
		select {
		case <-ch:
		case <-ctx.Done():
			return sandbox.Result{}, context.Cause(ctx)
		}
	}
	if err := w.fail[name]; err != nil {
		return sandbox.Result{}, err
	}
	var text strings.Builder
	for _, m := range spec.Mounts {
		if strings.HasPrefix(m.Dest, "/in") {
			content, _ := os.ReadFile(m.Source)
			fmt.Fprintf(&text, "%s %v\n", content, m.Dirs)
		}
	}
	for _, v := range job.Env {
		if strings.HasPrefix(v, "T_") {
			fmt.Fprintln(&text, v)
		}
	}
	for _, m := range spec.Mounts {
		if strings.HasPrefix(m.Dest, "/out") {
			if err := os.WriteFile(m.Source, []byte(text.String()), 0o644); err != nil {
				return sandbox.Result{}, err
			}
		}
	}
	return sandbox.Result{}, nil
}

func (w *world) executeLayer(spec *sandbox.Spec, streams sandbox.Streams) (sandbox.Result, error) {
	name := filepath.Base(filepath.Dir(spec.Upper))
	name = name[:len(name)-17]
	w.note(name)
	var text strings.Builder
	for i, a := range spec.Actions {
		if streams.Started != nil {
			streams.Started(i)
		}
		switch a := a.(type) {
		case *sandbox.Exec:
			if a.Args[0] == "fail" {
				return sandbox.Result{}, &sandbox.ExitError{Action: i, Status: 3}
			}
			fmt.Fprintln(&text, "run", a.Args, a.Env, a.Dir)
		case *sandbox.Write:
			fmt.Fprintln(&text, "write", a.Dest, string(a.Data))
		case *sandbox.Copy:
			for _, s := range a.Sources {
				content, err := os.ReadFile(s.Path)
				if err != nil {
					return sandbox.Result{}, err
				}
				fmt.Fprintln(&text, "copy", a.Dest, string(content))
			}
		}
	}
	return sandbox.Result{Entries: 1}, os.WriteFile(filepath.Join(spec.Upper, name), []byte(text.String()), 0o644)
}

// make makes what names stand for and returns what ran, sorted, and the events.
func (w *world) make(names ...string) (ran []string, events []engine.Event, err error) {
	w.t.Helper()
	return w.makeContext(context.Background(), names...)
}

func (w *world) makeContext(ctx context.Context, names ...string) (ran []string, events []engine.Event, err error) {
	w.t.Helper()
	w.mu.Lock()
	w.ran = nil
	w.mu.Unlock()
	e := w.engine()
	jobs, layers, err := e.Project.Select(names)
	if err != nil {
		w.t.Fatal(err)
	}
	req := engine.Request{Jobs: jobs}
	for _, l := range layers {
		req.Layers = append(req.Layers, recipes.Value{Text: l})
	}
	plan, err := e.Plan(ctx, req)
	if err != nil {
		return nil, nil, err
	}
	if err := e.Lock.Save(); err != nil {
		w.t.Fatal(err)
	}
	err = e.Run(ctx, plan, func(ev engine.Event) { events = append(events, ev) })
	w.mu.Lock()
	defer w.mu.Unlock()
	slices.Sort(w.ran)
	return w.ran, events, err
}

// wantRan makes everything and fails unless exactly these steps ran.
func (w *world) wantRan(what string, want ...string) {
	w.t.Helper()
	ran, _, err := w.make()
	if err != nil {
		w.t.Fatalf("%s: %v", what, err)
	}
	slices.Sort(want)
	if !slices.Equal(ran, want) {
		w.t.Errorf("%s: ran %q, want %q", what, ran, want)
	}
}

// twoJobs is a project of a base, two layers on it and two jobs, one of which
// reads what the other writes.
var twoJobs = map[string]string{
	"Raptor.toml": `
[run.pack]
target = "builder"
input = "app"
output = "out/pack"
args = ["pack"]
env.T_LEVEL = "1"

[run.sign]
target = "signer"
input = "out/pack"
output = "out/signed"
args = ["sign"]
`,
	"base.rapt":    "FROM docker://base:1\nRUN one\n",
	"app.rapt":     "FROM base\n$ set data = load_yaml(\"data.yaml\")\nCOPY app.conf /etc/app.conf\nINCLUDE part word=data.word\n",
	"part.rinc":    "RUN echo {{ word }}\n",
	"data.yaml":    "word: hello\n",
	"app.conf":     "a = 1\n",
	"builder.rapt": "FROM base\nRUN tools\nMOUNT --layers input /in\nMOUNT --file output /out\nENTRYPOINT build\n",
	"signer.rapt":  "RUN gpg\nMOUNT --file --readonly input /in\nMOUNT --file output /out\nENTRYPOINT sign\n",
}

func TestRebuilds(t *testing.T) {
	w := newWorld(t, twoJobs)
	image := "index.docker.io-library-base-1"
	w.wantRan("from nothing", image, "base", "app", "builder", "signer", "run pack", "run sign")
	w.wantRan("again")
	old := time.Now().Add(-time.Hour)
	for _, file := range []string{"app.conf", "base.rapt", "data.yaml", "Raptor.toml"} {
		os.Chtimes(filepath.Join(w.dir, file), old, old)
	}
	w.wantRan("touch")
	w.write("base.rapt", "# a comment\nFROM  docker://base:1\n\nRUN   one\n")
	w.wantRan("comment and spacing")
	w.write("app.conf", "a = 2\n")
	w.wantRan("COPY source", "app", "run pack", "run sign")
	w.write("app.conf", "a = 1\n")
	w.wantRan("edited back", "run pack", "run sign")
	w.write("data.yaml", "word: bye\n")
	w.wantRan("load_yaml", "app", "run pack", "run sign")
	w.write("part.rinc", "RUN echo -n {{ word }}\n")
	w.wantRan("included file", "app", "run pack", "run sign")
	os.Chmod(filepath.Join(w.dir, "app.conf"), 0o600)
	w.wantRan("permission bits", "app", "run pack", "run sign")
	w.write("base.rapt", "FROM docker://base:1\nRUN two\n")
	w.wantRan("parent", "base", "app", "builder", "run pack", "run sign")
	w.write("builder.rapt", strings.Replace(twoJobs["builder.rapt"], "/in\n", "/input\n", 1))
	w.wantRan("MOUNT of a target: the output turned out the same", "run pack")
	w.write("Raptor.toml", strings.Replace(twoJobs["Raptor.toml"], `"1"`, `"2"`, 1))
	w.wantRan("env of a job", "run pack", "run sign")
	w.write("out/signed", "edited")
	w.wantRan("edited output", "run sign")
	os.Remove(filepath.Join(w.dir, "out/pack"))
	w.wantRan("output deleted: what reads it finds the same again", "run pack")
	os.Truncate(filepath.Join(w.dir, "out/pack"), 1)
	w.wantRan("output truncated", "run pack")
	w.tags["docker://base:1"] = "moved"
	w.wantRan("tag moved")
	w.update = true
	w.wantRan("tag moved, --update", image, "base", "app", "builder", "run pack", "run sign")
	w.update = false
	w.epoch = "1700000000"
	w.wantRan("SOURCE_DATE_EPOCH", "base", "app", "builder", "signer", "run pack", "run sign")
	moved := t.TempDir()
	os.Remove(moved)
	if err := os.Rename(w.dir, moved); err != nil {
		t.Fatal(err)
	}
	w.dir = moved
	w.wantRan("project moved")
	w.always = true
	w.wantRan("-B", image, "base", "app", "builder", "signer", "run pack", "run sign")
}

func TestFailedJobKeepsItsOutputAndRunsAgain(t *testing.T) {
	w := newWorld(t, twoJobs)
	w.wantRan("from nothing", "index.docker.io-library-base-1", "base", "app", "builder", "signer", "run pack", "run sign")
	before := w.read("out/pack")
	w.always = true
	w.fail["pack"] = errors.New("no space left")
	if _, _, err := w.make("pack"); err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Fatalf("got %v", err)
	}
	if now := w.read("out/pack"); now != before {
		t.Errorf("output is %q, was %q", now, before)
	}
	if files, _ := os.ReadDir(filepath.Join(w.dir, "out")); len(files) != 2 {
		t.Errorf("left behind: %v", files)
	}
	w.always = false
	delete(w.fail, "pack")
	w.wantRan("after a failure", "run pack")
}

func TestFailureStopsSiblings(t *testing.T) {
	files := map[string]string{
		"Raptor.toml": "[run.bad]\ntarget = \"t\"\nargs = [\"bad\"]\n[run.slow]\ntarget = \"t\"\nargs = [\"slow\"]\n" +
			"[run.after]\ntarget = \"t\"\nargs = [\"after\"]\nneeds = [\"bad\"]\n",
		"t.rapt": "RUN x\nENTRYPOINT e\n",
	}
	w := newWorld(t, files)
	w.fail["bad"] = errors.New("bad went wrong")
	w.slow["slow"] = make(chan struct{})
	_, events, err := w.make()
	if err == nil || !strings.Contains(err.Error(), "bad went wrong") || strings.Contains(err.Error(), "another") {
		t.Errorf("got %v", err)
	}
	want := map[string]engine.EventKind{"run bad": engine.Failed, "run slow": engine.Cancelled, "run after": engine.Skipped, "t": engine.Done}
	for step, kind := range want {
		if last := lastEvent(events, step); last != kind {
			t.Errorf("%s ended as %s, want %s", step, last, kind)
		}
	}
	w.keepGoing = true
	close(w.slow["slow"])
	_, events, err = w.make()
	if err == nil {
		t.Error("no error")
	}
	want = map[string]engine.EventKind{"run bad": engine.Failed, "run slow": engine.Done, "run after": engine.Skipped, "t": engine.Cached}
	for step, kind := range want {
		if last := lastEvent(events, step); last != kind {
			t.Errorf("with -k, %s ended as %s, want %s", step, last, kind)
		}
	}
}

func lastEvent(events []engine.Event, step string) engine.EventKind {
	var last engine.EventKind
	for _, ev := range events {
		if ev.Step == step {
			last = ev.Kind
		}
	}
	return last
}

func TestInterruption(t *testing.T) {
	w := newWorld(t, map[string]string{
		"Raptor.toml": "[run.slow]\ntarget = \"t\"\nargs = [\"slow\"]\n",
		"t.rapt":      "RUN x\nENTRYPOINT e\n",
	})
	w.slow["slow"] = make(chan struct{})
	stop := errors.New("stop")
	ctx, cancel := context.WithCancelCause(context.Background())
	time.AfterFunc(50*time.Millisecond, func() { cancel(stop) })
	_, events, err := w.makeContext(ctx)
	if !errors.Is(err, stop) {
		t.Errorf("got %v, want %v", err, stop)
	}
	if last := lastEvent(events, "run slow"); last != engine.Cancelled {
		t.Errorf("the step ended as %s", last)
	}
	if left, _ := os.ReadDir(filepath.Join(w.dir, "layers/.raptor/build")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestFailedRunIsExplained(t *testing.T) {
	w := newWorld(t, map[string]string{"Raptor.toml": "[group.all]\nbuild = [\"t\"]\n", "t.rapt": "RUN ok\nRUN fail now\n"})
	_, _, err := w.make("all")
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"t.rapt:2", "exit status 3", "RUN fail now"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error lacks %q:\n%v", want, err)
		}
	}
}

func TestReasons(t *testing.T) {
	w := newWorld(t, twoJobs)
	w.wantRan("from nothing", "index.docker.io-library-base-1", "base", "app", "builder", "signer", "run pack", "run sign")
	w.write("app.conf", "a = 2\n")
	w.write("builder.rapt", strings.Replace(twoJobs["builder.rapt"], "RUN tools", "RUN better tools", 1))
	e := w.engine()
	plan, err := e.Plan(context.Background(), engine.Request{Jobs: e.Project.Jobs})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"app":      "source app.conf changed",
		"builder":  `instruction 1 changed: it was "RUN tools", it is "RUN better tools"`,
		"run sign": "it reads the output of run pack",
	}
	for _, s := range plan.Steps {
		reason, ok := want[s.Name]
		if ok && !slices.Contains(s.Reasons, reason) {
			t.Errorf("%s: reasons are %q, want %q among them", s.Name, s.Reasons, reason)
		}
		delete(want, s.Name)
	}
	if len(want) > 0 {
		t.Errorf("not in the plan: %v", want)
	}
}

func TestWrongMounts(t *testing.T) {
	for _, c := range []struct{ name, toml, message string }{
		{"required", "[run.x]\ntarget = \"builder\"\ninput = \"app\"\n", "job x needs the mount output, which is not given"},
		{"undeclared", "[run.x]\ntarget = \"builder\"\ninput = \"app\"\noutput = \"o\"\nmount.data = \"d\"\n", `job x gives the mount "data", which builder does not declare`},
		{"no such target", "[run.x]\ntarget = \"bilder\"\n", "bilder"},
		{"no such input", "[run.x]\ntarget = \"builder\"\ninput = \"ap\"\noutput = \"o\"\n", "ap"},
		{"two outputs", "[run.x]\ntarget = \"builder\"\ninput = \"app\"\noutput = [\"o\", \"p\"]\n", "the mount output of builder takes one source, not 2"},
		{"no such link", "[run.x]\ntarget = \"builder\"\ninput = \"app\"\noutput = \"$nolink/o\"\n", "there is no link nolink"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, twoJobs)
			w.write("Raptor.toml", c.toml)
			ran, _, err := w.make()
			if err == nil || !strings.Contains(err.Error(), c.message) || !strings.Contains(err.Error(), "Raptor.toml:") {
				t.Errorf("got %v, want %q with a place in Raptor.toml", err, c.message)
			}
			if len(ran) > 0 {
				t.Errorf("ran %v", ran)
			}
		})
	}
}

func TestDamage(t *testing.T) {
	w := newWorld(t, twoJobs)
	all := []string{"index.docker.io-library-base-1", "base", "app", "builder", "signer", "run pack", "run sign"}
	w.wantRan("from nothing", all...)
	for _, file := range []string{"jobs/pack.json", "digests.json"} {
		w.write("layers/.raptor/"+file, "{")
	}
	w.wantRan("damaged records", "run pack")
	layers, _ := filepath.Glob(filepath.Join(w.dir, "layers/app-*"))
	os.RemoveAll(layers[0])
	w.wantRan("a lost layer that nobody needs")
	os.Remove(filepath.Join(w.dir, "out/pack"))
	w.wantRan("a lost layer that is needed", "app", "run pack")
}
