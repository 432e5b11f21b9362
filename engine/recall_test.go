package engine_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"raptor-make/engine"
	"raptor-make/internal/store"
	"raptor-make/recipes"
	"raptor-make/sandbox"
)

var proxies = []string{"http_proxy=http://user:secret@proxy.example"}

// TestRecollectedContainer compares how a container starts with how it is
// recollected to start.
func TestRecollectedContainer(t *testing.T) {
	files := map[string]string{
		"base.rapt":    "FROM docker://base:1\nENV A=1\nWORKDIR /srv\nRUN one\n",
		"app.rapt":     "FROM base\nENV B=\"two words\"\nENTRYPOINT serve --port 80\nCMD all\n",
		"mounts.rapt":  "FROM base\nMOUNT --simple --optional data /data\n",
		"empty.rapt":   "",
		"command.rapt": "FROM base\nENTRYPOINT sh -c\nENV C=c\nWORKDIR /a\nWORKDIR b/\n",
	}
	value := func(s string) recipes.Value { return recipes.Value{Text: s} }
	jobs := map[string]*recipes.Job{
		"plain":       {Target: value("app")},
		"arguments":   {Target: value("app"), Args: []recipes.Value{value("x"), value("secret\xff")}},
		"environment": {Target: value("command"), Env: []recipes.Var{{Key: "A", Value: value("secret")}, {Key: "C", Value: value("")}}},
		"no network":  {Target: value("empty"), Network: value("none")},
	}
	for what, job := range jobs {
		t.Run(what, func(t *testing.T) {
			w := newWorld(t, files)
			w.epoch = "1700000000"
			r, want := w.recollect(job)
			if r == nil {
				t.Fatal("nothing is recollected")
			}
			kept := r.Encode()
			if bytes.Contains(kept, []byte("secret")) {
				t.Error("what the user gives the container is kept")
			}
			if r = engine.DecodeRecollection(kept); r == nil {
				t.Fatal("it cannot be decoded")
			}
			s, err := store.Open(r.Store)
			if err != nil {
				t.Fatal(err)
			}
			e := &engine.Engine{Store: s, Epoch: r.Epoch, Proxies: proxies}
			plan, err := e.Recall(r, job)
			if plan == nil {
				t.Fatalf("it is not the same any more: %v", err)
			}
			if got := w.start(e, plan); !reflect.DeepEqual(got, want) {
				t.Errorf("it starts as\n%+v %+v\nwant\n%+v %+v", got, got.Actions[0], want, want.Actions[0])
			}
			w.write("base.rapt", "FROM docker://base:1\nENV A=2\n")
			w.write("empty.rapt", "ENV A=2\n")
			if plan, err := e.Recall(r, job); plan != nil || err != nil {
				t.Errorf("after an edit there is a plan, or an error: %v", err)
			}
			if uses, _ := filepath.Glob(filepath.Join(r.Store, ".raptor/uses/[0-9]*")); len(uses) > 0 {
				t.Errorf("layers stay in use: %q", uses)
			}
		})
	}
	for what, job := range map[string]*recipes.Job{
		"a mount":           {Target: value("mounts"), Mounts: []recipes.Mount{{Name: "data", Sources: []recipes.Value{value(".")}}}},
		"a state directory": {Target: value("app"), StateDir: value("state")},
	} {
		if r, _ := newWorld(t, files).recollect(job); r != nil {
			t.Errorf("%s: it is recollected, but has to be looked at each time", what)
		}
	}
}

// recollect builds what a job runs on, plans it once more, and returns what is
// recollected of that, and what a container of it is started with.
func (w *world) recollect(job *recipes.Job) (*engine.Recollection, *sandbox.Spec) {
	w.t.Helper()
	for last := false; ; last = true {
		e := w.engine()
		e.Proxies = proxies
		plan, err := e.Plan(context.Background(), engine.Request{Run: job})
		if err == nil {
			err = e.Run(context.Background(), plan, func(engine.Event) {})
		}
		if err != nil {
			w.t.Fatal(err)
		}
		if last {
			return e.Recollect(plan, time.Now().Add(time.Hour)), w.start(e, plan) // as if the files were old
		}
		plan.Close()
		if err := e.Lock.Save(); err != nil {
			w.t.Fatal(err)
		}
	}
}

// start returns what a plan's container is started with, without its own
// directories.
func (w *world) start(e *engine.Engine, plan *engine.Plan) *sandbox.Spec {
	w.t.Helper()
	var spec sandbox.Spec
	e.Execute = func(_ context.Context, s *sandbox.Spec, _ sandbox.Streams) (sandbox.Result, error) {
		spec = *s
		if _, err := os.Stat(s.Work); err != nil {
			w.t.Error(err)
		}
		return sandbox.Result{}, nil
	}
	if err := e.Container(context.Background(), plan, sandbox.Streams{}, []string{"TERM=dumb", "A=4"}); err != nil {
		w.t.Fatal(err)
	}
	spec.Upper, spec.Work = "", ""
	return &spec
}
