package images

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"raptor-make/internal/helper"
)

var fetcherProgram = helper.Program{Name: "raptor-fetcher", Embedded: embedded, Variable: "RAPTOR_FETCHER", Source: "internal/images/fetcher"}

// A fetcher is the process that fetches for a Client: there is one from the first
// request on. Should it die, its requests fail, and the next one starts another.
// It ends when nobody is left to write to its standard input, and so outlives
// this process by no more than a moment, whatever becomes of that. The zero value
// is ready.
type fetcher struct {
	mu      sync.Mutex
	process *fetching // nil: none runs
}

// A fetching is one such process.
type fetching struct {
	cmd   *exec.Cmd
	ended chan struct{}

	mu       sync.Mutex
	stdin    io.WriteCloser
	requests *json.Encoder // to stdin
	calls    map[int]*call
	last     int   // ID
	dead     error // why there are no more answers
}

// A call is a request that waits for its answer.
type call struct {
	client *Client
	ref    *Ref
	report Progress
	answer chan *Answer // of the last one; closed without one if the process died
}

func (f *fetcher) resolve(ctx context.Context, c *Client, r *Ref) (*Resolved, error) {
	a, err := f.do(ctx, &call{client: c, ref: r}, r.request())
	if err != nil {
		return nil, err
	}
	a.Resolved.URL = r.URL
	return a.Resolved, nil
}

func (f *fetcher) unpack(ctx context.Context, c *Client, r *Ref, res *Resolved, dest string, p Progress) (*Config, error) {
	q := r.request()
	q.Resolved, q.Dest = res, Raw(dest)
	a, err := f.do(ctx, &call{client: c, ref: r, report: p}, q)
	if err != nil {
		return nil, err
	}
	return a.Config, nil
}

// do makes a request and waits for what comes of it. When ctx ends it is called
// off, and waited for still: it may be writing.
func (f *fetcher) do(ctx context.Context, c *call, q *Request) (*Answer, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	p, err := f.running(&c.client.Settings)
	if err != nil {
		return nil, fmt.Errorf("start the process that fetches images: %w", err)
	}
	p.ask(c, q)
	defer context.AfterFunc(ctx, func() { p.send(&Request{ID: q.ID, Cancel: true}) })()
	a, ok := <-c.answer
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case !ok:
		return nil, p.obituary(ctx)
	case a.Failed != "":
		return nil, errors.New(string(a.Failed))
	}
	return a, nil
}

// obituary is why there will be no answer. The terminal's signals reach the
// process, too, before it has got as far as to catch them: then ctx ends.
func (p *fetching) obituary(ctx context.Context) error {
	switch p.cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() {
	case syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP:
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(time.Second):
		}
	}
	return p.dead
}

// running is the process, started if there is none.
func (f *fetcher) running(s *Settings) (*fetching, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if p := f.process; p != nil {
		select {
		case <-p.ended:
		default:
			return p, nil
		}
	}
	p, err := startFetching(&Setup{Settings: *s, Cache: Raw(s.Cache)})
	if err != nil {
		return nil, err
	}
	f.process = p
	return p, nil
}

func startFetching(setup *Setup) (*fetching, error) {
	program, err := fetcherProgram.File()
	if err != nil {
		return nil, err
	}
	p := &fetching{ended: make(chan struct{}), calls: map[int]*call{}}
	p.cmd = &exec.Cmd{
		// By the number that its file is handed over as: see agentPath in package
		// sandbox.
		Path: fmt.Sprintf("/proc/self/fd/%d", ProgramFD), Args: []string{fetcherProgram.Name}, ExtraFiles: []*os.File{program},
		Stderr: os.Stderr, // for people: helpers for credentials ask there
	}
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.requests = json.NewEncoder(p.stdin)
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go p.follow(stdout)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.requests.Encode(setup) // that it died is seen by those who wait for answers
	return p, nil
}

// follow reads answers until the process ends.
func (p *fetching) follow(stdout io.Reader) {
	answers := json.NewDecoder(stdout)
	var err error
	for {
		a := new(Answer)
		if err = answers.Decode(a); err != nil {
			break
		}
		p.mu.Lock()
		c := p.calls[a.ID]
		if a.final() {
			delete(p.calls, a.ID)
		}
		p.mu.Unlock()
		if c != nil {
			c.heed(a)
		}
	}
	p.cmd.Process.Kill() // it has nothing to say any more
	p.cmd.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dead = fmt.Errorf("the process that fetches images ended without a word: %s", p.cmd.ProcessState)
	if err != io.EOF {
		p.dead = fmt.Errorf("the process that fetches images does not speak our language: %w", err)
	}
	close(p.ended) // before anybody hears of it, who would ask again
	for _, c := range p.calls {
		close(c.answer)
	}
	p.calls = nil
}

// heed does what an answer asks for.
func (c *call) heed(a *Answer) {
	switch {
	case a.What != "":
		if c.report != nil {
			c.report(string(a.What), a.Done, a.Total)
		}
	case a.Log != "":
		if c.client.Log != nil {
			if w := c.client.Log(c.ref); w != nil {
				io.WriteString(w, string(a.Log))
			}
		}
	case a.Warn != "":
		if c.client.Warn != nil {
			c.client.Warn(c.ref, string(a.Warn))
		}
	case a.final():
		c.answer <- a
	}
}

// ask makes a request, whose ID it sets.
func (p *fetching) ask(c *call, q *Request) {
	c.answer = make(chan *Answer, 1)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.calls == nil {
		close(c.answer)
		return
	}
	p.last++
	q.ID = p.last
	p.calls[q.ID] = c
	p.requests.Encode(q)
}

func (p *fetching) send(q *Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.requests.Encode(q)
}

// close ends the process, and waits for that.
func (f *fetcher) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.process != nil {
		f.process.stdin.Close()
		<-f.process.ended
		f.process = nil
	}
}
