package ui

import "bytes"

// kept is how many bytes of its output a step is remembered with.
const kept = 16 << 10

// A tail is the end of what a step printed, as it came. It is cut into lines
// only when somebody looks. The zero value is empty.
type tail struct {
	raw    []byte
	stderr bool // where the last byte came from
	cut    bool // raw does not start where the output did
}

func (t *tail) write(data []byte, stderr bool) {
	if len(data) == 0 {
		return
	}
	// A line that one stream began is not continued by the other.
	if n := len(t.raw); n > 0 && t.stderr != stderr && t.raw[n-1] != '\n' {
		t.raw = append(t.raw, '\n')
	}
	t.stderr = stderr
	if len(data) >= kept {
		t.cut = t.cut || len(t.raw) > 0 || len(data) > kept
		t.raw = append(t.raw[:0], data[len(data)-kept:]...)
		return
	}
	if len(t.raw)+len(data) > 2*kept {
		n := copy(t.raw, t.raw[len(t.raw)-kept:])
		t.raw = t.raw[:n]
		t.cut = true
	}
	t.raw = append(t.raw, data...)
}

// lines returns the last n lines, fewer if there are not as many. Empty lines
// at the end are left out.
func (t *tail) lines(n int, colour bool) []string {
	raw := bytes.TrimRight(t.raw, "\r\n")
	var lines []string
	for len(lines) < n && len(raw) > 0 {
		i := bytes.LastIndexByte(raw, '\n')
		if i < 0 && t.cut && len(lines) > 0 {
			break // the rest of a line whose start is gone
		}
		lines = append(lines, string(appendClean(nil, lastState(raw[i+1:]), colour)))
		raw = raw[:max(i, 0)]
	}
	for i, j := 0, len(lines)-1; i < j; i, j = i+1, j-1 {
		lines[i], lines[j] = lines[j], lines[i]
	}
	return lines
}
