package ui

import (
	"bytes"
	"fmt"
	"io"
	"testing"
	"time"

	"raptor-make/engine"
)

// apt is about 1 MB of what package managers print, in pieces of a pipe's size.
func apt() [][]byte {
	var text bytes.Buffer
	for i := range 14_000 {
		fmt.Fprintf(&text, "Setting up libfoo-bar%d:amd64 (1.2.%d-1+deb13u1) with more text ...\n", i, i)
	}
	var pieces [][]byte
	for b := text.Bytes(); len(b) > 0; {
		n := min(len(b), 32<<10)
		pieces = append(pieces, b[:n])
		b = b[n:]
	}
	return pieces
}

func benchmarkOutput(b *testing.B, d *Display) {
	pieces := apt()
	total := 0
	for _, p := range pieces {
		total += len(p)
	}
	d.Event(engine.Event{Kind: engine.Started, Step: "base", Type: engine.Build, Time: time.Now()})
	b.SetBytes(int64(total))
	b.ReportAllocs()
	for b.Loop() {
		for _, p := range pieces {
			d.Event(engine.Event{Kind: engine.Output, Step: "base", Type: engine.Build, Data: p, Time: time.Now()})
		}
	}
	d.Close()
}

func BenchmarkOutputPlain(b *testing.B) {
	benchmarkOutput(b, newDisplay(Options{Mode: "plain"}, io.Discard, systemClock{}))
}

func BenchmarkOutputGitHub(b *testing.B) {
	benchmarkOutput(b, newDisplay(Options{GitHub: true}, io.Discard, systemClock{}))
}

func BenchmarkOutputLive(b *testing.B) {
	benchmarkOutput(b, liveDisplay(io.Discard, 80, 24))
}

func BenchmarkOutputJSON(b *testing.B) {
	sink := JSON(io.Discard)
	pieces := apt()
	b.SetBytes(1 << 20)
	b.ReportAllocs()
	for b.Loop() {
		for _, p := range pieces {
			sink(engine.Event{Kind: engine.Output, Step: "base", Data: p, Time: time.Now()})
		}
	}
}

// liveDisplay draws in real time on a terminal that is not there.
func liveDisplay(w io.Writer, width, height int) *Display {
	d := newDisplay(Options{}, w, systemClock{})
	d.view = &scroll{printer{paint: newPalette(true), board: &d.board}}
	d.live = newLive(d, newPalette(true))
	d.live.screen = fixedScreen{width, height}
	d.live.attach = func(*Display) *attached { return nil }
	return d
}

type fixedScreen struct{ width, height int }

func (s fixedScreen) size() (int, int) { return s.width, s.height }
func (s fixedScreen) foreground() bool { return true }

// A run of 10,000 jobs with nothing to do.
func BenchmarkUpToDate(b *testing.B) {
	names := make([]string, 10_000)
	for i := range names {
		names[i] = fmt.Sprintf("run job-%d", i)
	}
	b.ReportAllocs()
	for b.Loop() {
		d := newDisplay(Options{Mode: "plain"}, io.Discard, systemClock{})
		d.Event(engine.Event{Kind: engine.PlanMade, Total: len(names), Time: time.Now()})
		for _, name := range names {
			d.Event(engine.Event{Kind: engine.Cached, Step: name, Type: engine.Job, Key: "00112233AABBCCDD", Time: time.Now()})
		}
		d.Event(engine.Event{Kind: engine.Finished, Time: time.Now()})
		d.Close()
	}
}

// One frame with 2,000 steps running, of which one prints.
func BenchmarkFrame(b *testing.B) {
	d := liveDisplay(io.Discard, 200, 50)
	for i := range 2000 {
		d.Event(engine.Event{Kind: engine.Started, Step: fmt.Sprintf("run job-%d", i), Type: engine.Job, Time: time.Now()})
	}
	for _, p := range apt() {
		d.Event(engine.Event{Kind: engine.Output, Step: "run job-7", Type: engine.Job, Data: p, Time: time.Now()})
	}
	b.ReportAllocs()
	for b.Loop() {
		d.redraw()
	}
	d.Close()
}

// 2,000 steps at once print 100 MB: bounded in time and memory in every mode.
func TestBounded(t *testing.T) {
	piece := bytes.Repeat([]byte("a line of output as it comes from a build\n"), 1200) // 50 kB
	for name, d := range map[string]*Display{
		"plain":  newDisplay(Options{Mode: "plain"}, io.Discard, systemClock{}),
		"github": newDisplay(Options{GitHub: true}, io.Discard, systemClock{}),
		"live":   liveDisplay(io.Discard, 80, 24),
	} {
		t.Run(name, func(t *testing.T) {
			begun := time.Now()
			for i := range 2000 {
				d.Event(engine.Event{Kind: engine.Started, Step: fmt.Sprint(i), Type: engine.Job})
			}
			for i := range 2000 {
				d.Event(engine.Event{Kind: engine.Output, Step: fmt.Sprint(i), Type: engine.Job, Data: piece})
			}
			for i := range 2000 {
				d.Event(engine.Event{Kind: engine.Done, Step: fmt.Sprint(i), Type: engine.Job})
			}
			d.Event(engine.Event{Kind: engine.Finished})
			d.Close()
			took := time.Since(begun)
			t.Logf("100 MB of 2,000 steps took %v", took)
			if took > 20*time.Second {
				t.Errorf("100 MB of 2,000 steps took %v", took)
			}
			if c := cap(d.pending) + cap(d.spare); c > 4<<20 {
				t.Errorf("%d bytes of buffers are kept", c)
			}
		})
	}
}
