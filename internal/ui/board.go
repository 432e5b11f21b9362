package ui

import (
	"context"
	"errors"
	"slices"
	"time"

	"raptor-make/engine"
)

// A board is the state of the run, as its events tell it. Every mode needs it:
// the end of a run is told from it.
type board struct {
	total   int
	begun   time.Time
	steps   map[string]*step // those that more than one event is about
	known   int              // how many steps were heard of
	passing step             // the last one of which nothing but Cached was heard
	running []*step          // started or waiting, in that order of time

	made      []*step // Done, in order
	failed    []*step
	skipped   []*step
	cancelled []*step
	cached    int

	over bool // Finished was seen
}

// A step is one step of the run.
type step struct {
	shown    string // the name, fit to be printed
	number   int    // counted from 0 in the order in which they were first heard of
	kind     engine.StepKind
	key      string
	state    engine.EventKind // "" before the first event
	began    bool             // it was really started, not only waited for
	since    time.Time        // when it started or began to wait
	detail   string           // what it does just now; what it waits for
	transfer transfer
	tail     tail
	heard    time.Time // when it last printed something
	elapsed  time.Duration
	outputs  []engine.Written
	log      string
	err      error
	cause    string // why it was skipped: "base failed"
}

// take notes an event and returns its step, or nil.
func (b *board) take(e *engine.Event) *step {
	switch e.Kind {
	case engine.PlanMade:
		*b = board{total: e.Total, begun: e.Time}
	case engine.Finished:
		b.over = true
	}
	if b.begun.IsZero() {
		b.begun = e.Time
	}
	if e.Step == "" {
		return nil
	}
	s := b.step(e)
	switch e.Kind {
	case engine.Waiting, engine.Started:
		b.begin(s, e)
	case engine.Detail:
		s.detail = clean(e.Text)
		s.transfer = transfer{}
	case engine.Progress:
		s.transfer.take(e)
	case engine.Output:
		s.tail.write(e.Data, e.Stderr)
		s.heard = e.Time
	case engine.Done, engine.Cached, engine.Failed, engine.Cancelled, engine.Skipped:
		b.end(s, e)
	}
	return s
}

func (b *board) step(e *engine.Event) *step {
	s := b.steps[e.Step]
	if s == nil {
		s = b.meet(e)
	}
	if e.Type != "" {
		s.kind = e.Type
	}
	if e.Key != "" {
		s.key = shortKey(e.Key)
	}
	if e.Log != "" {
		s.log = e.Log
	}
	return s
}

// meet makes the step that an event is about. A run in which ten thousand jobs
// are up to date has ten thousand steps that need not be remembered.
func (b *board) meet(e *engine.Event) *step {
	s := &b.passing
	if e.Kind != engine.Cached {
		if b.steps == nil {
			b.steps = map[string]*step{}
		}
		s = new(step)
		b.steps[e.Step] = s
	}
	*s = step{shown: clean(e.Step), number: b.known}
	b.known++
	return s
}

func (b *board) begin(s *step, e *engine.Event) {
	if s.state != engine.Waiting && s.state != engine.Started {
		b.running = append(b.running, s)
		s.since = e.Time
	}
	s.state, s.detail = e.Kind, ""
	if e.Kind == engine.Waiting {
		s.detail = waitingFor(e.Text)
		return
	}
	if !s.began {
		s.began, s.since = true, e.Time
	}
}

func (b *board) end(s *step, e *engine.Event) {
	if i := slices.Index(b.running, s); i >= 0 {
		b.running = slices.Delete(b.running, i, i+1)
	}
	s.state, s.outputs, s.err, s.elapsed = e.Kind, e.Outputs, e.Err, e.Elapsed
	if s.elapsed == 0 && s.began {
		s.elapsed = e.Time.Sub(s.since)
	}
	s.cause = clean(e.Text) // with Skipped
	s.transfer = transfer{}
	// An executor that was interrupted says so with its context's error.
	if s.state == engine.Failed && errors.Is(e.Err, context.Canceled) {
		s.state = engine.Cancelled
	}
	switch s.state {
	case engine.Done:
		b.made = append(b.made, s)
	case engine.Cached:
		b.cached++
	case engine.Failed:
		b.failed = append(b.failed, s)
		return // its last lines are still wanted
	case engine.Cancelled:
		b.cancelled = append(b.cancelled, s)
	case engine.Skipped:
		b.skipped = append(b.skipped, s)
	}
	s.tail = tail{}
}

// ended is the number of steps that need no more work.
func (b *board) ended() int {
	return len(b.made) + b.cached + len(b.failed) + len(b.skipped) + len(b.cancelled)
}

func waitingFor(text string) string {
	text = clean(text)
	if len(text) >= 7 && (text[:7] == "waiting" || text[:7] == "Waiting") {
		return text
	}
	return "waiting for " + text
}
