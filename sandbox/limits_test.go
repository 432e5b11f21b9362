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

// groupsLeft are those of this process.
func groupsLeft(t *testing.T) (list []string) {
	t.Helper()
	tab, err := readTables()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []string{"memory", "pids"} {
		if own, _, _, err := tab.find(c); err == nil {
			left, _ := filepath.Glob(fmt.Sprintf("%s/raptor-%d-*", own, os.Getpid()))
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

// TestUnified makes groups of version 2 in a directory that looks like one.
func TestUnified(t *testing.T) {
	root := t.TempDir()
	own := filepath.Join(root, "slice/scope")
	os.MkdirAll(own, 0o755)
	write(t, root+"/slice/cgroup.subtree_control", "cpu memory pids\n", 0o644)
	l := &limiter{limits: Limits{Memory: 1 << 20, Pids: 100}}
	if err := l.make(tables{"40 1 0:30 / " + root + " rw - cgroup2 cgroup2 rw\n", "0::/slice/scope\n"}); err != nil {
		t.Fatal(err)
	}
	dir := l.groups[0].dir
	if filepath.Dir(dir) != root+"/slice" || l.groups[1].dir != dir {
		t.Errorf("groups are %v", l.groups)
	}
	for file, want := range map[string]string{"memory.max": "1048576", "memory.swap.max": "0", "pids.max": "116"} {
		if text, _ := os.ReadFile(filepath.Join(dir, file)); string(text) != want {
			t.Errorf("%s is %q, want %s", file, text, want)
		}
	}
	if _, ok := l.fd(); !ok {
		t.Error("the agent is not born in it")
	}
	write(t, dir+"/memory.events", "low 0\noom 1\noom_kill 1\n", 0o644)
	if got := l.reached(); got != "memory" {
		t.Errorf("reached %q", got)
	}
}

func TestSweep(t *testing.T) {
	b := newBox(t, lower(t))
	b.Limits.Pids = 20
	limited(t, b)
	tab, _ := readTables()
	own, _, _, err := tab.find("pids")
	if err != nil {
		t.Fatal(err)
	}
	stale := filepath.Join(own, "raptor-4194305-1") // above any process number
	if err := os.Mkdir(stale, 0o755); err != nil {
		t.Fatal(err)
	}
	defer unix.Rmdir(stale)
	swept.Delete(own)
	b.runs(t, sh("true"))
	if _, err := os.Stat(stale); err == nil {
		t.Error("the group of a killed raptor is still there")
	}
}
