package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"raptor-make/internal/boottest"
	"raptor-make/internal/usertest"
	"raptor-make/sandbox"
)

// listLayers is the variable that makes a process of this test binary list the
// layers of a store, with owners as they are seen in the user's own namespace.
const listLayers = "RAPTOR_TEST_LIST"

func TestMain(m *testing.M) {
	if dir := os.Getenv(listLayers); dir != "" {
		if err := sandbox.EnterUserNamespace(); err != nil {
			panic(err)
		}
		lists, err := listStore(dir)
		if err != nil {
			panic(err)
		}
		json.NewEncoder(os.Stdout).Encode(lists)
		return
	}
	os.Exit(m.Run())
}

// TestRootless is the demonstration by an ordinary user. Layers and tarball are
// compared with root's, and the ISO boots.
func TestRootless(t *testing.T) {
	u := usertest.New(t)
	makeDemo(t) // root's, to compare with
	for _, name := range []string{"raptor", "raptor-make"} {
		u.Copy(t, "../../bin/"+name, name)
	}
	if err := os.Mkdir(u.Path("demo"), 0o755); err != nil {
		t.Fatal(err)
	}
	sources, _ := filepath.Glob(demo + "/*.r*")
	for _, file := range append(sources, demo+"/Raptor.toml", demo+"/Raptor.lock") {
		u.Copy(t, file, "demo", filepath.Base(file))
	}
	u.Give(t, u.Path("demo"))
	as := func(env []string, args ...string) string {
		t.Helper()
		cmd := u.Command(t.Context(), u.Path("demo"), env, args...)
		var said strings.Builder
		cmd.Stderr = &said
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s: %v\n%s%s", strings.Join(args, " "), err, out, said.String())
		}
		return string(out) + said.String()
	}
	as(nil, u.Path("raptor-make"), "all")
	if again := as(nil, u.Path("raptor-make"), "all"); !strings.Contains(again, "run tarball") || strings.Contains(again, "->") {
		t.Errorf("the second time not all was up to date:\n%s", again)
	}
	if out := as(nil, u.Path("raptor"), "run", "ssh", "id"); !strings.HasPrefix(out, "uid=0(root) gid=0(root) groups=0(root)\n") {
		t.Errorf("id printed %q", out)
	}
	t.Run("layers", func(t *testing.T) {
		var theirs map[string]map[string]string
		test, agent := u.Copy(t, os.Args[0], "test"), u.Copy(t, "../../sandbox/agent.bin", "agent")
		if err := json.Unmarshal([]byte(as([]string{listLayers + "=" + u.Path("demo/layers"), "RAPTOR_AGENT=" + agent}, test)), &theirs); err != nil {
			t.Fatal(err)
		}
		ours, err := listStore(demo + "/layers")
		if err != nil {
			t.Fatal(err)
		}
		if len(theirs) < 6 {
			t.Fatalf("the user has %d layers", len(theirs))
		}
		for name, got := range theirs {
			want := ours[name]
			if want == nil {
				t.Errorf("root has no layer %s", name)
				continue
			}
			same(t, name, want, got)
		}
	})
	t.Run("tarball", func(t *testing.T) {
		lists := [2]map[string]string{}
		for i, file := range []string{demo + "/rootfs.tar.zst", u.Path("demo/rootfs.tar.zst")} {
			dir := t.TempDir()
			run(t, "tar", "--zstd", "--xattrs", "--xattrs-include=*", "--numeric-owner", "-xpf", file, "-C", dir)
			lists[i] = listing(t, dir)
		}
		same(t, "tarball", lists[0], lists[1])
		if !strings.Contains(lists[1]["usr/bin/ping"], "security.capability=0100000200") {
			t.Errorf("the tarball's ping has no portable capability: %s", lists[1]["usr/bin/ping"])
		}
	})
	t.Run("boot", func(t *testing.T) {
		machines := []boottest.Machine{{Image: u.Path("demo/live.iso"), CD: true}}
		if os.Getenv("RAPTOR_SOAK") != "" {
			machines = append(machines, boottest.Machine{Image: u.Path("demo/live.iso"), CD: true, UEFI: true},
				boottest.Machine{Image: u.Path("demo/disk.img")}, boottest.Machine{Image: u.Path("demo/disk.img"), UEFI: true})
		}
		for _, m := range machines {
			t.Run(filepath.Base(m.Image)+" "+m.String(), func(t *testing.T) {
				t.Parallel()
				boot(t, m, m.CD)
			})
		}
	})
	as(nil, u.Path("raptor"), "clean", "--all")
	if left, _ := filepath.Glob(u.Path("demo/layers/*-*")); len(left) > 0 {
		t.Errorf("clean --all left %v", left)
	}
}

// varies is what is another in each build of the same layer, by whomever: the
// times, and the sizes of what packs times, keys, or a log of times.
var varies = regexp.MustCompile(` time=\d+`)

var sizeVaries = regexp.MustCompile(`^boot/initrd|^etc/ssh/ssh_host_|^var/log/|^var/cache/|\.pyc$`)

// same compares what root and a user have made. Devices are what a user cannot
// make.
func same(t *testing.T, what string, root, user map[string]string) {
	t.Helper()
	devices := 0
	norm := func(path, entry string) string {
		entry = varies.ReplaceAllString(entry, "")
		if sizeVaries.MatchString(path) {
			entry = regexp.MustCompile(` size=\d+`).ReplaceAllString(entry, "")
		}
		return entry
	}
	for path, entry := range root {
		if strings.Contains(entry, " device=") && !strings.HasSuffix(entry, " device=0") {
			devices++
			if _, there := user[path]; there {
				t.Errorf("%s: %s: a user has made a device: %s", what, path, user[path])
			}
			continue
		}
		if got, want := norm(path, user[path]), norm(path, entry); got != want {
			t.Errorf("%s: %s: root has %q, the user %q", what, path, want, got)
		}
	}
	for path, entry := range user {
		if _, there := root[path]; !there {
			t.Errorf("%s: %s: only the user has it: %q", what, path, entry)
		}
	}
	t.Logf("%s: %d entries, %d devices", what, len(root), devices)
}

// listStore lists all layers of a store.
func listStore(dir string) (map[string]map[string]string, error) {
	layers, err := filepath.Glob(dir + "/*-*")
	lists := map[string]map[string]string{}
	for _, layer := range layers {
		list, err := list(layer)
		if err != nil {
			return nil, err
		}
		lists[filepath.Base(layer)] = list
	}
	return lists, err
}
