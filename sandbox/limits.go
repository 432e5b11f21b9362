package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Limits are what the programs of a sandbox may use together. Zero is no limit.
type Limits struct {
	Memory int64 // bytes, with what they have in temporary file systems; no swap beyond it
	Pids   int64 // processes and threads
}

// agentPids is what the agent has of them for itself, at most.
const agentPids = 16

// A limiter is the control groups of one sandbox: one with version 2 of them,
// or one a controller with version 1; on many machines each version has some
// of the controllers.
//
// It is our own because it is two directories and three files; the library
// for it (containerd/cgroups) brings D-Bus, protocol buffers and an eBPF loader
// into each start of raptor.
//
// A group is removed when its sandbox has ended. One whose raptor was killed
// stays, without a process in it, until another raptor that limits something
// finds it: the agent, which lives a moment longer, is in the group itself.
type limiter struct {
	limits Limits
	groups []group
	unify  *os.File // the group of version 2, if there is one
}

// A group is a control group that limits one thing.
type group struct {
	dir        string
	controller string // "memory" or "pids"
	limit      int64
	version    int
}

func (s *session) limit() error {
	if s.spec.Limits == (Limits{}) {
		return nil
	}
	l := &limiter{limits: s.spec.Limits}
	s.limiter = l
	tables, err := readTables()
	if err == nil {
		err = l.make(tables)
	}
	if err != nil {
		l.remove()
		return limitError(err)
	}
	return nil
}

func limitError(err error) error {
	e := &SetupError{Stage: "limit resources", Err: err}
	var pe *os.PathError
	if errors.As(err, &pe) {
		e.Stage, e.Path, e.Err = "limit resources: "+pe.Op, pe.Path, pe.Err
	}
	switch {
	case Rootless():
		e.Help = "run it in a control group of your own: systemd-run --user --scope raptor …"
	case errors.Is(err, errOccupied) && unix.Access(pe.Path, unix.W_OK) == nil:
		e.Help = fmt.Sprintf("put them into a group of theirs first: cd %s && mkdir init && for p in $(cat cgroup.procs); do echo $p >init/cgroup.procs; done", pe.Path)
	default:
		e.Help = "raptor needs a control group to make others in: in a container, give it a writable /sys/fs/cgroup; with Docker, --privileged"
	}
	return e
}

// tables are where control groups are mounted and which are ours.
type tables struct{ mounts, own string }

func readTables() (tables, error) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return tables{}, err
	}
	own, err := os.ReadFile("/proc/self/cgroup")
	return tables{string(mounts), string(own)}, err
}

// find tells the directory of our own group for a controller, the directory
// where its hierarchy is mounted, and the hierarchy's version.
func (t tables) find(controller string) (own, root string, version int, err error) {
	path := map[string]string{} // by controller; "" is version 2
	for line := range strings.Lines(t.own) {
		if f := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3); len(f) == 3 {
			for c := range strings.SplitSeq(f[1], ",") {
				path[c] = f[2]
			}
		}
	}
	for line := range strings.Lines(t.mounts) {
		before, after, _ := strings.Cut(line, " - ")
		f, g := strings.Fields(before), strings.Fields(after)
		if len(f) < 5 || len(g) < 3 {
			continue
		}
		v, key := 0, ""
		switch {
		case g[0] == "cgroup" && slices.Contains(strings.Split(g[2], ","), controller):
			v, key = 1, controller
		case g[0] == "cgroup2" && version == 0:
			v = 2
		}
		mine, ok := path[key]
		if v == 0 || !ok {
			continue
		}
		// In a container, only a part may be mounted.
		rel, below := strings.CutPrefix(mine+"/", strings.TrimSuffix(f[3], "/")+"/")
		if !below {
			rel = ""
		}
		if v == 1 || version == 0 {
			root, version = f[4], v
			own = filepath.Join(root, rel)
		}
		if v == 1 {
			break
		}
	}
	if version == 0 {
		return "", "", 0, fmt.Errorf("no control groups for %s are mounted", controller)
	}
	return own, root, version, nil
}

var groupNumber atomic.Int64

// make makes the groups, with nothing in them.
func (l *limiter) make(t tables) error {
	name := fmt.Sprintf("raptor-%d-%d", os.Getpid(), groupNumber.Add(1))
	var unified []string
	var own, root string // of version 2
	for _, want := range []struct {
		controller string
		limit      int64
	}{{"memory", l.limits.Memory}, {"pids", l.limits.Pids}} {
		if want.limit == 0 {
			continue
		}
		if want.limit < 0 {
			return fmt.Errorf("a limit of %d for %s", want.limit, want.controller)
		}
		ours, top, version, err := t.find(want.controller)
		if err != nil {
			return err
		}
		if version == 2 {
			unified, own, root = append(unified, want.controller), ours, top
		}
		l.groups = append(l.groups, group{filepath.Join(ours, name), want.controller, want.limit, version})
	}
	if len(unified) > 0 {
		parent, err := delegating(own, root, unified)
		if err != nil {
			return err
		}
		for i := range l.groups {
			if g := &l.groups[i]; g.version == 2 {
				g.dir = filepath.Join(parent, name)
			}
		}
	}
	for _, g := range l.groups {
		sweep(filepath.Dir(g.dir))
		if err := os.Mkdir(g.dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
		if err := g.set(); err != nil {
			return err
		}
	}
	return nil
}

// delegating finds the nearest group of version 2, at or above ours, in which
// groups with controllers can be made.
func delegating(own, root string, controllers []string) (string, error) {
	for dir := own; ; dir = filepath.Dir(dir) {
		err := enable(dir, controllers)
		if err == nil || len(dir) <= len(root) {
			return dir, err
		}
	}
}

var errOccupied = errors.New("there are processes in it")

// enable lets the groups in one have controllers. Where processes are in the
// group itself, as they are in our own, it is no use: the kernel refuses the
// controller of memory then, but takes that of processes alone, and lets nothing
// into groups that have it. Only the first group of all is free of that.
func enable(dir string, controllers []string) error {
	processes, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		return err
	}
	if unix.Access(filepath.Join(dir, "cgroup.type"), unix.F_OK) == nil && len(processes) > 0 {
		return &os.PathError{Op: "make groups in", Path: dir, Err: errOccupied}
	}
	file := filepath.Join(dir, "cgroup.subtree_control")
	enabled, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	for _, c := range controllers {
		if slices.Contains(strings.Fields(string(enabled)), c) {
			continue
		}
		if err := os.WriteFile(file, []byte("+"+c), 0); err != nil {
			return &os.PathError{Op: "enable " + c, Path: file, Err: reason(err)}
		}
	}
	if err := unix.Access(dir, unix.W_OK); err != nil {
		return &os.PathError{Op: "make groups in", Path: dir, Err: err}
	}
	return nil
}

// set sets the limit.
func (g group) set() error {
	write := func(file string, n int64) error {
		return os.WriteFile(filepath.Join(g.dir, file), strconv.AppendInt(nil, n, 10), 0)
	}
	switch {
	case g.controller == "pids":
		return write("pids.max", g.limit+agentPids)
	case g.version == 1:
		if err := write("memory.limit_in_bytes", g.limit); err != nil {
			return err
		}
		return notMissing(write("memory.memsw.limit_in_bytes", g.limit))
	}
	if err := write("memory.max", g.limit); err != nil {
		return err
	}
	return notMissing(write("memory.swap.max", 0))
}

// notMissing is for what a kernel without accounting of swap does not have.
func notMissing(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// fd is the group that the agent is to be born in, if there is such a one.
func (l *limiter) fd() (int, bool) {
	for _, g := range l.groups {
		if g.version == 2 && l.unify == nil {
			l.unify, _ = os.Open(g.dir)
		}
	}
	if l.unify == nil {
		return 0, false
	}
	return int(l.unify.Fd()), true
}

// join puts the agent, which has not started any program, into the groups that
// it could not be born in.
func (l *limiter) join(pid int) error {
	for _, g := range l.groups {
		if g.version == 1 {
			if err := os.WriteFile(filepath.Join(g.dir, "cgroup.procs"), strconv.AppendInt(nil, int64(pid), 10), 0); err != nil {
				return err
			}
		}
	}
	return nil
}

// reached tells which limit the programs ran into: "memory", "pids" or "".
func (l *limiter) reached() string {
	for _, g := range l.groups {
		file, key := "pids.events", "max"
		switch {
		case g.controller == "memory" && g.version == 1:
			file, key = "memory.oom_control", "oom_kill"
		case g.controller == "memory":
			file, key = "memory.events", "oom_kill"
		}
		text, _ := os.ReadFile(filepath.Join(g.dir, file))
		for line := range strings.Lines(string(text)) {
			if f := strings.Fields(line); len(f) == 2 && f[0] == key && f[1] != "0" {
				return g.controller
			}
		}
	}
	return ""
}

// remove removes the groups. What was in them is dead by now, but the kernel
// may still be taking it down.
func (l *limiter) remove() {
	if l.unify != nil {
		l.unify.Close()
	}
	for _, g := range l.groups {
		for try := 0; try < 50; try++ {
			if err := unix.Rmdir(g.dir); err != unix.EBUSY {
				break
			}
			time.Sleep(2 * time.Millisecond)
		}
	}
}

var swept sync.Map

// sweep removes, once in each directory, the groups of raptors that were
// killed. Those of living ones have processes in them, or are just being made.
func sweep(dir string) {
	if _, done := swept.LoadOrStore(dir, true); done {
		return
	}
	list, _ := filepath.Glob(filepath.Join(dir, "raptor-*-*"))
	for _, path := range list {
		var pid, n int
		if _, err := fmt.Sscanf(filepath.Base(path), "raptor-%d-%d", &pid, &n); err == nil && unix.Kill(pid, 0) == unix.ESRCH {
			unix.Rmdir(path)
		}
	}
}
