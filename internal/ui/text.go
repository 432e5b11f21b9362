package ui

import (
	"unicode/utf8"
)

// clean makes text of unknown origin fit to be part of a line: one line, valid
// UTF-8, nothing that a terminal would obey.
func clean(text string) string {
	if printable(text) {
		return text
	}
	raw := make([]byte, len(text))
	for i := range len(text) {
		raw[i] = text[i]
		if text[i] == '\n' || text[i] == '\r' {
			raw[i] = ' '
		}
	}
	return string(appendClean(nil, raw, false))
}

func printable[T string | []byte](text T) bool {
	for i := range len(text) {
		if (text[i] < ' ' && text[i] != '\t') || text[i] >= 0x7f {
			return false
		}
	}
	return true
}

// appendClean appends one line of a program's output as people should see it.
// raw has no line feed. What carriage returns and backspaces took back is left
// out, so that a progress bar shows its last state. Escape sequences are
// dropped: they move the cursor, set titles, fill the clipboard. Only those
// that colour are kept when colour is true, and their effect ends with the line.
func appendClean(dst, raw []byte, colour bool) []byte {
	if printable(raw) {
		return append(dst, raw...)
	}
	c := cleaner{dst: dst, start: len(dst), floor: len(dst), colour: colour}
	for len(raw) > 0 {
		raw = raw[c.next(raw):]
	}
	if c.coloured {
		c.dst = append(c.dst, "\x1b[0m"...)
	}
	return c.dst
}

type cleaner struct {
	dst      []byte
	start    int  // where the line starts in dst
	floor    int  // what a backspace may not take back: the start, and colours
	returned bool // a carriage return came: the next character starts anew
	colour   bool
	coloured bool
}

// next takes over the first character or sequence of raw and returns its length.
func (c *cleaner) next(raw []byte) int {
	switch b := raw[0]; {
	case b == '\t', b >= ' ' && b < 0x7f:
		c.put(raw[:1])
		return 1
	case b == '\r':
		c.returned = true
		return 1
	case b == '\b':
		if len(c.dst) > c.floor {
			_, n := utf8.DecodeLastRune(c.dst[c.floor:])
			c.dst = c.dst[:len(c.dst)-n]
		}
		return 1
	case b == '\v', b == '\f', b == '\n':
		c.put([]byte{' '})
		return 1
	case b == 0x1b:
		return c.escape(raw)
	case b < 0x80:
		return 1
	}
	r, n := utf8.DecodeRune(raw)
	switch {
	case r >= 0x80 && r < 0xa0: // the eight-bit twins of the escape sequences
	case r == 0x2028 || r == 0x2029: // separators that some take for line ends
		c.put([]byte{' '})
	default:
		c.put(utf8.AppendRune(nil, r)) // U+FFFD for what is not UTF-8
	}
	return n
}

func (c *cleaner) put(b []byte) {
	if c.returned {
		c.returned = false
		c.dst = c.dst[:c.start]
		c.floor = c.start
		c.coloured = false
	}
	c.dst = append(c.dst, b...)
}

// escape skips the sequence that raw starts with, and returns its length.
func (c *cleaner) escape(raw []byte) int {
	if len(raw) < 2 {
		return len(raw)
	}
	switch raw[1] {
	case '[':
		return c.control(raw)
	case ']', 'P', 'X', '^', '_':
		return stringSequence(raw)
	}
	n := 1
	for n < len(raw) && raw[n] >= 0x20 && raw[n] <= 0x2f {
		n++
	}
	if n < len(raw) && raw[n] >= 0x30 && raw[n] < 0x7f {
		n++
	}
	return n
}

// control skips a control sequence (ECMA-48, 5.4), or keeps it if it colours.
func (c *cleaner) control(raw []byte) int {
	n, plain := 2, true
	for n < len(raw) && raw[n] >= 0x20 && raw[n] <= 0x3f {
		plain = plain && (raw[n] >= '0' && raw[n] <= '9' || raw[n] == ';' || raw[n] == ':')
		n++
	}
	if n == len(raw) || raw[n] < 0x40 || raw[n] > 0x7e {
		return n
	}
	n++
	if c.colour && plain && raw[n-1] == 'm' && n < 40 {
		c.put(raw[:n])
		c.floor = len(c.dst)
		c.coloured = true
	}
	return n
}

// stringSequence skips up to its terminator, BEL or ESC \, or to the end.
func stringSequence(raw []byte) int {
	for n := 2; n < len(raw); n++ {
		if raw[n] == 0x07 {
			return n + 1
		}
		if raw[n] == 0x1b {
			if n+1 < len(raw) && raw[n+1] == '\\' {
				return n + 2
			}
			return n
		}
	}
	return len(raw)
}
