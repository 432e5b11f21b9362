package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/hashicorp/go-multierror"
	"golang.org/x/sync/errgroup"

	"raptor-make/graph"
	"raptor-make/internal/store"
	"raptor-make/sandbox"
)

// errSiblingFailed stops the steps that run when another fails.
var errSiblingFailed = errors.New("another step failed")

// Run makes a plan true. It returns when everything it started has ended; all
// failures come back together. After an interruption the error is the cause of
// ctx.
func (e *Engine) Run(ctx context.Context, p *Plan, sink Sink) error {
	r := &run{Engine: e, sink: sink, began: time.Now()}
	if e.Debug {
		r.debug = &debugging{}
	}
	total := 0
	for _, s := range p.Steps {
		if s.State != Pending || s.Job != nil {
			total++
		}
	}
	r.emit(Event{Kind: PlanMade, Total: total})
	err := r.use(p)
	if err == nil {
		err = r.all(ctx, p)
	}
	if r.debug != nil && r.debug.first != nil {
		p.Failed = r.debug.first
		p.Failed.close = append([]func(){p.Close}, p.Failed.close...)
	} else if err != nil || p.Run == nil {
		p.Close()
	}
	if err == nil {
		err = e.Digests.Save()
	} else {
		e.Digests.Save()
	}
	r.emit(Event{Kind: Finished, Elapsed: time.Since(r.began), Err: err})
	return err
}

// A run is one call of Run.
type run struct {
	*Engine
	sink  Sink
	began time.Time
	debug *debugging // nil: failed steps are tidied up
	mu    sync.Mutex // of sink
}

func (r *run) emit(ev Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	ev.Time = time.Now()
	r.sink(ev)
}

// use keeps others from removing the layers of a plan. Those that were removed
// since it was made are made again.
func (r *run) use(p *Plan) (err error) {
	var names []string
	for _, s := range p.Steps {
		if s.Layer != nil {
			names = append(names, s.Layer.Dir)
		}
	}
	if len(names) == 0 {
		return nil
	}
	p.release, err = r.Store.Use(names)
	if err != nil {
		return err
	}
	for _, s := range p.Steps {
		if s.Layer != nil && s.State == Current && isGone(r.Store.Path(s.Layer.Dir)) {
			s.State, s.Reasons = ToDo, []string{"it was removed just now"}
		}
	}
	return nil
}

func isGone(path string) bool {
	_, err := os.Lstat(path)
	return isMissing(err)
}

// A result is what became of a step.
type result struct {
	node graph.Node
	err  error
}

// all walks the schedule: it hands steps to workers while there are any free,
// and takes their results.
func (r *run) all(ctx context.Context, p *Plan) error {
	g := r.graph(p)
	schedule, err := g.Schedule()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var workers errgroup.Group
	results := make(chan result)
	var failures *multierror.Error
	slots := &slots{most: r.Workers, server: r.Jobserver}
	for {
		for schedule.Ready() && ctx.Err() == nil {
			n, s := r.peek(p, schedule)
			if s.nothingToDo() {
				schedule.Next()
				schedule.Done(n)
				continue
			}
			if !slots.free() {
				break
			}
			schedule.Next()
			slots.busy++
			workers.Go(func() error {
				results <- result{n, s.execute(ctx)}
				return nil
			})
		}
		if slots.busy == 0 {
			break
		}
		var done result
		select {
		case token := <-slots.arrived():
			slots.tokens = append(slots.tokens, token)
			continue
		case done = <-results:
			slots.done()
		}
		if done.err == nil {
			schedule.Done(done.node)
			continue
		}
		if !errors.Is(done.err, errSiblingFailed) && !(ctx.Err() != nil && errors.Is(done.err, context.Cause(ctx))) {
			failures = multierror.Append(failures, done.err)
		}
		for _, n := range schedule.Fail(done.node) {
			r.dropped(p.Steps[n], p.Steps[done.node], failures.ErrorOrNil() != nil)
		}
		if !r.KeepGoing {
			cancel(errSiblingFailed)
		}
	}
	workers.Wait()
	for n, ok := schedule.Next(); ok; n, ok = schedule.Next() {
		r.event(p.Steps[n], Event{Kind: Cancelled})
		for _, m := range schedule.Fail(n) {
			r.event(p.Steps[m], Event{Kind: Cancelled})
		}
	}
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, errSiblingFailed) {
		return cause
	}
	return failures.ErrorOrNil()
}

// peek is the step that the schedule would give out next.
func (r *run) peek(p *Plan, schedule *graph.Schedule) (graph.Node, *stepRun) {
	n := schedule.Peek()
	return n, r.stepRun(p.Steps[n])
}

// dropped reports a step that cannot run any more.
func (r *run) dropped(s, because *Step, failed bool) {
	if failed {
		r.event(s, Event{Kind: Skipped, Text: because.Name + " failed"})
		return
	}
	r.event(s, Event{Kind: Cancelled})
}

// graph is that of a plan's steps, with the time they took before as costs.
func (r *run) graph(p *Plan) *graph.Graph {
	g := &graph.Graph{}
	at := map[*Step]graph.Node{}
	for _, s := range p.Steps {
		at[s] = g.Add(s.Name, int64(r.expected(s)))
	}
	for _, s := range p.Steps {
		for _, need := range s.Needs {
			if n, ok := at[need]; ok {
				g.Edge(n, at[s])
			}
		}
	}
	return g
}

// unknownCost is what a step is expected to take that was never made before.
const unknownCost = 10 * time.Second

func (r *run) expected(s *Step) time.Duration {
	switch {
	case s.State == Current:
		return 0
	case s.Job != nil:
		if record, err := r.Store.Job(s.Job.Job.Name); err == nil {
			return record.Took
		}
	case s.last != nil:
		return s.last.Took
	}
	return unknownCost
}

func (r *run) event(s *Step, ev Event) {
	ev.Step, ev.Type, ev.Key = s.Name, s.Kind, s.Key()
	r.emit(ev)
}

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
	case s.step.State == Pending && s.step.Job != nil:
		s.decideJob(s.step, nil, nil)
	case s.step.State == Pending:
		if !s.needed() {
			return true // without a word: nobody asked for it
		}
		s.step.State = ToDo
	}
	if s.step.State != Current {
		return false
	}
	s.cached()
	return true
}

// needed decides the jobs that a layer waits for, until one has to run. They
// come in the order in which they read from each other.
func (s *stepRun) needed() bool {
	for _, job := range s.step.waitsFor {
		if job.State == Pending {
			s.decideJob(job, nil, nil)
		}
		if job.State == ToDo {
			return true
		}
	}
	return false
}

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

// job runs the container of a job, whose lock is held, and records it.
func (e *Engine) job(ctx context.Context, s *stepRun) ([]Written, error) {
	c := s.step.Job
	if err := e.jobKey(c, nil, nil); err != nil {
		return nil, err
	}
	if limit := c.Job.Limits.Timeout; limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, limit, fmt.Errorf("it took longer than its limit of %s", limit))
		defer cancel()
	}
	if err := e.sweepOutputs(c); err != nil {
		return nil, err
	}
	// From here on the job counts as one that failed, until it is recorded.
	if err := e.Store.ForgetJob(c.Job.Name); err != nil {
		return nil, err
	}
	r, err := e.start(ctx, c, nil)
	if err != nil {
		return nil, err
	}
	s.later(r.close)
	if _, err := e.Execute(ctx, r.spec, s.streams()); err != nil {
		s.keep(r.spec, err)
		return nil, jobFailure(c, err)
	}
	if err := r.commit(); err != nil {
		return nil, err
	}
	// What a job changes in its own inputs must not make it run again.
	if err := e.jobKey(c, nil, nil); err != nil {
		return nil, err
	}
	record, err := e.record(c)
	if err != nil {
		return nil, err
	}
	record.Took = s.elapsed()
	if err := e.Store.RecordJob(record); err != nil {
		return nil, err
	}
	return written(record), nil
}

// jobFailure says which container failed, and how.
func jobFailure(c *Container, err error) error {
	var exit *sandbox.ExitError
	var act *sandbox.ActionError
	var setup *sandbox.SetupError
	switch {
	case errors.As(err, &exit):
		return fmt.Errorf("%s (%s): %w", of(c.Job), c.Job.Target.Text, err)
	case errors.As(err, &act):
		return fmt.Errorf("%s (%s): %w", of(c.Job), c.Job.Target.Text, err)
	case errors.As(err, &setup) && setup.Help != "":
		return fmt.Errorf("%w (%s)", err, setup.Help)
	}
	return err
}

// sweepOutputs removes temporary files that killed runs of this job have left
// beside its outputs. The job's lock is held: nobody is writing them.
func (e *Engine) sweepOutputs(c *Container) error {
	for _, b := range c.outputs() {
		if b.path == "" {
			continue
		}
		dir := filepath.Dir(b.path)
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue
		}
		prefix := fmt.Sprintf(stagedName, filepath.Base(b.path))
		for _, entry := range entries {
			if name := entry.Name(); len(name) > len(prefix) && name[:len(prefix)] == prefix {
				if err := os.Remove(filepath.Join(dir, name)); err != nil {
					return fmt.Errorf("remove leftover: %w", err)
				}
			}
		}
	}
	return nil
}
