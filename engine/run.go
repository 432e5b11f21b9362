package engine

import (
	"context"
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-multierror"
	"golang.org/x/sync/errgroup"

	"raptor-make/graph"
)

// errSiblingFailed stops the steps that run when another fails.
var errSiblingFailed = errors.New("another step failed")

// Run makes a plan true. It returns when everything it started has ended; all
// failures come back together. After an interruption the error is the cause of
// ctx.
func (e *Engine) Run(ctx context.Context, p *Plan, sink Sink) error {
	r := &run{Engine: e, sink: sink, began: time.Now(), interrupt: ctx}
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
	if ctx.Err() == nil { // it may wait for the disk
		if saved := e.Digests.Save(); err == nil {
			err = saved
		}
	}
	r.emit(Event{Kind: Finished, Elapsed: time.Since(r.began), Err: err})
	return err
}

// A run is one call of Run.
type run struct {
	*Engine
	sink  Sink
	began time.Time
	left  atomic.Int64 // steps planned to be done that have not begun
	debug *debugging   // nil: failed steps are tidied up
	mu    sync.Mutex   // of sink
	// What is finished, and only has to be made durable and put in its place,
	// is not given up because of a step that failed, nor for a limit: this
	// context ends with an interrupt alone.
	interrupt context.Context
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
	// Costs are the times that steps took before.
	schedule, err := stepGraph(p.Steps, r.expected).Schedule()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var workers errgroup.Group
	results := make(chan result)
	var failures *multierror.Error
	slots := &slots{most: r.Workers, server: r.Jobserver}
	for _, s := range p.Steps {
		if s.State == ToDo {
			r.left.Add(1)
		}
	}
	r.prepareNext()
	for {
		for schedule.Ready() && ctx.Err() == nil {
			n, s := r.peek(p, schedule)
			planned := s.step.State == ToDo
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
			if planned {
				r.left.Add(-1)
			}
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
	if failures != nil && len(failures.Errors) == 1 {
		return failures.Errors[0]
	}
	return failures.ErrorOrNil()
}

// prepareNext has the next step's sandbox begun, while this one waits for the
// disk.
func (r *run) prepareNext() {
	if r.Prepare != nil && r.left.Load() > 0 {
		r.Prepare()
	}
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
