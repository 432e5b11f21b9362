package rapt

import (
	"sort"
	"strconv"
	"strings"

	"github.com/mitsuhiko/minijinja/minijinja-go/v2/value"
)

// A rendering is the text that a template gave, and where all of it was
// written.
type rendering struct {
	text   string
	source *source
	lookup func(name string) value.Value // of variables as they are at the end; Undefined if there is none

	identity bool // the text is that of the source
	segments []segment
	calls    []call
	loops    []iteration
}

// A segment is a part of rendered text that came from one place.
type segment struct {
	out      int // where it begins
	source   *source
	extent   extent
	verbatim bool
	call     int // the innermost call that it is in; -1
	loop     int // the iteration that it is in; -1
}

// A call is text that a tag put in, which was written elsewhere.
type call struct {
	mark   mark
	parent int
	loop   int
}

// An iteration is one round of a loop.
type iteration struct {
	mark   mark
	values []value.Value
	parent int
	frames []Frame // made when first asked for
}

// A reader of marks takes a marked text apart.
type markReader struct {
	rendering
	marks   []mark
	rounds  [][]value.Value // the values of loop variables, by the number in the mark
	call    int
	current map[int]int // the iteration that each loop is in, by its mark
}

// readMarks finds the places of a plain text with a marked version of it. It
// fails if the two differ in more than marks: then the template has looked at
// marked text and come to another end.
func readMarks(plain, marked string, src *source, marks []mark, rounds [][]value.Value) (*rendering, bool) {
	r := markReader{marks: marks, rounds: rounds, call: -1, current: make(map[int]int)}
	r.rendering = rendering{text: plain, source: src}
	r.segments = append(r.segments, segment{source: src, call: -1, loop: -1})
	at := 0
	for {
		n := strings.IndexByte(marked, 0)
		if n < 0 {
			n = len(marked)
		}
		if at+n > len(plain) || plain[at:at+n] != marked[:n] {
			return nil, false
		}
		at += n
		if n == len(marked) {
			return &r.rendering, at == len(plain)
		}
		end := strings.IndexByte(marked[n+1:], 0)
		if end < 1 || !r.read(marked[n+1:n+1+end], at) {
			return nil, false
		}
		marked = marked[n+end+2:]
	}
}

// read takes one mark in.
func (r *markReader) read(text string, at int) bool {
	if text == ")" {
		if r.call >= 0 {
			r.call = r.calls[r.call].parent
		}
		return true
	}
	id, round, _ := strings.Cut(text[1:], ":")
	i, err := strconv.Atoi(id)
	if err != nil || i < 0 || i >= len(r.marks) {
		return false
	}
	m := r.marks[i]
	loop := -1
	if l, ok := r.current[m.loop]; ok {
		loop = l
	}
	switch text[0] {
	case '=':
		r.add(segment{at, m.source, m.extent, m.verbatim, r.call, loop})
	case '(':
		r.add(segment{at, m.source, m.extent, false, r.call, loop})
		r.calls = append(r.calls, call{m, r.call, loop})
		r.call = len(r.calls) - 1
	case '@':
		n, err := strconv.Atoi(round)
		if err != nil || n >= len(r.rounds) {
			return false
		}
		r.loops = append(r.loops, iteration{mark: m, values: r.rounds[n], parent: loop})
		r.current[i] = len(r.loops) - 1
	default:
		return false
	}
	return true
}

func (r *markReader) add(s segment) {
	if last := len(r.segments) - 1; r.segments[last].out == s.out {
		r.segments[last] = s
		return
	}
	r.segments = append(r.segments, s)
}

// segmentAt is the segment that holds a byte of the text.
func (r *rendering) segmentAt(at int) *segment {
	i := sort.Search(len(r.segments), func(i int) bool { return r.segments[i].out > at })
	return &r.segments[max(i-1, 0)]
}

// A place is where something was written.
type place struct {
	source *source
	span   Span
	frames []Frame // what led there within templates, innermost first
}

// place finds where a part of the text was written: the whole of it if it was
// written in one piece, else where it begins.
func (r *rendering) place(e extent) place {
	if r.identity {
		return place{r.source, r.source.span(e), nil}
	}
	if len(r.segments) == 0 {
		return r.guess(e)
	}
	first, last := e.start, max(e.end-1, e.start)
	if e.start == e.end && e.start > 0 {
		first, last = e.start-1, e.start-1 // behind what was written before
	}
	from, to := r.segmentAt(first), r.segmentAt(last)
	original := extent{from.extent.start, from.extent.end}
	if from.verbatim {
		original.start = min(from.extent.start+e.start-from.out, from.extent.end)
	}
	if to.source == from.source && to.call == from.call {
		end := to.extent.end
		if to.verbatim {
			end = min(to.extent.start+e.end-to.out, to.extent.end)
		}
		if end >= original.start {
			original.end = end
		}
	}
	if e.start == e.end {
		if !from.verbatim {
			original.start = from.extent.end
		}
		original.end = original.start
	}
	original.end = withoutLineEnd(from.source.text, original)
	return place{from.source, from.source.span(original), r.frames(from)}
}

// guess finds the line of the source that is most like that of the text: it
// begins and ends in the same way.
func (r *rendering) guess(e extent) place {
	line := firstLine(linesAround(r.text, extent{e.start, e.start}))
	best, length := -1, 0
	for i := range r.source.starts() {
		if n := common(r.source.lineText(i), line); n > length {
			best, length = i, n
		}
	}
	if best < 0 {
		return place{source: r.source, span: Span{File: r.source.shown}}
	}
	return place{source: r.source, span: r.source.span(r.source.trimmed(best))}
}

// common counts the bytes that two texts have in common at their ends.
func common(a, b string) int {
	n, limit := 0, min(len(a), len(b))
	for n < limit && a[n] == b[n] {
		n++
	}
	for m := 0; n < limit && a[len(a)-1-m] == b[len(b)-1-m]; m++ {
		n++
	}
	return n
}

func withoutLineEnd(text string, e extent) int {
	for e.end > e.start && text[e.end-1] == '\n' {
		e.end--
	}
	return e.end
}

// frames is what led to a segment: the loops it is in, then the call that put
// it in, and so on.
func (r *rendering) frames(s *segment) []Frame {
	if s.call < 0 && s.loop < 0 {
		return nil
	}
	var frames []Frame
	frames = append(frames, r.loopFrames(s.loop)...)
	for c := s.call; c >= 0; c = r.calls[c].parent {
		m := r.calls[c].mark
		frames = append(frames, Frame{Verb: m.verb, Span: m.source.span(m.extent)})
		frames = append(frames, r.loopFrames(r.calls[c].loop)...)
	}
	return frames
}

// What a loop's variables hold is shown up to this length.
const maxShownValue = 60

func (r *rendering) loopFrames(loop int) []Frame {
	if loop < 0 {
		return nil
	}
	l := &r.loops[loop]
	if l.frames != nil {
		return l.frames
	}
	var note strings.Builder
	for i, name := range l.mark.names {
		if i > 0 {
			note.WriteString(", ")
		}
		note.WriteString(name + " = " + shortened(l.values[i].Repr(), maxShownValue))
	}
	line := l.mark.source.text[l.mark.extent.start:l.mark.extent.end]
	lead, all := blanksBefore(line), len(strings.TrimRight(line, " \t\n"))
	at := extent{l.mark.extent.start + lead, l.mark.extent.start + all}
	l.frames = append([]Frame{{Verb: "repeated", Span: l.mark.source.span(at), Note: note.String()}}, r.loopFrames(l.parent)...)
	return l.frames
}

// shortened cuts a text that is too long to be shown.
func shortened(text string, limit int) string {
	runes := []rune(text)
	if len(runes) <= limit {
		return text
	}
	return string(runes[:limit-1]) + "…"
}
