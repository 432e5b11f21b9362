// Package helper gives the programs that raptor starts beside itself: the agent
// of a sandbox, and the fetcher of base images. Each is embedded in raptor, so
// that one file is all that has to be installed, and started from a file that
// nobody can change.
package helper

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// A Program is one such program. Its fields must not change once it is in use.
type Program struct {
	// Name is the process's.
	Name string
	// Embedded is the program itself; nil where it is not, in `go test` above all.
	Embedded []byte
	// Variable, then, is the environment's that names its file.
	Variable string
	// Source, if that is not set either, is the directory of its source below the
	// module's root: it is built.
	Source string
	// KeptIn is the directory in which an embedded program is kept for the
	// processes to come, where that can be done: see Keep. "" keeps nothing.
	KeptIn string

	once   sync.Once
	file   *os.File // nil: none is kept
	memory sync.Once
	sealed *os.File
	err    error // why there is none in memory
}

// File is the program in a file that nobody can change, a kept one or a sealed
// one in memory: made at the first call, one for all, and not to be closed.
func (p *Program) File() (*os.File, error) {
	p.once.Do(func() {
		if p.Embedded == nil || p.KeptIn == "" {
			return
		}
		p.file, _ = Keep(p.KeptIn, p.Name, p.Embedded)
	})
	if p.file != nil {
		return p.file, nil
	}
	return p.InMemory()
}

// InMemory is File, but never a kept one: for where policies let nobody execute
// that.
func (p *Program) InMemory() (*os.File, error) {
	p.memory.Do(func() {
		var program []byte
		if program, p.err = p.Read(); p.err == nil {
			p.sealed, p.err = Seal(p.Name, program)
		}
	})
	return p.sealed, p.err
}

// Read is the program.
func (p *Program) Read() ([]byte, error) {
	if p.Embedded != nil {
		return p.Embedded, nil
	}
	if file := os.Getenv(p.Variable); file != "" {
		return os.ReadFile(file)
	}
	return p.Build()
}

// Build builds the program from its source.
func (p *Program) Build(flags ...string) ([]byte, error) {
	_, self, _, _ := runtime.Caller(0)
	source := filepath.Join(filepath.Dir(self), "../..", p.Source)
	if _, err := os.Stat(source); err != nil {
		return nil, fmt.Errorf("it is not embedded in this binary, and its source is not at hand: build raptor with make build, or name its file with %s", p.Variable)
	}
	dir, err := os.MkdirTemp("", p.Name+"-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	out := filepath.Join(dir, "program")
	build := exec.Command("go", append(append([]string{"build", "-trimpath", "-ldflags=-s -w", "-o", out}, flags...), ".")...)
	build.Dir = source
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOFLAGS=")
	if text, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build it: %w\n%s", err, text)
	}
	return os.ReadFile(out)
}

// Seal puts a program into a file in memory that nobody can change.
func Seal(name string, program []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_EXEC)
	if err == unix.EINVAL { // before Linux 6.3
		fd, err = unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), name)
	if _, err := f.Write(program); err != nil {
		f.Close()
		return nil, err
	}
	if _, err = unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_SEAL|unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_WRITE); err != nil {
		f.Close()
		return nil, os.NewSyscallError("seal", err)
	}
	return f, nil
}
