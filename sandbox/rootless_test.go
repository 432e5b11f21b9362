//go:build !raptor_embed

package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"raptor-make/internal/usertest"
)

// TestRootless runs the test below as an ordinary user, on directories that
// belong to that user, and compares what it made with what root makes.
func TestRootless(t *testing.T) {
	base := lower(t)
	u := usertest.New(t)
	dir := u.Dir
	agent, err := agentProgram.Read()
	if err != nil {
		t.Fatal(err)
	}
	program, err := probe()
	if err != nil {
		t.Fatal(err)
	}
	os.Rename(base, dir+"/lower")
	write(t, dir+"/lower/probe", string(program), 0o755)
	write(t, dir+"/agent", string(agent), 0o644)
	for _, d := range []string{"upper", "work"} {
		os.Mkdir(u.Path(d), 0o755)
	}
	u.Copy(t, os.Args[0], "test")
	u.Give(t, dir)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := u.Command(ctx, dir, []string{"RAPTOR_TEST_USER=" + dir, fmt.Sprint("RAPTOR_TEST_UID=", u.UID), "RAPTOR_AGENT=" + dir + "/agent"},
		dir+"/test", "-test.run=^TestAsUser$", "-test.v")
	out, err := cmd.CombinedOutput()
	t.Logf("as %s:\n%s", u.Name, out)
	if err != nil {
		t.Fatal(err)
	}
	// The same layer by root, on the same base.
	as := exec.Command("chown", "-R", "0:0", dir+"/lower")
	if out, err := as.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	b := newBox(t, dir+"/lower")
	b.runs(t, userActions(dir)...)
	want := owners(t, b.Upper)
	inside := func(id int, own int, file string) int {
		if id == own {
			return 0
		}
		text, _ := os.ReadFile(file)
		for _, r := range subordinate(string(text), []string{u.Name}) {
			if id >= r[1] && id < r[1]+r[2] {
				return id - r[1] + r[0]
			}
		}
		return -1
	}
	var got []string
	for _, line := range owners(t, dir+"/upper") {
		i := strings.LastIndexByte(line, ' ')
		var fu, fg int
		fmt.Sscanf(line[i:], " %d:%d", &fu, &fg)
		got = append(got, fmt.Sprintf("%s %d:%d", line[:i], inside(fu, u.UID, "/etc/subuid"), inside(fg, u.GID, "/etc/subgid")))
	}
	if !slices.Equal(got, want) {
		t.Errorf("the user's layer is\n  %s\nroot's is\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
	if got, want := tree(t, dir+"/upper"), tree(t, b.Upper); !slices.Equal(got, want) {
		t.Errorf("the user's layer is\n  %s\nroot's is\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

// userActions make a layer with something of everything.
func userActions(dir string) []Action {
	return []Action{
		&Write{Dest: "/w", Mode: 0o4755, Owner: "ada:staff", Data: []byte("w")},
		&Mkdir{Dest: "/m", Mode: 0o1777, Owner: "ada:"},
		&Copy{Sources: []CopySource{{Path: dir + "/lower/etc"}}, Dest: "/c", Owner: ":50"},
		sh(`set -e; rm -r /old; mkdir -p /old/sub; echo c >/old/sub/c; ln -s x /link; ln /old/sub/c /hard; mkfifo /pipe
			touch /user; chown 1001:50 /user; chown -h 0:65534 /link; rm /etc/passwd; mkdir /usr/share; chmod 2755 /usr/share`),
	}
}

// TestAsUser is run by TestRootless.
func TestAsUser(t *testing.T) {
	dir := os.Getenv("RAPTOR_TEST_USER")
	if dir == "" {
		t.Skip("is run by TestRootless")
	}
	if err := EnterUserNamespace(); err != nil {
		t.Fatal(err)
	}
	run := func(change func(b *box), actions ...Action) (*box, error) {
		t.Helper()
		work, err := os.MkdirTemp(dir+"/tmp", "")
		if err != nil {
			t.Fatal(err)
		}
		b := &box{Spec: Spec{Layers: []string{dir + "/lower"}, Upper: work + "/upper", Work: work + "/work", Build: true}}
		os.Mkdir(b.Upper, 0o755)
		os.Mkdir(b.Work, 0o755)
		if change != nil {
			change(b)
		}
		return b, b.run(actions...)
	}
	if b, err := run(func(b *box) { b.Upper, b.Work = dir+"/upper", dir+"/work" }, userActions(dir)...); err != nil {
		t.Fatalf("%v\n%s", err, b.err.String())
	}
	// What is sealed, and its owners, as the next layer sees them.
	b, err := run(func(b *box) { b.Layers = append(b.Layers, dir+"/upper") }, sh("id -u; stat -c '%u %g %a' /w /m /user /etc/group; ls /old /old/sub; test ! -e /etc/passwd"))
	if want := "0\n1001 50 4755\n1001 1002 1777\n1001 50 644\n0 0 644\n/old:\nsub\n\n/old/sub:\nc\n"; err != nil || b.out.String() != want {
		t.Errorf("%v\n%s%s, want\n%s", err, b.out.String(), b.err.String(), want)
	}
	for _, c := range []struct {
		name, script, want string
		network            Network
	}{
		{"groups", "id", "uid=0(root) gid=0(root) groups=0(root)\n", HostNetwork},
		{"capabilities", "grep CapEff /proc/self/status", "CapEff:\t00000000a80405fb\n", HostNetwork},
		{"filter", "grep ^Seccomp: /proc/self/status", "Seccomp:\t2\n", HostNetwork},
		{"names", "test -s /etc/resolv.conf && echo ok", "ok\n", HostNetwork},
		{"devices", "head -c 3 /dev/zero | wc -c; echo x >/dev/null; test -c /dev/tty && echo ok", "3\nok\n", HostNetwork},
		{"no network", "ls /sys/class/net; cat /sys/class/net/lo/flags", "lo\n0x9\n", NoNetwork},
		{"/run", "df /run >/dev/null; touch /run/x && echo ok", "ok\n", HostNetwork},
	} {
		b, err := run(func(b *box) { b.Network = c.network }, sh(c.script))
		if err != nil || b.out.String() != c.want {
			t.Errorf("%s: %v, %q, want %q\n%s", c.name, err, b.out.String(), c.want, b.err.String())
		}
	}
	// Mounts of all kinds.
	b, err = run(func(b *box) {
		b.Build = false
		file := filepath.Join(dir, "tmp/file")
		os.WriteFile(file, nil, 0o644)
		b.Mounts = []Mount{{Dest: "/data", Source: dir + "/tmp"}, {Dest: "/out/image", Source: file}, {Dest: "/sum", Overlay: []string{dir + "/lower", dir + "/upper"}},
			{Dest: "/input", Dirs: []Dir{{"one", dir + "/lower"}, {"two", dir + "/upper"}}, Index: []byte("{}")}}
	}, sh("set -e; echo x >/data/new; echo image >/out/image; cat /sum/w /input/raptor.json; ls /input; ! touch /input/x /sum/x /input/one/x 2>/dev/null"))
	if err != nil || b.out.String() != "w{}one\nraptor.json\ntwo\n" {
		t.Errorf("mounts: %v, %q\n%s", err, b.out.String(), b.err.String())
	}
	for _, a := range attacks {
		// Those about what a shell and the probe can do alone, with the defences
		// that there are without root, too.
		if a.set != nil || a.proof != nil || a.open != nil {
			continue
		}
		b, err := run(nil, sh(a.script))
		var exit *ExitError
		if !errors.As(err, &exit) {
			t.Errorf("attack %s: %v\n%s%s", a.name, err, b.out.String(), b.err.String())
		}
	}
	begun := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	b, _ = run(nil, sh("true"))
	b.Work, b.Actions = b.Work+"2", []Action{sh("sleep 100")}
	os.Mkdir(b.Work, 0o755)
	if _, err := Run(ctx, &b.Spec, Streams{}); !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) > 2*time.Second {
		t.Errorf("cancelled: %v after %v", err, time.Since(begun))
	}
	// What the user is outside, and in a process that is to have the user's ids.
	cmd := exec.Command("sh", "-c", "id -u; test -z $RAPTOR_USER_NAMESPACE && echo tidy")
	AsCaller(cmd)
	if out, err := cmd.CombinedOutput(); err != nil || string(out) != os.Getenv("RAPTOR_TEST_UID")+"\ntidy\n" {
		t.Errorf("as the caller: %v, %s", err, out)
	}
	if !Rootless() || os.Getuid() != 0 {
		t.Errorf("root %d, rootless %t", os.Getuid(), Rootless())
	}
}

func TestSubordinate(t *testing.T) {
	const text = "other:1:2\nada:100000:65536\n# x\n1000:200000:10\nada:bad:1\nada:5:0\nada:300000:5"
	got := subordinate(text, []string{"1000", "ada"})
	if want := [][3]int{{1, 100000, 65536}, {65537, 200000, 10}, {65547, 300000, 5}}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := subordinate(text, []string{"7", "bob"}); got != nil {
		t.Errorf("somebody else gets %v", got)
	}
}
