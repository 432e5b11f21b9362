// Package ui shows the events of a run: on a terminal as a live display, off it
// as lines, and for programs as JSON. It does not know how steps run; it knows
// the event types of package engine and nothing else of the project.
//
// A Display is made for each process, receives every event, and is closed
// before anything else takes over the terminal:
//
//	d := ui.New(ui.Options{Out: os.Stderr, Mode: "auto", Color: ui.ColorWanted("auto", os.Stderr, os.Getenv)})
//	defer d.Close()
//	context.AfterFunc(ctx, d.Interrupt) // ctx ends with SIGINT, SIGTERM, SIGHUP
//	err := run(ctx, d.Event)            // shown already, if it was sent with Finished
//
// A caller that exits by itself, as on a second interrupt, calls Close before.
//
// # What is shown
//
// Every mode prints one line for each step that ended well, and at the end of
// the run says what failed, why, and what that prevented. Beyond that:
//
//   - plain: what the programs of a step print, as whole lines prefixed with
//     the step's name ("ssh | Setting up openssh-server"), and sparse reports of
//     downloads. With Verbosity 1 also when a step starts and each instruction;
//     with 2 also messages of level debug.
//   - plain with GitHub: a step's output is held back until the step ends and
//     then printed as one group that can be folded.
//   - tty: as plain, but output and downloads appear in a live region below the
//     lines. It exists only while some step has been running for 150 ms.
//   - quiet: Verbosity -1 (-q) the lines of steps, warnings and failures; -2 or
//     less (-qq) only errors and failures.
//
// A negative Verbosity makes any mode quiet.
//
// # The live region
//
// It is drawn by a renderer of this package (screen.go, live.go), not by
// bubbletea and lipgloss. Measured with Go 1.26, stripped, against a program
// that has this package's other imports: they add 1.9 MB (of which displaywidth,
// which is used here, is 0.1 MB), 22 package initialisers and 0.3 ms to the
// start of every command, the ones with nothing to do included. More decisive is
// that they put the terminal in raw mode, in which Ctrl-C is a key and no longer
// a signal for the whole process group.
//
// Between two frames the cursor rests, visible, on the first cell of the
// region. Terminals that reflow lines when they are resized keep the cursor on
// its cell, so the next frame starts in the right place whatever became of the
// old one; and a process killed at any instant leaves a usable terminal.
//
// Keys are read with the terminal's line mode and echo switched off and its
// signals left on, only while the region is shown, only in the foreground, and
// only when standard input is a terminal. Close puts everything back, and the
// first SIGINT, SIGTERM or SIGHUP the keyboard's part of it; the caller must
// handle these signals in such a way that Close is called.
package ui
