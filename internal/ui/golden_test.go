package ui

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"raptor-make/engine"
)

var update = flag.Bool("update", false, "write the golden files anew")

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", "golden", name)
	if *update {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s differs (- wanted, + is):\n%s", file, diff)
	}
}

func TestGolden(t *testing.T) {
	modes := map[string]Options{
		"plain":    {Mode: "plain"},
		"verbose":  {Mode: "plain", Verbosity: 2},
		"colour":   {Mode: "plain", Color: true},
		"quiet":    {Mode: "quiet"},
		"q":        {Mode: "plain", Verbosity: -1},
		"qq":       {Verbosity: -2},
		"github":   {GitHub: true},
		"terminal": {Mode: "tty"}, // not a terminal: plain
	}
	for mode, options := range modes {
		for _, s := range scripts() {
			t.Run(mode+"/"+s.name, func(t *testing.T) {
				var out bytes.Buffer
				d := newDisplay(options, &out, newSetClock())
				for _, e := range s.events {
					d.Event(e)
				}
				seen := out.Len()
				d.Close()
				if out.Len() != seen {
					t.Error("something was written after Finished")
				}
				golden(t, s.name+"."+map[string]string{"terminal": "plain", "q": "quiet"}[mode]+map[bool]string{true: mode}[mode != "terminal" && mode != "q"], out.Bytes())
			})
		}
	}
}

func TestGoldenJSON(t *testing.T) {
	for _, s := range scripts() {
		t.Run(s.name, func(t *testing.T) {
			var out bytes.Buffer
			sink := JSON(&out)
			for _, e := range s.events {
				sink(e)
			}
			golden(t, s.name+".json", out.Bytes())
		})
	}
}

// What a closed display is told is written at once, as lines.
func TestEventsAfterClose(t *testing.T) {
	var out bytes.Buffer
	d := newDisplay(Options{Mode: "plain"}, &out, newSetClock())
	d.Event(layer(engine.Started, "base"))
	d.Event(output(layer("", "base"), "unfinished"))
	d.Close()
	if got := out.String(); got != "base | unfinished\n" {
		t.Fatalf("%q was written by Close", got)
	}
	d.Close()
	d.Event(layer(engine.Done, "base"))
	if got := out.String(); got != "base | unfinished\n[*] Completed [AB1DD71BFD07718B] base\n" {
		t.Fatalf("%q was written", got)
	}
}

// Lines are written within 20 ms, several of them at once.
func TestGather(t *testing.T) {
	clock := newSetClock()
	var out counter
	d := newDisplay(Options{Mode: "plain"}, &out, clock)
	for range 1000 {
		d.Event(layer(engine.Cached, "base"))
	}
	if out.writes != 0 {
		t.Fatalf("%d writes at once", out.writes)
	}
	clock.advance(gather)
	if out.writes != 1 || bytes.Count(out.Bytes(), []byte("\n")) != 1000 {
		t.Fatalf("%d writes, %d lines", out.writes, bytes.Count(out.Bytes(), []byte("\n")))
	}
}

// A counter counts writes, and frames among them.
type counter struct {
	bytes.Buffer
	writes, frames int
}

func (c *counter) Write(b []byte) (int, error) {
	c.writes++
	c.frames += bytes.Count(b, []byte(beginFrame))
	return c.Buffer.Write(b)
}

// A run that is cut short still says what failed.
func TestCloseTellsFailures(t *testing.T) {
	for name, o := range map[string]Options{"plain": {}, "quiet": {Mode: "quiet"}, "github": {GitHub: true}} {
		var out bytes.Buffer
		d := newDisplay(o, &out, newSetClock())
		d.Event(layer(engine.Started, "base"))
		d.Event(output(layer("", "base"), "unfinished"))
		d.Event(with(layer(engine.Failed, "base"), func(e *engine.Event) { e.Err = excerpt{} }))
		d.Close()
		if got := out.String(); !bytes.Contains(out.Bytes(), []byte("3 | RNU")) || !bytes.Contains(out.Bytes(), []byte("  | unfinished\n")) {
			t.Errorf("%s: %q was written", name, got)
		}
	}
}

// One Display shows run after run.
func TestSecondRun(t *testing.T) {
	for _, mode := range []Options{{}, {GitHub: true}, {Mode: "quiet"}} {
		var once, twice bytes.Buffer
		b := newDisplay(mode, &twice, newSetClock())
		for _, s := range scripts() {
			once.Reset()
			twice.Reset()
			a := newDisplay(mode, &once, newSetClock())
			for _, e := range s.events {
				a.Event(e)
				b.Event(e)
			}
			if diff := cmp.Diff(once.String(), twice.String()); diff != "" {
				t.Errorf("%s after other runs (- alone, + is):\n%s", s.name, diff)
			}
		}
	}
}
