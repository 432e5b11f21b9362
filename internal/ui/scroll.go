package ui

import (
	"time"

	"raptor-make/engine"
)

// scroll is what a terminal keeps: the lines above the live region. Output and
// transfers are only seen in the region.
type scroll struct {
	printer
}

func (v *scroll) show(dst []byte, e *engine.Event, s *step) []byte {
	if s != nil && v.verbosity >= 1 && (e.Kind == engine.Detail || e.Kind == engine.Waiting) {
		dst = append(dst, v.paint.name(s)...)
		dst = append(dst, ": "...)
		dst = append(dst, s.detail...)
		return append(dst, '\n')
	}
	return v.common(dst, e, s)
}

func (v *scroll) rest(dst []byte, now time.Time) []byte { return v.unfinished(dst, now) }
