package cli

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/spf13/cobra"
)

// quiet is how long nothing may happen before a change counts as complete:
// editors write in several steps.
const quiet = 200 * time.Millisecond

// watch makes jobs again and again, whenever a file changes that the last time
// depended on. It ends with an interrupt.
func (inv *invocation) watch(c *cobra.Command, names []string) error {
	for {
		inv.watched = nil
		err := inv.makeOnce(c, names)
		if c.Context().Err() != nil {
			return context.Cause(c.Context())
		}
		if err != nil {
			inv.tellUnlessTold(err)
		}
		if err := inv.awaitChange(c.Context()); err != nil {
			return err
		}
	}
}

func (inv *invocation) tellUnlessTold(err error) {
	if _, told := err.(status); !told {
		inv.tell(os.Stderr, err)
	}
}

// awaitChange returns when a watched file has changed. While a user's file
// cannot be read, any change beside it counts.
func (inv *invocation) awaitChange(ctx context.Context) error {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch files: %w", err)
	}
	defer w.Close()
	changed := func() bool { return true }
	dirs := []string{"."}
	if inv.watched != nil {
		changed = inv.watched.Since()
		dirs = append(dirs, inv.watched.Dirs()...)
	}
	for _, dir := range dirs {
		w.Add(dir) // what cannot be watched is often just not there
	}
	if inv.quiet == 0 {
		fmt.Fprintln(os.Stderr, "waiting for a change; Ctrl-C ends")
	}
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case err := <-w.Errors:
			return fmt.Errorf("watch files: %w", err)
		case <-w.Events:
			timer.Reset(quiet)
		case <-timer.C:
			if changed() {
				return nil
			}
		}
	}
}
