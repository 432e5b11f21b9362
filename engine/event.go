package engine

import "time"

// StepKind says what kind of work a step is.
type StepKind string

const (
	Fetch StepKind = "fetch" // a base image
	Build StepKind = "build" // a layer
	Job   StepKind = "job"   // a container from Raptor.toml
)

// EventKind says what happened. The states of one step follow the order of the
// constants: Started, then any number of Detail, Progress and Output, then
// exactly one of Done, Cached, Failed, Cancelled and Skipped.
type EventKind string

const (
	PlanMade  EventKind = "plan"      // the run is about to start: Total steps
	Waiting   EventKind = "waiting"   // for another process: Text says for whom
	Started   EventKind = "started"   // it runs
	Detail    EventKind = "detail"    // Text is what it does just now: an instruction
	Progress  EventKind = "progress"  // Text is what of, Bytes of TotalBytes (0: unknown)
	Output    EventKind = "output"    // Data is a piece of what its programs printed
	Message   EventKind = "message"   // Text is for the user; Level says how grave
	Done      EventKind = "done"      // it ran, in Elapsed
	Cached    EventKind = "cached"    // nothing to do
	Failed    EventKind = "failed"    // Err is why
	Cancelled EventKind = "cancelled" // it was stopped, or never started, because another step failed or the user interrupted
	Skipped   EventKind = "skipped"   // a step that it needs failed (with --keep-going)
	Finished  EventKind = "finished"  // the run is over: Elapsed in all, Err if it failed
)

// An Event is one thing that happened in a run. Events of one step are in
// order; a Sink is called by one goroutine at a time.
type Event struct {
	Time  time.Time
	Kind  EventKind
	Step  string   // the step's name, unique in a run: "base", "run iso"; "" for the run as a whole
	Type  StepKind // of the step
	Key   string   // first 16 hex digits, when known
	Text  string
	Level string // with Message: "debug", "info", "warning", "error"

	Bytes, TotalBytes int64
	Data              []byte // valid during the call only
	Stderr            bool   // Data came from standard error

	Elapsed time.Duration
	Outputs []Written // with Done and Cached of a job
	Total   int       // with PlanMade: how many steps there are
	Log     string    // path of the step's full output, when there is one
	Err     error
}

// A Written is one output of a job.
type Written struct {
	Path  string // as the project file says it
	Bytes int64
}

// A Sink takes the events of a run. It must not keep Data.
type Sink func(Event)
