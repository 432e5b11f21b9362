// Command fetcher is the process that fetches base images for raptor, which has
// it embedded: see package images. Nobody else starts it.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"raptor-make/internal/images"
	"raptor-make/internal/images/fetch"
)

func main() {
	// The terminal's Ctrl-C is for raptor to act on, which then calls off what it
	// has asked for. Not ignored: programs started here are to heed it.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	syscall.CloseOnExec(images.ProgramFD)
	answers := os.Stdout
	os.Stdout = os.Stderr // whatever a library may print
	if err := serve(os.Stdin, answers); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// A server answers requests.
type server struct {
	client *fetch.Client
	asked  sync.Map // *images.Ref -> the ID of its request
	calls  sync.Map // ID -> what calls it off

	mu      sync.Mutex
	answers *json.Encoder
}

var errCancelled = errors.New("called off")

// serve answers until there are no more requests. What is not finished by then
// nobody waits for.
func serve(in io.Reader, out io.Writer) error {
	requests := json.NewDecoder(in)
	var setup images.Setup
	if err := requests.Decode(&setup); err != nil {
		return fmt.Errorf("read what to do: %w", err)
	}
	setup.Settings.Cache = string(setup.Cache)
	s := &server{answers: json.NewEncoder(out)}
	s.client = s.newClient(setup.Settings)
	for {
		q := new(images.Request)
		if err := requests.Decode(q); err == io.EOF {
			return nil
		} else if err != nil {
			return fmt.Errorf("read a request: %w", err)
		}
		if q.Cancel {
			if cancel, ok := s.calls.Load(q.ID); ok {
				cancel.(context.CancelCauseFunc)(errCancelled)
			}
			continue
		}
		ctx, cancel := context.WithCancelCause(context.Background())
		s.calls.Store(q.ID, cancel)
		go func() {
			defer cancel(nil)
			defer s.calls.Delete(q.ID)
			s.answer(s.do(ctx, q))
		}()
	}
}

// newClient is one that tells with each answer which request it is about.
func (s *server) newClient(settings images.Settings) *fetch.Client {
	return &fetch.Client{
		Settings: settings,
		Log:      func(r *images.Ref) io.Writer { return &log{s, s.id(r)} },
		Warn:     func(r *images.Ref, message string) { s.answer(&images.Answer{ID: s.id(r), Warn: images.Raw(message)}) },
	}
}

// do is what comes of a request.
func (s *server) do(ctx context.Context, q *images.Request) *images.Answer {
	a := &images.Answer{ID: q.ID}
	ref, err := q.Ref()
	if err == nil {
		s.asked.Store(ref, q.ID)
		defer s.asked.Delete(ref)
		if q.Resolved == nil {
			a.Resolved, err = s.client.Resolve(ctx, ref, "")
		} else {
			a.Config, err = s.client.Unpack(ctx, ref, q.Resolved, string(q.Dest), func(what string, done, total int64) {
				s.answer(&images.Answer{ID: q.ID, What: images.Raw(what), Done: done, Total: total})
			})
		}
	}
	if err != nil {
		return &images.Answer{ID: q.ID, Failed: images.Raw(err.Error())}
	}
	return a
}

func (s *server) answer(a *images.Answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers.Encode(a)
}

// id is the request that a reference was made for.
func (s *server) id(r *images.Ref) int {
	id, _ := s.asked.Load(r)
	n, _ := id.(int)
	return n
}

// A log passes on what programs print.
type log struct {
	server *server
	id     int
}

func (l *log) Write(b []byte) (int, error) {
	l.server.answer(&images.Answer{ID: l.id, Log: images.Raw(b)})
	return len(b), nil
}
