package ui

import (
	"bytes"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestAppendClean(t *testing.T) {
	for _, c := range []struct{ name, raw, plain, coloured string }{
		{"plain", "a\tb c", "a\tb c", ""},
		{"wide", "日本語 🚀", "日本語 🚀", ""},
		{"crlf", "text\r", "text", ""},
		{"overwritten", " 10%\r 50%\r100%", "100%", ""},
		{"returned at the end", "\r 10%\r", " 10%", ""},
		{"backspaces", "10%\b\b\b20%", "20%", ""},
		{"backspace over nothing", "\b\bx", "x", ""},
		{"backspace over a wide character", "日\bx", "x", ""},
		{"colour", "\x1b[1;31mred\x1b[0m!", "red!", "\x1b[1;31mred\x1b[0m!\x1b[0m"},
		{"colour left on", "\x1b[38:2:1:2:3mred", "red", "\x1b[38:2:1:2:3mred\x1b[0m"},
		{"backspace spares colour", "\x1b[31m\bx", "x", "\x1b[31mx\x1b[0m"},
		{"overwritten colour", "\x1b[31mred\rblue", "blue", "blue"},
		{"cursor", "a\x1b[2Jb\x1b[10;10Hc\x1b[?25ld", "abcd", ""},
		{"private m", "a\x1b[?1mb\x1b[>4;2mc", "abc", ""},
		{"title", "a\x1b]0;title\x07b\x1b]52;c;Zm9v\x1b\\c", "abc", ""},
		{"title without end", "a\x1b]0;title", "a", ""},
		{"device control", "a\x1bPq#0\x1b\\b", "ab", ""},
		{"charset", "a\x1b(0b\x1bMc", "abc", ""},
		{"escape at the end", "a\x1b", "a", ""},
		{"half a sequence", "a\x1b[31", "a", ""},
		{"eight-bit controls", "a\u009b31mb\u009d0;x\u009c", "a31mb0;x", ""},
		{"bell and nul", "a\x00\x07b\x7f", "ab", ""},
		{"not UTF-8", "a\xff\xc3(b", "a\ufffd\ufffd(b", ""},
		{"separators", "a\u2028b\vc", "a b c", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := string(appendClean(nil, []byte(c.raw), false)); got != c.plain {
				t.Errorf("without colour %q, want %q", got, c.plain)
			}
			if c.coloured == "" {
				c.coloured = c.plain
			}
			if got := string(appendClean([]byte("> "), []byte(c.raw), true)); got != "> "+c.coloured {
				t.Errorf("with colour %q, want %q", got, "> "+c.coloured)
			}
		})
	}
}

var coloursOnly = regexp.MustCompile("\x1b\\[[0-9;:]*m")

func FuzzAppendClean(f *testing.F) {
	for _, s := range []string{"a\rb\bc", "\x1b[31mred\x1b[0m", "\x1b]0;t\x07", "\xff\u009b", "\x1b\x1b[[m"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		for _, colour := range []bool{false, true} {
			got := string(appendClean(nil, raw, colour))
			if !utf8.ValidString(got) {
				t.Fatalf("%q is not UTF-8", got)
			}
			rest := got
			if colour {
				rest = coloursOnly.ReplaceAllString(got, "")
			}
			for _, r := range rest {
				if r < ' ' && r != '\t' || r >= 0x7f && r < 0xa0 {
					t.Fatalf("%q has a control character", got)
				}
			}
			if colour && strings.Contains(got, "\x1b") && !strings.HasSuffix(got, "\x1b[0m") {
				t.Fatalf("%q leaves a colour on", got)
			}
		}
	})
}

// However a stream is cut into pieces, its lines are the same.
func TestSplitterPieces(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var whole []byte
	for range 300 {
		whole = append(whole, strings.Repeat("x", r.IntN(200))...)
		whole = append(whole, "\n"...)
	}
	want := strings.Split(strings.TrimSuffix(string(whole), "\n"), "\n")
	for range 200 {
		var s splitter
		var got []string
		emit := func(line []byte) { got = append(got, string(line)) }
		for rest := whole; len(rest) > 0; {
			n := min(1+r.IntN(1+r.IntN(500)), len(rest))
			s.feed(rest[:n], emit)
			rest = rest[n:]
		}
		s.flush(emit)
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Fatalf("%d lines, want %d", len(got), len(want))
		}
	}
}

// A line that never ends is neither kept for ever nor lost.
func TestSplitterLongLine(t *testing.T) {
	var s splitter
	total := 0
	for range 1000 {
		s.feed(bytes.Repeat([]byte("x"), 1000), func(line []byte) { total += len(line) })
		if len(s.partial) > longest {
			t.Fatalf("%d bytes are held", len(s.partial))
		}
	}
	s.flush(func(line []byte) { total += len(line) })
	if total != 1_000_000 {
		t.Errorf("%d bytes came out", total)
	}
}

// A progress bar that is redrawn for hours is one line: its last state.
func TestSplitterProgress(t *testing.T) {
	var s splitter
	var lines []string
	emit := func(line []byte) { lines = append(lines, string(appendClean(nil, line, false))) }
	for range 10_000 {
		s.feed([]byte("\r[=====>      ] working"), emit)
		if len(s.partial) > longest {
			t.Fatalf("%d bytes are held", len(s.partial))
		}
	}
	s.feed([]byte("\r[===========>] done   \n"), emit)
	if len(lines) != 1 || lines[0] != "[===========>] done   " {
		t.Errorf("lines are %q", lines)
	}
}

// The tail has the last lines of what was written, however much that is and
// however it came.
func TestTail(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 100 {
		var tl tail
		var all []byte
		for range r.IntN(12) {
			var piece []byte
			for range r.IntN(40) {
				piece = append(piece, strings.Repeat("y", r.IntN(120))...)
				piece = append(piece, "z\n"...)
			}
			for range r.IntN(2) {
				piece = append(piece, bytes.Repeat([]byte("long\n"), 10_000)...)
			}
			tl.write(piece, false)
			all = append(all, piece...)
			if cap(tl.raw) > 8*kept {
				t.Fatalf("%d bytes are kept", cap(tl.raw))
			}
		}
		lines := strings.Split(strings.TrimSuffix(string(all), "\n"), "\n")
		want := strings.Join(lines[max(len(lines)-20, 0):], "\n")
		if got := strings.Join(tl.lines(20, false), "\n"); got != want {
			t.Fatalf("tail is\n%s\nwant\n%s", got, want)
		}
	}
}

func TestMeasures(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 999: "999 B", 1000: "1.0 kB", 443_200_000: "443.2 MB", 999_949: "999.9 kB", 999_951: "1.0 MB", 1_234_567_890: "1.2 GB", 5e12: "5.0 TB",
	} {
		if got := size(n); got != want {
			t.Errorf("size(%d) is %q, want %q", n, got, want)
		}
	}
	for d, want := range map[string]string{
		"0s": "0.0s", "40ms": "0.0s", "450ms": "0.5s", "12340ms": "12.3s", "59940ms": "59.9s", "59960ms": "1m00s", "62s": "1m02s", "3599600ms": "1h00m", "3720s": "1h02m", "100h": "100h00m",
	} {
		if got := span(mustDuration(t, d)); got != want {
			t.Errorf("span(%s) is %q, want %q", d, got, want)
		}
	}
}

func TestFit(t *testing.T) {
	for _, c := range []struct {
		text  string
		width int
		want  string
	}{
		{"short", 10, "short"}, {"exactly10!", 10, "exactly10!"}, {"longer than", 10, "longer th…"}, {"日本語", 5, "日本…"}, {"日本語", 6, "日本語"},
		{"日本語", 1, "…"}, {"x", 0, ""}, {"\x1b[31mlonger\x1b[0m", 4, "\x1b[31mlon…\x1b[0m"}, {"e\u0301e\u0301e\u0301", 2, "e\u0301…"},
	} {
		if got := fit(c.text, c.width, "…"); got != c.want {
			t.Errorf("fit(%q, %d) is %q, want %q", c.text, c.width, got, c.want)
		}
		if got := textWidth(fit(c.text, c.width, "…")); got > c.width {
			t.Errorf("fit(%q, %d) has %d cells", c.text, c.width, got)
		}
	}
	if got := fit(strings.Repeat("\x1b[31mé", 1<<16), 20, "…"); textWidth(got) > 20 || strings.Contains(got, "\x1b") {
		t.Errorf("a long coloured line became %q", got)
	}
	if got := expand("日\tb\t\tc"); got != "日      b               c" {
		t.Errorf("tabs became %q", got)
	}
}
