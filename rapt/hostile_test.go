package rapt

import (
	"runtime"
	"strings"
	"testing"
	"time"
)

// What no person writes ends with a clear error all the same, soon and without
// eating the machine's memory.
func TestHostileInputs(t *testing.T) {
	if testing.Short() {
		t.Skip("takes ten seconds")
	}
	for name, c := range map[string]struct{ text, want string }{
		"10,000 mistakes":       {strings.Repeat("FLORG \"\\q\"\n", 10_000), "and 9800 more"},
		"10,000 template ones":  {strings.Repeat("RUN {{ foo }}\n", 10_000), `variable "foo" is not defined`},
		"1,000 open lists":      {"INCLUDE x a=" + strings.Repeat("[", 1000) + strings.Repeat("]", 1000) + "\n", "nested more than 100 deep"},
		"1,000 open maps":       {"INCLUDE x a=" + strings.Repeat(`{"a": `, 1000) + "\n", "nested more than 100 deep"},
		"1,000 lists open":      {"INCLUDE x a=" + strings.Repeat("[\n", 1000), "nested more than 100 deep"},
		"10,000 template lists": {"$ set x = " + strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000) + "\n", "cannot be read"},
		"a line of 10 MB":       {"RUN " + strings.Repeat("x", 10<<20) + " \"\\q\"\n", "unknown escape"},
		"a word of 10 MB":       {"FLORG" + strings.Repeat("x", 10<<20) + "\n", "unknown instruction"},
		"a quote of 10 MB":      {"RUN \"" + strings.Repeat("x", 10<<20) + "\n", "not closed"},
		"10 MB of newlines":     {strings.Repeat("\n", 10<<20) + "FLORG\n", "unknown instruction"},
		"10 MB of continuation": {"RUN a " + strings.Repeat("\\\n", 5<<20) + "\"\\q\"\n", "unknown escape"},
		"many on a long line":   {"RUN \"" + strings.Repeat(`\q`, 200_000) + "\n", "and 199801 more"},
		"10 MB of zeros":        {strings.Repeat("\x00", 10<<20), "zero byte"},
		"a loop for ever":       {"$ for a in range(100000)\n$ for b in range(100000)\nRUN {{ b }}\n$ endfor\n$ endfor\n", "too many steps"},
		"a macro of itself":     {"{% macro m() %}{{ m() }}{% endmacro %}\n{{ m() }}\n", "recursion"},
		"an include of itself":  {"{% include 'main.rapt' %}\n", "recursion"},
		"a text that doubles":   {"$ set x = 'x'\n" + strings.Repeat("$ set x = x ~ x\n", 60) + "RUN {{ x }}\n", "grown beyond"},
		"a list that doubles":   {"$ set x = [1]\n" + strings.Repeat("$ set x = x + x\n", 60) + "RUN {{ x }}\n", "grown beyond"},
		"a panic of the engine": {"RUN a\nRUN {{ 'x' | indent(9223372036854775807) }}\n", "gives up"},
		"10,000 open ifs":       {strings.Repeat("$ if true\n", 10_000), "never closed"},
		"50,000 braces":         {strings.Repeat("{{", 50_000) + "\n", "never closed"},
		"a text of 1 GB":        {"RUN {% for x in range(100000) %}{{ 'x' * 10000 }}{% endfor %}\n", "longer than"},
	} {
		t.Run(name, func(t *testing.T) {
			p := project(t, map[string]string{"main.rapt": c.text})
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			began := time.Now()
			_, err := (&Loader{Project: p}).Load("main", Span{}, nil)
			if err == nil {
				t.Fatal("it is accepted")
			}
			shown := err.Error()
			runtime.ReadMemStats(&after)
			if took := time.Since(began); took > 30*time.Second {
				t.Errorf("it takes %v", took)
			} else if testing.Verbose() {
				t.Logf("%v, %d MB", took, (after.TotalAlloc-before.TotalAlloc)>>20)
			}
			if !strings.Contains(shown, c.want) {
				t.Errorf("got %s", shortened(shown, 1000))
			}
			if len(shown) > 1<<20 {
				t.Errorf("the message is %d bytes long", len(shown))
			}
			if grown := int64(after.TotalAlloc-before.TotalAlloc) >> 20; grown > 4096 {
				t.Errorf("it takes %d MB", grown)
			}
		})
	}
}
