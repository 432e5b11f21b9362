package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"raptor-make/sandbox"
)

// layer measures layers of RUNs of a program that does nothing.
func layer(b *bench) error {
	title("a layer with one RUN, from the decision to build it until it is published; medians of %d", starts)
	var onDisk *project
	for _, place := range []struct{ name, dir string }{{"on disk, made durable", b.dir}, {"in memory", b.memory}} {
		p, err := b.project("layer", place.dir, 1)
		if err != nil {
			return err
		}
		took, err := b.published(p)
		if err != nil {
			return err
		}
		row(place.name, took, 0)
		if place.dir == b.dir {
			onDisk = p
		}
	}
	return runs(onDisk)
}

// published builds layers, one after the other, and tells the median of what
// raptor says that each took.
func (b *bench) published(p *project) (time.Duration, error) {
	var list []time.Duration
	for i := range starts {
		name := fmt.Sprintf("run%d", i)
		if err := p.write(name+".rapt", fmt.Sprintf("FROM l1\nENV N=%d\nRUN true\n", i)); err != nil {
			return 0, err
		}
		if err := b.in(p.dir, "build", "-q", "--events", "events", name)(); err != nil {
			return 0, err
		}
		took, err := elapsed(filepath.Join(p.dir, "events"), name)
		if err != nil {
			return 0, err
		}
		list = append(list, took)
	}
	return median(list), nil
}

// elapsed reads from a file of events what a step took.
func elapsed(file, step string) (time.Duration, error) {
	f, err := os.Open(file)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for dec := json.NewDecoder(f); dec.More(); {
		var event struct {
			Kind, Step string
			Elapsed    float64
		}
		if err := dec.Decode(&event); err != nil {
			return 0, err
		}
		if event.Kind == "done" && event.Step == step {
			return time.Duration(event.Elapsed * 1e9), nil
		}
	}
	return 0, fmt.Errorf("%s does not say that %s is done", file, step)
}

// runs tells what one RUN more costs, beside what fork, exec and wait cost for
// the same program in a process that has done nothing but chroot(2).
func runs(p *project) error {
	const more = 100
	sandboxed := func(runs int) *contender {
		var upper, work string
		return &contender{
			name:    "RUN of true",
			prepare: func() (err error) { upper, work, err = overlay(p.dir); return err },
			do: func() error {
				spec := &sandbox.Spec{Layers: p.layers, Upper: upper, Work: work, Build: true}
				for range runs {
					spec.Actions = append(spec.Actions, &sandbox.Exec{Args: []string{"/bin/true"}})
				}
				_, err := sandbox.Run(context.Background(), spec, sandbox.Streams{})
				return err
			},
		}
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	bare := func(runs int) *contender {
		return &contender{name: "fork and exec", do: command(self, forkExecWord, p.layers[0], strconv.Itoa(runs))}
	}
	list := []*contender{sandboxed(1), sandboxed(1 + more), bare(1), bare(1 + more)}
	if err := warmUp(list...); err != nil {
		return err
	}
	if err := race(21, list...); err != nil {
		return err
	}
	for _, c := range list {
		if c.broken != nil {
			return c.broken
		}
	}
	each := func(few, many *contender) time.Duration { return (median(many.took) - median(few.took)) / more }
	ours, plain := each(list[0], list[1]), each(list[2], list[3])
	title("one RUN of true more in a layer; from the medians of 21 layers with 1 and with %d", 1+more)
	row("RUN", ours, plain)
	row("fork, exec and wait in a chroot", plain, plain)
	row("what RUN costs beyond that", ours-plain, plain)
	return nil
}

const forkExecWord = "fork-exec"

// forkExec is this program as another process: it starts /bin/true below a root
// some times over.
func forkExec(args []string) {
	fail := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
	}
	runs, err := strconv.Atoi(args[1])
	fail(err)
	fail(syscall.Chroot(args[0]))
	fail(os.Chdir("/"))
	for range runs {
		pid, err := syscall.ForkExec("/bin/true", []string{"/bin/true"}, &syscall.ProcAttr{Files: []uintptr{0, 1, 2}, Sys: &syscall.SysProcAttr{Setsid: true}})
		fail(err)
		_, err = syscall.Wait4(pid, nil, 0, nil)
		fail(err)
	}
}
