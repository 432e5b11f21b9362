package engine

import (
	"context"
	"errors"
	"os"
	"sync"

	"raptor-make/sandbox"
)

// A DebugShell is a step that failed, kept as it was at that moment: its layers
// with all that it had changed, its mounts, its environment.
type DebugShell struct {
	Step string

	spec    *sandbox.Spec
	execute Executor
	close   []func()
}

// Run opens a shell in it, on the user's terminal.
func (d *DebugShell) Run(ctx context.Context, streams sandbox.Streams, env []string) error {
	exec := d.spec.Actions[0].(*sandbox.Exec)
	exec.Env = unique(append(exec.Env, env...))
	_, err := d.execute(ctx, d.spec, streams)
	var exit *sandbox.ExitError
	if errors.As(err, &exit) {
		return nil // that of the last command typed
	}
	return err
}

// Close throws away what was kept.
func (d *DebugShell) Close() {
	for i := len(d.close) - 1; i >= 0; i-- {
		d.close[i]()
	}
}

// debugging keeps the first step that fails.
type debugging struct {
	mu    sync.Mutex
	first *DebugShell
}

// keep takes over a failed step, with what would otherwise be tidied up after
// it; false if it is not to be kept.
func (d *debugging) keep(e *Engine, step string, spec *sandbox.Spec, err error, closers []func()) bool {
	if d == nil {
		return false
	}
	var exit *sandbox.ExitError
	var act *sandbox.ActionError
	var failed int
	switch {
	case errors.As(err, &exit):
		failed = exit.Action
	case errors.As(err, &act):
		failed = act.Action
	default:
		return false // stopped, or never begun
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.first != nil || freshWork(spec.Work) != nil {
		return false
	}
	shell := &sandbox.Exec{Args: []string{"/bin/sh"}, Env: []string{"PATH=" + defaultPath, "HOME=/root", "container=raptor"}}
	for _, a := range spec.Actions[:failed+1] {
		if last, ok := a.(*sandbox.Exec); ok {
			shell.Env, shell.Dir = last.Env, last.Dir
		}
	}
	again := *spec
	again.Actions = []sandbox.Action{shell}
	d.first = &DebugShell{Step: step, spec: &again, execute: e.Execute, close: closers}
	return true
}

// freshWork replaces overlayfs's own directory: the kernel refuses one that a
// volatile mount has left.
func freshWork(dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	return os.Mkdir(dir, 0o755)
}
