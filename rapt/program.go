package rapt

import "io/fs"

// A Package is a directory of modules: the project, a linked directory, or the
// recipes that come with raptor.
type Package struct {
	Name     string              // the link name that found it; "" for the project
	Root     string              // absolute directory
	Links    map[string]*Package // its own links
	Project  *Package            // whose links are looked up second; nil for the project itself
	Confined bool                // its files may not name anything outside Root (a package from git)
}

// A Program is one loaded .rapt file: one layer, and the container that can be
// run on it. Programs are immutable once loaded.
type Program struct {
	ID       string // tells programs apart: the absolute file and "@instance"
	Name     string // the file's stem, "@instance" appended: names the layer's directory
	File     string
	Package  *Package
	Instance string

	From       *From // nil: the layer starts from nothing
	Build      []*Instruction
	Mounts     []*Mount
	Entrypoint []string  // nil: not given
	Cmd        []string  // nil: not given
	Sources    []*Source // those of COPY in the order of Build, one for each time it is named

	Warnings Diagnostics
}

// A From is what a layer stands on: exactly one of Base and URL is set.
type From struct {
	Span Span
	Base *Program
	URL  string // "docker://debian:trixie"
	Dir  string // the directory of the file that says it: relative oci:// and tar:// paths start here
	Pkg  *Package

	written string
}

// An Instruction is one build instruction as it stands after templating, with
// the place in the original file that it came from.
type Instruction struct {
	Span  Span
	Chain []Frame // what led to Span.File, innermost first: INCLUDEs, and loops and macros of templates
	Text  string  // canonical form, one line: what `raptor dump` prints and what keys hash
	Op    Op

	source *source // of Span.File
}

// An Op is what an instruction does: one of the types below.
type Op interface{ op() }

type (
	// Run executes a program with exactly these arguments.
	Run struct{ Args []string }
	// Env sets variables for the later Runs of the layer.
	Env struct{ Vars []Var }
	// Workdir sets the directory of later Runs and relative destinations.
	Workdir struct{ Path string }
	// Write makes a file with the content Value. A Render has become its text by now.
	Write struct {
		FileOptions
		Value string
		Dest  string
	}
	// Render makes a file with Text, which the template Template gave.
	Render struct {
		FileOptions
		Template string // absolute
		Text     string
		Dest     string
	}
	// Mkdir makes a directory.
	Mkdir struct {
		FileOptions
		Parents bool
		Dest    string
	}
	// Copy copies files of the host into the layer.
	Copy struct {
		FileOptions
		Sources []CopySource
		Dest    string // ends in "/" when the user wrote it so
	}
)

// A Var is one environment variable.
type Var struct{ Key, Value string }

// A CopySource is one source of a COPY.
type CopySource struct {
	Written string                          // as the instruction says it
	Path    string                          // absolute, on the host
	Ignore  func(rel string, dir bool) bool // which entries below a directory are left out; nil: none
}

// FileOptions are the options that WRITE, RENDER, MKDIR and COPY share.
type FileOptions struct {
	Mode  *fs.FileMode // permission bits with setuid, setgid and sticky as in chmod(2) (0..07777); nil: not given
	Owner string       // as written after --chown; "": not given
}

func (*Run) op()     {}
func (*Env) op()     {}
func (*Workdir) op() {}
func (*Write) op()   {}
func (*Render) op()  {}
func (*Mkdir) op()   {}
func (*Copy) op()    {}

// MountType says what a MOUNT wants to be given.
type MountType int

const (
	MountSimple  MountType = iota // a directory
	MountFile                     // a file
	MountLayers                   // one or more targets, as one directory per layer
	MountOverlay                  // one target, as the sum of its layers
)

// A Mount is a declared place where a container wants something of the outside.
type Mount struct {
	Span     Span
	Type     MountType
	Name     string
	Dest     string
	ReadOnly bool
	Optional bool
}

// SourceKind says how a file influences a layer.
type SourceKind int

const (
	SourceModule   SourceKind = iota // .rapt or .rinc: counts through its instructions
	SourceTemplate                   // {% include %}, {% import %}, RENDER: content counts
	SourceData                       // load_yaml: content counts
	SourceCopy                       // COPY: content, type and permission bits of all below it count
	SourceProbe                      // path(): existence and type count
)

// A Source is a file or directory outside the layers that a program depends on.
type Source struct {
	Kind    SourceKind
	Path    string                          // absolute
	Written string                          // as the user wrote it, for messages and keys
	Ignore  func(rel string, dir bool) bool // for SourceCopy, as in CopySource
}
