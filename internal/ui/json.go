package ui

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"
	"unicode/utf8"

	"raptor-make/engine"
)

// EventsVersion is the version of the format that JSON writes, "v" in each
// object. docs/events.md says what may change within a version.
const EventsVersion = 1

// JSON returns a sink that writes each event as one JSON object on a line of
// its own, as docs/events.md describes, with one Write per event. When w fails,
// nothing more is written to it, and each of report, or standard error if there
// is none, is told once.
func JSON(w io.Writer, report ...engine.Sink) engine.Sink {
	if len(report) == 0 {
		report = []engine.Sink{func(e engine.Event) { fmt.Fprintln(os.Stderr, "warning:", e.Text) }}
	}
	j := &jsonLines{w: w, report: report, open: map[stream]string{}}
	j.encoder = json.NewEncoder(&j.buffer)
	j.encoder.SetEscapeHTML(false)
	return j.event
}

type jsonLines struct {
	w       io.Writer
	report  []engine.Sink
	failed  bool
	buffer  bytes.Buffer
	encoder *json.Encoder
	open    map[stream]string // characters that began at the end of a piece of output
}

// A stream is one of the two outputs of a step.
type stream struct {
	step   string
	stderr bool
}

// jsonEvent is the object. The order of the fields is the order in the line.
type jsonEvent struct {
	Version    int          `json:"v"`
	Time       string       `json:"time"`
	Kind       string       `json:"kind"`
	Step       string       `json:"step,omitempty"`
	Type       string       `json:"type,omitempty"`
	Key        string       `json:"key,omitempty"`
	Level      string       `json:"level,omitempty"`
	Text       string       `json:"text,omitempty"`
	Bytes      *int64       `json:"bytes,omitempty"`
	TotalBytes int64        `json:"total_bytes,omitempty"`
	Stream     string       `json:"stream,omitempty"`
	Data       string       `json:"data,omitempty"`
	Base64     []byte       `json:"data_base64,omitempty"`
	Elapsed    *float64     `json:"elapsed,omitempty"`
	Outputs    []jsonOutput `json:"outputs,omitempty"`
	Total      *int         `json:"total,omitempty"`
	Log        string       `json:"log,omitempty"`
	Error      string       `json:"error,omitempty"`
}

type jsonOutput struct {
	Path  string `json:"path"`
	Bytes int64  `json:"bytes"`
}

func (j *jsonLines) event(e engine.Event) {
	if j.failed {
		return
	}
	j.buffer.Reset()
	switch e.Kind {
	case engine.Output:
		j.output(&e)
	case engine.Done, engine.Cached, engine.Failed, engine.Cancelled, engine.Skipped:
		j.close(&e, false)
		j.close(&e, true)
		j.encode(jsonOf(&e))
	default:
		j.encode(jsonOf(&e))
	}
	if j.buffer.Len() == 0 {
		return
	}
	if _, err := j.w.Write(j.buffer.Bytes()); err != nil {
		j.fail(&e, err)
	}
}

func (j *jsonLines) encode(o jsonEvent) {
	// Nothing in the object can fail to be encoded, and a Buffer takes all.
	_ = j.encoder.Encode(o)
}

// output writes a piece of output. A character whose first bytes end the piece
// is written with the next one, so that text stays text.
func (j *jsonLines) output(e *engine.Event) {
	from := stream{e.Step, e.Stderr}
	data := e.Data
	if begun := j.open[from]; begun != "" {
		data = append([]byte(begun), data...)
		delete(j.open, from)
	}
	if n := unfinished(data); n > 0 {
		j.open[from] = string(data[len(data)-n:])
		data = data[:len(data)-n]
	}
	if len(data) > 0 {
		j.encode(outputOf(e, data))
	}
}

// close writes what never became a character.
func (j *jsonLines) close(e *engine.Event, stderr bool) {
	from := stream{e.Step, stderr}
	if begun := j.open[from]; begun != "" {
		delete(j.open, from)
		o := *e
		o.Kind, o.Stderr = engine.Output, stderr
		j.encode(outputOf(&o, []byte(begun)))
	}
}

// unfinished is how many bytes at the end of data begin a character that more
// bytes could complete.
func unfinished(data []byte) int {
	for n := 1; n < utf8.UTFMax && n <= len(data); n++ {
		if utf8.RuneStart(data[len(data)-n]) {
			if utf8.FullRune(data[len(data)-n:]) {
				return 0
			}
			return n
		}
	}
	return 0
}

func outputOf(e *engine.Event, data []byte) jsonEvent {
	o := jsonEvent{Version: EventsVersion, Time: stamp(e.Time), Kind: string(e.Kind), Step: e.Step, Type: string(e.Type), Stream: "stdout"}
	if e.Stderr {
		o.Stream = "stderr"
	}
	if utf8.Valid(data) {
		o.Data = string(data)
	} else {
		o.Base64 = data
	}
	return o
}

func jsonOf(e *engine.Event) jsonEvent {
	o := jsonEvent{
		Version: EventsVersion, Time: stamp(e.Time), Kind: string(e.Kind), Step: e.Step, Type: string(e.Type),
		Key: shortKey(e.Key), Level: e.Level, Text: e.Text, TotalBytes: e.TotalBytes, Log: e.Log,
	}
	switch e.Kind {
	case engine.PlanMade:
		o.Total = &e.Total
	case engine.Progress:
		o.Bytes = &e.Bytes
	case engine.Done, engine.Failed, engine.Finished:
		seconds := e.Elapsed.Seconds()
		o.Elapsed = &seconds
	}
	for _, w := range e.Outputs {
		o.Outputs = append(o.Outputs, jsonOutput(w))
	}
	if e.Err != nil {
		o.Error = e.Err.Error()
	}
	return o
}

// stamp is RFC 3339 in UTC with microseconds, always as long, so that times
// sort as text.
func stamp(t time.Time) string {
	if t.IsZero() {
		t = time.Now()
	}
	return t.UTC().Format("2006-01-02T15:04:05.000000Z")
}

func (j *jsonLines) fail(e *engine.Event, err error) {
	j.failed = true
	for _, sink := range j.report {
		sink(engine.Event{Time: e.Time, Kind: engine.Message, Level: "warning", Text: fmt.Sprintf("write events: %v; no more are written", err)})
	}
}
