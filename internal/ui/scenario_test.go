package ui

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"raptor-make/engine"
)

// TestMain lets the test binary be the program that tests look at through a
// terminal: with UI_SCENARIO set it plays that run and exits.
func TestMain(m *testing.M) {
	if name := os.Getenv("UI_SCENARIO"); name != "" {
		os.Exit(play(name))
	}
	os.Exit(m.Run())
}

// play shows a scenario on standard error in real time, as raptor would.
func play(name string) int {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	d := New(Options{Out: os.Stderr, Mode: os.Getenv("UI_MODE"), Color: ColorWanted("auto", os.Stderr, os.Getenv)})
	defer d.Close()
	context.AfterFunc(ctx, d.Interrupt)
	r := &run{sink: d.Event, begun: time.Now()}
	r.scenario(ctx, name)
	d.Close()
	fmt.Fprintln(os.Stderr, "program over")
	return 0
}

// A run sends events as an engine would: one at a time, with times.
type run struct {
	mu    sync.Mutex
	sink  engine.Sink
	begun time.Time
}

func (r *run) send(e engine.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e.Time = time.Now()
	r.sink(e)
}

func (r *run) scenario(ctx context.Context, name string) {
	switch name {
	case "nothing":
		r.send(engine.Event{Kind: engine.PlanMade, Total: 2})
		r.send(engine.Event{Kind: engine.Cached, Step: "base", Type: engine.Build, Key: "AB1DD71BFD07718B"})
		r.send(engine.Event{Kind: engine.Cached, Step: "run iso", Type: engine.Job, Key: "0011223344556677"})
		r.finish(nil)
	case "live":
		r.live(ctx)
	case "many":
		r.many(ctx)
	case "stubborn":
		r.send(engine.Event{Kind: engine.Started, Step: "base", Type: engine.Build})
		time.Sleep(time.Minute) // does not care about ctx
	case "fail":
		r.fail(ctx)
	default:
		panic("no scenario " + name)
	}
}

func (r *run) finish(err error) {
	r.send(engine.Event{Kind: engine.Finished, Elapsed: time.Since(r.begun), Err: err})
}

// pause sleeps and reports whether the run was interrupted.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return true
	case <-time.After(d):
		return false
	}
}

// live downloads, builds two layers side by side and runs a job, for about a
// minute, or until it is interrupted.
func (r *run) live(ctx context.Context) {
	const debian = "index.docker.io-library-debian-trixie"
	r.send(engine.Event{Kind: engine.PlanMade, Total: 6})
	r.send(engine.Event{Kind: engine.Cached, Step: "tools", Type: engine.Build, Key: "1234567890ABCDEF"})
	r.send(engine.Event{Kind: engine.Started, Step: debian, Type: engine.Fetch, Key: "675DE2C3A4D8CD82"})
	for i := int64(0); i <= 30; i++ {
		r.send(engine.Event{Kind: engine.Progress, Step: debian, Type: engine.Fetch, Text: "layer 1 of 1", Bytes: i * 1_630_000, TotalBytes: 48_900_000})
		if pause(ctx, 50*time.Millisecond) {
			r.interrupted(debian)
			return
		}
	}
	r.send(engine.Event{Kind: engine.Done, Step: debian, Type: engine.Fetch, Key: "675DE2C3A4D8CD82"})
	for i, name := range []string{"base", "ssh"} {
		r.send(engine.Event{Kind: engine.Started, Step: name, Type: engine.Build, Key: fmt.Sprintf("AB1DD71BFD07718%X", i)})
		r.send(engine.Event{Kind: engine.Detail, Step: name, Type: engine.Build, Text: "RUN apt-get install -y linux-image-amd64 systemd live-boot openssh-server"})
	}
	r.send(engine.Event{Kind: engine.Waiting, Step: "run disk", Type: engine.Job, Text: "process 4711, which builds base"})
	for i := range 1200 {
		for k, name := range []string{"base", "ssh"} {
			if i%4 == 0 || k == 0 {
				text := fmt.Sprintf("Setting up lib%s-%d:amd64 (1.%d-1) ...\n", name, i, i)
				if i%10 == 0 {
					text = fmt.Sprintf("\x1b[31m日本語の長い行\x1b[0m %d 🚀\ttab\x1b]0;title\x07\n", i)
				}
				r.send(engine.Event{Kind: engine.Output, Step: name, Type: engine.Build, Data: []byte(text)})
			}
		}
		if pause(ctx, 50*time.Millisecond) {
			r.interrupted("base", "ssh", "run disk")
			return
		}
	}
	r.send(engine.Event{Kind: engine.Done, Step: "base", Type: engine.Build})
	r.send(engine.Event{Kind: engine.Done, Step: "ssh", Type: engine.Build})
	r.send(engine.Event{Kind: engine.Cached, Step: "run disk", Type: engine.Job, Key: "0011223344556677"})
	r.send(engine.Event{Kind: engine.Started, Step: "run iso", Type: engine.Job, Key: "00112233AABBCCDD"})
	r.send(engine.Event{Kind: engine.Detail, Step: "run iso", Type: engine.Job, Text: "mksquashfs"})
	for i := range 40 {
		bar := fmt.Sprintf("\r[%s%s] %d/40", strings.Repeat("=", i), strings.Repeat(" ", 40-i), i)
		r.send(engine.Event{Kind: engine.Output, Step: "run iso", Type: engine.Job, Stderr: true, Data: []byte(bar)})
		if pause(ctx, 50*time.Millisecond) {
			r.interrupted("run iso")
			return
		}
	}
	r.send(engine.Event{Kind: engine.Done, Step: "run iso", Type: engine.Job, Outputs: []engine.Written{{Path: "live.iso", Bytes: 443_200_000}}})
	r.finish(nil)
}

func (r *run) interrupted(running ...string) {
	for _, name := range running {
		r.send(engine.Event{Kind: engine.Cancelled, Step: name})
	}
	r.finish(context.Canceled)
}

// many runs fifty steps at once, and goes through a thousand.
func (r *run) many(ctx context.Context) {
	r.send(engine.Event{Kind: engine.PlanMade, Total: 1000})
	name := func(i int) string { return fmt.Sprintf("run job-number-%d", i) }
	for i := range 1050 {
		if i < 1000 {
			r.send(engine.Event{Kind: engine.Started, Step: name(i), Type: engine.Job, Key: fmt.Sprintf("%016x", i*7919)})
			r.send(engine.Event{Kind: engine.Output, Step: name(i), Type: engine.Job, Data: []byte("hello\nworld\n")})
		}
		if i >= 50 {
			r.send(engine.Event{Kind: engine.Done, Step: name(i - 50), Type: engine.Job})
		}
		if pause(ctx, 10*time.Millisecond) {
			r.finish(context.Canceled)
			return
		}
	}
	r.finish(nil)
}

// fail has a job that fails while others run and wait.
func (r *run) fail(ctx context.Context) {
	r.send(engine.Event{Kind: engine.PlanMade, Total: 4})
	r.send(engine.Event{Kind: engine.Started, Step: "base", Type: engine.Build, Key: "AB1DD71BFD07718B"})
	r.send(engine.Event{Kind: engine.Started, Step: "run disk", Type: engine.Job, Key: "AB1DD71BFD07718C"})
	for i := range 30 {
		r.send(engine.Event{Kind: engine.Output, Step: "base", Type: engine.Build, Data: fmt.Appendf(nil, "line %d\n", i)})
		pause(ctx, 20*time.Millisecond)
	}
	err := errors.New("RUN apt-get install nonsense: exit status 100")
	r.send(engine.Event{Kind: engine.Failed, Step: "base", Type: engine.Build, Err: err, Log: ".raptor/logs/base.log"})
	r.send(engine.Event{Kind: engine.Cancelled, Step: "run disk", Type: engine.Job})
	r.send(engine.Event{Kind: engine.Skipped, Step: "run iso", Type: engine.Job, Text: "base failed"})
	r.finish(err)
}
