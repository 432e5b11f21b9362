package sandbox

import (
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// A process is a child of ours. It does what an os.Process does; but the os
// package, before it starts the first one, starts another to see whether process
// descriptors work here, and waits for that.
type process struct {
	pid int
	fd  *os.File // a process descriptor: it never stands for anybody else
}

// startProcess executes a program with these files as its first descriptors.
func startProcess(path string, args []string, attr *syscall.ProcAttr) (*process, error) {
	var fd int
	attr.Sys.PidFD = &fd
	pid, err := syscall.ForkExec(path, args, attr)
	if err != nil {
		return nil, &os.PathError{Op: "fork/exec", Path: path, Err: err}
	}
	return &process{pid, os.NewFile(uintptr(fd), "pidfd")}, nil
}

// kill ends the process at once. It may be called at any time, from any
// goroutine.
func (p *process) kill() {
	conn, err := p.fd.SyscallConn()
	if err != nil {
		return
	}
	conn.Control(func(fd uintptr) { // not once it is closed
		err := unix.PidfdSendSignal(int(fd), unix.SIGKILL, nil, 0)
		if err != nil && err != unix.ESRCH { // some filters don't let it pass
			unix.Kill(p.pid, unix.SIGKILL)
		}
	})
}

// wait waits for the process to end. It is called once.
func (p *process) wait() (processState, error) {
	defer p.fd.Close()
	for {
		var status syscall.WaitStatus
		_, err := syscall.Wait4(p.pid, &status, 0, nil)
		if err != syscall.EINTR {
			return processState(status), os.NewSyscallError("wait4", err)
		}
	}
}

// A processState is how a process ended.
type processState syscall.WaitStatus

func (s processState) String() string {
	if status := syscall.WaitStatus(s); status.Signaled() {
		return fmt.Sprintf("signal: %v", status.Signal())
	}
	return fmt.Sprintf("exit status %d", syscall.WaitStatus(s).ExitStatus())
}
