package graph_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"raptor-make/graph"
)

func TestScheduleTakesLongestPathFirst(t *testing.T) {
	var g graph.Graph
	short := g.Add("short", 1)
	long := g.Add("long", 1)
	after := g.Add("after long", 10)
	g.Edge(long, after)
	s, err := g.Schedule()
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []graph.Node{long, after, short} {
		got, ok := s.Next()
		if !ok || got != want {
			t.Fatalf("node %d: got %q, %v; want %q", i, g.Name(got), ok, g.Name(want))
		}
		s.Done(got)
	}
	if _, ok := s.Next(); ok || s.Left() != 0 {
		t.Errorf("schedule is not at its end: %d left", s.Left())
	}
}

func TestEqualNodesComeInOrderOfAdd(t *testing.T) {
	var g graph.Graph
	for i := range 5 {
		g.Add(fmt.Sprint(i), 7)
	}
	s, _ := g.Schedule()
	for want := range graph.Node(5) {
		if got, _ := s.Next(); got != want {
			t.Fatalf("got %d, want %d", got, want)
		}
	}
}

func TestFailDropsAllThatNeedIt(t *testing.T) {
	var g graph.Graph
	a, b, c, d := g.Add("a", 1), g.Add("b", 1), g.Add("c", 1), g.Add("d", 1)
	g.Edge(a, b)
	g.Edge(b, c)
	g.Edge(d, c)
	s, _ := g.Schedule()
	n, _ := s.Next()
	if n != a {
		t.Fatalf("first is %q", g.Name(n))
	}
	if dropped := s.Fail(a); !slices.Equal(dropped, []graph.Node{b, c}) {
		t.Errorf("dropped %v, want [b c]", dropped)
	}
	n, ok := s.Next()
	if !ok || n != d {
		t.Fatalf("d is not ready")
	}
	s.Done(d)
	if _, ok := s.Next(); ok || s.Left() != 0 {
		t.Errorf("a dropped node became ready; %d left", s.Left())
	}
}

func TestCycleShowsItsPath(t *testing.T) {
	var g graph.Graph
	a, b, c := g.Add("a", 1), g.Add("b", 1), g.Add("c", 1)
	tail := g.Add("tail", 1)
	g.Edge(b, a) // a needs b needs c needs a
	g.Edge(c, b)
	g.Edge(a, c)
	g.Edge(tail, a)
	_, err := g.Schedule()
	var cycle *graph.CycleError
	if !errors.As(err, &cycle) {
		t.Fatalf("got %v, want a CycleError", err)
	}
	if want := []string{"a", "b", "c", "a"}; !slices.Equal(cycle.Path, want) {
		t.Errorf("path %v, want %v", cycle.Path, want)
	}
}

// TestRandomGraphs checks on random graphs that every node is handed out just
// once and never before what it needs.
func TestRandomGraphs(t *testing.T) {
	for seed := range uint64(500) {
		r := rand.New(rand.NewPCG(seed, 0))
		var g graph.Graph
		n := 1 + r.IntN(60)
		for i := range n {
			g.Add(fmt.Sprint(i), r.Int64N(10))
		}
		perm := r.Perm(n)
		for i := range n {
			for j := range i {
				if r.IntN(8) == 0 {
					g.Edge(graph.Node(perm[j]), graph.Node(perm[i]))
				}
			}
		}
		s, err := g.Schedule()
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		done := make([]bool, n)
		count := 0
		var running []graph.Node
		for s.Left() > 0 {
			for len(running) < 3 {
				node, ok := s.Next()
				if !ok {
					break
				}
				for _, need := range g.Before(node) {
					if !done[need] {
						t.Fatalf("seed %d: node %d before node %d, which it needs", seed, node, need)
					}
				}
				running = append(running, node)
			}
			if len(running) == 0 {
				t.Fatalf("seed %d: stuck with %d left", seed, s.Left())
			}
			k := r.IntN(len(running))
			done[running[k]] = true
			count++
			s.Done(running[k])
			running = slices.Delete(running, k, k+1)
		}
		if count != n {
			t.Fatalf("seed %d: %d of %d nodes done", seed, count, n)
		}
	}
}

// TestDeepGraph guards against recursion and quadratic work.
func TestDeepGraph(t *testing.T) {
	var g graph.Graph
	const n = 100_000
	for i := range n {
		g.Add("", 1)
		if i > 0 {
			g.Edge(graph.Node(i), graph.Node(i-1))
		}
	}
	order, err := g.Order()
	if err != nil || len(order) != n || order[0] != n-1 {
		t.Fatalf("order of %d nodes, %v", len(order), err)
	}
}

func BenchmarkSchedule(b *testing.B) {
	const n = 10_000
	for b.Loop() {
		var g graph.Graph
		for i := range n {
			g.Add("", int64(i%17))
			for j := 1; j <= 3 && j <= i; j++ { // three predecessors each
				g.Edge(graph.Node(i-j), graph.Node(i))
			}
		}
		s, err := g.Schedule()
		if err != nil {
			b.Fatal(err)
		}
		for node, ok := s.Next(); ok; node, ok = s.Next() {
			s.Done(node)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/node")
}
