package ui

import (
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"raptor-make/engine"
)

// Options say where and how a run is shown.
type Options struct {
	Out       *os.File // standard error
	Mode      string   // "auto" or "", "tty", "plain", "quiet"; "tty" is "plain" where Out is no terminal
	Color     bool     // see ColorWanted
	Verbosity int      // +1 for each -v, -1 for each -q
	GitHub    bool     // running under GITHUB_ACTIONS
}

const (
	// gather is how long lines wait for others to be written with them.
	gather = 20 * time.Millisecond
	// enough is the size at which they wait no longer, in bytes.
	enough = 64 << 10
)

// A Display shows the events of a run. Make one with New.
type Display struct {
	opts  Options
	w     io.Writer
	clock clock

	// writing is held while bytes are on their way to w, and is taken before
	// mu. A terminal that has been stopped blocks its holder, and so whoever
	// has gathered enough lines, but not the events of a live display.
	writing sync.Mutex
	spare   []byte // the buffer that pending will be swapped with

	mu      sync.Mutex   // guards the rest
	event   engine.Event // the one being shown, so that it need not be allocated
	board   board
	view    view
	live    *live // nil unless the mode is tty
	pending []byte
	timer   stopper
	due     time.Time     // when it calls
	within  time.Duration // what it was set to
	closed  bool
	broken  bool // w has failed: nothing is written any more

	stopping    bool
	interrupted chan struct{} // closed by Interrupt
	stuck       atomic.Bool   // w took nothing for too long after an interrupt
}

// A view turns an event into lines. The board has already taken note of it.
type view interface {
	// show appends whole lines to dst. s is nil for events of the run as a whole.
	show(dst []byte, e *engine.Event, s *step) []byte
	// rest appends what was held back, if the run ends without its last events.
	rest(dst []byte, now time.Time) []byte
}

// New returns a Display. It writes nothing, queries nothing but the kind of
// file that Out is, and starts no goroutine until a step starts.
func New(o Options) *Display {
	return newDisplay(o, o.Out, systemClock{})
}

func newDisplay(o Options, w io.Writer, c clock) *Display {
	d := &Display{opts: o, w: w, clock: c, interrupted: make(chan struct{})}
	paint := newPalette(o.Color)
	p := printer{paint: paint, verbosity: o.Verbosity, board: &d.board}
	switch {
	case o.Mode == "quiet" || o.Verbosity < 0:
		p.verbosity = min(o.Verbosity, -1)
		d.view = &quiet{printer: p}
	case o.GitHub && o.Mode != "tty":
		d.view = newGitHub(p)
	case o.Mode != "plain" && isTerminal(o.Out) && canDraw(os.Getenv("TERM")):
		d.view = &scroll{printer: p}
		d.live = newLive(d, paint)
	default:
		d.view = &plain{printer: p}
	}
	return d
}

// canDraw says that a terminal of this kind moves its cursor.
func canDraw(term string) bool { return term != "" && term != "dumb" }

// Event shows one event. It is an engine.Sink: calls must not overlap. It
// returns when the event has been taken note of, which may be up to 20 ms
// before it is seen; after Finished, and after Close, everything is written
// when it returns.
func (d *Display) Event(e engine.Event) {
	d.mu.Lock()
	if e.Time.IsZero() {
		e.Time = d.clock.Now()
	}
	d.event = e
	s := d.board.take(&d.event)
	d.pending = d.view.show(d.pending, &d.event, s)
	d.event.Data = nil
	full := len(d.pending) >= enough
	if full && d.stuck.Load() {
		d.pending = d.pending[:0]
	}
	over := e.Kind == engine.Finished
	if over || d.closed {
		full = true
	} else {
		d.schedule(e.Kind)
	}
	d.mu.Unlock()
	if full {
		d.await(d.flush)
	}
	if over && d.live != nil {
		d.await(d.live.detach)
	}
}

// schedule arranges for what the event left behind to be written in time.
func (d *Display) schedule(k engine.EventKind) {
	switch {
	case d.live != nil && d.live.shown:
		d.wake(every)
	case len(d.pending) > 0:
		d.wake(gather)
	case d.live != nil && (k == engine.Started || k == engine.Waiting):
		d.wake(patience)
	}
}

// wake arranges for flush to be called within the given time.
func (d *Display) wake(in time.Duration) {
	if d.timer != nil && d.within <= in {
		return // set to no more than that, and earlier; the clock is not free
	}
	due := d.clock.Now().Add(in)
	if d.timer != nil {
		if !d.due.After(due) {
			return
		}
		d.timer.Stop()
	}
	d.due, d.within = due, in
	d.timer = d.clock.AfterFunc(in, d.flush)
}

// flush writes the lines that have gathered and, on a terminal, the live
// region below them, all in one write.
func (d *Display) flush() {
	d.writing.Lock()
	defer d.writing.Unlock()
	d.mu.Lock()
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	lines := d.pending
	d.pending = d.spare[:0]
	out := lines
	if d.live != nil && !d.broken {
		out = d.live.frame(lines)
	}
	broken := d.broken
	d.mu.Unlock()
	if len(out) > 0 && !broken {
		d.write(out)
	}
	d.spare = lines[:0]
	if cap(d.spare) > 4*enough {
		d.spare = nil
	}
}

func (d *Display) write(out []byte) {
	if _, err := d.w.Write(out); err != nil {
		d.mu.Lock()
		d.broken = true
		d.mu.Unlock()
	}
}

// Close writes what is left, takes away the live region and restores the
// terminal. When it returns, nothing reads standard input any more. Further
// calls do nothing. Events that arrive later are shown as lines, at once.
func (d *Display) Close() error {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return nil
	}
	d.closed = true
	d.pending = d.view.rest(d.pending, d.clock.Now())
	d.mu.Unlock()
	d.await(d.flush)
	if d.live != nil {
		d.await(d.live.detach)
	}
	return nil
}
