package recipes

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"

	"github.com/google/renameio/v2"

	"raptor-make/rapt"
)

// LockName is the name of the lock file, next to the project file.
const LockName = "Raptor.lock"

// A PinKind says what a pin is of.
type PinKind string

const (
	// PinImage pins what FROM names: docker://… to a digest, debian://… to
	// its resolved options. The variant is the platform.
	PinImage PinKind = "image"
	// PinGit pins the URL of a repository to a commit. The variant is the
	// revision.
	PinGit PinKind = "git"
)

// A Lock is a Raptor.lock: what names of the outside world stood for when they
// were first looked up.
//
// The file is TOML, made for being read in a diff: a table for each name, in
// alphabetical order, and a line for each variant.
//
//	version = 1
//
//	[image."docker://debian:trixie"]
//	"linux/amd64" = "sha256:…"
//
//	[git."https://example.org/extra.git"]
//	"v1.2.0" = "0123…"
//
// A Lock may be used by several goroutines at once.
type Lock struct {
	file string

	mu       sync.Mutex
	pins     map[pin]string
	recorded map[pin]string // since loading
}

type pin struct {
	kind          PinKind
	name, variant string
}

// lockVersion is the only version of the format so far.
const lockVersion = 1

const lockHeader = `# This file is written by raptor. It pins what base images and git links stood
# for when they were first used, so that every build uses the same. Keep it in
# version control. "raptor-make --update" looks everything up anew.
`

// LoadLock reads a lock file. One that does not exist is empty; a damaged one
// is an error of type rapt.Diagnostics.
func LoadLock(file string) (*Lock, error) {
	pins, err := readLock(file)
	if err != nil {
		return nil, err
	}
	return &Lock{file: file, pins: pins, recorded: make(map[pin]string)}, nil
}

// Lookup returns what a name stands for, and whether that is known.
func (l *Lock) Lookup(kind PinKind, name, variant string) (string, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	value, ok := l.pins[pin{kind, name, variant}]
	return value, ok
}

// Record remembers what a name stands for, in place of what was known.
func (l *Lock) Record(kind PinKind, name, variant, value string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := pin{kind, name, variant}
	if l.pins[p] == value {
		return
	}
	l.pins[p], l.recorded[p] = value, value
}

// Changed returns what Save would write and the file does not hold, sorted, in
// words: "image docker://debian:trixie (linux/amd64)".
func (l *Lock) Changed() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var changed []string
	for p := range l.recorded {
		changed = append(changed, fmt.Sprintf("%s %s (%s)", p.kind, p.name, p.variant))
	}
	slices.Sort(changed)
	return changed
}

// Save writes what was recorded since the lock was loaded, if anything. The
// file is read once more first, so that what another process recorded in the
// meantime is kept, and replaced as a whole.
func (l *Lock) Save() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.recorded) == 0 {
		return nil
	}
	// The file itself is replaced; what stays for processes to take turns
	// on is its directory.
	dir, err := os.Open(filepath.Dir(l.file))
	if err != nil {
		return fmt.Errorf("save %s: %w", l.file, err)
	}
	defer dir.Close()
	if err := syscall.Flock(int(dir.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("save %s: lock its directory: %w", l.file, err)
	}
	pins, err := readLock(l.file)
	if err != nil {
		return err
	}
	maps.Copy(pins, l.recorded)
	if err := renameio.WriteFile(l.file, formatLock(pins), 0o644); err != nil {
		return fmt.Errorf("save %s: %w", l.file, err)
	}
	maps.Copy(l.pins, pins)
	clear(l.recorded)
	return nil
}

func formatLock(pins map[pin]string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s\nversion = %d\n", lockHeader, lockVersion)
	sorted := slices.SortedFunc(maps.Keys(pins), comparePins)
	for i, p := range sorted {
		if i == 0 || p.kind != sorted[i-1].kind || p.name != sorted[i-1].name {
			fmt.Fprintf(&b, "\n[%s.%s]\n", p.kind, quoteKey(p.name))
		}
		fmt.Fprintf(&b, "%s = %s\n", quote(p.variant), quote(pins[p]))
	}
	return b.Bytes()
}

func comparePins(a, b pin) int {
	return slices.Compare(
		[]string{string(a.kind), a.name, a.variant},
		[]string{string(b.kind), b.name, b.variant})
}

func readLock(file string) (map[pin]string, error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return make(map[pin]string), nil
	}
	if err != nil {
		return nil, fmt.Errorf("read lock file: %w", err)
	}
	pins, diagnostics := parseLock(file, text)
	if len(diagnostics) > 0 {
		for _, d := range diagnostics {
			d.Help = "take the file back from version control, or delete it to have everything looked up anew"
		}
		return nil, diagnostics
	}
	return pins, nil
}

// parseLock = "version" { "image" | "git" }
func parseLock(file string, text []byte) (map[pin]string, rapt.Diagnostics) {
	tree, diagnostics := parseTree(file, text)
	if tree == nil {
		return nil, diagnostics
	}
	d := &decoder{project: &Project{File: file, source: text}, diagnostics: diagnostics}
	pins := make(map[pin]string)
	kind := func(kind PinKind) func(*node) {
		return func(n *node) {
			d.each(n, func(name *node) {
				d.each(name, func(variant *node) {
					var v Value
					d.text(&v)(variant)
					pins[pin{kind, name.name, variant.name}] = v.Text
				})
			})
		}
	}
	version := false
	d.table(tree, "", fields{
		"version": func(n *node) {
			version = true
			if i, ok := d.integer(n, 1, 1<<30); ok && i != lockVersion {
				d.fail(n.span, "", "version %d of the lock file is not known to this raptor, which knows %d", i, lockVersion)
			}
		},
		string(PinImage): kind(PinImage),
		string(PinGit):   kind(PinGit),
	})
	if !version && len(d.diagnostics) == 0 {
		d.fail(rapt.Span{File: file}, "", "the lock file lacks its version: version = %s", strconv.Itoa(lockVersion))
	}
	return pins, sorted(d.diagnostics)
}
