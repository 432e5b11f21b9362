package sandbox

import (
	"io"
	"io/fs"
	"os"
)

// A Spec says everything about one sandbox: what it stands on, what is mounted
// where, and what is done inside, in order. It is plain data and is not
// changed by Run.
type Spec struct {
	Layers []string // lower directories, lowest first; absolute; may be empty
	Upper  string   // takes the changes; absolute, and on the same file system as Work
	Work   string   // empty directory for overlayfs; absolute
	Mounts []Mount  // in order; a destination below an earlier one is mounted inside it

	Hostname string  // "" leaves "raptor"
	Network  Network // the host's, or none
	Limits   Limits

	// Build makes this a build step: nothing that raptor or its user lent to
	// the sandbox stays in Upper, installing packages starts no service, and
	// after the last action Upper is sealed: it then holds just what changed,
	// in overlayfs's form, with whiteouts instead of opaque marks and without
	// overlayfs's private attributes.
	Build bool

	// State says that Upper is kept, and may be used again by a later
	// container with an empty Work: what raptor lent is taken out of it at the
	// end, and its changes are flushed to the disk. Otherwise what a container
	// leaves in Upper is fit to be removed and for nothing else.
	State bool

	// NoNewPrivs lets set-id bits and file capabilities give programs nothing.
	// It is no default: programs start as the sandbox's root with all that can
	// be had inside, so that it keeps nothing from a hostile one, and it breaks
	// the sudo, su and ping of those that run as somebody else. It is for
	// jobs that give up root themselves.
	NoNewPrivs bool

	Actions []Action

	// For tests of the defences: those that are off, and an agent that heeds it.
	weak  uint64
	agent *os.File
}

// Network says which network a sandbox sees.
type Network int

const (
	HostNetwork Network = iota
	NoNetwork           // loopback alone
)

// A Mount brings something of the outside into the sandbox. Exactly one of
// Source, Overlay and Dirs is used.
type Mount struct {
	Dest     string // absolute, inside; made when missing
	ReadOnly bool

	Source  string   // a directory or file to bind
	Overlay []string // layers to show as their sum, lowest first; always read-only

	Dirs  []Dir  // directories shown side by side below Dest; always read-only
	Index []byte // with Dirs: the content of Dest/raptor.json
}

// A Dir is one entry of Mount.Dirs.
type Dir struct{ Name, Source string }

// An Action is one thing done inside: *Exec, *Mkdir, *Write or *Copy.
type Action interface{ action() }

type (
	// Exec executes a program and waits for it.
	Exec struct {
		Args []string
		Env  []string // the whole environment
		Dir  string   // "" is "/"
	}
	// Mkdir makes a directory. Without Parents an existing one is an error.
	Mkdir struct {
		Dest    string
		Parents bool
		Mode    fs.FileMode // permission bits as in chmod(2)
		Owner   string      // "user", "user:", "user:group", ":group", ids or names; "" is root
	}
	// Write makes or replaces a file.
	Write struct {
		Dest  string
		Data  []byte
		Mode  fs.FileMode
		Owner string
	}
	// Copy copies files and directories of the host. A directory's contents
	// are copied. Dest names a directory when it ends in "/" or is one.
	Copy struct {
		Sources []CopySource
		Dest    string
		Mode    *fs.FileMode // nil: as in the source
		Owner   string
	}
)

// A CopySource is one source of a Copy on the host. Ignore, when set, leaves
// out the entries below a directory for which it returns true.
type CopySource struct {
	Path   string
	Ignore func(rel string, dir bool) bool
}

func (*Exec) action()  {}
func (*Mkdir) action() {}
func (*Write) action() {}
func (*Copy) action()  {}

// Relative destinations of Mkdir, Write and Copy are taken from "/": the
// caller has joined them to the working directory.

// Streams are the standard streams of the programs that run inside.
type Streams struct {
	Stdin  *os.File  // nil: empty
	Stdout io.Writer // an *os.File is handed over as it is when PassFiles is set; else a pipe
	Stderr io.Writer // may be Stdout: both then share one pipe, and keep their order

	// Terminal, when set, is the user's terminal: the last Run gets a
	// terminal of its own inside, joined to it (raw mode, size changes,
	// signals), in place of the three streams. It must be the last action.
	Terminal *os.File

	// PassFiles hands Stdin, Stdout and Stderr over as they are, so that a
	// container in a pipeline reads and writes its user's own files.
	PassFiles bool

	// Signals are handed on to the program that runs. May be nil.
	Signals <-chan os.Signal

	// Started is called as each action begins. May be nil.
	Started func(action int)

	// Stage is called as each stage of making the sandbox is over, with
	// CLOCK_MONOTONIC's nanoseconds then: for measurements. May be nil.
	Stage func(stage string, at int64)
}

// A Result is what a build step left.
type Result struct {
	Entries int64 // files, directories and deletions in the sealed layer
	Bytes   int64 // in files
}
