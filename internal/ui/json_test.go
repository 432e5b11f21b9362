package ui

import (
	"bytes"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"testing"
	"time"

	"raptor-make/engine"
)

func mustDuration(t *testing.T, s string) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// received puts the output of each stream together, as docs/events.md says.
func received(t *testing.T, lines []byte) (out map[string][]byte, binary int) {
	t.Helper()
	out = map[string][]byte{}
	for line := range bytes.Lines(lines) {
		var o struct {
			V                  int
			Kind, Stream, Data string
			Base64             []byte `json:"data_base64"`
		}
		if err := json.Unmarshal(line, &o); err != nil {
			t.Fatalf("%v in %q", err, line)
		}
		if o.V != EventsVersion {
			t.Fatalf("version %d in %q", o.V, line)
		}
		if len(o.Base64) > 0 {
			binary++
		}
		out[o.Stream] = append(append(out[o.Stream], o.Data...), o.Base64...)
	}
	return out, binary
}

func TestJSONOutput(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	alphabet := []string{"a", "\n", "é", "日", "🚀", "\x1b[0m", "\"", "\\", "<", "\u2028", "\x00"}
	for i := range 500 {
		letters := alphabet
		if i%2 == 1 {
			letters = append(letters, "\xff", "\xf0\x9f", "\xc3", "\x80\x80\x80\x80")
		}
		sent := map[string][]byte{}
		var lines bytes.Buffer
		sink := JSON(&lines)
		sink(job(engine.Started, "x"))
		for range 20 {
			stream, stderr := "stdout", r.IntN(2) == 1
			if stderr {
				stream = "stderr"
			}
			var data []byte
			for range r.IntN(6) {
				data = append(data, letters[r.IntN(len(letters))]...)
			}
			sent[stream] = append(sent[stream], data...)
			for len(data) > 0 {
				n := 1 + r.IntN(len(data))
				sink(engine.Event{Kind: engine.Output, Step: "run x", Data: data[:n], Stderr: stderr})
				data = data[n:]
			}
		}
		sink(job(engine.Done, "x"))
		got, binary := received(t, lines.Bytes())
		for _, stream := range []string{"stdout", "stderr"} {
			if !bytes.Equal(got[stream], sent[stream]) {
				t.Fatalf("%s was %q, sent %q", stream, got[stream], sent[stream])
			}
		}
		if i%2 == 0 && binary > 0 {
			t.Fatalf("text became binary:\n%s", lines.Bytes())
		}
	}
}

type failing struct{ after int }

func (f *failing) Write(b []byte) (int, error) {
	if f.after--; f.after < 0 {
		return 0, errors.New("no space left on device")
	}
	return len(b), nil
}

func TestJSONWriterFails(t *testing.T) {
	w := &failing{after: 2}
	var told []engine.Event
	sink := JSON(w, func(e engine.Event) { told = append(told, e) })
	for range 10 {
		sink(layer(engine.Cached, "base"))
	}
	if len(told) != 1 || told[0].Kind != engine.Message || !strings.Contains(told[0].Text, "no space left") {
		t.Fatalf("told %+v", told)
	}
	if w.after != -1 {
		t.Errorf("%d writes after the first that failed", -1-w.after)
	}
}

// docs/events.md names every kind and every field, and its examples of jq work.
func TestEventsDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../docs/events.md")
	if err != nil {
		t.Fatal(err)
	}
	var lines bytes.Buffer
	sink := JSON(&lines)
	for _, s := range scripts() {
		for _, e := range s.events {
			sink(e)
		}
	}
	for _, kind := range []engine.EventKind{
		engine.PlanMade, engine.Waiting, engine.Started, engine.Detail, engine.Progress, engine.Output, engine.Message,
		engine.Done, engine.Cached, engine.Failed, engine.Cancelled, engine.Skipped, engine.Finished,
	} {
		if !bytes.Contains(doc, []byte("\n| `"+kind+"` | ")) {
			t.Errorf("kind %q has no row", kind)
		}
		if !bytes.Contains(lines.Bytes(), []byte(`"kind":"`+kind+`"`)) {
			t.Errorf("no script has %q", kind)
		}
	}
	object := reflect.TypeFor[jsonEvent]()
	for i := range object.NumField() {
		name, _, _ := strings.Cut(object.Field(i).Tag.Get("json"), ",")
		if !bytes.Contains(doc, []byte("\n| `"+name+"` | ")) {
			t.Errorf("field %q has no row", name)
		}
	}
	file := t.TempDir() + "/events.json"
	if err := os.WriteFile(file, lines.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	runExamples(t, string(doc), file)
}

func runExamples(t *testing.T, doc, file string) {
	if _, err := exec.LookPath("jq"); err != nil {
		t.Skip("jq is not installed")
	}
	for _, block := range strings.Split(doc, "```sh\n")[1:] {
		script, _, _ := strings.Cut(block, "```")
		script = strings.ReplaceAll(script, "events.json", file)
		script = strings.ReplaceAll(script, "raptor make -q --events -", "cat "+file)
		out, err := exec.Command("sh", "-c", script).CombinedOutput()
		if err != nil || len(out) == 0 {
			t.Errorf("%s\nsays %q, %v", script, out, err)
		}
	}
}
