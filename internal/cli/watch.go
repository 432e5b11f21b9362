package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/spf13/cobra"
)

// quiet is how long nothing may happen before a change counts as complete:
// editors write in several steps.
const quiet = 200 * time.Millisecond

// restless is how long something may go on happening before it is looked at
// all the same: others may work in these directories all the time.
const restless = time.Second

// watch makes jobs again and again, whenever a file changes that the last time
// depended on. It ends with an interrupt.
func (inv *invocation) watch(c *cobra.Command, names []string) error {
	dirs := []string{"."}
	for {
		err := inv.makeOnce(c, names)
		if c.Context().Err() != nil {
			return context.Cause(c.Context())
		}
		changed := func() bool { return true }
		if _, told := err.(status); err == nil || told {
			if inv.watched != nil {
				changed = inv.watched.Since()
				dirs = append([]string{"."}, inv.watched.Dirs()...)
			}
		} else {
			// It has not come to know all files. Until the mistake is mended,
			// any change beside them counts.
			inv.tell(os.Stderr, err)
		}
		if err := inv.awaitChange(c.Context(), dirs, changed); err != nil {
			return err
		}
	}
}

// awaitChange returns when something has happened in the directories, and it is
// a change that counts.
func (inv *invocation) awaitChange(ctx context.Context, dirs []string, changed func() bool) error {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch files: %w", err)
	}
	defer w.Close()
	for _, dir := range dirs {
		if err := w.Add(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("watch %s: %w", dir, err)
		}
	}
	if inv.quiet == 0 {
		fmt.Fprintln(os.Stderr, "waiting for a change; Ctrl-C ends")
	}
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	var since time.Time // the first event that was not looked at
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case err := <-w.Errors:
			return fmt.Errorf("watch files: %w", err)
		case <-w.Events:
			switch {
			case since.IsZero():
				since = time.Now()
				timer.Reset(quiet)
			case time.Since(since) < restless:
				timer.Reset(quiet)
			}
		case <-timer.C:
			since = time.Time{}
			if changed() {
				return nil
			}
		}
	}
}
