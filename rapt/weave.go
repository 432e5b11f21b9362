package rapt

import (
	"slices"
	"sort"
	"strconv"
	"strings"
)

// What the engine is given is not quite what the user wrote, but woven of it:
//
//   - line statements become block tags that span the same lines, because the
//     engine looks for them anew in the rest of the file at every tag;
//   - a name whose value is asked for becomes a call of needFunction, which
//     fails where the engine would take an undefined variable for nothing;
//   - in large files empty tags are strewn in, for the engine's search for the
//     next tag of a kind that is nowhere takes it to the end of the file;
//   - and in a second version that is rendered for nothing but places, marks.
//
// A mark is text that survives rendering and says where what follows it was
// written. It has a zero byte at both ends, which no file holds otherwise.

// A woven template is one of these versions, and knows the way back.
type woven struct {
	text      string
	stretches []stretch // sorted
}

// A stretch of woven text stands for an extent of the original.
type stretch struct {
	at       int // in the woven text
	original extent
	verbatim bool
}

// origin is the extent of the original that an extent of the woven text stands
// for.
func (w *woven) origin(e extent) extent {
	return extent{w.originOf(e.start, false), w.originOf(max(e.end-1, e.start), true)}
}

func (w *woven) originOf(at int, end bool) int {
	i := sort.Search(len(w.stretches), func(i int) bool { return w.stretches[i].at > at }) - 1
	if i < 0 {
		return 0
	}
	s := w.stretches[i]
	switch {
	case s.verbatim && end:
		return min(s.original.start+at-s.at+1, s.original.end)
	case s.verbatim:
		return min(s.original.start+at-s.at, s.original.end)
	case end:
		return s.original.end
	}
	return s.original.start
}

// Functions that only woven templates call.
const (
	needFunction = "raptor__need"
	loopFunction = "raptor__loop"
	lastFunction = "raptor__last"
)

// markMode says what gets marks.
type markMode int

const (
	markNothing markMode = iota
	markAll              // all that is not captured by the template itself
	markOutside          // in macros, blocks and recursive loops nothing either
)

// A mark is the place that a number in a marked text stands for.
type mark struct {
	source   *source
	extent   extent
	verbatim bool     // what follows is as written
	verb     string   // of the frame that an enclosed text gets: "called", "included"
	loop     int      // the mark of the innermost loop around it; -1 for none
	names    []string // of a loop: its variables
}

// A weaver makes one version of a template.
type weaver struct {
	source *source
	pieces []piece
	mode   markMode
	hidden []int // pieces whose value is not asked for
	marks  *[]mark

	b         strings.Builder
	stretches []stretch
	pending   string      // to be written behind white space that the last tag removes
	opened    bool        // the mark that opens the next piece is written already
	loops     map[int]int // the mark of a for tag, by its piece
	filled    int         // where the last filler stands
}

func weave(src *source, pieces []piece, mode markMode, hidden []int, marks *[]mark) *woven {
	w := weaver{source: src, pieces: pieces, mode: mode, hidden: hidden, marks: marks, loops: make(map[int]int)}
	w.b.Grow(len(src.text) + len(src.text)/4)
	for i := range pieces {
		w.piece(i)
	}
	w.flush()
	w.put("{% do "+lastFunction+"() %}", extent{len(src.text), len(src.text)})
	return &woven{w.b.String(), w.stretches}
}

func (w *weaver) keep(e extent) {
	if e.end > e.start {
		w.stretches = append(w.stretches, stretch{w.b.Len(), e, true})
		w.b.WriteString(w.source.text[e.start:e.end])
	}
}

func (w *weaver) put(text string, e extent) {
	w.stretches = append(w.stretches, stretch{w.b.Len(), e, false})
	w.b.WriteString(text)
}

func (w *weaver) flush() {
	if w.pending != "" {
		w.put(w.pending, extent{w.at(), w.at()})
		w.pending = ""
	}
}

// at is how far the original has been read.
func (w *weaver) at() int {
	if len(w.stretches) == 0 {
		return 0
	}
	return w.stretches[len(w.stretches)-1].original.end
}

// marked tells whether a piece gets marks.
func (w *weaver) marked(p piece) bool {
	if w.mode == markNothing {
		return false
	}
	for _, b := range p.blocks {
		switch w.pieces[b].name {
		case "set", "filter", "call":
			return false // what it captures may be compared, or changed
		case "macro", "block":
			if w.mode == markOutside {
				return false
			}
		case "for":
			if w.mode == markOutside && strings.Contains(w.source.text[w.pieces[b].start:w.pieces[b].end], "recursive") {
				return false
			}
		}
	}
	return true
}

func (w *weaver) mark(kind string, m mark, blocks []int) string {
	m.source, m.loop = w.source, -1
	for i := len(blocks) - 1; i >= 0 && m.loop < 0; i-- {
		if loop, ok := w.loops[blocks[i]]; ok {
			m.loop = loop
		}
	}
	*w.marks = append(*w.marks, m)
	return "\x00" + kind + strconv.Itoa(len(*w.marks)-1) + "\x00"
}

const closeMark = "\x00)\x00"

func (w *weaver) piece(i int) {
	p := w.pieces[i]
	switch p.kind {
	case copied:
		w.copied(i)
	case raw:
		w.flush()
		w.opened = false
		if w.marked(p) {
			w.put(w.mark("=", mark{extent: p.inner, verbatim: w.source.text[p.inner.start-3] != '-'}, p.blocks), extent{p.start, p.start})
		}
		w.keep(p.extent)
	case remark:
		w.flush()
		w.opened = false
		w.keep(p.extent)
	default:
		w.flush()
		w.openPiece(p)
		if _, hidden := slices.BinarySearch(w.hidden, i); hidden {
			w.hide(p)
		} else {
			w.tag(p)
		}
		w.closePiece(i)
	}
}

// openPiece writes the mark that opens a tag whose output is text.
func (w *weaver) openPiece(p piece) {
	if w.opened {
		w.opened = false
		return
	}
	if !w.marked(p) {
		return
	}
	m := mark{extent: p.extent, verb: "called"}
	switch {
	case p.kind == printed:
	case p.name == "include":
		m.verb = "included"
	case p.name == "call", p.name == "filter":
	default:
		return
	}
	w.put(w.mark("(", m, p.blocks), extent{p.start, p.start})
}

// closePiece prepares what follows a tag: the end of its output, or the values
// of a loop's variables.
func (w *weaver) closePiece(i int) {
	p := w.pieces[i]
	if !w.marked(p) {
		return
	}
	switch {
	case p.kind == printed, p.name == "include", p.name == "endcall", p.name == "endfilter":
		w.pending = closeMark
	case p.name == "for":
		names := loopTargets(w.source.text, p)
		m := w.mark("@", mark{extent: p.extent, names: names}, p.blocks)
		id := strings.Trim(m, "\x00@")
		w.loops[i] = len(*w.marks) - 1
		w.pending = "{{ " + loopFunction + "(" + id + ", " + strings.Join(names, ", ") + ") }}"
	}
}

// copied writes text, marked where it begins for the reader: behind what the
// tag before it removes. The mark of the tag behind it goes before what that
// one removes.
func (w *weaver) copied(i int) {
	p := w.pieces[i]
	text := w.source.text[p.start:p.end]
	lead, trail := 0, len(text)
	if i > 0 && w.pieces[i-1].trimsRight {
		lead = len(text) - len(strings.TrimLeft(text, " \t\r\n"))
	}
	if i+1 < len(w.pieces) && w.pieces[i+1].trimsLeft {
		trail = max(len(strings.TrimRight(text, " \t\r\n")), lead)
	}
	w.keep(extent{p.start, p.start + lead})
	w.flush()
	if trail > lead {
		if w.marked(p) {
			w.put(w.mark("=", mark{extent: extent{p.start + lead, p.start + trail}, verbatim: true}, p.blocks), extent{p.start + lead, p.start + lead})
		}
		w.filledText(extent{p.start + lead, p.start + trail})
	}
	if trail < len(text) {
		w.openPiece(w.pieces[i+1])
		w.opened = true
		w.keep(extent{p.start + trail, p.end})
	}
}

// Where the engine finds one of each tag within this many bytes, its search is
// short.
const fillerDistance = 1024

// A filler is one tag of each kind, and yields nothing.
const filler = `{##}{% raw %}{% endraw %}{{""}}`

// filledText writes text, in large files now and then with a filler before it.
func (w *weaver) filledText(e extent) {
	if len(w.source.text) > 16*fillerDistance && e.start-w.filled > fillerDistance {
		w.put(filler, extent{e.start, e.start})
		w.filled = e.start
	}
	w.keep(e)
}

// lineTagEnd ends what was a line statement, and keeps the count of lines by
// which the engine tells places.
const lineTagEnd = "%}{#\n#}"

// hide writes a tag whose value is hiddenText.
func (w *weaver) hide(p piece) {
	if p.kind == printed || p.name == "include" {
		newlines := strings.Repeat("\n", strings.Count(w.source.text[p.start:p.end], "\n"))
		text := hiddenText
		if p.line {
			text += `\n` // the next line is one of its own
		}
		w.put("{{ \""+text+"\" "+newlines+"}}", p.extent)
		return
	}
	code := w.source.text[p.inner.start:p.inner.end]
	target, _, _ := strings.Cut(code, "=")
	end := "%}"
	if p.line {
		end = lineTagEnd
	}
	w.put("{%"+target+"= \""+hiddenText+"\" "+strings.Repeat("\n", strings.Count(code, "\n"))+end, p.extent)
}

// needCall is what stands for a name whose value is asked for.
func needCall(name string) string { return needFunction + `("` + name + `")` }

// tag writes a tag, with what it needs to have a value.
func (w *weaver) tag(p piece) {
	at := p.start
	if p.line {
		w.put("{%", extent{p.start, p.inner.start})
		at = p.inner.start
	}
	for _, name := range valueNames(w.source.text, p) {
		w.keep(extent{at, name.start})
		w.put(needCall(name.text(w.source.text)), name.extent)
		at = name.end
	}
	if !p.line {
		w.keep(extent{at, p.end})
		return
	}
	w.keep(extent{at, p.inner.end})
	w.put(lineTagEnd, extent{p.inner.end, p.end})
}
