package main

import (
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"raptor-make/sandbox/internal/wire"
)

// rootAlone is root in no other groups: those that raptor was started with are
// the host's.
var rootAlone = &syscall.Credential{Groups: []uint32{0}}

// run executes a program and waits for it.
func (a *agent) run(i int, action *wire.Action) *wire.Event {
	failed := func(op, path string, err error) *wire.Event {
		return &wire.Event{Kind: wire.Failed, Action: i, Op: op, Path: path, Errno: errno(err), Text: err.Error()}
	}
	dir := action.Dir
	if dir == "" {
		dir = "/"
	}
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return failed("chdir", dir, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return failed("chdir", dir, unix.ENOTDIR)
	}
	path, err := look(action.Args[0], dir, action.Env)
	if err != nil {
		return failed("exec", action.Args[0], err)
	}
	if !a.confined {
		if err := a.confine(); err != nil {
			return &wire.Event{Kind: wire.NoSetup, Op: "confine programs: " + err.op, Path: err.path, Errno: errno(err.err), Text: err.err.Error()}
		}
		a.confined = true
	}
	attr := &syscall.ProcAttr{Dir: dir, Env: action.Env, Files: []uintptr{0, 1, 2}, Sys: &syscall.SysProcAttr{Setsid: true, Credential: rootAlone}}
	if a.Terminal && i == len(a.Actions)-1 {
		slave, err := a.openTerminal()
		if err != nil {
			return failed("open terminal", err.path, err.err)
		}
		attr.Files = []uintptr{uintptr(slave), uintptr(slave), uintptr(slave)}
		attr.Sys.Setctty = true
		defer unix.Close(slave)
	}
	pid, err := syscall.ForkExec(path, action.Args, attr)
	if err != nil {
		return failed("exec", action.Args[0], err)
	}
	status := a.wait(pid)
	if !a.without(wire.KillRest) {
		a.killRest()
	}
	switch {
	case status.Signaled():
		return &wire.Event{Kind: wire.Exited, Action: i, Status: 128 + int(status.Signal()), Errno: int(status.Signal())}
	case status.ExitStatus() != 0:
		return &wire.Event{Kind: wire.Exited, Action: i, Status: status.ExitStatus()}
	}
	return nil
}

// wait waits for a program, and reaps whatever else ends meanwhile.
func (a *agent) wait(pid int) syscall.WaitStatus {
	a.program.set(pid)
	defer a.program.set(0)
	for {
		var status syscall.WaitStatus
		got, err := syscall.Wait4(-1, &status, 0, nil)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || got == pid {
			return status
		}
	}
}

// killRest ends what a program has left running.
func (a *agent) killRest() {
	if syscall.Getpid() != 1 {
		return // all means all of the machine then; for tests without the defence
	}
	for {
		if syscall.Kill(-1, syscall.SIGKILL) == syscall.ESRCH {
			return // nobody is left
		}
		for {
			_, err := syscall.Wait4(-1, nil, 0, nil)
			if err == syscall.ECHILD {
				return
			}
		}
	}
}

// look finds a program as execvp(3) does, inside the sandbox.
func look(name, dir string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil // execve knows best what is wrong with it
	}
	var path string
	for _, e := range env {
		if strings.HasPrefix(e, "PATH=") {
			path = e[len("PATH="):]
		}
	}
	err := error(unix.ENOENT)
	for _, d := range strings.Split(path, ":") {
		if d == "" || d[0] != '/' {
			d = dir + "/" + d
		}
		full := d + "/" + name
		var st unix.Stat_t
		if unix.Stat(full, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
			continue
		}
		if st.Mode&0o111 != 0 {
			return full, nil
		}
		err = unix.EACCES
	}
	return "", err
}

// openTerminal makes a terminal of the sandbox's own, and sends its master to
// raptor.
func (a *agent) openTerminal() (int, *opError) {
	const ptmx = "/dev/pts/ptmx"
	master, err := unix.Open(ptmx, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &opError{"open", ptmx, err}
	}
	defer unix.Close(master)
	if err := unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0); err != nil {
		return -1, &opError{"unlock", ptmx, err}
	}
	n, err := unix.IoctlGetInt(master, unix.TIOCGPTN)
	if err != nil {
		return -1, &opError{"number", ptmx, err}
	}
	name := "/dev/pts/" + itoa(n)
	fd, err := unix.Open(name, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &opError{"open", name, err}
	}
	if err := unix.Sendmsg(wire.ControlFD, []byte{wire.GoAhead}, unix.UnixRights(master), nil, 0); err != nil {
		return -1, &opError{"send", ptmx, err}
	}
	<-a.goAhead // raptor sets the size before the program can ask for it
	return fd, nil
}

func itoa(n int) string {
	if n < 10 {
		return string(rune('0' + n))
	}
	return itoa(n/10) + itoa(n%10)
}
