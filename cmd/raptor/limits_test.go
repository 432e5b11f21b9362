package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"golang.org/x/tools/txtar"

	"raptor-make/internal/usertest"
)

// TestLimitsAsUser sets limits as a user whom control groups were delegated to,
// as systemd does it.
func TestLimitsAsUser(t *testing.T) {
	u := usertest.New(t)
	groups := delegated(t, u)
	dir := u.Path("project")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	archive, err := txtar.ParseFile("testdata/script/limits.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range append(archive.Files, txtar.File{Name: "busybox.tar", Data: busyboxTar(t)}) {
		if err := os.WriteFile(filepath.Join(dir, f.Name), f.Data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	u.Give(t, dir)
	make := u.Copy(t, program(t, "raptor-make"), "raptor-make")
	for name, want := range map[string]string{"enough": "", "memory": "more memory than its limit", "pids": "more processes than its limit"} {
		// It waits until it is in its groups.
		cmd := u.Command(t.Context(), dir, nil, "sh", "-c", `read go; exec "$@"`, "sh", make, name)
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		in, err := cmd.StdinPipe()
		if err == nil {
			err = cmd.Start()
		}
		for _, g := range groups {
			if err == nil {
				err = os.WriteFile(filepath.Join(g, "cgroup.procs"), []byte(strconv.Itoa(cmd.Process.Pid)), 0)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(in, "go")
		if err := cmd.Wait(); (err == nil) != (want == "") || !strings.Contains(out.String(), want) {
			t.Errorf("%s: %v\n%s", name, err, out.String())
		}
	}
	for _, g := range groups {
		if left, _ := filepath.Glob(filepath.Join(g, "raptor-*")); len(left) > 0 {
			t.Errorf("control groups are left: %v", left)
		}
	}
}

// delegated makes control groups for a user, to put a program into.
func delegated(t *testing.T, u *usertest.User) (groups []string) {
	t.Helper()
	const mounts = "/sys/fs/cgroup"
	name := fmt.Sprintf("raptor-test-%d", os.Getpid())
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	of := map[string]string{}
	for line := range strings.Lines(string(own)) {
		if f := strings.SplitN(strings.TrimSpace(line), ":", 3); len(f) == 3 {
			of[f[1]] = f[2]
		}
	}
	create := func(dir string) {
		t.Helper()
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := unix.Rmdir(dir); err != nil {
				t.Errorf("remove %s: %v", dir, err)
			}
		})
		for _, file := range []string{"", "cgroup.procs", "cgroup.subtree_control"} {
			if err := os.Chown(filepath.Join(dir, file), u.UID, u.GID); err != nil && !os.IsNotExist(err) {
				t.Fatal(err)
			}
		}
	}
	controllers := []string{"memory", "pids"}
	for _, c := range controllers {
		if path, ok := of[c]; ok { // version 1
			dir := filepath.Join(mounts, c, path, name)
			create(dir)
			groups = append(groups, dir)
		}
	}
	if len(groups) == len(controllers) {
		return groups
	}
	for _, c := range controllers {
		if err := os.WriteFile(filepath.Join(mounts, "cgroup.subtree_control"), []byte("+"+c), 0); err != nil {
			t.Skipf("control groups cannot be delegated here: %v", err)
		}
	}
	slice := filepath.Join(mounts, name)
	create(slice)
	for _, c := range controllers {
		if err := os.WriteFile(filepath.Join(slice, "cgroup.subtree_control"), []byte("+"+c), 0); err != nil {
			t.Fatal(err)
		}
	}
	create(filepath.Join(slice, "scope"))
	return append(groups, filepath.Join(slice, "scope"))
}
