// Command bench measures what raptor does side by side with other programs that
// do the like, and prints a table for each question. `make bench` runs it; see
// .ci/bench.
//
// Whatever is compared takes turns, round by round, so that all see the same
// machine, and what is printed is the median. Only ratios mean something.
//
//	bench [start|layer|copy|packages]...
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

var sections = []struct {
	name string
	run  func(*bench) error
}{
	{"start", start},
	{"layer", layer},
	{"copy", copies},
	{"packages", packages},
}

// A bench is where measurements are made.
type bench struct {
	dir    string // on the disk that temporary files are on
	memory string // in memory
	raptor string // the program
}

func main() {
	if len(os.Args) > 2 && os.Args[1] == forkExecWord {
		forkExec(os.Args[2:])
		return
	}
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(names []string) (err error) {
	if os.Geteuid() != 0 {
		return errors.New("it compares with programs that need root: run it as root")
	}
	b := &bench{raptor: filepath.Join(os.Getenv("RAPTOR_BIN"), "raptor")}
	if _, err := os.Stat(b.raptor); err != nil || !filepath.IsAbs(b.raptor) {
		return errors.New("RAPTOR_BIN must name the directory of a built raptor: run make bench")
	}
	if b.dir, err = os.MkdirTemp("", "raptor-bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	// As it is installed: what the linker has just written lies in the page cache
	// page by page, and starts a little slower.
	installed := filepath.Join(b.dir, "raptor")
	if err := command("install", b.raptor, installed)(); err != nil {
		return err
	}
	b.raptor = installed
	if b.memory, err = os.MkdirTemp("/dev/shm", "raptor-bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(b.memory)
	for _, s := range sections {
		if len(names) > 0 && !slices.Contains(names, s.name) {
			continue
		}
		if err := s.run(b); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}
