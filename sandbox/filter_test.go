package sandbox

import (
	"bytes"
	"embed"
	"flag"
	"os"
	"runtime"
	"testing"

	"raptor-make/sandbox/internal/filter"
)

var update = flag.Bool("update", false, "write the filters of system calls anew")

//go:embed filter_*.bin
var filters embed.FS

// TestSystemCalls compares the filters with what they are assembled from.
func TestSystemCalls(t *testing.T) {
	for _, goarch := range []string{"amd64", "arm64"} {
		want, err := filter.Default.Assemble(goarch, Capabilities.has)
		if err != nil {
			t.Fatal(err)
		}
		file := "filter_" + goarch + ".bin"
		if *update {
			if err := os.WriteFile(file, want, 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		got, _ := filters.ReadFile(file)
		if !bytes.Equal(got, want) || goarch == runtime.GOARCH && !bytes.Equal(systemCalls, want) {
			t.Errorf("%s is not what its policy says: run go test ./sandbox -run SystemCalls -update", file)
		}
	}
}
