package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"raptor-make/internal/store"
	"raptor-make/sandbox"
)

// A stepRun is a step being carried out.
type stepRun struct {
	*run
	step    *Step
	start   time.Time
	log     *os.File
	closers []func() // run at the end, the last one first
}

// later has something done at the end of the step, or of the shell that it is
// kept for.
func (s *stepRun) later(f func()) { s.closers = append(s.closers, f) }

func (s *stepRun) close() {
	for i := len(s.closers) - 1; i >= 0; i-- {
		s.closers[i]()
	}
}

// keep hands a step that failed over to a shell, if one is wanted.
func (s *stepRun) keep(spec *sandbox.Spec, err error) {
	if s.debug.keep(s.Engine, s.step.Name, spec, err, s.closers) {
		s.closers = nil
	}
}

func (r *run) stepRun(s *Step) *stepRun { return &stepRun{run: r, step: s, start: time.Now()} }

func (s *stepRun) elapsed() time.Duration { return time.Since(s.start) }
func (s *stepRun) detail(text string)     { s.event(s.step, Event{Kind: Detail, Text: text}) }
func (s *stepRun) progress(what string, done, total int64) {
	s.event(s.step, Event{Kind: Progress, Text: what, Bytes: done, TotalBytes: total})
}

// nothingToDo decides what is still open, and reports a step that is done
// already.
func (s *stepRun) nothingToDo() bool {
	switch {
	case s.step.State == ToDo:
		return false
	case s.step.State == Pending && s.step.Layer != nil:
		return true // without a word: it is built when somebody needs it
	case s.step.State == Pending:
		s.decideJob(s.step, nil, nil)
	}
	if s.step.State != Current {
		return false
	}
	s.cached()
	return true
}

// postponed builds the layers that a job needs and that were left until it was
// decided, unless another job has had them built.
func (s *stepRun) postponed(ctx context.Context) error {
	if s.step.Job == nil {
		return nil
	}
	for _, l := range s.step.Job.stacks() {
		if err := s.run.postponedLayer(ctx, l.step); err != nil {
			return &postponedError{l.step, err}
		}
	}
	return nil
}

func (r *run) postponedLayer(ctx context.Context, s *Step) error {
	s.building.Lock()
	defer s.building.Unlock()
	if s.State == Pending {
		s.State = Current
		s.failure = r.stepRun(s).execute(ctx)
	}
	return s.failure
}

// A postponedError is a layer that failed, as the job sees it that needs it.
type postponedError struct {
	layer *Step
	err   error
}

func (e *postponedError) Error() string { return e.err.Error() }
func (e *postponedError) Unwrap() error { return e.err }

func (s *stepRun) cached() {
	ev := Event{Kind: Cached}
	if s.step.Job != nil {
		if record, err := s.Store.Job(s.step.Job.Job.Name); err == nil {
			ev.Outputs = written(record)
		}
	}
	s.event(s.step, ev)
}

func written(record *store.Job) []Written {
	var list []Written
	for _, out := range record.Outputs {
		list = append(list, Written{out.Path, out.Bytes})
	}
	return list
}

// lockName is what the step is locked, and its output logged, under.
func (s *Step) lockName() string {
	if s.Layer != nil {
		return s.Layer.Dir
	}
	return "run-" + s.Job.Job.Name
}

// execute carries out a step, unless another process has done so meanwhile.
func (s *stepRun) execute(ctx context.Context) (err error) {
	defer func() {
		if err != nil {
			s.failed(ctx, err)
		}
	}()
	lock, err := s.Store.Lock(ctx, s.step.lockName(), func(holder string) {
		s.event(s.step, Event{Kind: Waiting, Text: holder})
	})
	if err != nil {
		return err
	}
	s.later(lock.Unlock)
	defer s.close()
	s.start = time.Now()
	if s.doneByAnother() {
		s.cached()
		return nil
	}
	if err := s.postponed(ctx); err != nil {
		return err
	}
	s.event(s.step, Event{Kind: Started})
	if err := s.openLog(); err != nil {
		return err
	}
	defer s.log.Close()
	done := Event{Kind: Done, Log: s.log.Name()}
	if s.step.Layer != nil {
		err = s.build(ctx, s)
	} else {
		done.Outputs, err = s.job(ctx, s)
	}
	if err != nil {
		return err
	}
	done.Elapsed = s.elapsed()
	s.event(s.step, done)
	return nil
}

// doneByAnother looks once more, now that the lock is held.
func (s *stepRun) doneByAnother() bool {
	if s.Always {
		return false
	}
	if l := s.step.Layer; l != nil {
		_, err := s.Store.Layer(l.Dir, string(l.Key))
		return err == nil
	}
	s.decideJob(s.step, nil, nil)
	return s.step.State == Current
}

func (s *stepRun) failed(ctx context.Context, err error) {
	var layer *postponedError
	if errors.As(err, &layer) && ctx.Err() == nil {
		s.event(s.step, Event{Kind: Skipped, Text: layer.layer.Name + " failed"})
		return
	}
	kind := Failed
	if cause := context.Cause(ctx); cause != nil && errors.Is(err, cause) {
		kind = Cancelled
	}
	ev := Event{Kind: kind, Err: err, Elapsed: s.elapsed()}
	if s.log != nil {
		ev.Log = s.log.Name()
	}
	s.event(s.step, ev)
}

func (s *stepRun) openLog() error {
	f, err := os.Create(s.Store.LogPath(s.step.lockName()))
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	s.log = f
	return nil
}

// streams are where a step's programs write: to the log and the sink.
func (s *stepRun) streams() sandbox.Streams {
	return sandbox.Streams{Stdout: &output{s, false}, Stderr: &output{s, true}}
}

type output struct {
	*stepRun
	stderr bool
}

var _ io.Writer = (*output)(nil)

func (o *output) Write(p []byte) (int, error) {
	// A log that cannot be written (a full disk) must not stop the step: it
	// fails for its own reasons soon enough, or does not.
	o.log.Write(p)
	o.event(o.step, Event{Kind: Output, Data: p, Stderr: o.stderr})
	return len(p), nil
}
