package sandbox

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// benchSpec is a sandbox over layers of which the lowest holds /bin/true alone.
func benchSpec(b *testing.B, layers int) *Spec {
	b.Helper()
	if os.Geteuid() != 0 {
		b.Skip("needs root")
	}
	program, err := os.ReadFile("/bin/busybox")
	if err != nil {
		b.Skip("needs busybox-static")
	}
	dir := b.TempDir()
	spec := &Spec{Upper: filepath.Join(dir, "upper"), Work: filepath.Join(dir, "work"), Actions: []Action{&Exec{Args: []string{"/bin/true"}}}}
	for i := range layers {
		layer := filepath.Join(dir, fmt.Sprint("layer", i))
		for _, d := range []string{"bin", "dev", "proc", "sys", "run", "etc"} {
			os.MkdirAll(filepath.Join(layer, d), 0o755)
		}
		spec.Layers = append(spec.Layers, layer)
	}
	os.WriteFile(filepath.Join(spec.Layers[0], "bin/true"), program, 0o755)
	renew(b, spec)
	return spec
}

// renew empties the directories that a sandbox writes to.
func renew(b *testing.B, spec *Spec) {
	for _, d := range []string{spec.Upper, spec.Work} {
		if err := os.RemoveAll(d); err != nil {
			b.Fatal(err)
		}
		if err := os.Mkdir(d, 0o755); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEmptyCommand(b *testing.B) {
	for _, layers := range []int{1, 10, 100} {
		b.Run(fmt.Sprint("sandbox/", layers), func(b *testing.B) {
			spec := benchSpec(b, layers)
			for b.Loop() {
				if _, err := Run(context.Background(), spec, Streams{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkStages tells what each stage of a container's life takes, as a
// median.
func BenchmarkStages(b *testing.B) {
	now := func() int64 {
		var t unix.Timespec
		unix.ClockGettime(unix.CLOCK_MONOTONIC, &t)
		return t.Nano()
	}
	spec := benchSpec(b, 1)
	took := map[string][]time.Duration{}
	var order []string
	for b.Loop() {
		last := now()
		stage := func(name string, at int64) {
			if took[name] == nil {
				order = append(order, name)
			}
			took[name] = append(took[name], time.Duration(at-last))
			last = at
		}
		if _, err := Run(context.Background(), spec, Streams{Stage: stage}); err != nil {
			b.Fatal(err)
		}
		stage("run, end", now())
	}
	for _, name := range order {
		slices.Sort(took[name])
		b.Logf("%7.0f us  %s", float64(took[name][len(took[name])/2].Nanoseconds())/1e3, name)
	}
}
