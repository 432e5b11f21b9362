package sandbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"raptor-make/internal/helper"
)

// runs runs actions and fails the test if they fail.
func (b *box) runs(t *testing.T, actions ...Action) string {
	t.Helper()
	b.out.Reset()
	b.err.Reset()
	if err := b.run(actions...); err != nil {
		t.Fatalf("%v\n%s%s", err, b.out.String(), b.err.String())
	}
	return b.out.String()
}

func (b *box) leaves(t *testing.T, want ...string) {
	t.Helper()
	if got := tree(t, b.Upper); !slices.Equal(got, want) {
		t.Errorf("layer is\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

// TestStrangePaths has directories with names that mount options take for
// something else, and longer than fsconfig takes.
func TestStrangePaths(t *testing.T) {
	base := lower(t)
	deep := filepath.Join(t.TempDir(), "a b,c:d\\e\nf=g", strings.Repeat("long", 60), strings.Repeat("longer", 40))
	if err := os.MkdirAll(deep, 0o755); err != nil {
		t.Fatal(err)
	}
	layer := filepath.Join(deep, "lay\\er")
	os.Mkdir(layer, 0o755)
	write(t, filepath.Join(layer, "mark"), "seen", 0o644)
	b := newBox(t, base, layer)
	b.Upper, b.Work = filepath.Join(deep, "upp\\:er"), filepath.Join(deep, "wo,rk\\")
	os.Mkdir(b.Upper, 0o755)
	os.Mkdir(b.Work, 0o755)
	b.Mounts = []Mount{{Dest: "/sum", Overlay: []string{base, layer}}}
	out := b.runs(t, sh("cat /mark /sum/mark; echo new >/new; grep -c long /proc/self/mountinfo"+" || true"))
	if out != "seenseen0\n" {
		t.Errorf("printed %q; the last is how many of the host's paths mountinfo shows", out)
	}
	b.leaves(t, "f new new\n")
}

// TestLentFiles changes, deletes and replaces what raptor puts into a layer
// while it is built.
func TestLentFiles(t *testing.T) {
	const policy, resolv = "/usr/sbin/policy-rc.d", "/etc/resolv.conf"
	for _, c := range []struct {
		name    string
		prepare func(base string)
		script  string
		want    []string
	}{
		{"are there", nil, policy + "; test $? = 101 && test -s " + resolv, nil},
		{"in an image without /etc", func(base string) { os.RemoveAll(base + "/etc") }, "! test -e /etc", nil},
		{"policy deleted", nil, "rm " + policy, []string{"d usr", "d usr/sbin"}},
		{"policy of the layer's own", nil, `printf '#!/bin/sh\nexit 101\n' >` + policy, []string{"d usr", "d usr/sbin", "f usr/sbin/policy-rc.d #!/bin/sh\nexit 101\n"}},
		{"policy renamed away and replaced", nil, "mv " + policy + " /p; rm /p; echo mine >" + policy, []string{"d usr", "d usr/sbin", "f usr/sbin/policy-rc.d mine\n"}},
		{"policy in the layer below", func(base string) { os.WriteFile(base+policy, []byte("#!/bin/sh\nexit 7\n"), 0o755) }, policy + "; test $? = 7", nil},
		{"resolv.conf in the layer below", func(base string) { os.WriteFile(base+resolv, []byte("theirs"), 0o600) }, "! grep theirs " + resolv, nil},
		{"resolv.conf of the layer below deleted", func(base string) { os.WriteFile(base+resolv, []byte("theirs"), 0o600) }, "rm " + resolv, []string{"d etc", "w etc/resolv.conf"}},
		{"resolv.conf written", nil, "echo mine >" + resolv, []string{"d etc", "f etc/resolv.conf mine\n"}},
		{"resolv.conf made a link", nil, "ln -sf ../run/x/y.conf " + resolv, []string{"d etc", "l etc/resolv.conf ../run/x/y.conf"}},
		{"resolv.conf put away and back", nil, "cp " + resolv + " /tmp/r; mv " + resolv + " /etc/r; echo x >" + resolv + "; mv /etc/r " + resolv + "; rm /tmp/r", []string{"d etc", "d tmp"}},
		{"resolv.conf a link to /run", func(base string) { os.Symlink("../run/systemd/resolve/stub-resolv.conf", base+resolv) }, "test -s " + resolv + " && test -L " + resolv, nil},
		{"resolv.conf a link to /run by way of another", func(base string) {
			os.Mkdir(base+"/var", 0o755)
			os.Symlink("/run", base+"/var/run")
			os.Symlink("../var/run/resolvconf/resolv.conf", base+resolv)
		}, "test -s " + resolv + " && test -L " + resolv, nil},
		{"resolv.conf a link to nothing", func(base string) { os.Symlink("/var/lib/none/resolv.conf", base+resolv) }, "test -s " + resolv + " && test -L " + resolv, nil},
		{"resolv.conf a link to itself", func(base string) { os.Symlink("resolv.conf", base+resolv) }, "true", nil},
		{"resolv.conf a link to the agent's memory", func(base string) { os.Symlink("/proc/self/mem", base+resolv) }, "true", nil},
		{"resolv.conf a link to a device", func(base string) { os.Symlink("/dev/shm/none/x", base+resolv) }, "! test -e /dev/shm/none", nil},
		{"resolv.conf a directory", func(base string) { os.Mkdir(base+resolv, 0o755) }, "test -d " + resolv, nil},
		{"/etc renamed", nil, "rm -r /etc; mkdir /etc; echo a >/etc/a", []string{"d etc", "f etc/a a\n", "w etc/group", "w etc/passwd"}},
		{"directory above changed", nil, "chmod 700 /usr/sbin", []string{"d usr", "d usr/sbin"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			base := lower(t)
			if c.prepare != nil {
				c.prepare(base)
			}
			b := newBox(t, base)
			b.runs(t, sh(c.script))
			b.leaves(t, c.want...)
		})
	}
}

// TestMountPoints mounts where nothing is, through links, below other mounts.
func TestMountPoints(t *testing.T) {
	base, dir := lower(t), t.TempDir()
	file := filepath.Join(t.TempDir(), "file")
	write(t, file, "content", 0o644)
	os.Symlink("/data/of/nobody", filepath.Join(base, "dangling"))
	os.Symlink("../../tmp", filepath.Join(base, "old/up"))
	b := newBox(t, base)
	b.Mounts = []Mount{
		{Dest: "/dangling", Source: dir},
		{Dest: "/old/up/deep/er/file", Source: file},
		{Dest: "/old/../x/./y", Source: file},
		{Dest: "/dangling/in/side", Source: file},
		{Dest: "/input", Dirs: []Dir{{"one", base}}, Index: []byte("{}")},
		{Dest: "/input/one/bin", Source: dir, ReadOnly: true},
	}
	out := b.runs(t, sh(`cat /data/of/nobody/in/side /tmp/deep/er/file /x/y; echo new >>/x/y; echo ok >/dangling/new; exec 2>/dev/null
		for f in /input/new /input/raptor.json /input/one/new /input/one/bin/new; do (echo x >$f) && echo $f is writable; done; rm /x/y && echo removed; true`))
	if out != "contentcontentcontent" {
		t.Errorf("printed %q", out)
	}
	b.leaves(t)
	if got := tree(t, dir); !slices.Equal(got, []string{"f new ok\n"}) {
		t.Errorf("the user's directory has %q", got)
	}
	for _, m := range []Mount{{Dest: "/", Source: dir}, {Dest: "/..", Source: dir}, {Dest: "/i", Dirs: []Dir{{"../x", dir}}}} {
		b := newBox(t, base)
		b.Mounts = []Mount{m}
		var setup *SetupError
		if err := b.run(sh("true")); !errors.As(err, &setup) {
			t.Errorf("mount at %s: %v", m.Dest, err)
		}
	}
}

// TestState runs containers on an upper directory that is kept.
func TestState(t *testing.T) {
	base := t.TempDir()
	os.CopyFS(base, os.DirFS(lower(t)))
	b := newBox(t, base)
	b.Build, b.State = false, true
	b.Mounts = []Mount{{Dest: "/output/image", Source: base + "/etc/passwd"}}
	b.runs(t, sh("echo 1 >/kept"))
	b.leaves(t, "f kept 1\n")
	b.runs(t, sh("cat /kept; echo 'nameserver ::1' >/etc/resolv.conf"))
	b.runs(t, sh("cat /etc/resolv.conf"))
	if b.out.String() != "nameserver ::1\n" {
		t.Errorf("its own resolv.conf is now %q", b.out.String())
	}
}

func TestUpperIsUsedAgain(t *testing.T) {
	b := newBox(t, lower(t))
	b.Build = false
	for range 2 { // a mount that was not flushed forbids that to whoever does not know better
		b.runs(t, sh("true"))
	}
}

func TestRootLikeBelow(t *testing.T) {
	base := lower(t)
	os.Chmod(base, 0o711)
	b := newBox(t, base)
	b.Build = false
	if out := b.runs(t, sh("stat -c %a /")); out != "711\n" {
		t.Errorf("mode of / is %s", out)
	}
}

// TestRun is the temporary /run, reached by a link of the layer too.
func TestRunDirectory(t *testing.T) {
	base := lower(t)
	os.Mkdir(filepath.Join(base, "var"), 0o755)
	os.Symlink("/run", filepath.Join(base, "var/run"))
	src := t.TempDir()
	write(t, filepath.Join(src, "a"), "a", 0o644)
	os.Link(filepath.Join(src, "a"), filepath.Join(src, "b"))
	b := newBox(t, base)
	b.runs(t, &Write{Dest: "/var/run/w", Data: []byte("w"), Mode: 0o644}, &Mkdir{Dest: "/run/d", Mode: 0o755}, &Copy{Sources: []CopySource{{Path: src}}, Dest: "/run/c"},
		sh("set -e; cat /run/w /run/c/b; test -d /var/run/d; test $(stat -c %h /run/c/a) = 2"))
	if b.out.String() != "wa" {
		t.Errorf("printed %q", b.out.String())
	}
	b.leaves(t)
}

func TestCopyForms(t *testing.T) {
	src := t.TempDir()
	write(t, filepath.Join(src, "one"), "1", 0o640)
	write(t, filepath.Join(src, "two"), "2", 0o755)
	os.Chown(filepath.Join(src, "two"), 5, 6)
	unix.Chmod(filepath.Join(src, "two"), 0o4755)
	os.Mkdir(filepath.Join(src, "dir"), 0o750)
	write(t, filepath.Join(src, "dir/in"), "i", 0o600)
	os.Symlink("one", filepath.Join(src, "link"))
	os.Symlink("nowhere", filepath.Join(src, "dir/broken"))
	unix.Mkfifo(filepath.Join(src, "pipe"), 0o600)
	from := func(names ...string) (list []CopySource) {
		for _, n := range names {
			list = append(list, CopySource{Path: filepath.Join(src, n)})
		}
		return list
	}
	mode := func(m os.FileMode) *os.FileMode { return &m }
	for _, c := range []struct {
		name string
		copy Copy
		want []string // with mode and owner
		err  string
	}{
		{"file to file", Copy{Sources: from("one"), Dest: "/a/b/c"}, []string{"d a 755 0:0", "d a/b 755 0:0", "f a/b/c 640 0:0"}, ""},
		{"file to directory", Copy{Sources: from("one"), Dest: "/new/"}, []string{"d new 755 0:0", "f new/one 640 0:0"}, ""},
		{"file to existing directory", Copy{Sources: from("two"), Dest: "/old"}, []string{"d old 755 0:0", "f old/two 4755 0:0"}, ""},
		{"several to directory", Copy{Sources: from("one", "two"), Dest: "/d/"}, []string{"d d 755 0:0", "f d/one 640 0:0", "f d/two 4755 0:0"}, ""},
		{"several to existing file", Copy{Sources: from("one", "two"), Dest: "/etc/passwd"}, nil, "copy to /etc/passwd: not a directory"},
		{"several to existing file as a directory", Copy{Sources: from("one"), Dest: "/etc/passwd/"}, nil, "copy to /etc/passwd/: not a directory"},
		{"link to a file", Copy{Sources: from("link"), Dest: "/l/"}, []string{"d l 755 0:0", "f l/link 640 0:0"}, ""},
		{"contents of a directory", Copy{Sources: from("dir"), Dest: "/c"}, []string{"d c 755 0:0", "l c/broken 777 0:0", "f c/in 600 0:0"}, ""},
		{"directory and file", Copy{Sources: from("dir", "one"), Dest: "/c/"}, []string{"d c 755 0:0", "l c/broken 777 0:0", "f c/in 600 0:0", "f c/one 640 0:0"}, ""},
		{"mode", Copy{Sources: from("two"), Dest: "/m", Mode: mode(0o600)}, []string{"f m 600 0:0"}, ""},
		{"owner keeps set-id bits", Copy{Sources: from("two"), Dest: "/m", Owner: "ada:"}, []string{"f m 4755 1001:1002"}, ""},
		{"file over a directory", Copy{Sources: from("one"), Dest: "/x", Mode: nil}, []string{"f x 640 0:0"}, ""},
		{"named pipe", Copy{Sources: from("pipe"), Dest: "/x"}, nil, "copy pipe: it is a device or a socket, which COPY does not take"},
		{"device", Copy{Sources: []CopySource{{Path: "/dev/zero"}}, Dest: "/x"}, nil, "copy zero: it is a device or a socket, which COPY does not take"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBox(t, lower(t))
			err := b.run(&c.copy)
			if c.err != "" {
				if err == nil || err.Error() != c.err {
					t.Fatalf("got %v, want %s", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := owners(t, b.Upper); !slices.Equal(got, c.want) {
				t.Errorf("layer is %q, want %q", got, c.want)
			}
		})
	}
}

// owners lists a layer with modes and owners.
func owners(t *testing.T, dir string) (list []string) {
	t.Helper()
	filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil {
			t.Fatal(err)
		}
		if path == dir {
			return nil
		}
		var st unix.Stat_t
		unix.Lstat(path, &st)
		kind := map[uint32]string{unix.S_IFDIR: "d", unix.S_IFREG: "f", unix.S_IFLNK: "l"}[st.Mode&unix.S_IFMT]
		list = append(list, fmt.Sprintf("%s %s %o %d:%d", kind, strings.TrimPrefix(path, dir+"/"), st.Mode&0o7777, st.Uid, st.Gid))
		return nil
	})
	return list
}

// TestCopyDoesNotMindRenames copies through a link with ".." while others
// rename things: the kernel then cannot prove at once that it stays inside.
func TestCopyDoesNotMindRenames(t *testing.T) {
	base := lower(t)
	os.Symlink("../tmp/../tmp/../tmp/../tmp", filepath.Join(base, "old/up"))
	stop, stopped, dir := make(chan struct{}), make(chan struct{}), t.TempDir()
	defer func() {
		close(stop)
		<-stopped // the directory is removed after this test
	}()
	go func() {
		defer close(stopped)
		a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
		os.Mkdir(a, 0o755)
		for {
			select {
			case <-stop:
				return
			default:
				unix.Rename(a, b)
				unix.Rename(b, a)
			}
		}
	}()
	var actions []Action
	for range 3000 {
		actions = append(actions, &Write{Dest: "/old/up/x", Mode: 0o644})
	}
	newBox(t, base).runs(t, actions...)
}

// TestSealStaysInside replaces directories that raptor means to tidy up by
// links which, seen from the upper directory, lead to the host.
func TestSealStaysInside(t *testing.T) {
	b := newBox(t, lower(t))
	victim := filepath.Join(filepath.Dir(b.Upper), "victim/sbin")
	if err := os.MkdirAll(victim, 0o755); err != nil {
		t.Fatal(err)
	}
	b.runs(t, &Write{Dest: "/usr/sbin/policy-rc.d", Mode: 0o755}, sh("rm -r /usr && ln -s ../victim /usr"))
	if _, err := os.Stat(victim); err != nil {
		t.Errorf("a directory of the host is gone: %v", err)
	}
	b.leaves(t, "l usr ../victim")
}

func TestMoreErrors(t *testing.T) {
	base := lower(t)
	for _, c := range []struct {
		name   string
		action Action
		want   string
	}{
		{"directory is a file", &Exec{Args: []string{"/bin/true"}, Dir: "/etc/passwd"}, "chdir /etc/passwd: not a directory"},
		{"no words", &Exec{}, "exec nothing: invalid argument"},
		{"a zero byte", &Exec{Args: []string{"/bin/echo", "a\x00b"}}, "exec /bin/echo: invalid argument"},
	} {
		if err := newBox(t, base).run(c.action); err == nil || err.Error() != c.want {
			t.Errorf("%s: got %v, want %s", c.name, err, c.want)
		}
	}
	b := newBox(t, base)
	b.Hostname = strings.Repeat("very", 30)
	if out := b.runs(t, sh("hostname")); len(out) != 65 {
		t.Errorf("host name is %q", out)
	}
}

// TestSignalsToProcess1 sends the agent everything that can be ignored.
func TestSignalsToProcess1(t *testing.T) {
	b := newBox(t, lower(t))
	out := b.runs(t, sh("for s in $(kill -l | grep -o '[A-Z0-9+-]*$' ) HUP INT QUIT ILL TRAP ABRT BUS FPE USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT STOP TSTP TTIN TTOU URG XCPU XFSZ VTALRM PROF WINCH IO PWR SYS; do kill -$s 1; done 2>/dev/null; sleep 0.2; echo alive"))
	if !strings.HasSuffix(out, "alive\n") {
		t.Errorf("printed %q", out)
	}
}

// TestSignalsOfPrograms: programs start with no signal ignored or blocked, also
// when raptor itself was started so, by nohup(1) say.
func TestSignalsOfPrograms(t *testing.T) {
	b := newBox(t, lower(t))
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for _, ours := range []bool{false, true} {
		if ours {
			list := []os.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGPIPE, syscall.SIGTERM, syscall.SIGUSR1, syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU}
			signal.Ignore(list...)
			defer signal.Reset(list...)
			var before unix.Sigset_t
			if err := unix.PthreadSigmask(unix.SIG_SETMASK, &unix.Sigset_t{Val: [16]uint64{0: 1<<(unix.SIGTERM-1) | 1<<(unix.SIGUSR2-1)}}, &before); err != nil {
				t.Fatal(err)
			}
			defer unix.PthreadSigmask(unix.SIG_SETMASK, &before, nil)
		}
		if out := b.runs(t, &Exec{Args: []string{"/bin/grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"}}); out != "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n" {
			t.Errorf("programs start with\n%s", out)
		}
	}
}

// TestCancelWithoutAReader has nobody take the output.
func TestCancelWithoutAReader(t *testing.T) {
	b := newBox(t, lower(t))
	b.Actions = []Action{sh("while :; do echo yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy; done")}
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	release := make(chan struct{})
	defer close(release)
	begun := time.Now()
	_, err := Run(ctx, &b.Spec, Streams{Stdout: writerFunc(func() { <-release })})
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) > 2*time.Second {
		t.Errorf("%v after %v", err, time.Since(begun))
	}
}

func TestReaderThatLeaves(t *testing.T) {
	b := newBox(t, lower(t))
	b.Actions = []Action{sh("while echo yyyyyyyyyyyyyyyyyyyyyyyyy; do :; done 2>/dev/null")}
	r, w := io.Pipe()
	go func() { r.Read(make([]byte, 1)); r.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, err := Run(ctx, &b.Spec, Streams{Stdout: w})
	var exit *ExitError
	if !errors.As(err, &exit) || exit.Signal != unix.SIGPIPE {
		t.Errorf("got %v, want SIGPIPE", err)
	}
}

func TestStandardInput(t *testing.T) {
	b := newBox(t, lower(t))
	b.Build = false
	b.Actions = []Action{sh("cat; echo end")}
	r, w, _ := os.Pipe()
	go func() { w.Write([]byte("typed\n")); w.Close() }()
	var out bytes.Buffer
	if _, err := Run(context.Background(), &b.Spec, Streams{Stdin: r, Stdout: &out, Stderr: &out}); err != nil || out.String() != "typed\nend\n" {
		t.Errorf("%v, %q", err, out.String())
	}
}

func TestOneWriterKeepsOrder(t *testing.T) {
	b := newBox(t, lower(t))
	var want string
	for i := range 200 {
		want += fmt.Sprintf("o%d\ne%d\n", i, i)
	}
	b.Actions = []Action{sh("i=0; while test $i -lt 200; do echo o$i; echo e$i >&2; i=$((i+1)); done")}
	var out bytes.Buffer
	if _, err := Run(context.Background(), &b.Spec, Streams{Stdout: &out, Stderr: &out}); err != nil || out.String() != want {
		t.Errorf("%v, %q", err, out.String())
	}
}

// TestNoDescriptorIsLeft counts before and after successes and failures.
func TestNoDescriptorIsLeft(t *testing.T) {
	base := lower(t)
	count := func() int { list, _ := os.ReadDir("/proc/self/fd"); return len(list) }
	newBox(t, base).runs(t, sh("true"))
	before := count()
	for range 5 {
		newBox(t, base).runs(t, sh("true"), &Copy{Sources: []CopySource{{Path: base + "/etc/passwd"}}, Dest: "/x"})
		newBox(t, base).run(sh("false"))
		newBox(t, base).run(&Copy{Sources: []CopySource{{Path: "/nonexistent"}}, Dest: "/x"})
		newBox(t, base, "/nonexistent").run(sh("true"))
	}
	if after := count(); after > before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

func TestUmask(t *testing.T) {
	old := unix.Umask(0o077)
	defer unix.Umask(old)
	base := lower(t)
	b := newBox(t, base)
	if out := b.runs(t, sh("umask; touch /f; stat -c %a /f")); out != "0022\n644\n" {
		t.Errorf("umask and mode: %q", out)
	}
}

// TestLayersInTurn replaces a directory by a file and back, layer by layer.
func TestLayersInTurn(t *testing.T) {
	layers := []string{lower(t)}
	for _, script := range []string{
		"rm -r /old && echo file >/old",
		"rm /old && mkdir /old && echo x >/old/x && ln /old/x /old/y",
		"echo more >>/old/x && mkdir /old/sub && mv /usr /usr2",
		"rm -r /old /usr2 && mkdir -p /old/sub/sub",
	} {
		b := newBox(t, layers...)
		b.runs(t, sh(script))
		layers = append(layers, b.Upper)
	}
	b := newBox(t, layers...)
	if out := b.runs(t, sh("ls / /old /old/sub | tr '\\n' ' '; test ! -e /usr2")); !strings.Contains(out, "/old: sub  /old/sub: sub") {
		t.Errorf("the sum is %q", out)
	}
	two := newBox(t, layers[:3]...)
	if out := two.runs(t, sh("cat /old/x; ls /old; stat -c %h /old/y")); out != "x\nx\ny\n2\n" {
		t.Errorf("after the second layer: %q", out)
	}
	three := newBox(t, layers[:4]...)
	if out := three.runs(t, sh("cat /old/x /old/y; ls -d /usr2/sbin; test ! -e /usr")); out != "x\nmore\nx\n/usr2/sbin\n" {
		t.Errorf("after the third layer: %q", out)
	}
}

// TestDeepTree makes paths that are longer than any system call takes.
func TestDeepTree(t *testing.T) {
	const name = "dddddddddddddddddddddddddddddddddddddddd"
	base, b := lower(t), newBox(t)
	b.Layers = []string{base}
	b.runs(t, sh("cd /tmp; i=0; while test $i -lt 300; do mkdir "+name+"; cd "+name+"; i=$((i+1)); done; echo end >f"))
	above := newBox(t, base, b.Upper)
	above.runs(t, sh("cd /tmp; while cd "+name+" 2>/dev/null; do :; done; echo more >>f; rm -f ../f"))
	fd, err := unix.Open(above.Upper+"/tmp", unix.O_PATH, 0)
	for err == nil {
		var next int
		if next, err = unix.Openat(fd, name, unix.O_PATH, 0); err == nil {
			unix.Close(fd)
			fd = next
		}
	}
	defer unix.Close(fd)
	text, err := os.ReadFile(fmt.Sprintf("/proc/self/fd/%d/f", fd))
	if string(text) != "end\nmore\n" {
		t.Errorf("at the end of it: %q, %v", text, err)
	}
}

func TestNonUTF8Names(t *testing.T) {
	b := newBox(t, lower(t))
	b.runs(t, &Write{Dest: "/a\xff\n\\b", Data: []byte("x"), Mode: 0o644}, sh("cat /a*; rm /a*; echo y >$(printf '/c\\377')"))
	b.leaves(t, "f c\xff y\n")
}

// TestRaptorDies kills a raptor that runs a sandbox, and all of that must end.
func TestRaptorDies(t *testing.T) {
	if dir := os.Getenv("RAPTOR_TEST_DIES"); dir != "" {
		spec := &Spec{Layers: []string{dir + "/lower"}, Upper: dir + "/upper", Work: dir + "/work", Actions: []Action{sh("echo started; exec sleep " + os.Getenv("RAPTOR_TEST_WORD"))}}
		Run(context.Background(), spec, Streams{Stdout: os.Stdout})
		return
	}
	base, dir := lower(t), t.TempDir()
	os.Rename(base, dir+"/lower")
	os.Mkdir(dir+"/upper", 0o755)
	os.Mkdir(dir+"/work", 0o755)
	cmd := exec.Command(os.Args[0], "-test.run=TestRaptorDies")
	word := fmt.Sprint(1_000_000 + os.Getpid()) // of these tests, if others run, too
	cmd.Env = append(os.Environ(), "RAPTOR_TEST_DIES="+dir, "RAPTOR_TEST_WORD="+word)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill() })
	buf := make([]byte, 8)
	if _, err := io.ReadFull(out, buf); string(buf) != "started\n" {
		t.Fatalf("%q, %v", buf, err)
	}
	for begun := time.Now(); !running(word); time.Sleep(5 * time.Millisecond) {
		if time.Since(begun) > 5*time.Second {
			t.Fatal("the program is not seen, so its end would not be either")
		}
	}
	cmd.Process.Kill()
	cmd.Wait()
	for begun := time.Now(); running(word); time.Sleep(5 * time.Millisecond) {
		if time.Since(begun) > 2*time.Second {
			t.Fatal("the program still runs")
		}
	}
}

// running tells whether some process has a word on its command line.
func running(word string) bool {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range files {
		if text, _ := os.ReadFile(f); bytes.Contains(text, []byte("\x00"+word+"\x00")) {
			return true
		}
	}
	return false
}

// TestAttributes carries capabilities, lists and attributes of files through
// COPY, sealing and layers.
func TestAttributes(t *testing.T) {
	base, src := lower(t), t.TempDir()
	file := filepath.Join(src, "f")
	write(t, file, "f", 0o755)
	capability := string([]byte{0, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}) // net_bind_service, permitted
	list := "\x02\x00\x00\x00\x01\x00\x07\x00\xff\xff\xff\xff\x02\x00\x05\x00\xe9\x03\x00\x00\x04\x00\x05\x00\xff\xff\xff\xff\x10\x00\x05\x00\xff\xff\xff\xff\x20\x00\x05\x00\xff\xff\xff\xff"
	attributes := map[string]string{"security.capability": capability, "user.note": "x\x00y", "system.posix_acl_access": list}
	for name, value := range attributes {
		if err := unix.Setxattr(file, name, []byte(value), 0); err != nil {
			t.Skipf("this file system has no %s: %v", name, err)
		}
	}
	b := newBox(t, base)
	b.runs(t, &Copy{Sources: []CopySource{{Path: src}}, Dest: "/c"}, &Copy{Sources: []CopySource{{Path: file}}, Dest: "/m", Mode: func() *os.FileMode { m := os.FileMode(0o600); return &m }()})
	above := newBox(t, base, b.Upper)
	above.runs(t, sh("touch /c/f; chmod 755 /c"))
	get := func(path, name string) string {
		buf := make([]byte, 256)
		n, err := unix.Lgetxattr(path, name, buf)
		if err != nil {
			return err.Error()
		}
		return string(buf[:n])
	}
	for name, value := range attributes {
		for _, dir := range []string{b.Upper, above.Upper} {
			if got := get(dir+"/c/f", name); got != value {
				t.Errorf("%s in %s is %q, want %q", name, dir, got, value)
			}
		}
	}
	if got := get(b.Upper+"/m", "system.posix_acl_access"); got != unix.ENODATA.Error() {
		t.Errorf("--chmod leaves an access list: %q", got)
	}
}

// TestMuchOutput prints more than any buffer holds, to a reader that only counts.
func TestMuchOutput(t *testing.T) {
	const size = 1 << 30
	b := newBox(t, lower(t))
	b.Actions = []Action{sh("dd if=/dev/zero bs=1M count=1024 2>/dev/null")}
	var n counter
	begun := time.Now()
	if _, err := Run(context.Background(), &b.Spec, Streams{Stdout: &n}); err != nil || n != size {
		t.Errorf("%d bytes, %v", n, err)
	}
	t.Logf("%.0f MB/s", size/1e6/time.Since(begun).Seconds())
}

type counter int64

func (c *counter) Write(p []byte) (int, error) { *c += counter(len(p)); return len(p), nil }

// TestDescriptorsAreNotMixedUp has the agent's file at all places among those
// that are handed over. Where the standard library moves descriptors out of each
// other's way, it once ran a source of COPY in place of the agent: with all
// rights, and in no sandbox.
func TestDescriptorsAreNotMixedUp(t *testing.T) {
	base := lower(t)
	program, err := agentProgram.Read()
	if err != nil {
		t.Fatal(err)
	}
	var sources []CopySource
	for range 8 {
		sources = append(sources, CopySource{Path: base + "/etc/passwd"}, CopySource{Path: base + "/old"})
	}
	for n := range 40 {
		var fill []*os.File
		for range n {
			f, err := os.Open(os.DevNull)
			if err != nil {
				t.Fatal(err)
			}
			fill = append(fill, f)
		}
		agent, err := helper.Seal("raptor-agent", program)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range fill {
			f.Close()
		}
		b := newBox(t, base)
		b.agent = agent
		if err := b.run(&Copy{Sources: sources, Dest: "/x/"}, sh("cat /x/a")); err != nil || b.out.String() != "a" {
			t.Errorf("with the agent at %d: %v, %q", agent.Fd(), err, b.out.String())
		}
		agent.Close()
	}
}

// TestManyAtATime runs sandboxes side by side, on the same layers.
func TestManyAtATime(t *testing.T) {
	base := lower(t)
	done := make(chan error, 24)
	for i := range cap(done) {
		b := newBox(t, base)
		b.Build = i%2 == 0
		go func() {
			err := b.run(sh(fmt.Sprintf("echo %d >/n; cat /n; (sleep 100 &); exit %d", i, i%3)))
			var exit *ExitError
			if i%3 != 0 && errors.As(err, &exit) && exit.Status == i%3 {
				err = nil
			}
			if err == nil && b.out.String() != fmt.Sprintf("%d\n", i) {
				err = fmt.Errorf("printed %q", b.out.String())
			}
			done <- err
		}()
	}
	for range cap(done) {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// TestCopySideBySide copies directories at the same time: what they share is one
// file still, and each is as it was.
func TestCopySideBySide(t *testing.T) {
	b, src := newBox(t, lower(t)), t.TempDir()
	write(t, src+"/shared", "shared", 0o644)
	then := time.Unix(1_000_000_000, 0)
	const dirs, files = 40, 20
	for d := range dirs {
		dir := fmt.Sprintf("%s/%d/below", src, d)
		if err := os.MkdirAll(dir, 0o750); err != nil {
			t.Fatal(err)
		}
		for f := range files {
			write(t, fmt.Sprintf("%s/%d", dir, f), fmt.Sprint(d, f), 0o640)
		}
		if err := os.Link(src+"/shared", dir+"/shared"); err != nil {
			t.Fatal(err)
		}
		for _, d := range []string{dir, filepath.Dir(dir)} {
			if err := os.Chtimes(d, then, then); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := b.run(&Copy{Sources: []CopySource{{Path: src}}, Dest: "/copy"}); err != nil {
		t.Fatal(err)
	}
	for d := range dirs {
		dir := fmt.Sprintf("%s/copy/%d/below", b.Upper, d)
		for f := range files {
			if text, err := os.ReadFile(fmt.Sprintf("%s/%d", dir, f)); err != nil || string(text) != fmt.Sprint(d, f) {
				t.Errorf("%d/below/%d: %q, %v", d, f, text, err)
			}
		}
		for _, d := range []string{dir, filepath.Dir(dir)} {
			info, err := os.Stat(d)
			if err != nil || !info.ModTime().Equal(then) || info.Mode().Perm() != 0o750 {
				t.Errorf("%s: %v, %v", d, info, err)
			}
		}
	}
	var st unix.Stat_t
	if err := unix.Stat(b.Upper+"/copy/shared", &st); err != nil || st.Nlink != dirs+1 {
		t.Errorf("the shared file has %d names, %v", st.Nlink, err)
	}
}

// TestCopySideBySideFails has something in two directories that COPY does not
// take. The error is about the first, whichever is found first.
func TestCopySideBySideFails(t *testing.T) {
	src := t.TempDir()
	for d := range 20 {
		dir := fmt.Sprintf("%s/%02d", src, d)
		os.Mkdir(dir, 0o755)
		for f := range 20 * (20 - d) {
			write(t, fmt.Sprintf("%s/%d", dir, f), "", 0o644)
		}
		if d == 3 || d == 19 {
			if err := unix.Mknod(dir+"/z", unix.S_IFSOCK|0o644, 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	b := newBox(t, lower(t))
	err := b.run(&Copy{Sources: []CopySource{{Path: src}}, Dest: "/copy"})
	var failed *ActionError
	if !errors.As(err, &failed) || failed.Path != "03/z" {
		t.Errorf("%v", err)
	}
}

// TestCopyBig copies files that are worth more than a read and a write. What runs
// next sees them, and writes to them, as to any other.
func TestCopyBig(t *testing.T) {
	b, src := newBox(t, lower(t)), t.TempDir()
	text := strings.Repeat("0123456789abcde\n", 200<<10/16)
	write(t, src+"/big", text, 0o640)
	write(t, src+"/other", text, 0o644)
	if err := os.Truncate(src+"/other", 1<<20); err != nil { // with a hole at its end
		t.Fatal(err)
	}
	os.Mkdir(src+"/d", 0o755)
	write(t, src+"/d/big", text, 0o644)
	err := b.run(
		sh("mkdir /real; ln -s real /to"), // COPY goes where links lead to
		&Copy{Sources: []CopySource{{Path: src}}, Dest: "/to"},
		&Copy{Sources: []CopySource{{Path: src + "/big"}}, Dest: "/run/big"},
		&Copy{Sources: []CopySource{{Path: src + "/big"}}, Dest: "/etc/passwd"}, // instead of one below
		sh("set -e; stat -c %s /to/big /to/other /run/big /etc/passwd; cat /to/big /to/d/big /to/other | wc -c; echo more >>/to/big; tail -c 5 /to/big; wc -c </to/big"))
	if err != nil {
		t.Fatal(err)
	}
	if want := "204800\n1048576\n204800\n204800\n1458176\nmore\n204805\n"; b.out.String() != want {
		t.Errorf("%q, want %q", b.out.String(), want)
	}
	for name, want := range map[string]string{"real/big": text + "more\n", "real/d/big": text, "real/other": text + strings.Repeat("\x00", 1<<20-len(text)), "etc/passwd": text} {
		if got, err := os.ReadFile(filepath.Join(b.Upper, name)); err != nil || string(got) != want {
			t.Errorf("%s has %d bytes, %v", name, len(got), err)
		}
	}
	if entries, _ := os.ReadDir(b.Upper + "/run"); len(entries) > 0 {
		t.Errorf("/run is in the layer")
	}
}

// TestCopyShares copies a file on a file system whose files can share blocks: it
// takes no more space.
func TestCopyShares(t *testing.T) {
	base := lower(t)
	dir, image := t.TempDir(), filepath.Join(t.TempDir(), "image")
	for _, words := range [][]string{{"truncate", "-s", "400M", image}, {"mkfs.xfs", "-q", image}, {"mount", "-o", "loop", image, dir}} {
		if _, err := exec.LookPath(words[0]); err != nil {
			t.Skip("needs xfsprogs")
		}
		if text, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", words, err, text)
		}
	}
	t.Cleanup(func() {
		if text, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, text)
		}
	})
	const size = 64 << 20
	text := strings.Repeat("0123456789abcdef", size/16)
	write(t, dir+"/file", text, 0o644)
	b := &box{Spec: Spec{Layers: []string{base}, Upper: dir + "/upper", Work: dir + "/work", Build: true}}
	os.Mkdir(b.Upper, 0o755)
	os.Mkdir(b.Work, 0o755)
	free := func() uint64 {
		var st unix.Statfs_t
		unix.Sync()
		if err := unix.Statfs(dir, &st); err != nil {
			t.Fatal(err)
		}
		return st.Bavail * uint64(st.Bsize)
	}
	before := free()
	if err := b.run(&Copy{Sources: []CopySource{{Path: dir + "/file"}}, Dest: "/copy"}, sh("wc -c </copy")); err != nil {
		t.Fatal(err)
	}
	if used := int64(before - free()); used > size/4 {
		t.Errorf("the copy takes %d bytes", used)
	}
	if got, err := os.ReadFile(b.Upper + "/copy"); err != nil || string(got) != text || b.out.String() != fmt.Sprintln(size) {
		t.Errorf("%d bytes, %v; seen inside: %s", len(got), err, b.out.String())
	}
}
