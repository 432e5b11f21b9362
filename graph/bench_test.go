package graph_test

import (
	"math/rand/v2"
	"testing"

	"raptor-make/graph"
)

// random makes a graph in which each node needs up to three earlier ones.
func random(r *rand.Rand, nodes int) (*graph.Graph, []int64) {
	g := &graph.Graph{}
	costs := make([]int64, nodes)
	for i := range nodes {
		costs[i] = 1 + r.Int64N(100)
		n := g.Add("", costs[i])
		for range min(i, r.IntN(4)) {
			g.Edge(graph.Node(max(0, i-1-r.IntN(50))), n)
		}
	}
	return g, costs
}

// BenchmarkMakespan simulates random graphs on a few workers, and reports how
// much longer they take than what no schedule can beat: the longest path, or
// the work divided by the workers.
func BenchmarkMakespan(b *testing.B) {
	const graphs = 1000
	var sum, worst float64
	for b.Loop() {
		r := rand.New(rand.NewPCG(3, 4))
		sum, worst = 0, 0
		for range graphs {
			workers := 1 + r.IntN(8)
			g, costs := random(r, 10+r.IntN(200))
			ratio := float64(simulate(b, g, costs, workers)) / float64(bound(g, costs, workers))
			sum += ratio
			worst = max(worst, ratio)
		}
	}
	b.ReportMetric(sum/graphs, "mean-of-bound")
	b.ReportMetric(worst, "worst-of-bound")
}

// simulate is when the last node is done if each takes its cost.
func simulate(b *testing.B, g *graph.Graph, costs []int64, workers int) int64 {
	s, err := g.Schedule()
	if err != nil {
		b.Fatal(err)
	}
	type running struct {
		node graph.Node
		end  int64
	}
	var busy []running
	var now int64
	for {
		for len(busy) < workers {
			n, ok := s.Next()
			if !ok {
				break
			}
			busy = append(busy, running{n, now + costs[n]})
		}
		if len(busy) == 0 {
			return now
		}
		first := 0
		for i := range busy {
			if busy[i].end < busy[first].end {
				first = i
			}
		}
		now = busy[first].end
		s.Done(busy[first].node)
		busy = append(busy[:first], busy[first+1:]...)
	}
}

func bound(g *graph.Graph, costs []int64, workers int) int64 {
	longest := make([]int64, g.Len())
	var path, work int64
	for n := range g.Len() { // nodes only need earlier ones
		for _, need := range g.Before(graph.Node(n)) {
			longest[n] = max(longest[n], longest[need])
		}
		longest[n] += costs[n]
		path = max(path, longest[n])
		work += costs[n]
	}
	return max(path, (work+int64(workers)-1)/int64(workers))
}
