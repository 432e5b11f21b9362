package sandbox

import (
	"io"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// attach joins the user's terminal to the sandbox's own, as soon as the agent
// has made that, until restore is called.
func (s *session) attach() (restore func()) {
	if s.streams.Terminal == nil {
		return func() {}
	}
	s.extra[2].Close() // the agent's end of the socket
	user := s.streams.Terminal
	state := make(chan func(), 1)
	go func() {
		master, err := s.receive()
		if err != nil {
			state <- func() {}
			return
		}
		size(user, master)
		resized := make(chan os.Signal, 1)
		signal.Notify(resized, unix.SIGWINCH)
		go func() {
			for range resized {
				size(user, master)
			}
		}()
		old, _ := term.MakeRaw(int(user.Fd()))
		s.terminal.Write([]byte{0}) // go ahead
		drained := make(chan struct{})
		go func() { io.Copy(os.Stdout, master); close(drained) }()
		go io.Copy(master, user)
		state <- func() {
			<-drained // all that it printed, before the prompt of the shell
			signal.Stop(resized)
			if old != nil {
				term.Restore(int(user.Fd()), old)
			}
		}
	}()
	return func() {
		s.terminal.Close() // ends the wait for a terminal that never came
		(<-state)()
	}
}

// receive waits for the master of the sandbox's terminal.
func (s *session) receive() (*os.File, error) {
	oob := make([]byte, unix.CmsgSpace(4))
	conn, err := s.terminal.SyscallConn()
	if err != nil {
		return nil, err
	}
	var n int
	var rerr error
	if err := conn.Read(func(fd uintptr) bool {
		_, n, _, _, rerr = unix.Recvmsg(int(fd), make([]byte, 1), oob, unix.MSG_CMSG_CLOEXEC)
		return rerr != unix.EAGAIN
	}); err != nil {
		return nil, err
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
