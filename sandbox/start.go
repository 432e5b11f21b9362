package sandbox

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"raptor-make/internal/helper"
	"raptor-make/sandbox/internal/wire"
)

// agentProgram is the agent. Nothing inside a sandbox can change what the next
// one is started with.
var agentProgram = helper.Program{Name: "raptor-agent", Embedded: embedded, Variable: "RAPTOR_AGENT", Source: "sandbox/agent", KeptIn: "/run/raptor-make"}

// An agent is the agent's program, running. It waits to be told what to do, and
// ends when its socket is closed, or we are gone: a parent death signal would
// follow a thread, not a process.
type agent struct {
	process *process
	control *os.File // our end of the socket
	started time.Time
}

// startAgent starts the program of an agent.
func startAgent(program *os.File, attr *syscall.SysProcAttr, args ...string) (*agent, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socketpair", err)
	}
	a := &agent{control: os.NewFile(uintptr(pair[0]), "control"), started: time.Now()}
	theirs := os.NewFile(uintptr(pair[1]), "control")
	defer theirs.Close()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		a.control.Close()
		return nil, err
	}
	defer null.Close()
	start := func(program *os.File) (*process, error) {
		defer slacken()()
		return startProcess(agentPath, append([]string{"raptor-agent"}, args...),
			&syscall.ProcAttr{Dir: "/", Env: agentEnv, Files: agentFiles(null, theirs, program), Sys: attr})
	}
	a.process, err = start(program)
	if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) {
		// Some policies let nobody execute what is in /run.
		if kept, _ := agentProgram.File(); kept == program {
			if sealed, serr := agentProgram.InMemory(); serr == nil && sealed != kept {
				a.process, err = start(sealed)
			}
		}
	}
	if err != nil {
		a.control.Close()
		return nil, err
	}
	return a, nil
}

// agentPath is the program by the number that its file is handed over as: others
// may be in use for something else by then, while the files are put in place.
var agentPath = fmt.Sprintf("/proc/self/fd/%d", wire.AgentFD)

// agentFiles are the files that an agent starts with: see package wire.
func agentFiles(null, control, program *os.File) []uintptr {
	files := slices.Repeat([]uintptr{null.Fd()}, wire.AgentFD+1)
	files[wire.ControlFD], files[wire.AgentFD] = control.Fd(), program.Fd()
	return files
}

// slacken lets the threads of a process that we start from now on sleep up to a
// millisecond longer than they ask for, until restore. A thread of Go's runtime
// asks for 20 us at a time, to see whether another has been in a system call for
// so long; on two processors, waking for it is a tenth of the start of a sandbox.
func slacken() (restore func()) {
	runtime.LockOSThread()
	unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(time.Millisecond), 0, 0, 0)
	return func() {
		unix.Prctl(unix.PR_SET_TIMERSLACK, 0, 0, 0, 0) // as it was when the thread began
		runtime.UnlockOSThread()
	}
}

// agentEnv spares the agent's runtime work: it mostly lives shorter than one
// collection takes, and does one thing at a time; where it does not, it takes
// more processors itself.
var agentEnv = []string{"GOGC=off", "GOMEMLIMIT=128MiB", "GOMAXPROCS=1"}

// hand gives the agent the files of its sandbox. They stay open here.
func (a *agent) hand(files []*os.File) error {
	total := wire.Total(len(files))
	for some := range slices.Chunk(files, wire.FilesMost) {
		if err := a.send(total, some); err != nil {
			return err
		}
	}
	return nil
}

// send sends a message with files.
func (a *agent) send(message []byte, files []*os.File) error {
	fds := make([]int, len(files))
	for i, f := range files {
		fds[i] = int(f.Fd())
	}
	err := unix.Sendmsg(int(a.control.Fd()), message, unix.UnixRights(fds...), nil, unix.MSG_NOSIGNAL)
	return os.NewSyscallError("sendmsg", err)
}

// end ends it at once, and waits for that.
func (a *agent) end() (processState, error) {
	a.control.Close()
	a.process.kill()
	return a.process.wait()
}

// namespaces are what every sandbox has of its own.
const namespaces = unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS

// prepared are the agents that wait for a Run.
var prepared struct {
	sync.Mutex
	agents []*preparing
}

type preparing struct {
	started chan struct{} // closed when it is, or could not be
	agent   *agent        // nil: it could not be
}

// preparedFor is how long an agent waits. It sees the file systems that were
// mounted when it was started, and keeps them busy.
const preparedFor = time.Second

// Prepare starts in the background what the next Run needs: its agent, which
// takes about a third of the time that an empty sandbox takes. It is for those
// who know that they will call Run in a moment, and have something else to do
// first.
func Prepare() {
	p := &preparing{started: make(chan struct{})}
	prepared.Lock()
	defer prepared.Unlock()
	if len(prepared.agents) >= runtime.GOMAXPROCS(0) {
		return
	}
	prepared.agents = append(prepared.agents, p)
	go p.start()
}

func (p *preparing) start() {
	defer close(p.started)
	program, err := agentProgram.File()
	if err != nil {
		return
	}
	p.agent, _ = startAgent(program, &syscall.SysProcAttr{Cloneflags: namespaces, Setsid: true}) // Run tries again, and tells why
	time.AfterFunc(preparedFor, p.expire)
}

// Prepared tells whether an agent waits for the next Run.
func Prepared() bool {
	prepared.Lock()
	defer prepared.Unlock()
	return len(prepared.agents) > 0
}

// popPrepared is the one that waits longest; from now on nobody else has it.
func popPrepared() *preparing {
	prepared.Lock()
	defer prepared.Unlock()
	if len(prepared.agents) == 0 {
		return nil
	}
	p := prepared.agents[0]
	prepared.agents = prepared.agents[1:]
	return p
}

// takePrepared is an agent that waits, or nil.
func takePrepared() *agent {
	p := popPrepared()
	if p == nil {
		return nil
	}
	<-p.started
	return p.agent
}

// expire ends an agent that nobody has taken.
func (p *preparing) expire() {
	prepared.Lock()
	i := slices.Index(prepared.agents, p)
	if i >= 0 {
		prepared.agents = slices.Delete(prepared.agents, i, i+1)
	}
	prepared.Unlock()
	if i >= 0 && p.agent != nil {
		p.agent.end()
	}
}

// Close ends the processes that wait here, those that Prepare has started and
// those that Sync keeps: for those who will not call Run or Sync again, and want
// nothing of theirs to live on for a moment.
func Close() {
	for p := popPrepared(); p != nil; p = popPrepared() {
		if <-p.started; p.agent != nil {
			p.agent.end()
		}
	}
	syncers.Lock()
	idle := syncers.idle
	syncers.idle = nil
	syncers.Unlock()
	for _, s := range idle {
		s.end()
	}
}
