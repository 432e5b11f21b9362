package ui

import "bytes"

// longest is how much of a line is held before it is printed unfinished.
const longest = 16 << 10

// A splitter cuts a stream into lines. The zero value is ready.
type splitter struct {
	partial []byte
}

// feed calls emit for every line that data completes, without its line feed.
// The line is valid during the call only.
func (s *splitter) feed(data []byte, emit func(line []byte)) {
	for len(data) > 0 {
		i := bytes.IndexByte(data, '\n')
		if i < 0 {
			s.hold(data, emit)
			return
		}
		line := data[:i]
		if len(s.partial) > 0 {
			s.partial = append(s.partial, line...)
			line = s.partial
		}
		emit(line)
		s.partial = s.partial[:0]
		data = data[i+1:]
	}
}

// hold keeps the start of a line. When that becomes long, a line that was
// overwritten with carriage returns is cut to its last state, and another one
// is broken.
func (s *splitter) hold(data []byte, emit func(line []byte)) {
	for len(data) > 0 {
		n := min(len(data), longest)
		s.partial = append(s.partial, data[:n]...)
		data = data[n:]
		if len(s.partial) < longest {
			continue
		}
		kept := lastState(s.partial)
		if len(kept) < longest/2 {
			s.partial = append(s.partial[:0], kept...)
			continue
		}
		emit(s.partial)
		s.partial = s.partial[:0]
	}
}

// lastState is what follows the last carriage return that something follows,
// that carriage return included.
func lastState(line []byte) []byte {
	end := len(bytes.TrimRight(line, "\r"))
	if i := bytes.LastIndexByte(line[:end], '\r'); i >= 0 {
		return line[i:]
	}
	return line
}

// flush emits the line that was not finished, if any.
func (s *splitter) flush(emit func(line []byte)) {
	if len(s.partial) > 0 {
		emit(s.partial)
	}
	s.partial = nil
}
