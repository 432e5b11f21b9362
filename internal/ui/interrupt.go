package ui

import "time"

// grace is how long a terminal or pipe that takes nothing is waited for after
// an interrupt; once it was in vain, it is the second value.
const (
	grace   = 500 * time.Millisecond
	noGrace = 10 * time.Millisecond
)

// Interrupt tells that the run is being stopped. From now on Event and Close
// do not wait for a terminal or a pipe that takes nothing, beyond half a second
// once. It may be called at any time, from any goroutine.
func (d *Display) Interrupt() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stopping {
		return
	}
	d.stopping = true
	close(d.interrupted)
	if d.live != nil && d.live.shown {
		d.wake(0)
	}
}

// await waits for f to return, but not for ever once there was an interrupt:
// f may be writing to a terminal that Ctrl-S has stopped.
func (d *Display) await(f func()) {
	done := make(chan struct{})
	go func() {
		f()
		close(done)
	}()
	select {
	case <-done:
		return
	case <-d.interrupted:
	}
	wait := grace
	if d.stuck.Load() {
		wait = noGrace
	}
	select {
	case <-done:
		d.stuck.Store(false)
	case <-time.After(wait):
		d.stuck.Store(true)
	}
}
