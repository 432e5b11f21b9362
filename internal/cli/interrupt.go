package cli

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"golang.org/x/term"
)

var errInterrupted = errors.New("interrupted")

// patience is how long after an interrupt all that it stops may take to end:
// a disk that is slow, or gone, can hold up anything. The next build removes
// what is left behind then, as after a kill.
const patience = 1500 * time.Millisecond

// interrupts is what becomes of the signals that raptor gets. The channel stays
// one and the same: it takes two changes of threads to tell Go's runtime about
// each signal that is wanted, or wanted no more.
type interrupts struct {
	signals chan os.Signal
	nohup   bool // hangups are to be ignored, as nohup(1) has it

	mu     sync.Mutex
	handle func(os.Signal)
}

// interruptible is a context that the first interrupt ends. A second one ends
// the program, after last, and so does the end of our patience: whatever still
// runs in sandboxes ends with it.
func interruptible(last func()) (context.Context, *interrupts) {
	ctx, cancel := context.WithCancelCause(context.Background())
	end := sync.OnceFunc(func() {
		last()
		os.Exit(statusInterrupted)
	})
	i := &interrupts{signals: make(chan os.Signal, 8), nohup: signal.Ignored(syscall.SIGHUP)}
	i.handle = func(s os.Signal) {
		switch {
		case s == syscall.SIGQUIT, s == syscall.SIGUSR1, s == syscall.SIGUSR2, s == syscall.SIGHUP && i.nohup:
			return // for a container that has just ended
		case ctx.Err() != nil:
			end()
		}
		cancel(errInterrupted)
		time.AfterFunc(patience, end)
	}
	signal.Notify(i.signals, syscall.SIGINT, syscall.SIGTERM)
	if !i.nohup {
		signal.Notify(i.signals, syscall.SIGHUP)
	}
	go func() {
		for s := range i.signals {
			i.mu.Lock()
			handle := i.handle
			i.mu.Unlock()
			handle(s)
		}
	}()
	return ctx, i
}

// swap has another function handle the signals, and returns the one before.
func (i *interrupts) swap(handle func(os.Signal)) func(os.Signal) {
	i.mu.Lock()
	defer i.mu.Unlock()
	before := i.handle
	i.handle = handle
	return before
}

// containers have these signals handed on as well. Only they do: raptor has no
// use for them.
var containers = []os.Signal{syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2}

// handedOn is for the time that a container runs: interrupts are its own. The
// second one is ours, and the container then has to end while we have patience.
// Whoever goes on after it has to call restore, too.
func (i *interrupts) handedOn(outer context.Context) (context.Context, <-chan os.Signal, func()) {
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(outer))
	terminal, _ := term.GetState(int(os.Stdin.Fd())) // nil if it is none
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		select {
		case <-ended:
		case <-time.After(patience):
			if terminal != nil {
				term.Restore(int(os.Stdin.Fd()), terminal)
			}
			os.Exit(statusInterrupted)
		}
	})
	on := make(chan os.Signal, 8)
	count := 0
	before := i.swap(func(s os.Signal) {
		if s == syscall.SIGINT {
			count++
		}
		if count > 1 {
			cancel(errInterrupted)
		}
		select {
		case on <- s:
		default: // nobody has taken the last eight
		}
	})
	signal.Notify(i.signals, containers...)
	return ctx, on, func() {
		stop()
		close(ended)
		i.swap(before)
		cancel(nil)
	}
}

// restore gives the signals that only containers have their meaning again.
func (i *interrupts) restore() {
	signal.Reset(containers...)
	if !i.nohup {
		signal.Notify(i.signals, syscall.SIGHUP)
	}
}
