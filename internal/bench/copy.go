package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"

	"raptor-make/sandbox"
)

const (
	bigFile    = 1 << 30
	smallFiles = 50_000
	rounds     = 3
)

// copies compares COPY with cp -a.
func copies(b *bench) error {
	dir, unmount, err := b.disk("copy")
	if err != nil {
		return err
	}
	defer unmount()
	root := filepath.Join(dir, "root")
	big, small := filepath.Join(dir, "big"), filepath.Join(dir, "small")
	for _, d := range []string{root, big, small} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	if err := fill(filepath.Join(big, "file"), bigFile); err != nil {
		return err
	}
	for i := range smallFiles {
		below := filepath.Join(small, fmt.Sprint(i/100%50), fmt.Sprint(i/5000))
		if i%100 == 0 {
			if err := os.MkdirAll(below, 0o755); err != nil {
				return err
			}
		}
		if err := fill(filepath.Join(below, fmt.Sprint(i)), i%4096); err != nil {
			return err
		}
	}
	for _, what := range []struct{ name, dir string }{{"a file of 1 GiB", big}, {fmt.Sprintf("%d files of 2 KiB", smallFiles), small}} {
		if err := copied(dir, root, what.name, what.dir, what.dir == small); err != nil {
			return err
		}
	}
	return nil
}

// fill writes a file of random bytes, which no file system can make smaller.
func fill(path string, size int) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	buf := make([]byte, min(size, 1<<20))
	for size > 0 {
		rand.Read(buf)
		n, err := f.Write(buf[:min(size, len(buf))])
		if err != nil {
			return err
		}
		size -= n
	}
	return f.Close()
}

// copied compares copies of a source. They are kept where there are many files:
// ext4 does not use the numbers of files again that were removed in the last
// minutes, and looks at each of them whenever it makes a file.
func copied(dir, root, name, source string, keep bool) error {
	flush := func() error { return syncFS(dir) }
	var upper, work string
	for _, cold := range []bool{false, true} {
		prepare := func() error {
			var err error
			if upper != "" && !keep {
				err = os.RemoveAll(filepath.Dir(upper))
			}
			if err != nil {
				return err
			}
			if upper, work, err = fresh(dir); err != nil || !cold {
				return err
			}
			return os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0)
		}
		ours := &contender{name: "COPY, in a sandbox of its own", prepare: prepare, after: flush, do: func() error {
			spec := &sandbox.Spec{
				Layers: []string{root}, Upper: upper, Work: work, Build: true,
				Actions: []sandbox.Action{&sandbox.Copy{Sources: []sandbox.CopySource{{Path: source}}, Dest: "/copy"}},
			}
			_, err := sandbox.Run(context.Background(), spec, sandbox.Streams{})
			return err
		}}
		cp := &contender{name: "cp -a", prepare: prepare, after: flush, do: func() error { return command("cp", "-a", source, filepath.Join(upper, "copy"))() }}
		n, state := rounds, fmt.Sprintf("in the page cache; medians of %d", rounds)
		if cold { // what is below a virtual machine's disk has a cache, too
			n, state = 2, "not in the page cache; the better of 2"
		}
		if err := race(n, ours, cp); err != nil {
			return err
		}
		title("copy of %s, %s", name, state)
		for _, c := range []*contender{ours, cp} {
			c.row(cp)
		}
		for _, c := range []*contender{ours, cp} {
			if c.broken == nil {
				row(c.name+", then flushed", median(c.took)+median(c.tookAfter), median(cp.took)+median(cp.tookAfter))
			}
		}
	}
	return nil
}

// fresh makes directories for an overlay, and flushes what was written before.
func fresh(dir string) (upper, work string, err error) {
	if upper, work, err = overlay(dir); err != nil {
		return "", "", err
	}
	return upper, work, syncFS(dir)
}

// overlay makes directories for an overlay.
func overlay(dir string) (upper, work string, err error) {
	dir, err = os.MkdirTemp(dir, "overlay-")
	upper, work = filepath.Join(dir, "upper"), filepath.Join(dir, "work")
	for _, d := range []string{upper, work} {
		if err == nil {
			err = os.Mkdir(d, 0o755)
		}
	}
	return upper, work, err
}

// disk mounts a new ext4 on the disk, so that nothing that was on it before
// matters.
func (b *bench) disk(name string) (dir string, unmount func(), err error) {
	image, dir := filepath.Join(b.dir, name+".img"), filepath.Join(b.dir, name)
	for _, step := range []func() error{
		command("truncate", "-s", "12G", image),
		command("mkfs.ext4", "-q", "-E", "nodiscard", image),
		func() error { return os.Mkdir(dir, 0o755) },
		command("mount", "-o", "loop", image, dir),
	} {
		if err := step(); err != nil {
			return "", nil, fmt.Errorf("make a file system for measurements: %w", err)
		}
	}
	return dir, func() {
		if err := command("umount", dir)(); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
		}
		os.Remove(image)
	}, nil
}
