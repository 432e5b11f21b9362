// Package wire is what raptor and the agent inside a sandbox say to each
// other: one Spec in, a stream of Events out. It is made for a fast start of
// the agent: no reflection and next to no imports.
//
// Numbers are unsigned varints, strings and byte slices are preceded by their
// length, lists by their count. Both ends are of one build, so there is no
// version.
package wire

import (
	"encoding/binary"
	"errors"
)

// Descriptors of the agent, after the standard three.
const (
	SpecFD    = 3 // a file that holds the encoded Spec
	EventFD   = 4 // a pipe that takes Events
	ControlFD = 5 // a socket: see below
	AgentFD   = 6 // the agent's own program
	SourceFD  = 7 // the first of the COPY sources, in order
)

// An agent is started with the control socket and its own program alone, and
// /dev/null in the other places: one can be started before anybody knows for
// which sandbox. The first messages on the socket bring the other files, in the
// order of their descriptors, FilesMost at most in one. Each says how many it
// will be in Total.
const FilesMost = 128

// Total encodes a number of files.
func Total(n int) []byte { return binary.LittleEndian.AppendUint32(nil, uint32(n)) }

// DecodeTotal decodes a number of files; it is 0 if that is none.
func DecodeTotal(message []byte) int {
	if len(message) != 4 {
		return 0
	}
	return int(binary.LittleEndian.Uint32(message))
}

// Where the Spec says so, the next message is a zero byte with the overlay that is to
// be the root, as a mount that is in nobody's tree. Raptor makes it while the agent
// starts; without one in the message, the agent does.
//
// What then goes through the control socket, one byte a message. To the agent: a
// signal for the program that runs, or GoAhead, which it waits for where the Spec
// says so, and after it sent the master of a terminal that it made. The socket's
// end is raptor's, and ends the sandbox.
const GoAhead = 0

// Sync is an agent's argument that says that it makes no sandbox, but only makes
// files durable. The control socket brings it requests: SyncFiles, for the files
// that come along, FilesMost at most, or SyncWhole, for all of the file systems
// that they are on. Its answer is a byte, an error's number or 0.
const (
	Sync      = "sync"
	SyncFiles = byte(1)
	SyncWhole = byte(2)
)

// Examine is an agent's argument that says that it is to try what sandboxes are
// made with, in the directory that follows, and to send an event for each to
// standard output. Without a directory it waits for the end of standard input.
const Examine = "examine"

// What is examined: the Action of its event, Done or NoSetup. After ChangeMounts
// has failed, nothing else is tried.
const (
	ChangeMounts = iota // at all
	CloneMounts         // to lend them
	NewMounts           // proc, sysfs, and what is below /dev
	Overlays            // on a temporary file system
	Upper               // overlays in the directory
	Filters             // of system calls
	Scopes              // of abstract sockets
)

// A Spec is a sandbox as the agent makes it.
type Spec struct {
	Layers   []string
	Upper    string
	Work     string
	Mounts   []Mount
	Hostname string
	Build    bool
	State    bool // the upper directory is kept
	Root     bool // it follows: see above
	Trace    bool // report each stage of the set-up
	Wait     bool // for GoAhead, before the first action
	Loopback bool // bring lo up in a network namespace of its own
	Terminal bool
	KVM      bool

	Rootless   bool // in a user namespace
	NoNewPrivs bool // set-id bits and file capabilities give programs nothing

	ResolvConf []byte // nil: there is none
	Keep       uint64 // capabilities that programs may have, a bit each
	Filter     []byte // seccomp program: struct sock_filter, in this machine's byte order
	Actions    []Action
}

// A Mount is as in package sandbox.
type Mount struct {
	Dest     string
	ReadOnly bool
	Source   string
	Overlay  []string
	Dirs     []Dir
	Index    []byte
}

// A Dir is one directory of a Mount.
type Dir struct{ Name, Source string }

// The kinds of Actions.
const (
	Run = iota + 1
	Mkdir
	Write
	Copy
)

// An Action is one of the kinds above; each uses some of the fields.
type Action struct {
	Kind    int
	Args    []string // Run
	Env     []string // Run
	Dir     string   // Run
	Dest    string   // Mkdir, Write, Copy
	Parents bool     // Mkdir
	Mode    uint32   // permission bits
	HasMode bool     // Copy: Mode counts
	Owner   string
	Data    []byte   // Write
	Sources []Source // Copy
}

// A Source is one source of a Copy: descriptor SourceFD+Index.
type Source struct {
	Index   int
	Name    string   // its last element
	Exclude []string // paths below it that are left out
}

// The kinds of Events.
const (
	Started = iota + 1 // Action begins
	Exited             // the program of Action ended with Status, or by signal Errno, unsuccessfully
	Failed             // Action could not be carried out: Op, Path, Errno or Text
	NoSetup            // the sandbox could not be made: Op is the stage
	Done               // all went well: Entries and Bytes of a sealed layer
	Stage              // with Trace: Op is over, at CLOCK_MONOTONIC's Entries nanoseconds
)

// An Event is one thing that happened.
type Event struct {
	Kind           int
	Action         int
	Status         int
	Errno          int
	Op, Path, Text string
	Entries, Bytes int64
}

// ErrShort is a message that ends too early or too late, most probably because
// the two ends are not of one build.
var ErrShort = errors.New("message of another version")

// end is found where a Spec ends by those who read it as it was written.
const end = "raptor.spec"

type encoder struct{ buf []byte }

func (e *encoder) num(n uint64)   { e.buf = binary.AppendUvarint(e.buf, n) }
func (e *encoder) int(n int)      { e.num(uint64(n)) }
func (e *encoder) str(s string)   { e.int(len(s)); e.buf = append(e.buf, s...) }
func (e *encoder) bytes(b []byte) { e.int(len(b)); e.buf = append(e.buf, b...) }
func (e *encoder) bool(b bool) {
	n := 0
	if b {
		n = 1
	}
	e.int(n)
}
func (e *encoder) strs(list []string) {
	e.int(len(list))
	for _, s := range list {
		e.str(s)
	}
}

type decoder struct {
	buf   []byte
	short bool
}

func (d *decoder) num() uint64 {
	n, size := binary.Uvarint(d.buf)
	if size <= 0 {
		d.buf, d.short = nil, true
		return 0
	}
	d.buf = d.buf[size:]
	return n
}
func (d *decoder) int() int { return int(d.num()) }
func (d *decoder) bytes() []byte {
	n := d.num()
	if n > uint64(len(d.buf)) {
		d.buf, d.short = nil, true
		return nil
	}
	b := d.buf[:n:n]
	d.buf = d.buf[n:]
	return b
}
func (d *decoder) str() string { return string(d.bytes()) }
func (d *decoder) bool() bool  { return d.num() != 0 }
func (d *decoder) strs() []string {
	var list []string
	for range d.count() {
		list = append(list, d.str())
	}
	return list
}

// count is the length of a list, which cannot have more elements than there
// are bytes left.
func (d *decoder) count() int {
	n := d.num()
	if n > uint64(len(d.buf)) {
		d.buf, d.short = nil, true
		return 0
	}
	return int(n)
}

// Encode encodes a spec.
func (s *Spec) Encode() []byte {
	e := &encoder{buf: make([]byte, 0, 8<<10)} // most need no more
	e.strs(s.Layers)
	e.str(s.Upper)
	e.str(s.Work)
	e.int(len(s.Mounts))
	for _, m := range s.Mounts {
		e.str(m.Dest)
		e.bool(m.ReadOnly)
		e.str(m.Source)
		e.strs(m.Overlay)
		e.int(len(m.Dirs))
		for _, d := range m.Dirs {
			e.str(d.Name)
			e.str(d.Source)
		}
		e.bytes(m.Index)
	}
	e.str(s.Hostname)
	e.bool(s.Build)
	e.bool(s.State)
	e.bool(s.Root)
	e.bool(s.Trace)
	e.bool(s.Wait)
	e.bool(s.Loopback)
	e.bool(s.Terminal)
	e.bool(s.KVM)
	e.bool(s.Rootless)
	e.bool(s.NoNewPrivs)
	e.bool(s.ResolvConf != nil)
	e.bytes(s.ResolvConf)
	e.num(s.Keep)
	e.bytes(s.Filter)
	e.int(len(s.Actions))
	for _, a := range s.Actions {
		a.encode(e)
	}
	e.str(end)
	return e.buf
}

func (a *Action) encode(e *encoder) {
	e.int(a.Kind)
	e.strs(a.Args)
	e.strs(a.Env)
	e.str(a.Dir)
	e.str(a.Dest)
	e.bool(a.Parents)
	e.int(int(a.Mode))
	e.bool(a.HasMode)
	e.str(a.Owner)
	e.bytes(a.Data)
	e.int(len(a.Sources))
	for _, s := range a.Sources {
		e.int(s.Index)
		e.str(s.Name)
		e.strs(s.Exclude)
	}
}

// Decode decodes a spec. Its slices share buf.
func Decode(buf []byte) (*Spec, error) {
	d := &decoder{buf: buf}
	s := &Spec{Layers: d.strs(), Upper: d.str(), Work: d.str()}
	for range d.count() {
		m := Mount{Dest: d.str(), ReadOnly: d.bool(), Source: d.str(), Overlay: d.strs()}
		for range d.count() {
			m.Dirs = append(m.Dirs, Dir{d.str(), d.str()})
		}
		m.Index = d.bytes()
		s.Mounts = append(s.Mounts, m)
	}
	s.Hostname = d.str()
	s.Build = d.bool()
	s.State = d.bool()
	s.Root = d.bool()
	s.Trace = d.bool()
	s.Wait = d.bool()
	s.Loopback = d.bool()
	s.Terminal = d.bool()
	s.KVM = d.bool()
	s.Rootless = d.bool()
	s.NoNewPrivs = d.bool()
	hasResolv := d.bool()
	if resolv := d.bytes(); hasResolv {
		s.ResolvConf = append([]byte{}, resolv...)
	}
	s.Keep = d.num()
	s.Filter = d.bytes()
	for range d.count() {
		s.Actions = append(s.Actions, decodeAction(d))
	}
	if d.str() != end || len(d.buf) > 0 {
		return nil, ErrShort
	}
	if d.short {
		return nil, ErrShort
	}
	return s, nil
}

func decodeAction(d *decoder) Action {
	a := Action{Kind: d.int(), Args: d.strs(), Env: d.strs(), Dir: d.str(), Dest: d.str(), Parents: d.bool(),
		Mode: uint32(d.int()), HasMode: d.bool(), Owner: d.str(), Data: d.bytes()}
	for range d.count() {
		a.Sources = append(a.Sources, Source{d.int(), d.str(), d.strs()})
	}
	return a
}

// Encode encodes an event, preceded by its length.
func (v *Event) Encode() []byte {
	e := &encoder{}
	for _, n := range []int{v.Kind, v.Action, v.Status, v.Errno} {
		e.int(n)
	}
	e.str(v.Op)
	e.str(v.Path)
	e.str(v.Text)
	e.num(uint64(v.Entries))
	e.num(uint64(v.Bytes))
	return append(binary.AppendUvarint(nil, uint64(len(e.buf))), e.buf...)
}

// DecodeEvent decodes an event without the length before it.
func DecodeEvent(buf []byte) (Event, error) {
	d := &decoder{buf: buf}
	v := Event{Kind: d.int(), Action: d.int(), Status: d.int(), Errno: d.int(), Op: d.str(), Path: d.str(), Text: d.str(), Entries: int64(d.num()), Bytes: int64(d.num())}
	if d.short {
		return v, ErrShort
	}
	return v, nil
}
