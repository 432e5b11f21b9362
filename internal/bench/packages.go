package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"raptor-make/sandbox"
)

// wanted come to at least as many packages with all that they depend on, on a
// minimal Debian.
const (
	wanted   = "git python3 openssh-client less vim-tiny rsync"
	packaged = 50
)

// packages installs packages that are downloaded already, with and without the
// flushing to the disk that dpkg asks for after each file.
func packages(b *bench) error {
	dir, unmount, err := b.disk("packages")
	if err != nil {
		return err
	}
	defer unmount()
	p := &project{dir: dir}
	install := "apt-get install -q -y --no-install-recommends "
	for name, text := range map[string]string{
		"base.rapt":      "FROM debian://trixie\nRUN apt-get update -q\n",
		"downloads.rapt": "FROM base\nRUN " + install + "--download-only " + wanted + "\n",
	} {
		if err := p.write(name, text); err != nil {
			return err
		}
	}
	if err := b.in(p.dir, "build", "-q", "downloads")(); err != nil {
		return err
	}
	for _, name := range []string{"debian-trixie", "base", "downloads"} {
		found, err := filepath.Glob(filepath.Join(p.dir, "layers", name+"-*"))
		if err != nil || len(found) != 1 {
			return fmt.Errorf("layer %s is in %q", name, found)
		}
		p.layers = append(p.layers, found[0])
	}
	archives, err := filepath.Glob(filepath.Join(p.layers[2], "var/cache/apt/archives/*.deb"))
	if err != nil {
		return err
	}
	if len(archives) < packaged {
		return fmt.Errorf("%s are %d packages, not %d", wanted, len(archives), packaged)
	}
	with := func(name string, durable bool) *contender {
		var upper, work string
		return &contender{
			name:    name,
			prepare: func() (err error) { upper, work, err = fresh(p.dir); return err },
			do: func() error {
				spec := &sandbox.Spec{Layers: p.layers, Upper: upper, Work: work, State: durable, Actions: []sandbox.Action{&sandbox.Exec{
					Args: strings.Fields(install + "--no-download " + wanted),
					Env:  []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive"},
				}}}
				var out strings.Builder
				_, err := sandbox.Run(context.Background(), spec, sandbox.Streams{Stdout: &out, Stderr: &out})
				if err != nil {
					return fmt.Errorf("%w: %s", err, out.String())
				}
				return nil
			},
			after: func() error { return syncFS(p.dir) },
		}
	}
	volatile, durable := with("as in a layer: flushed once, at the end", false), with("flushed whenever dpkg asks for it", true)
	if err := race(rounds, volatile, durable); err != nil {
		return err
	}
	title("apt-get install of %d packages, downloaded before; medians of %d", len(archives), rounds)
	for _, c := range []*contender{volatile, durable} {
		if c.broken != nil {
			return c.broken
		}
		row(c.name, median(c.took)+median(c.tookAfter), median(volatile.took)+median(volatile.tookAfter), "of which the flush at the end "+human(median(c.tookAfter)))
	}
	return nil
}

// syncFS writes to the disk what a file system has not written yet, as
// publishing a layer does.
func syncFS(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Syncfs(int(f.Fd()))
}
