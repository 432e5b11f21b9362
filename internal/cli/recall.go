package cli

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"

	"raptor-make/engine"
	"raptor-make/internal/store"
	"raptor-make/recipes"
	"raptor-make/sandbox"
)

// recollectionFile is where the outcome of this very call is remembered: what
// was asked for, in which project, by which binary, with everything of the
// environment that counts. It is "" when the call wants things done anew.
func (inv *invocation) recollectionFile(names []string) string {
	o := &inv.make
	if inv.noAct || o.always || o.update {
		return ""
	}
	cache, err := cacheDir()
	if err != nil {
		return ""
	}
	dir, err := os.Getwd()
	if err != nil {
		return ""
	}
	// Packages give all that they install the same time, but not the same inode.
	var self unix.Stat_t
	if err := unix.Stat("/proc/self/exe", &self); err != nil {
		return ""
	}
	h := sha256.New()
	for _, part := range []any{inv.command, names, dir, o.file, o.set, inv.links.list, cache, os.Getenv("SOURCE_DATE_EPOCH")} {
		fmt.Fprintf(h, "%q\n", fmt.Sprintf("%q", part))
	}
	fmt.Fprintln(h, sandbox.Rootless(), self.Dev, self.Ino, self.Size, self.Mtim.Nano(), self.Ctim.Nano())
	return filepath.Join(cache, "recollections", hex.EncodeToString(h.Sum(nil))[:32])
}

// recall tells that there is nothing to do, if that is known without making a
// plan.
func (inv *invocation) recall(ctx context.Context, names []string) (done bool, err error) {
	file := inv.recollectionFile(names)
	if file == "" {
		return false, nil
	}
	r := engine.LoadRecollection(file)
	if r == nil || !r.Holds() {
		return false, nil
	}
	if inv.make.watch {
		inv.watched = r.Watch()
	}
	return true, inv.tellRecollected(ctx, r)
}

// tellRecollected tells what carrying out the plan would have told.
func (inv *invocation) tellRecollected(ctx context.Context, r *engine.Recollection) error {
	return inv.show(ctx, func(sink engine.Sink) error {
		start := time.Now()
		sink(engine.Event{Kind: engine.PlanMade, Time: start, Total: len(r.Events)})
		for _, ev := range r.Events {
			ev.Time = start
			sink(ev)
		}
		sink(engine.Event{Kind: engine.Finished, Time: time.Now(), Elapsed: time.Since(start)})
		return nil
	})
}

// recallRun runs a container, if it is known without making a plan that there is
// nothing to do before.
func (inv *invocation) recallRun(ctx context.Context, j *recipes.Job) (done bool, err error) {
	file := inv.recollectionFile([]string{j.Target.Text})
	if file == "" || len(j.Bindings()) > 0 || j.StateDir.Text != "" {
		return false, nil
	}
	r := engine.LoadRecollection(file)
	if r == nil || r.Store == "" {
		return false, nil
	}
	if err := inv.becomeRoot(ctx); err != nil {
		return false, err
	}
	s := store.Existing(r.Store)
	s.Sync = sandbox.Sync
	if err := s.Prepare(); err != nil {
		return false, err
	}
	e := &engine.Engine{Store: s, Execute: sandbox.Run, Proxies: proxies(), Epoch: r.Epoch}
	plan, err := e.Recall(r, j)
	if plan == nil {
		return false, err
	}
	defer plan.Close()
	if err := inv.tellRecollected(ctx, r); err != nil {
		return true, err
	}
	return true, inv.runContainer(ctx, e, plan)
}

// recollect remembers that there was nothing to do. That it cannot is no
// failure: the next call plans once more.
func (inv *invocation) recollect(e *engine.Engine, plan *engine.Plan, names []string, began time.Time) {
	file := inv.recollectionFile(names)
	if file == "" {
		return
	}
	project := e.Project.File
	if project == "" {
		project = filepath.Join(e.Project.Root, projectFile) // that there is none counts, too
	}
	e.Watch.File(project, true)
	r := e.Recollect(plan, began)
	if r == nil || os.MkdirAll(filepath.Dir(file), 0o755) != nil {
		return
	}
	renameio.WriteFile(file, r.Encode(), 0o600)
	prune(filepath.Dir(file))
}

// prune keeps the number of recollections within bounds: those of projects and
// requests that are gone are never asked for again.
func prune(dir string) {
	const most, age = 256, 30 * 24 * time.Hour
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) <= most {
		return
	}
	for _, e := range entries {
		if info, err := e.Info(); err == nil && time.Since(info.ModTime()) > age && !strings.HasPrefix(e.Name(), ".") {
			os.Remove(filepath.Join(dir, e.Name()))
		}
	}
}
