// The runtime need not look for the limits of our control group at each start:

//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

// Command agent is what runs as process 1 of a sandbox. It begins with what all
// sandboxes have, is then told the whole sandbox at once (see package wire), makes
// it, carries out the actions in order, seals the layer, and reports each of these
// as an event.
//
// It is deliberately small: its start is part of every container's, so it
// imports no package with a costly initialiser, and it depends on nothing in
// the layer.
//
// One thread is special: the main one, which starts all programs, and gives up
// what they must not have before the first. What takes more afterwards, writing
// files as the layer's root and sealing, is done on other threads. In the common
// case, a program and no more, nothing ever waits for another thread.
package main

import (
	"os"
	"os/signal"
	"runtime"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"raptor-make/sandbox/internal/mounts"
	"raptor-make/sandbox/internal/wire"
)

func main() {
	runtime.LockOSThread()
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case wire.Examine:
			examine(os.Args[2:])
		case wire.Sync:
			serveSync()
		}
	}
	unix.Umask(0o022)
	a := &agent{goAhead: make(chan struct{}, 1)}
	a.trace("start agent")
	if !a.without(wire.Undumpable) {
		// Programs must not trace us or open our descriptors.
		unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	}
	unix.Prctl(unix.PR_SET_TIMERSLACK, timerSlack, 0, 0, 0) // programs', not this program's other threads'
	ignoreSignals()
	oerr := a.carryOut(a.furnish())
	if !receive() {
		return
	}
	var err error
	if a.Spec, err = readSpec(); err != nil {
		a.Spec = &wire.Spec{}
		oerr = &opError{"read specification", "", err}
	}
	if !a.without(wire.Descriptors) {
		// Nothing that is ours survives an exec: not the events, not the sources.
		unix.CloseRange(wire.EventFD, ^uint(0), unix.CLOSE_RANGE_CLOEXEC)
	}
	a.trace("receive specification")
	a.merged, a.upper = -1, -1
	if a.Root {
		a.merged = receiveRoot()
		a.trace("receive root")
	}
	go a.listen()
	if oerr == nil {
		oerr = a.carryOut(a.setup())
	}
	if oerr != nil {
		a.fail(oerr)
	}
	for i := range a.Actions {
		a.send(&wire.Event{Kind: wire.Started, Action: i})
		if ev := a.act(i); ev != nil {
			a.finish(ev)
		}
	}
	done := &wire.Event{Kind: wire.Done}
	if a.Build {
		if a.privileged(func() { oerr = a.seal(done) }); oerr != nil {
			a.fail(&opError{"seal layer", oerr.path, oerr.err})
		}
		a.trace("seal layer")
	}
	a.finish(done)
}

// An agent is one sandbox at work.
type agent struct {
	*wire.Spec
	stages   []wire.Event // that were over before anybody could be told
	staging  int          // where file systems stand until there is a root
	overlay  *mounts.Overlay
	merged   int    // its mount, until it is the root; -1: not made yet
	upper    int    // the directory that takes the changes
	bare     int    // the overlay without anything mounted on top of it
	device   uint64 // of the overlay's directories
	root     int    // the root with all mounts; 0: not opened yet
	confined bool   // the main thread is

	claims    sync.Mutex // for what is known below, where directories are copied side by side
	stubs     []stub
	lentFiles []lentFile
	copied    map[string]*copiedDir // by path without the first slash

	goAhead chan struct{}
	program program
}

// timerSlack is what the kernel gives process 1, in nanoseconds. Raptor has
// started us with more.
const timerSlack = 50000

type inode struct{ dev, ino uint64 }

const ignored = 1 // SIG_IGN

// ignoreSignals lets programs send process 1 what they like: package scripts
// do. Go's runtime has handlers of its own for all of these, most of which end
// the process; and because it has, it gives the programs that we start the
// default action. The os/signal package would cost ten changes of threads.
//
// What raptor was started with ignored, by nohup(1) say, the runtime leaves so,
// for programs too; unless somebody wants to be notified.
func ignoreSignals() {
	var act, was struct{ handler, flags, restorer, mask uint64 }
	for _, sig := range []syscall.Signal{syscall.SIGHUP, syscall.SIGINT} {
		unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), 0, uintptr(unsafe.Pointer(&was)), 8, 0, 0)
		if was.handler == ignored {
			signal.Notify(make(chan os.Signal, 1), sig)
		}
	}
	act.handler = ignored
	for _, sig := range []syscall.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGILL, syscall.SIGTRAP, syscall.SIGABRT,
		syscall.SIGBUS, syscall.SIGFPE, syscall.SIGUSR1, syscall.SIGSEGV, syscall.SIGUSR2, syscall.SIGALRM, syscall.SIGTERM,
		syscall.SIGSTKFLT, syscall.SIGXCPU, syscall.SIGXFSZ, syscall.SIGVTALRM, syscall.SIGPROF, syscall.SIGIO, syscall.SIGPWR, syscall.SIGSYS} {
		unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(&act)), 0, 8, 0, 0)
	}
	// Those that belong to C libraries are not Go's, nor are those of terminals.
	// posix_spawn(3) of glibc, with which make starts programs, has the former
	// ignored by all that follow.
	act.handler = 0
	for _, sig := range []uintptr{32, 33, 34, uintptr(syscall.SIGTSTP), uintptr(syscall.SIGTTIN), uintptr(syscall.SIGTTOU), uintptr(syscall.SIGCONT)} {
		unix.RawSyscall6(unix.SYS_RT_SIGACTION, sig, uintptr(unsafe.Pointer(&act)), 0, 8, 0, 0)
	}
	// Programs start with the mask of the thread that starts them.
	var none uint64
	unix.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&none)), 0, 8, 0, 0)
}

// listen hears what raptor says, and ends the sandbox when raptor ends.
func (a *agent) listen() {
	said := make([]byte, 1)
	for {
		n, err := unix.Read(wire.ControlFD, said)
		switch {
		case err == unix.EINTR:
		case n != 1:
			os.Exit(1)
		case said[0] == wire.GoAhead:
			a.goAhead <- struct{}{}
		default:
			a.program.signal(syscall.Signal(said[0]))
		}
	}
}

// A program is the one that runs, if any. Signals wait for the next one.
type program struct {
	sync.Mutex
	pid     int
	pending []syscall.Signal
}

func (p *program) signal(sig syscall.Signal) {
	p.Lock()
	defer p.Unlock()
	if p.pid == 0 {
		p.pending = append(p.pending, sig)
	} else {
		syscall.Kill(p.pid, sig)
	}
}

func (p *program) set(pid int) {
	p.Lock()
	p.pid = pid
	pending := p.pending
	if pid != 0 {
		p.pending = nil
	}
	p.Unlock()
	for _, sig := range pending {
		if pid != 0 {
			syscall.Kill(pid, sig)
		}
	}
}

func (a *agent) send(ev *wire.Event) { sendTo(wire.EventFD, ev) }

func sendTo(fd int, ev *wire.Event) {
	buf := ev.Encode()
	for len(buf) > 0 {
		n, err := unix.Write(fd, buf)
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
	if !a.Build && len(a.stubs) > 0 {
		a.privileged(a.leaveMounts)
	}
	if a.State {
		a.privileged(a.leaveState)
	}
	a.send(ev)
	os.Exit(0)
}

// fail reports that the sandbox could not be made.
func (a *agent) fail(e *opError) {
	a.finish(&wire.Event{Kind: wire.NoSetup, Op: e.op, Path: e.path, Errno: errno(e.err), Text: e.err.Error()})
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
func (e *opError) Unwrap() error { return e.err }

// described is an error that says what could not be done to which path, or nil.
func described(err error) *opError {
	switch e := err.(type) {
	case *opError:
		return e
	case *mounts.Error:
		return &opError{e.Op, e.Path, e.Err}
	}
	return nil
}

// act carries out one action; nil is success.
func (a *agent) act(i int) *wire.Event {
	action := &a.Actions[i]
	if action.Kind == wire.Run {
		return a.run(i, action)
	}
	var err *opError
	a.privileged(func() {
		switch action.Kind {
		case wire.Mkdir:
			err = a.mkdir(action)
		case wire.Write:
			err = a.write(action)
		case wire.Copy:
			err = a.copy(action)
		default:
			err = &opError{"carry out", "action", unix.ENOSYS}
		}
	})
	if err == nil {
		return nil
	}
	return &wire.Event{Kind: wire.Failed, Action: i, Op: err.op, Path: err.path, Errno: errno(err.err), Text: err.err.Error()}
}
