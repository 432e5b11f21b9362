// Package graph orders work: nodes with costs, edges that say what comes
// first, and a schedule that hands out ready nodes, the one with the longest
// path of costs to the end first.
//
// It does not know what a node is, does no I/O and starts no goroutine. A
// Graph is built once (Add, Edge), checked (Schedule reports a cycle with its
// whole path), and then walked by a Schedule, which belongs to one goroutine
// at a time:
//
//	var g graph.Graph
//	fetch := g.Add("debian", 12)
//	build := g.Add("base", 35)
//	g.Edge(fetch, build)
//	s, err := g.Schedule()
//	for node, ok := s.Next(); ok; node, ok = s.Next() {
//		work(node)
//		s.Done(node)
//	}
//
// The zero Graph is empty and ready to use.
package graph

import (
	"container/heap"
	"slices"
	"strings"
)

// A Node is an index into a Graph, counted from 0 in order of Add.
type Node int

// A Graph is a directed graph of named nodes.
type Graph struct {
	names  []string
	costs  []int64
	after  [][]Node // after[n] are the nodes that need n
	before [][]Node // before[n] are the nodes that n needs
}

// Add adds a node. Its name is for messages; cost is in any unit, the same for
// all nodes, and says how long the node is expected to take.
func (g *Graph) Add(name string, cost int64) Node {
	g.names = append(g.names, name)
	g.costs = append(g.costs, cost)
	g.after = append(g.after, nil)
	g.before = append(g.before, nil)
	return Node(len(g.names) - 1)
}

// Edge says that first must be done before then. A repeated edge is harmless.
func (g *Graph) Edge(first, then Node) {
	if slices.Contains(g.before[then], first) {
		return
	}
	g.after[first] = append(g.after[first], then)
	g.before[then] = append(g.before[then], first)
}

// Len is the number of nodes.
func (g *Graph) Len() int { return len(g.names) }

// Name is the name that n was added with.
func (g *Graph) Name(n Node) string { return g.names[n] }

// Before lists the nodes that n needs, in the order their edges were added.
// The caller must not change it.
func (g *Graph) Before(n Node) []Node { return g.before[n] }

// A CycleError is a graph in which some nodes wait for each other.
type CycleError struct {
	Path []string // names; each needs the next, and the last is the first again
}

func (e *CycleError) Error() string { return "cycle: " + strings.Join(e.Path, " -> ") }

// Order lists all nodes so that each comes after those it needs and otherwise
// in order of Add. The error is a *CycleError.
func (g *Graph) Order() ([]Node, error) {
	const (
		unseen = iota
		open
		closed
	)
	state := make([]byte, g.Len())
	order := make([]Node, 0, g.Len())
	type frame struct {
		node Node
		next int // index into before[node]
	}
	var stack []frame // explicit: a stack of 10,000 layers must not be a deep recursion
	for root := range g.names {
		if state[root] != unseen {
			continue
		}
		stack = append(stack[:0], frame{node: Node(root)})
		state[root] = open
		for len(stack) > 0 {
			top := &stack[len(stack)-1]
			if top.next == len(g.before[top.node]) {
				state[top.node] = closed
				order = append(order, top.node)
				stack = stack[:len(stack)-1]
				continue
			}
			need := g.before[top.node][top.next]
			top.next++
			switch state[need] {
			case unseen:
				state[need] = open
				stack = append(stack, frame{node: need})
			case open:
				path := []string{g.names[need]}
				from := slices.IndexFunc(stack, func(f frame) bool { return f.node == need })
				for _, f := range stack[from+1:] {
					path = append(path, g.names[f.node])
				}
				return nil, &CycleError{Path: append(path, g.names[need])}
			}
		}
	}
	return order, nil
}

// A Schedule hands out the nodes of a graph as they become ready.
type Schedule struct {
	g       *Graph
	rank    []int64 // cost of the longest path from the node to the end, itself included
	waiting []int   // how many needed nodes are not done
	closed  []bool  // done or dropped
	ready   readyHeap
	left    int
}

// Schedule starts a walk over the graph, which must not change any more. The
// error is a *CycleError.
func (g *Graph) Schedule() (*Schedule, error) {
	order, err := g.Order()
	if err != nil {
		return nil, err
	}
	s := &Schedule{g: g, rank: make([]int64, g.Len()), waiting: make([]int, g.Len()), closed: make([]bool, g.Len()), left: g.Len()}
	for _, n := range slices.Backward(order) {
		longest := int64(0)
		for _, then := range g.after[n] {
			longest = max(longest, s.rank[then])
		}
		s.rank[n] = g.costs[n] + longest
	}
	s.ready.rank = s.rank
	for n := range g.names {
		s.waiting[n] = len(g.before[n])
		if s.waiting[n] == 0 {
			s.ready.nodes = append(s.ready.nodes, Node(n))
		}
	}
	heap.Init(&s.ready)
	return s, nil
}

// Ready tells whether Next has a node to give.
func (s *Schedule) Ready() bool { return len(s.ready.nodes) > 0 }

// Peek is the node that Next would give. It must be ready.
func (s *Schedule) Peek() Node { return s.ready.nodes[0] }

// Next takes the ready node with the longest path to the end; of equals the
// one added first. It is false when nothing is ready just now.
func (s *Schedule) Next() (Node, bool) {
	if len(s.ready.nodes) == 0 {
		return 0, false
	}
	return heap.Pop(&s.ready).(Node), true
}

// Done says that a node which Next gave out is finished.
func (s *Schedule) Done(n Node) {
	s.close(n)
	for _, then := range s.g.after[n] {
		s.waiting[then]--
		if s.waiting[then] == 0 && !s.closed[then] {
			heap.Push(&s.ready, then)
		}
	}
}

// Fail says that a node which Next gave out did not succeed. All nodes that
// need it, directly or not, will never be ready; it returns those that had not
// been dropped before, in order of Add.
func (s *Schedule) Fail(n Node) []Node {
	s.close(n)
	var dropped []Node
	todo := []Node{n}
	for len(todo) > 0 {
		at := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for _, then := range s.g.after[at] {
			if !s.closed[then] {
				s.close(then)
				dropped = append(dropped, then)
				todo = append(todo, then)
			}
		}
	}
	slices.Sort(dropped)
	return dropped
}

// Left counts the nodes that are neither done nor failed nor dropped.
func (s *Schedule) Left() int { return s.left }

func (s *Schedule) close(n Node) {
	if !s.closed[n] {
		s.closed[n] = true
		s.left--
	}
}

// readyHeap orders nodes by falling rank, then by rising index.
type readyHeap struct {
	nodes []Node
	rank  []int64
}

func (h *readyHeap) Len() int { return len(h.nodes) }
func (h *readyHeap) Less(i, j int) bool {
	a, b := h.nodes[i], h.nodes[j]
	if h.rank[a] != h.rank[b] {
		return h.rank[a] > h.rank[b]
	}
	return a < b
}
func (h *readyHeap) Swap(i, j int) { h.nodes[i], h.nodes[j] = h.nodes[j], h.nodes[i] }
func (h *readyHeap) Push(x any)    { h.nodes = append(h.nodes, x.(Node)) }
func (h *readyHeap) Pop() any {
	last := h.nodes[len(h.nodes)-1]
	h.nodes = h.nodes[:len(h.nodes)-1]
	return last
}
