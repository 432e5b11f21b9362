package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// limited skips on machines that cannot limit.
func limited(t *testing.T, b *box) {
	t.Helper()
	var setup *SetupError
	if err := b.run(sh("true")); errors.As(err, &setup) {
		t.Skipf("no control groups here: %v", err)
	}
}

// groupsLeft are those of this process, in any group above ours.
func groupsLeft(t *testing.T) (list []string) {
	t.Helper()
	tab, err := readTables()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []string{"memory", "pids"} {
		own, root, _, err := tab.find(c)
		for dir := own; err == nil && len(dir) >= len(root); dir = filepath.Dir(dir) {
			left, _ := filepath.Glob(fmt.Sprintf("%s/raptor-%d-*", dir, os.Getpid()))
			list = append(list, left...)
		}
	}
	return list
}

func TestMemoryLimit(t *testing.T) {
	b := newBox(t, lower(t))
	b.Limits.Memory = 64 << 20
	limited(t, b)
	var exit *ExitError
	err := b.run(&Write{Dest: "/x", Mode: 0o644}, sh("dd if=/dev/zero of=/dev/null bs=200M count=1 2>/dev/null"))
	if !errors.As(err, &exit) || exit.Limit != "memory" || exit.Action != 1 {
		t.Errorf("got %#v (%v)", err, err)
	}
	if err := b.run(sh("dd if=/dev/zero of=/dev/null bs=20M count=1 2>/dev/null")); err != nil {
		t.Errorf("below the limit: %v", err)
	}
	if err := b.run(sh("dd if=/dev/zero of=/dev/shm/x bs=1M count=200 2>/dev/null")); !errors.As(err, &exit) || exit.Limit != "memory" {
		t.Errorf("in a temporary file system: %v", err)
	}
	if left := groupsLeft(t); len(left) > 0 {
		t.Errorf("groups are left: %v", left)
	}
}

func TestPidsLimit(t *testing.T) {
	b := newBox(t, lower(t))
	b.Limits.Pids = 20
	limited(t, b)
	var exit *ExitError
	err := b.run(sh("i=0; while test $i -lt 60; do sleep 30 & i=$((i+1)); done; exit 3"))
	if !errors.As(err, &exit) || exit.Limit != "pids" {
		t.Errorf("got %#v (%v)", err, err)
	}
	if err := b.run(sh("for i in 1 2 3 4 5 6 7 8; do sleep 0.1 & done; wait")); err != nil {
		t.Errorf("below the limit: %v", err)
	}
	if left := groupsLeft(t); len(left) > 0 {
		t.Errorf("groups are left: %v", left)
	}
}

func TestForkBomb(t *testing.T) {
	b := newBox(t, lower(t))
	b.Limits.Pids = 50
	limited(t, b)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	b.Actions = []Action{sh(`b() { b & b & b; }; b 2>/dev/null; exit 1`)}
	done := make(chan error, 1)
	go func() { _, err := Run(ctx, &b.Spec, Streams{}); done <- err }()
	if err := <-done; err == nil {
		t.Error("a fork bomb succeeded")
	}
}

func TestLimitsThatCannotBeSet(t *testing.T) {
	b := newBox(t, lower(t))
	b.Limits.Memory = -1
	var setup *SetupError
	if err := b.run(sh("true")); !errors.As(err, &setup) || setup.Help == "" {
		t.Errorf("got %v", err)
	}
	none := tables{mounts: "1 0 0:1 / / rw - ext4 /dev/sda rw\n", own: "0::/\n"}
	if err := (&limiter{limits: Limits{Pids: 1}}).make(none); err == nil || !strings.Contains(err.Error(), "no control groups for pids") {
		t.Errorf("without control groups: %v", err)
	}
}

// TestFindGroups reads the tables of machines of all kinds.
func TestFindGroups(t *testing.T) {
	const v1, v2, part = "30 1 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n", "40 1 0:30 / /sys/fs/cgroup/unified rw shared:4 - cgroup2 cgroup2 rw\n",
		"50 1 0:26 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
	for _, c := range []struct {
		name, mounts, own string
		dir               string
		version           int
	}{
		{"version 1", v1, "4:memory:/a/b\n0::/x\n", "/sys/fs/cgroup/memory/a/b", 1},
		{"both, this one in version 1", v2 + v1, "4:memory:/a/b\n0::/x\n", "/sys/fs/cgroup/memory/a/b", 1},
		{"both, the other way round", v1 + v2, "4:memory:/\n0::/x\n", "/sys/fs/cgroup/memory", 1},
		{"version 2", v2, "0::/user.slice/x.scope\n", "/sys/fs/cgroup/unified/user.slice/x.scope", 2},
		{"version 2 in a namespace", v2, "0::/\n", "/sys/fs/cgroup/unified", 2},
		{"a part of version 1", part, "4:memory:/docker/abc/d\n", "/sys/fs/cgroup/memory/d", 1},
		{"a part that we are not in", part, "4:memory:/elsewhere\n", "/sys/fs/cgroup/memory", 1},
		{"with spaces in the name", v1, "4:memory:/a b\n", "/sys/fs/cgroup/memory/a b", 1},
	} {
		own, _, version, err := tables{c.mounts, c.own}.find("memory")
		if err != nil || own != c.dir || version != c.version {
			t.Errorf("%s: %s, %d, %v; want %s, %d", c.name, own, version, err, c.dir, c.version)
		}
	}
}

// unified makes a directory that looks like groups of version 2: each has
// processes in it or none, and lets those below have some controllers.
func unified(t *testing.T, groups map[string][2]string) tables {
	t.Helper()
	root := t.TempDir()
	for name, g := range groups {
		dir := filepath.Join(root, name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, dir+"/cgroup.procs", g[0], 0o644)
		write(t, dir+"/cgroup.subtree_control", g[1], 0o644)
		if name != "first" {
			write(t, dir+"/cgroup.type", "domain\n", 0o644)
		}
	}
	return tables{mounts: "40 1 0:30 / " + root + "/first rw - cgroup2 cgroup2 rw\n"}
}

func TestUnified(t *testing.T) {
	for _, c := range []struct {
		name   string
		groups map[string][2]string // with "first" before each but the first
		own    string
		limits Limits
		parent string // where groups are made
		enable string // what is written to its cgroup.subtree_control
	}{
		{"memory and processes", map[string][2]string{"first": {"1\n", "memory pids\n"}, "first/slice": {"", "cpu memory pids\n"}, "first/slice/scope": {"42\n", ""}},
			"/slice/scope", Limits{1 << 20, 100}, "first/slice", "cpu memory pids\n"},
		{"memory", map[string][2]string{"first": {"1\n", "memory pids\n"}, "first/slice": {"", "memory\n"}, "first/slice/scope": {"42\n", ""}},
			"/slice/scope", Limits{Memory: 1 << 20}, "first/slice", "memory\n"},
		// The kernel would let our own group's children have this one, but nothing be put into them.
		{"processes", map[string][2]string{"first": {"1\n", "memory pids\n"}, "first/slice": {"", "pids\n"}, "first/slice/scope": {"42\n", ""}},
			"/slice/scope", Limits{Pids: 100}, "first/slice", "pids\n"},
		{"a controller to be enabled", map[string][2]string{"first": {"1\n", "memory pids\n"}, "first/slice": {"", ""}, "first/slice/scope": {"42\n", ""}},
			"/slice/scope", Limits{Pids: 100}, "first/slice", "+pids"},
		{"processes in each but the first", map[string][2]string{"first": {"1\n", "memory pids\n"}, "first/slice": {"7\n", ""}, "first/slice/scope": {"42\n", ""}},
			"/slice/scope", Limits{1 << 20, 100}, "first", "memory pids\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			tab := unified(t, c.groups)
			tab.own = "0::" + c.own + "\n"
			_, first, _, err := tab.find("memory")
			if err != nil {
				t.Fatal(err)
			}
			root := filepath.Dir(first)
			l := &limiter{limits: c.limits}
			if err := l.make(tab); err != nil {
				t.Fatal(err)
			}
			want := map[string]string{}
			if c.limits.Memory > 0 {
				want["memory.max"], want["memory.swap.max"] = "1048576", "0"
			}
			if c.limits.Pids > 0 {
				want["pids.max"] = "116"
			}
			dir := l.groups[0].dir
			for _, g := range l.groups {
				if filepath.Dir(g.dir) != filepath.Join(root, c.parent) || g.dir != dir {
					t.Errorf("a group is %s, want one in %s", g.dir, c.parent)
				}
			}
			for file, want := range want {
				if text, _ := os.ReadFile(filepath.Join(dir, file)); string(text) != want {
					t.Errorf("%s is %q, want %s", file, text, want)
				}
			}
			if text, _ := os.ReadFile(filepath.Join(root, c.parent, "cgroup.subtree_control")); string(text) != c.enable {
				t.Errorf("what groups in %s may have is %q, want %q", c.parent, text, c.enable)
			}
			if _, ok := l.fd(); !ok {
				t.Error("the agent is not born in it")
			}
			for controller, event := range map[string]string{"memory": "low 0\noom 1\noom_kill 1\n", "pids": "max 1\n"} {
				if c.limits.Memory == 0 && controller == "memory" || c.limits.Pids == 0 && controller == "pids" {
					continue
				}
				write(t, dir+"/"+controller+".events", event, 0o644)
				if got := l.reached(); got != controller {
					t.Errorf("reached %q, want %s", got, controller)
				}
				os.Remove(dir + "/" + controller + ".events")
			}
		})
	}
	// As in a container: the first group that can be seen is not the first of all.
	tab := unified(t, map[string][2]string{"first": {"1\n42\n", ""}})
	tab.own = "0::/\n"
	_, first, _, _ := tab.find("pids")
	write(t, first+"/cgroup.type", "domain\n", 0o644)
	err := (&limiter{limits: Limits{Pids: 100}}).make(tab)
	if err == nil || !strings.Contains(err.Error(), "there are processes in it") {
		t.Fatalf("where all processes are in one group: %v", err)
	}
	var setup *SetupError
	if errors.As(limitError(err), &setup); !strings.Contains(setup.Help, "cd "+first+" && mkdir init") {
		t.Errorf("the help is %q", setup.Help)
	}
}

func TestSweep(t *testing.T) {
	b := newBox(t, lower(t))
	b.Limits.Pids = 20
	limited(t, b)
	tab, _ := readTables()
	l := &limiter{limits: b.Limits}
	if err := l.make(tab); err != nil {
		t.Fatal(err)
	}
	l.remove()
	parent := filepath.Dir(l.groups[0].dir)
	stale := filepath.Join(parent, "raptor-4194305-1") // above any process number
	if err := os.Mkdir(stale, 0o755); err != nil {
		t.Fatal(err)
	}
	defer unix.Rmdir(stale)
	swept.Delete(parent)
	b.runs(t, sh("true"))
	if _, err := os.Stat(stale); err == nil {
		t.Error("the group of a killed raptor is still there")
	}
}
