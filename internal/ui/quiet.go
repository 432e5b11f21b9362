package ui

import (
	"time"

	"raptor-make/engine"
)

// quiet shows, with -q, the lines of steps that ended, warnings and failures;
// with -qq only errors and failures.
type quiet struct {
	printer
}

func (q *quiet) show(dst []byte, e *engine.Event, s *step) []byte {
	if q.verbosity < -1 && (e.Kind == engine.Done || e.Kind == engine.Cached) {
		return dst
	}
	return q.common(dst, e, s)
}

func (q *quiet) rest(dst []byte, now time.Time) []byte { return q.unfinished(dst, now) }
