package main

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// A contender is one way of doing what a table is about.
type contender struct {
	name    string
	prepare func() error // before each turn, not measured; may be nil
	do      func() error
	after   func() error // measured apart; may be nil

	took, tookAfter []time.Duration
	broken          error // why it cannot be measured here
}

// race lets contenders take turns. One whose first turn fails is left out, with
// the reason in the table; it is an error if any fails later.
func race(rounds int, list ...*contender) error {
	for range rounds {
		for _, c := range list {
			if c.broken != nil {
				continue
			}
			err := c.turn()
			if err != nil && len(c.took) == 0 {
				c.broken = err
			} else if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
		}
	}
	return nil
}

// warmUp has each take a turn that does not count.
func warmUp(list ...*contender) error {
	err := race(1, list...)
	for _, c := range list {
		c.took, c.tookAfter = nil, nil
	}
	return err
}

func (c *contender) turn() error {
	if c.prepare != nil {
		if err := c.prepare(); err != nil {
			return err
		}
	}
	begun := time.Now()
	if err := c.do(); err != nil {
		return err
	}
	c.took = append(c.took, time.Since(begun))
	if c.after == nil {
		return nil
	}
	begun = time.Now()
	err := c.after()
	c.tookAfter = append(c.tookAfter, time.Since(begun))
	return err
}

// median is the lower one of the two in the middle of an even number.
func median(list []time.Duration) time.Duration {
	if len(list) == 0 {
		return 0
	}
	list = slices.Sorted(slices.Values(list))
	return list[(len(list)-1)/2]
}

// command runs a program that must succeed.
func command(words ...string) func() error {
	return func() error {
		cmd := exec.Command(words[0], words[1:]...)
		return said(cmd)
	}
}

// said runs a command; its error has what it printed.
func said(cmd *exec.Cmd) error {
	file, err := os.CreateTemp("", "raptor-bench-output-")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	defer file.Close()
	// A file, not a pipe, which would be more work.
	cmd.Stdout, cmd.Stderr = file, file
	if err := cmd.Run(); err != nil {
		text, _ := os.ReadFile(file.Name())
		if last := strings.TrimSpace(string(text)); last != "" {
			return fmt.Errorf("%w: %s", err, last[strings.LastIndexByte(last, '\n')+1:])
		}
		return err
	}
	return nil
}

// title begins a section.
func title(format string, args ...any) { fmt.Printf("\n== "+format+"\n", args...) }

// row prints one line of a table: what it is, how long it took, and how often
// the reference fits into it.
func row(name string, took, reference time.Duration, notes ...string) {
	ratio := ""
	if reference > 0 {
		ratio = fmt.Sprintf("%6.2f x", float64(took)/float64(reference))
	}
	fmt.Println(strings.TrimRight(fmt.Sprintf("  %-52s %12s %9s  %s", name, human(took), ratio, strings.Join(notes, "; ")), " "))
}

func (c *contender) row(reference *contender, notes ...string) {
	if c.broken != nil {
		fmt.Printf("  %-52s   not measured: %v\n", c.name, c.broken)
		return
	}
	row(c.name, median(c.took), median(reference.took), notes...)
}

func human(d time.Duration) string {
	switch {
	case d.Abs() >= 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d.Abs() >= time.Second:
		return fmt.Sprintf("%.2f s", d.Seconds())
	}
	return fmt.Sprintf("%.2f ms", float64(d.Microseconds())/1e3)
}
