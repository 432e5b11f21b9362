package ui

import (
	"slices"
	"time"
)

// settled is how long the followed step may be silent before another one that
// prints is followed instead.
const settled = 2 * time.Second

// A key is what the user pressed.
type key struct {
	kind   keyKind
	number int // with choose: counted from 1
}

type keyKind int

const (
	up keyKind = iota
	down
	choose
	release
)

// A selection says whose output is shown: the step that the user chose, for as
// long as it runs, or else one that prints something.
type selection struct {
	chosen   *step
	followed *step
}

func (s *selection) press(k key, b *board) {
	n := len(b.running)
	if n == 0 {
		return
	}
	current, _ := s.current(b, time.Time{})
	i := slices.Index(b.running, current)
	switch k.kind {
	case up:
		i = max(i-1, 0)
	case down:
		i = min(i+1, n-1)
	case choose:
		if k.number > n {
			return
		}
		i = k.number - 1
	case release:
		s.chosen = nil
		return
	}
	s.chosen = b.running[i]
}

// current is the step whose output is shown, nil if none has any, and whether
// it was not the user who chose it.
func (s *selection) current(b *board, now time.Time) (current *step, auto bool) {
	if s.chosen != nil && slices.Contains(b.running, s.chosen) {
		return s.chosen, false
	}
	s.chosen = nil
	var latest *step
	for _, r := range b.running {
		if !r.heard.IsZero() && (latest == nil || r.heard.After(latest.heard)) {
			latest = r
		}
	}
	stay := s.followed != nil && now.Sub(s.followed.heard) < settled && slices.Contains(b.running, s.followed)
	if !stay {
		s.followed = latest
	}
	return s.followed, true
}
