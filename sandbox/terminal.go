package sandbox

import (
	"errors"
	"io"
	"os"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// attach joins the user's terminal to the sandbox's own as soon as the agent
// has made that, until detach is called: then all that programs printed is on
// the user's terminal, unless it does not take it and wait is false.
func (s *session) attach() (detach func(wait bool)) {
	if s.streams.Terminal == nil {
		return func(bool) {}
	}
	user := s.streams.Terminal
	joined := make(chan *joint, 1)
	go func() {
		master, err := s.receive()
		if err != nil { // it ended before it made one
			joined <- nil
			return
		}
		j := join(user, master)
		s.agent.control.Write([]byte{0}) // go ahead
		joined <- j
	}()
	return func(wait bool) {
		if j := <-joined; j != nil {
			j.end(wait)
		}
	}
}

// A joint is a user's terminal and a sandbox's, joined.
type joint struct {
	user, master *os.File
	before       *term.State
	resized      chan os.Signal
	sized        chan struct{} // closed when no size is handed on any more
	printed      chan struct{} // closed when the sandbox's terminal is closed and all is printed
	stop         *os.File      // to be closed, which ends the reading
	typed        chan struct{} // closed when the reading has ended
}

func join(user, master *os.File) *joint {
	j := &joint{user: user, master: master, resized: make(chan os.Signal, 1), sized: make(chan struct{}), printed: make(chan struct{}), typed: make(chan struct{})}
	size(user, master)
	signal.Notify(j.resized, unix.SIGWINCH)
	go func() {
		defer close(j.sized)
		for range j.resized {
			size(user, master)
		}
	}()
	j.before, _ = term.MakeRaw(int(user.Fd()))
	go func() {
		defer close(j.printed)
		io.Copy(user, master)
	}()
	stopped, stop, err := os.Pipe()
	if err != nil {
		close(j.typed)
		return j
	}
	j.stop = stop
	go func() {
		defer close(j.typed)
		defer stopped.Close()
		j.read(stopped)
	}()
	return j
}

// read hands on what the user types. What is typed after the end is for the
// user's shell: so nothing is read unless it can be handed on at once.
func (j *joint) read(stopped *os.File) {
	buf := make([]byte, 4096)
	user := int(j.user.Fd())
	fds := []unix.PollFd{{Fd: int32(user), Events: unix.POLLIN}, {Fd: int32(stopped.Fd()), Events: unix.POLLIN}}
	for {
		_, err := unix.Poll(fds, -1)
		if err == unix.EINTR {
			continue
		}
		if err != nil || fds[1].Revents != 0 {
			return
		}
		n, err := unix.Read(user, buf)
		if err == unix.EINTR || err == unix.EAGAIN {
			continue
		}
		if err != nil || n <= 0 {
			return
		}
		if _, err := j.master.Write(buf[:n]); err != nil {
			return
		}
	}
}

func (j *joint) end(wait bool) {
	if j.stop != nil {
		j.stop.Close()
	}
	if wait {
		<-j.printed // before the prompt of the shell
	} else {
		select {
		case <-j.printed:
		case <-time.After(patience): // Ctrl-S, for instance
		}
	}
	signal.Stop(j.resized)
	close(j.resized)
	<-j.sized
	if j.before != nil {
		term.Restore(int(j.user.Fd()), j.before)
	}
	select {
	case <-j.typed:
	case <-time.After(patience): // the sandbox did not take what was typed
	}
	j.master.Close()
}

// receive waits for the master of the sandbox's terminal.
func (s *session) receive() (*os.File, error) {
	oob := make([]byte, unix.CmsgSpace(4))
	conn, err := s.agent.control.SyscallConn()
	if err != nil {
		return nil, err
	}
	var n int
	var rerr error
	if err := conn.Read(func(fd uintptr) bool {
		_, n, _, _, rerr = unix.Recvmsg(int(fd), make([]byte, 1), oob, unix.MSG_CMSG_CLOEXEC)
		return rerr != unix.EINTR
	}); err != nil {
		return nil, errors.Join(err, rerr)
	}
	if rerr != nil {
		return nil, rerr
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(messages) == 0 {
		return nil, io.ErrUnexpectedEOF
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) == 0 {
		return nil, io.ErrUnexpectedEOF
	}
	return os.NewFile(uintptr(fds[0]), "/dev/ptmx"), nil
}

func size(from, to *os.File) {
	if ws, err := unix.IoctlGetWinsize(int(from.Fd()), unix.TIOCGWINSZ); err == nil {
		unix.IoctlSetWinsize(int(to.Fd()), unix.TIOCSWINSZ, ws)
	}
}
