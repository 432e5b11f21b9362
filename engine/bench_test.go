package engine_test

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"raptor-make/engine"
)

// BenchmarkPlan plans a project of 10,000 layers, each on one of those before
// it, and 10,000 jobs of which each tenth reads what another writes.
func BenchmarkPlan(b *testing.B) {
	const layers, jobs = 10_000, 10_000
	t := &testing.T{}
	w := newWorldIn(t, b.TempDir())
	w.write("l0.rapt", "RUN x\n")
	for i := 1; i < layers; i++ {
		w.write(fmt.Sprintf("l%d.rapt", i), fmt.Sprintf("FROM l%d\nRUN x %d\nMOUNT --file --optional input /in\nMOUNT --file output /out\n", (i-1)/8, i))
	}
	var toml strings.Builder
	for i := range jobs {
		fmt.Fprintf(&toml, "[run.j%d]\ntarget = \"l%d\"\noutput = \"out/%d\"\n", i, i%(layers-1)+1, i)
		if i%10 == 9 {
			fmt.Fprintf(&toml, "input = \"out/%d\"\n", i-1)
		}
	}
	w.write("Raptor.toml", toml.String())
	var before, after runtime.MemStats
	for b.Loop() {
		e := w.engine()
		runtime.ReadMemStats(&before)
		plan, err := e.Plan(context.Background(), engine.Request{Jobs: e.Project.Jobs})
		runtime.ReadMemStats(&after)
		if err != nil {
			b.Fatal(err)
		}
		if len(plan.Steps) != layers+jobs {
			b.Fatalf("%d steps", len(plan.Steps))
		}
	}
	b.ReportMetric(float64(after.TotalAlloc-before.TotalAlloc)/1e6, "MB/plan")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/(layers+jobs), "ns/step")
}
