package ui

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// A screen is the terminal that the live region is drawn on.
type screen interface {
	// size is the terminal's size in cells.
	size() (width, height int)
	// foreground says that the terminal is ours to draw on.
	foreground() bool
}

type tty struct{ file *os.File }

func (t tty) size() (int, int) {
	ws, err := unix.IoctlGetWinsize(int(t.file.Fd()), unix.TIOCGWINSZ)
	if err != nil || ws.Col == 0 || ws.Row == 0 {
		return 80, 24
	}
	return int(ws.Col), int(ws.Row)
}

func (t tty) foreground() bool { return foreground(int(t.file.Fd())) }

// foreground says that this process group has the terminal, or that nobody
// does: it need not be our controlling terminal.
func foreground(fd int) bool {
	group, err := unix.IoctlGetInt(fd, unix.TIOCGPGRP)
	return err != nil || group == unix.Getpgrp()
}

const (
	// A terminal that knows synchronized output shows nothing half drawn; the
	// others ignore the mode.
	beginFrame = "\x1b[?2026h\x1b[?25l"
	endFrame   = "\x1b[?25h\x1b[?2026l"
	noWrap     = "\x1b[?7l" // a row stays one row, whatever the terminal thinks of its width
	wrap       = "\x1b[?7h"
	eraseRow   = "\x1b[K"
	eraseBelow = "\x1b[J"

	// eraseRegion empties the cursor's row and all below it. The row is erased by
	// itself because only that makes tmux forget that it was wrapped; the blank is
	// there because tmux takes erasing from the first cell of the screen for
	// clearing the screen, and keeps what was on it in its history.
	eraseRegion = "\r" + eraseRow + " " + eraseBelow + "\r"
)

// appendFrame draws rows in place of the region whose first cell the cursor is
// on, with lines above them, and returns the cursor to the first cell. The old
// region is overwritten, which does not flicker anywhere; it must be erased if
// the terminal's size has changed, because a row that was wrapped would stay
// marked as going on in the next, and be joined with it by the next change.
func appendFrame(dst, lines []byte, rows []string, erase bool) []byte {
	dst = append(dst, beginFrame...)
	dst = append(dst, '\r')
	if erase || len(lines) > 0 {
		dst = append(dst, eraseRegion...)
		dst = append(dst, lines...)
	}
	dst = append(dst, noWrap...)
	for i, row := range rows {
		if i > 0 {
			dst = append(dst, "\r\n"...)
		}
		dst = append(dst, row...)
		dst = append(dst, eraseRow...)
	}
	dst = append(dst, eraseBelow...)
	dst = append(dst, wrap...)
	if len(rows) > 1 {
		dst = fmt.Appendf(dst, "\x1b[%dA", len(rows)-1)
	}
	dst = append(dst, '\r')
	return append(dst, endFrame...)
}

// appendErased takes the region away and writes lines in its place.
func appendErased(dst, lines []byte) []byte {
	dst = append(dst, eraseRegion...)
	return append(dst, lines...)
}
