//go:build !raptor_agent

package sandbox

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
)

// agentProgram is for builds without the embedded agent, `go test` above all:
// the one that RAPTOR_AGENT names, or one built here from the source.
func agentProgram() ([]byte, error) {
	if file := os.Getenv("RAPTOR_AGENT"); file != "" {
		return os.ReadFile(file)
	}
	return buildAgent()
}

func buildAgent(flags ...string) ([]byte, error) {
	_, self, _, ok := runtime.Caller(0)
	source := filepath.Join(filepath.Dir(self), "agent")
	if _, err := os.Stat(source); !ok || err != nil {
		return nil, errors.New("it is not embedded in this binary, and its source is not at hand")
	}
	dir, err := os.MkdirTemp("", "raptor-agent-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	out := filepath.Join(dir, "agent")
	build := exec.Command("go", append(append([]string{"build", "-trimpath", "-ldflags=-s -w", "-o", out}, flags...), ".")...)
	build.Dir = source
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOFLAGS=")
	if text, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build it: %w\n%s", err, text)
	}
	return os.ReadFile(out)
}
