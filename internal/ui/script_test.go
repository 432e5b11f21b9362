package ui

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"raptor-make/engine"
)

// A script is a run that always happens in the same way.
type script struct {
	name   string
	events []engine.Event
}

// at gives events times: each d after the one before.
func at(d time.Duration, events ...engine.Event) []engine.Event {
	for i := range events {
		events[i].Time = morning.Add(time.Duration(i) * d)
	}
	return events
}

func layer(k engine.EventKind, name string) engine.Event {
	return engine.Event{Kind: k, Step: name, Type: engine.Build, Key: "ab1dd71bfd07718b"}
}

func job(k engine.EventKind, name string) engine.Event {
	return engine.Event{Kind: k, Step: "run " + name, Type: engine.Job, Key: "00112233aabbccdd"}
}

func with(e engine.Event, change func(*engine.Event)) engine.Event {
	change(&e)
	return e
}

func output(e engine.Event, text string) engine.Event {
	e.Kind, e.Data = engine.Output, []byte(text)
	return e
}

func stderr(e engine.Event, text string) engine.Event {
	e = output(e, text)
	e.Stderr = true
	return e
}

func text(e engine.Event, text string) engine.Event {
	e.Text = text
	return e
}

func message(level, text string) engine.Event {
	return engine.Event{Kind: engine.Message, Level: level, Text: text}
}

func loading(done, total int64) engine.Event {
	return engine.Event{Kind: engine.Progress, Step: debian, Type: engine.Fetch, Text: "layer 1 of 1", Bytes: done, TotalBytes: total}
}

const debian = "index.docker.io-library-debian-trixie"

// excerpt is an error that prints itself, as rapt.Diagnostics does.
type excerpt struct{}

func (excerpt) Error() string { return "base.rapt:3:1: unknown instruction RNU" }

func (excerpt) Print(w io.Writer, color bool) {
	fmt.Fprint(w, "error: unknown instruction RNU\n --> base.rapt:3:1\n  |\n3 | RNU apt-get update\n  | ^^^ did you mean RUN?\n")
}

func scripts() []script {
	fetch := func(k engine.EventKind) engine.Event {
		return engine.Event{Kind: k, Step: debian, Type: engine.Fetch, Key: "675DE2C3A4D8CD82FFFF"}
	}
	plan := func(n int) engine.Event { return engine.Event{Kind: engine.PlanMade, Total: n} }
	over := func(err error, elapsed time.Duration) engine.Event {
		return engine.Event{Kind: engine.Finished, Elapsed: elapsed, Err: err}
	}
	exit := errors.New("RUN apt-get install nonsense: exit status 100")
	return []script{
		{"uptodate", at(time.Millisecond,
			plan(3), fetch(engine.Cached), layer(engine.Cached, "base"), job(engine.Cached, "iso"), over(nil, 3*time.Millisecond))},
		{"layers", at(time.Second,
			plan(2), fetch(engine.Started),
			loading(0, 48_900_000), loading(2_000_000, 48_900_000), loading(20_000_000, 48_900_000), loading(21_000_000, 48_900_000), loading(48_900_000, 48_900_000),
			fetch(engine.Done), layer(engine.Started, "base"),
			text(layer(engine.Detail, "base"), "RUN apt-get update"), output(layer("", "base"), "Hit:1 trixie\nReading"), output(layer("", "base"), " lists...\n"),
			layer(engine.Done, "base"), over(nil, 12*time.Second))},
		{"jobs", at(time.Second,
			plan(4), layer(engine.Cached, "base"), job(engine.Started, "iso"), job(engine.Started, "disk"),
			message("info", "hello from base.rapt"), message("warning", "base.rapt:2: no FROM\nsecond line"), message("debug", "cache hit"),
			output(job("", "iso"), "half a li"), output(job("", "disk"), "other\n"), stderr(job("", "iso"), "on stderr\n"), output(job("", "iso"), "ne\n"),
			output(job("", "iso"), "\r 10%\r 50%\r100%\n\x1b]0;owned\x07\x1b[2Jcolour \x1b[31mred\x1b[0m bad \xff byte\n::error::not a command ##[group]no\n"),
			output(job("", "disk"), "never finished"),
			text(job(engine.Waiting, "tarball"), "process 4711, which builds base"),
			with(job(engine.Done, "iso"), func(e *engine.Event) {
				e.Elapsed = 9200 * time.Millisecond
				e.Outputs = []engine.Written{{Path: "live.iso", Bytes: 443_200_000}, {Path: "live.iso.sha256", Bytes: 75}}
			}),
			with(job(engine.Done, "disk"), func(e *engine.Event) {
				e.Elapsed = 74 * time.Second
				e.Outputs = []engine.Written{{Path: "disk.img", Bytes: 1_200_000_000}}
			}),
			job(engine.Cached, "tarball"), over(nil, 84*time.Second))},
		{"failure", at(time.Second, append(append([]engine.Event{
			plan(6), layer(engine.Cached, "base"), layer(engine.Started, "ssh"), job(engine.Started, "disk")},
			counted(layer("", "ssh"), 25)...),
			with(layer(engine.Failed, "ssh"), func(e *engine.Event) { e.Err, e.Log = exit, ".raptor/logs/ssh.log" }),
			job(engine.Cancelled, "disk"), text(job(engine.Skipped, "iso"), "ssh failed"), text(job(engine.Skipped, "tarball"), "ssh failed"),
			job(engine.Cancelled, "report"), over(exit, 31*time.Second))...)},
		{"diagnostic", at(time.Second,
			plan(2), layer(engine.Started, "base"),
			with(layer(engine.Failed, "base"), func(e *engine.Event) { e.Err = fmt.Errorf("build base: %w", excerpt{}) }),
			text(job(engine.Skipped, "iso"), "base failed"), over(excerpt{}, 2*time.Second))},
		{"interrupted", at(time.Second,
			plan(5), layer(engine.Done, "base"), job(engine.Started, "iso"), output(job("", "iso"), "working\n"),
			with(job(engine.Failed, "iso"), func(e *engine.Event) { e.Err = fmt.Errorf("run iso: %w", context.Canceled) }),
			job(engine.Cancelled, "disk"), over(context.Canceled, 5*time.Second))},
		{"severalfailures", at(time.Second, append(append([]engine.Event{plan(40)}, several(14)...),
			text(job(engine.Skipped, "iso"), "step1 failed"), text(job(engine.Skipped, "disk"), "step2 failed"), text(job(engine.Skipped, "tarball"), "step1 failed"),
			over(errors.New("14 errors"), time.Minute))...)},
		{"limit", at(time.Second,
			plan(2), job(engine.Started, "iso"), job(engine.Cancelled, "iso"), job(engine.Cancelled, "disk"),
			over(errors.New("the run took longer than its limit of 3s"), 4*time.Second))},
		{"planerror", at(time.Second,
			plan(1), over(errors.Join(excerpt{}, errors.New("open layers: permission denied")), time.Second))},
	}
}

// several are n steps that fail.
func several(n int) []engine.Event {
	var events []engine.Event
	for i := range n {
		name := fmt.Sprint("step", i+1)
		events = append(events, layer(engine.Started, name), output(layer("", name), "its last words\n"),
			with(layer(engine.Failed, name), func(e *engine.Event) { e.Err = fmt.Errorf("RUN false: exit status %d", i+1) }))
	}
	return events
}

func counted(e engine.Event, n int) []engine.Event {
	var events []engine.Event
	for i := range n {
		events = append(events, output(e, fmt.Sprintf("line %d %s\n", i+1, strings.Repeat(".", i))))
	}
	return events
}
