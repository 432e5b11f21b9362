package ui

import (
	"slices"
	"sync"
	"time"
)

// A setClock stands still until it is advanced; then what is due is called, in
// order, at its time.
type setClock struct {
	mu    sync.Mutex
	now   time.Time
	calls []*call
}

type call struct {
	at time.Time
	f  func()
	c  *setClock
}

var morning = time.Date(2026, 11, 25, 7, 0, 0, 0, time.UTC)

func newSetClock() *setClock { return &setClock{now: morning} }

func (c *setClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *setClock) AfterFunc(d time.Duration, f func()) stopper {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := &call{c.now.Add(d), f, c}
	c.calls = append(c.calls, k)
	return k
}

func (k *call) Stop() bool {
	k.c.mu.Lock()
	defer k.c.mu.Unlock()
	i := slices.Index(k.c.calls, k)
	if i >= 0 {
		k.c.calls = slices.Delete(k.c.calls, i, i+1)
	}
	return i >= 0
}

// advance lets d pass.
func (c *setClock) advance(d time.Duration) {
	c.mu.Lock()
	end := c.now.Add(d)
	for {
		var next *call
		for _, k := range c.calls {
			if !k.at.After(end) && (next == nil || k.at.Before(next.at)) {
				next = k
			}
		}
		if next == nil {
			break
		}
		c.calls = slices.DeleteFunc(c.calls, func(k *call) bool { return k == next })
		if next.at.After(c.now) {
			c.now = next.at
		}
		c.mu.Unlock()
		next.f()
		c.mu.Lock()
	}
	c.now = end
	c.mu.Unlock()
}
