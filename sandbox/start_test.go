package sandbox

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestRootByEither: the root of a container is the same whether we make it, while
// the agent starts, or an agent that has waited for its sandbox.
func TestRootByEither(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("an ordinary user's is always made by the agent")
	}
	layers := []string{lower(t), t.TempDir(), t.TempDir()}
	write(t, layers[2]+"/top", "", 0o644)
	os.Chmod(layers[2], 0o751)
	root := func(waits bool) string {
		if waits {
			Prepare()
			p := prepared.agents[0]
			<-p.started
			time.Sleep(2 * starting)
		}
		b := newBox(t, layers...)
		b.Build = false
		out := b.runs(t, sh("grep ' / / ' /proc/self/mountinfo | cut -d ' ' -f 4-; ls -ld / | cut -d ' ' -f 1; ls /; echo x >/new"))
		if text, err := os.ReadFile(b.Upper + "/new"); string(text) != "x\n" {
			t.Errorf("the upper directory has %q, %v", text, err)
		}
		return out
	}
	ours, theirs := root(false), root(true)
	if ours != theirs || !strings.Contains(ours, "drwxr-x--x") || !strings.Contains(ours, "overlay raptor") {
		t.Errorf("ours is\n%s\nand the agent's\n%s", ours, theirs)
	}
}

// TestPrepare: an agent that was started before is what the next Run uses, also
// one that was killed meanwhile; and none waits for long.
func TestPrepare(t *testing.T) {
	waiting := func() (list []*preparing) {
		prepared.Lock()
		defer prepared.Unlock()
		return append(list, prepared.agents...)
	}
	wait := func(p *preparing) *agent {
		t.Helper()
		<-p.started
		if p.agent == nil {
			t.Fatal("no agent was started")
		}
		return p.agent
	}
	base := lower(t)
	for _, killed := range []bool{false, true} {
		t.Run(fmt.Sprint("killed ", killed), func(t *testing.T) {
			Prepare()
			list := waiting()
			if len(list) != 1 {
				t.Fatalf("%d agents wait, want 1", len(list))
			}
			a := wait(list[0])
			if killed {
				a.process.kill()
				if err := unix.Waitid(unix.P_PID, a.process.pid, nil, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
					t.Fatal(err)
				}
			}
			b := newBox(t, base)
			if err := b.run(sh("echo here")); err != nil || b.out.String() != "here\n" {
				t.Errorf("%v, %q", err, b.out.String())
			}
			if list := waiting(); len(list) != 0 {
				t.Errorf("%d agents still wait", len(list))
			}
			if err := unix.Kill(a.process.pid, 0); err != unix.ESRCH {
				t.Errorf("the agent that was prepared is still there: %v", err)
			}
		})
	}
	Prepare()
	a := wait(waiting()[0])
	if err := Sync(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	s := syncers.idle[0]
	Close()
	for what, a := range map[string]*agent{"prepared": a, "kept": s} {
		if err := unix.Kill(a.process.pid, 0); err != unix.ESRCH {
			t.Errorf("the agent that was %s is still there: %v", what, err)
		}
	}
	for range 20 {
		Prepare()
	}
	var agents []*agent
	for _, p := range waiting() {
		agents = append(agents, wait(p))
	}
	if len(agents) != runtime.GOMAXPROCS(0) {
		t.Errorf("%d agents wait, want one a processor", len(agents))
	}
	deadline := time.Now().Add(preparedFor + 30*time.Second)
	for _, a := range agents {
		for unix.Kill(a.process.pid, 0) == nil && time.Now().Before(deadline) {
			time.Sleep(10 * time.Millisecond)
		}
		if err := unix.Kill(a.process.pid, 0); err != unix.ESRCH {
			t.Errorf("an agent still waits: %v", err)
		}
	}
}

// TestManySources hands over more files than fit into one message.
func TestManySources(t *testing.T) {
	base, dir := lower(t), t.TempDir()
	var c Copy
	for i := range 3*128 + 1 {
		path := filepath.Join(dir, fmt.Sprint("f", i))
		write(t, path, fmt.Sprintln(i), 0o644)
		c.Sources = append(c.Sources, CopySource{Path: path})
	}
	c.Dest = "/many/"
	b := newBox(t, base)
	if err := b.run(&c); err != nil {
		t.Fatal(err)
	}
	for i := range c.Sources {
		text, err := os.ReadFile(filepath.Join(b.Upper, "many", fmt.Sprint("f", i)))
		if err != nil || string(text) != fmt.Sprintln(i) {
			t.Fatalf("f%d: %v, %q", i, err, text)
		}
	}
}

// TestTimerSlack: agents are started with more than programs shall have.
func TestTimerSlack(t *testing.T) {
	b := newBox(t, lower(t))
	if err := b.run(sh("cat /proc/self/timerslack_ns")); err != nil || b.out.String() != "50000\n" {
		t.Errorf("it is %q (%v), want 50000", b.out.String(), err)
	}
}
