package engine

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A Jobserver is GNU make's: a pipe that holds a byte for each job that may run
// beside the first of each process, as "POSIX Jobserver Interaction" in make's
// manual has it. The zero value of a pointer is none.
type Jobserver struct {
	read, write *os.File
	got         chan byte // tokens that were asked for
	mu          sync.Mutex
	asked       bool
}

// OpenJobserver joins the jobserver that MAKEFLAGS, given as flags, offers. It
// is nil when there is none, or none that can be reached: make hides it from
// commands that it does not take for another make.
func OpenJobserver(flags string) (*Jobserver, error) {
	var auth string
	for word := range strings.FieldsSeq(flags) {
		for _, option := range []string{"--jobserver-auth=", "--jobserver-fds="} {
			if rest, ok := strings.CutPrefix(word, option); ok {
				auth = rest // the last one counts
			}
		}
	}
	if auth == "" {
		return nil, nil
	}
	readPath, isFIFO := strings.CutPrefix(auth, "fifo:")
	writePath := readPath
	if !isFIFO {
		var r, w int
		if _, err := fmt.Sscanf(auth, "%d,%d", &r, &w); err != nil {
			return nil, fmt.Errorf("MAKEFLAGS has a jobserver that is no fifo and no pair of descriptors: %q", auth)
		}
		if !isPipe(r) || !isPipe(w) {
			return nil, nil
		}
		// Opened anew: waiting without blocking is a property of the open
		// file, which we would share with make and all its children.
		readPath, writePath = fmt.Sprintf("/proc/self/fd/%d", r), fmt.Sprintf("/proc/self/fd/%d", w)
	}
	read, err := os.OpenFile(readPath, os.O_RDWR|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("join the jobserver of MAKEFLAGS: %w", err)
	}
	write, err := os.OpenFile(writePath, os.O_RDWR|unix.O_NONBLOCK, 0)
	if err != nil {
		read.Close()
		return nil, fmt.Errorf("join the jobserver of MAKEFLAGS: %w", err)
	}
	return &Jobserver{read: read, write: write, got: make(chan byte, 1)}, nil
}

func isPipe(fd int) bool {
	var st unix.Stat_t
	return unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFIFO
}

// ask asks for one more token, which comes over got. Asking again before it
// has come changes nothing.
func (j *Jobserver) ask() {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.asked {
		return
	}
	j.asked = true
	go func() {
		var token [1]byte
		n, _ := j.read.Read(token[:])
		j.mu.Lock()
		defer j.mu.Unlock()
		j.asked = false
		if n == 1 {
			j.got <- token[0]
		}
	}()
}

// give gives a token back.
func (j *Jobserver) give(token byte) { j.write.Write([]byte{token}) }

// Close leaves the jobserver. What was asked for and not taken goes back.
func (j *Jobserver) Close() {
	if j == nil {
		return
	}
	j.read.SetReadDeadline(time.Now())
	for waiting := true; waiting; time.Sleep(time.Millisecond) {
		j.mu.Lock()
		waiting = j.asked
		j.mu.Unlock()
	}
	select {
	case token := <-j.got:
		j.give(token)
	default:
	}
	j.read.Close()
	j.write.Close()
}

// slots counts how many steps may run at once.
type slots struct {
	most   int
	server *Jobserver // nil: most is all there is to it
	tokens []byte
	busy   int
}

// free tells whether one more step may start; if a token is what it lacks, it
// asks for one.
func (s *slots) free() bool {
	switch {
	case s.busy >= s.most:
		return false
	case s.server == nil || s.busy <= len(s.tokens):
		return true
	}
	s.server.ask()
	return false
}

// arrived is a channel of tokens, nil without a jobserver.
func (s *slots) arrived() <-chan byte {
	if s.server == nil {
		return nil
	}
	return s.server.got
}

// done says that a step has ended, and gives back what is not needed any more.
func (s *slots) done() {
	s.busy--
	for len(s.tokens) > max(0, s.busy-1) {
		last := len(s.tokens) - 1
		s.server.give(s.tokens[last])
		s.tokens = s.tokens[:last]
	}
}
