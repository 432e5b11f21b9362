package ui

import (
	"time"

	"raptor-make/engine"
)

// A transfer is what a step downloads or unpacks just now: several things at
// once, such as the blobs of an image, are shown as one.
type transfer struct {
	items   []item
	last    int // index of the item that moved last
	samples []sample
}

// An item is one thing that is transferred.
type item struct {
	what        string
	done, total int64
	told        time.Time // when plain last said something about it
	toldDone    int64
	began       time.Time
}

// A sample is how much there was at a time, for the rate.
type sample struct {
	at   time.Time
	done int64
}

// window is how far back the rate looks.
const window = 5 * time.Second

func (t *transfer) take(e *engine.Event) {
	i := t.find(e.Text)
	if i < 0 {
		i = len(t.items)
		t.items = append(t.items, item{what: e.Text, began: e.Time})
	}
	t.items[i].done, t.items[i].total = e.Bytes, e.TotalBytes
	t.last = i
	done, _ := t.sum()
	n := len(t.samples)
	if n > 0 && e.Time.Sub(t.samples[n-1].at) < window/20 && n > 1 {
		t.samples[n-1].done = done
		return
	}
	t.samples = append(t.samples, sample{e.Time, done})
	for len(t.samples) > 2 && e.Time.Sub(t.samples[0].at) > window {
		t.samples = t.samples[1:]
	}
}

func (t *transfer) find(what string) int {
	if t.last < len(t.items) && t.items[t.last].what == what {
		return t.last
	}
	for i := range t.items {
		if t.items[i].what == what {
			return i
		}
	}
	return -1
}

// sum is how much there is of how much; total is 0 when any of it is unknown.
func (t *transfer) sum() (done, total int64) {
	known := true
	for i := range t.items {
		done += t.items[i].done
		total += t.items[i].total
		known = known && t.items[i].total > 0
	}
	if !known {
		total = 0
	}
	return done, total
}

// rate is in bytes per second; 0 when it cannot be told yet.
func (t *transfer) rate(now time.Time) float64 {
	if len(t.samples) < 2 {
		return 0
	}
	first := t.samples[0]
	done, _ := t.sum()
	span := now.Sub(first.at).Seconds()
	if span < 0.2 || done <= first.done {
		return 0
	}
	return float64(done-first.done) / span
}

// ended says that all of the item is there.
func (i *item) ended() bool { return i.total > 0 && i.done >= i.total }
