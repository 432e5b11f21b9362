package sandbox

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// standard makes the three files that programs have as standard streams.
func (s *session) standard() ([]*os.File, error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, &SetupError{Stage: "open", Path: os.DevNull, Err: reason(err)}
	}
	s.keep(null)
	files := []*os.File{null, null, null}
	if s.streams.Terminal != nil {
		return files, nil
	}
	if s.streams.Stdin != nil {
		files[0] = s.streams.Stdin
	}
	for i, to := range []io.Writer{s.streams.Stdout, s.streams.Stderr} {
		f, isFile := to.(*os.File)
		switch {
		case to == nil:
		case isFile && s.streams.PassFiles:
			files[i+1] = f
		case i == 1 && same(to, s.streams.Stdout):
			files[2] = files[1]
		default:
			if files[i+1], err = s.pipe(to); err != nil {
				return nil, err
			}
		}
	}
	return files, nil
}

// same tells whether two writers are one. Those that cannot be compared aren't.
func same(a, b io.Writer) (is bool) {
	defer func() { _ = recover() }()
	return a == b
}

// pipeSize is what programs can print before they have to wait.
const pipeSize = 256 << 10

func (s *session) pipe(to io.Writer) (*os.File, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, &SetupError{Stage: "create output pipe", Err: err}
	}
	unix.FcntlInt(w.Fd(), unix.F_SETPIPE_SZ, pipeSize) // if it may
	s.keep(r)
	s.agents = append(s.agents, w)
	p := &pump{from: r, to: to, done: make(chan struct{})}
	s.pumps = append(s.pumps, p)
	go p.run()
	return w, nil
}

// A pump hands on what is printed.
type pump struct {
	from *os.File
	to   io.Writer
	done chan struct{}
}

func (p *pump) run() {
	defer close(p.done)
	// When nobody takes it any more, programs shall know: SIGPIPE, as in any
	// pipeline.
	defer p.from.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := p.from.Read(buf)
		if n > 0 {
			if _, err := p.to.Write(buf[:n]); err != nil {
				return
			}
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			p.rest(buf)
			return
		}
		if err != nil {
			return
		}
	}
}

// rest hands on what is still in the pipe, without waiting for more.
func (p *pump) rest(buf []byte) {
	p.from.SetReadDeadline(time.Time{})
	conn, err := p.from.SyscallConn()
	if err != nil {
		return
	}
	for {
		var n int
		conn.Read(func(fd uintptr) bool { n, err = unix.Read(int(fd), buf); return true })
		if err == unix.EINTR {
			continue
		}
		if err != nil || n <= 0 {
			return
		}
		if _, err := p.to.Write(buf[:n]); err != nil {
			return
		}
	}
}

// patience is how long a cancelled run waits for those who take its output.
const patience = time.Second

// drain waits until all that was printed is handed on. All programs are gone by
// now, but not always all writers: a program can have sent its end of the pipe
// to some process outside, through a socket that it was lent.
func (s *session) drain(ctx context.Context) {
	cancelled := ctx.Done()
	var late <-chan time.Time
	for _, p := range s.pumps {
		p.from.SetReadDeadline(time.Now())
	}
	for _, p := range s.pumps {
		for waiting := true; waiting; {
			select {
			case <-p.done:
				waiting = false
			case <-cancelled:
				cancelled, late = nil, time.After(patience)
			case <-late:
				return
			}
		}
	}
}
