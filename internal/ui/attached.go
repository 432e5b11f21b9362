package ui

import (
	"os"
	"os/signal"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// attached is what listens for the live region while it is shown: to keys, to
// changes of the terminal's size, and to Ctrl-Z.
type attached struct {
	d       *Display
	signals chan os.Signal
	ended   chan struct{}
	watcher sync.WaitGroup

	mu        sync.Mutex
	keyboard  *keyboard // nil where there is none, and in the background
	suspended bool
}

func attach(d *Display) *attached {
	a := &attached{d: d, signals: make(chan os.Signal, 8), ended: make(chan struct{})}
	signal.Notify(a.signals, unix.SIGWINCH, unix.SIGTSTP, unix.SIGCONT, unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	a.watcher.Go(a.watch)
	return a
}

// keys reads keys if it can and should, and says whether it does. It is asked
// before each frame: nothing tells a process that it came back to the foreground.
func (a *attached) keys(should bool) bool {
	if a == nil {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.keyboard == nil && !a.suspended && should {
		a.keyboard = openKeyboard(0, a.d.press)
	}
	return a.keyboard != nil
}

// stop ends the listening and restores the terminal. It waits for press and
// redraw to return, so the Display's mu must not be held.
func (a *attached) stop() {
	if a == nil {
		return
	}
	signal.Stop(a.signals)
	close(a.ended)
	a.give() // first of all: the rest may have to wait for the terminal
	a.watcher.Wait()
}

func (a *attached) watch() {
	for {
		select {
		case <-a.ended:
			return
		case s := <-a.signals:
			switch s {
			case unix.SIGTSTP:
				a.suspend()
			case unix.SIGINT, unix.SIGTERM, unix.SIGHUP:
				// What they mean is the program's business. But a second one may
				// end it on the spot: from now on the terminal is as it was.
				a.give()
				a.d.Interrupt()
			default:
				a.d.redraw()
			}
		}
	}
}

// suspend gives the terminal back, lets Ctrl-Z have its effect, and takes the
// terminal again when the process goes on in the foreground.
func (a *attached) suspend() {
	d := a.d
	a.give()
	d.writing.Lock()
	d.mu.Lock()
	out := d.live.erase()
	d.mu.Unlock()
	if len(out) > 0 {
		d.write(out)
	}
	if continuable() {
		// Not SIGTSTP: once it was asked for, Go's runtime keeps its handler.
		unix.Kill(unix.Getpid(), unix.SIGSTOP)
		a.resumed()
	}
	a.regain()
	d.writing.Unlock()
	d.redraw()
}

// continuable says that there is a shell which would notice that we stopped: the
// leader of the session, in a process group that is not ours. Without one,
// Ctrl-Z has no effect.
func continuable() bool {
	leader, err := unix.Getsid(0)
	if err != nil {
		return false
	}
	group, err := unix.Getpgid(leader)
	return err == nil && group != unix.Getpgrp()
}

// resumed waits until the process was stopped and goes on.
func (a *attached) resumed() {
	limit := time.After(100 * time.Millisecond)
	for {
		select {
		case s := <-a.signals:
			if s == unix.SIGCONT {
				return
			}
		case <-a.ended:
			return
		case <-limit:
			return
		}
	}
}

func (a *attached) give() {
	a.mu.Lock()
	k := a.keyboard
	a.keyboard, a.suspended = nil, true
	a.mu.Unlock()
	k.close()
}

func (a *attached) regain() {
	a.mu.Lock()
	a.suspended = false
	a.mu.Unlock()
}
