package sandbox

import (
	"context"
	"fmt"
	"os"
	"os/exec"
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

// BenchmarkEmptyCommandCompared starts the same empty command in turn here and by other
// programs, so that all see the same machine, and reports medians, and the
// processor time that each takes.
func BenchmarkEmptyCommandCompared(b *testing.B) {
	spec := benchSpec(b, 1)
	lower := spec.Layers[0]
	others := map[string][]string{
		"bwrap":   {"bwrap", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--bind", lower, "/", "--proc", "/proc", "--dev", "/dev", "/bin/true"},
		"unshare": {"unshare", "--mount", "--pid", "--ipc", "--uts", "--fork", "--root=" + lower, "/bin/true"},
	}
	run := map[string]func() error{"sandbox": func() error { _, err := Run(context.Background(), spec, Streams{}); return err }}
	for name, words := range others {
		run[name] = func() error { return exec.Command(words[0], words[1:]...).Run() }
	}
	wall, cpu := map[string][]time.Duration{}, map[string]time.Duration{}
	for b.Loop() {
		for name, f := range run {
			begun, used := time.Now(), processorTime()
			if err := f(); err != nil {
				b.Fatal(name, err)
			}
			wall[name] = append(wall[name], time.Since(begun))
			cpu[name] += processorTime() - used
		}
	}
	for name, list := range wall {
		slices.Sort(list)
		b.ReportMetric(float64(list[len(list)/2].Microseconds()), name+"-us")
		b.ReportMetric(float64(list[len(list)/10].Microseconds()), name+"-p10-us")
		b.ReportMetric(float64(cpu[name].Microseconds())/float64(len(list)), name+"-cpu-us")
	}
}

func processorTime() time.Duration {
	var sum int64
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var u unix.Rusage
		unix.Getrusage(who, &u)
		sum += u.Utime.Nano() + u.Stime.Nano()
	}
	return time.Duration(sum)
}

// BenchmarkLayer makes layers of many RUNs; what one more costs is the
// difference.
func BenchmarkLayer(b *testing.B) {
	for _, runs := range []int{1, 100} {
		b.Run(fmt.Sprint("runs/", runs), func(b *testing.B) {
			spec := benchSpec(b, 1)
			spec.Build = true
			spec.Actions = nil
			for range runs {
				spec.Actions = append(spec.Actions, &Exec{Args: []string{"/bin/true"}})
			}
			for b.Loop() {
				renew(b, spec)
				if _, err := Run(context.Background(), spec, Streams{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("fork+exec", func(b *testing.B) {
		for b.Loop() {
			if err := exec.Command("/bin/true").Run(); err != nil {
				b.Fatal(err)
			}
		}
	})
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
