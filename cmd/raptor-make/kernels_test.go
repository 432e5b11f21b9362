package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"raptor-make/internal/boottest"
)

// TestKernels makes machines with the kernels of Debian's releases, boots them,
// and has raptor work there, by root and by a user: with systemd, and control
// groups of version 2. The tests of the sandbox run there as well; in the short
// form without the attacks.
func TestKernels(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	dir := t.TempDir()
	run(t, "cp", "-r", "testdata/kernels/.", dir)
	run(t, "cp", "../../bin/raptor", "../../bin/raptor-make", dir)
	t.Setenv("CGO_ENABLED", "0")
	for _, build := range []string{
		"go build -o %s/agent ../../sandbox/agent",
		"go build -o %s/weak-agent -tags raptor_weak ../../sandbox/agent",
		"go build -o %s/probe ../../sandbox/testdata/probe",
		"go test -c -o %s/sandbox.test ../../sandbox",
	} {
		run(t, strings.Fields(fmt.Sprintf(build, dir))...)
	}
	cmd := exec.Command("../../bin/raptor-make", "--directory", dir, "all")
	cmd.Env = withoutMake(os.Environ())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for release, kernel := range map[string]string{"bookworm": "6.1.", "trixie": "6.12."} {
		t.Run(release, func(t *testing.T) {
			t.Parallel()
			// One CPU: Linux 6.1 was seen to run for ever, in the emulator, on an
			// instruction that it had just patched while another CPU was running.
			s := boottest.Machine{Image: filepath.Join(dir, release+".img"), Memory: 2048, CPUs: 1, Deadline: 20 * time.Minute}.Boot(t)
			s.Login("root", "raptor")
			if got := s.Run("uname -r"); !strings.HasPrefix(got, kernel) {
				t.Errorf("the kernel is %s, want %s…", got, kernel)
			}
			s.Run("cp -r /srv/project ~somebody/project; cp -r /srv/project ~/project; chown -R somebody: ~somebody/project; cd ~/project")
			works(t, s, "root")
			limits(t, s, "")
			tests := "RAPTOR_AGENT=/srv/agent RAPTOR_WEAK_AGENT=/srv/weak-agent RAPTOR_PROBE=/srv/probe TMPDIR=/var/tmp /srv/sandbox.test -test.v"
			if os.Getenv("RAPTOR_SOAK") == "" {
				tests += " -test.skip '^TestAttacks$'"
			}
			said := s.Run(tests + " >/var/tmp/log 2>&1; echo status $?; grep -cE '^ *--- PASS' /var/tmp/log; grep -vE '^ *(---|===) (PASS|RUN)' /var/tmp/log")
			if !strings.HasPrefix(said, "status 0\n") {
				t.Errorf("the sandbox's tests: %s", said)
			}
			t.Logf("the sandbox's tests: %s", said)
			s.Logout()
			s.Login("somebody", "raptor")
			s.Run("cd ~/project")
			works(t, s, "somebody")
			if said := s.Run("raptor-make fits; test $? = 1"); !strings.Contains(said, "systemd-run --user --scope raptor") {
				t.Errorf("limits without a group to make others in: %s", said)
			}
			limits(t, s, "systemd-run --user --scope --quiet ")
		})
	}
}

// works looks at this machine, builds, and runs a job and a container.
func works(t *testing.T, s *boottest.System, who string) {
	t.Helper()
	if said := s.Run("raptor doctor"); !strings.HasSuffix(said, "Layers can be built here, as "+who+".") {
		t.Errorf("raptor doctor says:\n%s", said)
	}
	if said, want := s.Run("raptor-make -qq sum >&2 && cat sum.out"), "dir:\nnew\n\ndir/new:\nid\n0\n3"; !strings.HasSuffix(said, want) {
		t.Errorf("the job wrote %q, want %q", said, want)
	}
	if said := s.Run("raptor run base ls /dir/old; raptor run base ls /dir/old"); strings.Count(said, "file") != 2 {
		t.Errorf("the container says %q", said)
	}
}

// limits runs jobs with limits in a place where they can be set.
func limits(t *testing.T, s *boottest.System, place string) {
	t.Helper()
	if said := s.Run(place + "raptor-make fits && cat fits.out"); !strings.HasSuffix(said, "\nfits") {
		t.Errorf("below its limits, a job says %q", said)
	}
	for job, want := range map[string]string{"memory": "it needed more memory than its limit", "pids": "it needed more processes than its limit"} {
		if said := s.Run(place + "raptor-make " + job + "; test $? = 1"); !strings.Contains(said, want) {
			t.Errorf("with a limit of %s, a job says %q", job, said)
		}
	}
	if left := s.Run("find /sys/fs/cgroup -name 'raptor-*'"); left != "" {
		t.Errorf("control groups are left: %s", left)
	}
}
