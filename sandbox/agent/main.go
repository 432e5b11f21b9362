// Command agent is what runs as process 1 of a sandbox. It is told the whole
// sandbox at once (see package wire), makes it, carries out the actions in
// order, seals the layer, and reports each of these as an event.
//
// It is deliberately small: its start is part of every container's, so it
// imports no package with a costly initialiser, and it depends on nothing in
// the layer.
//
// Two threads matter. The main one keeps all capabilities until the end, to
// mount, to write files as the layer's root, and to seal. The spawner thread
// (spawn.go) gives up what programs must not have, and starts them all.
package main

import (
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"raptor-make/sandbox/internal/wire"
)

func main() {
	runtime.LockOSThread()
	// Nothing that is ours survives an exec: not the spec, not the sources.
	unix.CloseRange(wire.SpecFD, ^uint(0), unix.CLOSE_RANGE_CLOEXEC)
	// The main program's children must not trace us or open our descriptors.
	unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	a := &agent{}
	spec, err := readSpec()
	if err != nil {
		a.fail("read specification", "", err)
	}
	a.Spec = spec
	a.signals = make(chan os.Signal, 16)
	// Caught, not ignored: an ignored signal would stay ignored in programs.
	signal.Notify(a.signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGPIPE)
	a.setup()
	for i := range a.Actions {
		a.send(&wire.Event{Kind: wire.Started, Action: i})
		if ev := a.act(i); ev != nil {
			a.finish(ev)
		}
	}
	done := &wire.Event{Kind: wire.Done}
	if a.Build {
		if err := a.seal(done); err != nil {
			a.finish(&wire.Event{Kind: wire.NoSetup, Op: "seal layer", Path: err.path, Errno: errno(err.err), Text: err.err.Error()})
		}
	}
	a.finish(done)
}

// An agent is one sandbox at work.
type agent struct {
	*wire.Spec
	upper   int // the layer that is being made
	bare    int // the overlay without anything mounted on top of it
	layers  []int
	stubs   []stub
	mounted []string // what setup mounted over files and directories, in order
	spawner *spawner
	signals chan os.Signal
	linked  map[inode]string // COPY: hard links made so far
}

type inode struct{ dev, ino uint64 }

func readSpec() (*wire.Spec, error) {
	var st unix.Stat_t
	if err := unix.Fstat(wire.SpecFD, &st); err != nil {
		return nil, err
	}
	buf := make([]byte, st.Size)
	for n := 0; n < len(buf); {
		m, err := unix.Pread(wire.SpecFD, buf[n:], int64(n))
		if err != nil {
			return nil, err
		}
		if m == 0 {
			return nil, wire.ErrShort
		}
		n += m
	}
	unix.Close(wire.SpecFD)
	return wire.Decode(buf)
}

func (a *agent) send(ev *wire.Event) {
	buf := ev.Encode()
	for len(buf) > 0 {
		n, err := unix.Write(wire.EventFD, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			os.Exit(1) // raptor is gone
		}
		buf = buf[n:]
	}
}

// finish reports how it ended and ends the sandbox: the kernel kills what is
// left in it.
func (a *agent) finish(ev *wire.Event) {
	a.send(ev)
	os.Exit(0)
}

// fail reports that the sandbox could not be made.
func (a *agent) fail(stage, path string, err error) {
	a.finish(&wire.Event{Kind: wire.NoSetup, Op: stage, Path: path, Errno: errno(err), Text: err.Error()})
}

func errno(err error) int {
	for err != nil {
		if e, ok := err.(syscall.Errno); ok {
			return int(e)
		}
		u, ok := err.(interface{ Unwrap() error })
		if !ok {
			break
		}
		err = u.Unwrap()
	}
	return 0
}

// An opError says what could not be done to which path.
type opError struct {
	op, path string
	err      error
}

func (e *opError) Error() string { return e.op + " " + e.path + ": " + e.err.Error() }

// act carries out one action; nil is success.
func (a *agent) act(i int) *wire.Event {
	action := &a.Actions[i]
	var err *opError
	switch action.Kind {
	case wire.Run:
		return a.run(i, action)
	case wire.Mkdir:
		err = a.mkdir(action)
	case wire.Write:
		err = a.write(action)
	case wire.Copy:
		err = a.copy(action)
	default:
		err = &opError{"carry out", "action", unix.ENOSYS}
	}
	if err == nil {
		return nil
	}
	return &wire.Event{Kind: wire.Failed, Action: i, Op: err.op, Path: err.path, Errno: errno(err.err), Text: err.err.Error()}
}
