package sandbox

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// lower makes a layer with busybox in it, enough for a shell.
func lower(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatal("busybox is missing: apt-get install busybox-static")
	}
	dir := t.TempDir()
	for _, d := range []string{"bin", "etc", "tmp", "usr/sbin", "old/sub"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	program, err := os.ReadFile(busybox)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "bin/busybox"), string(program), 0o755)
	for _, name := range []string{"sh", "cat", "echo", "id", "ls", "rm", "mkdir", "touch", "mv", "ln", "mount", "mknod", "sleep", "stat", "dd", "hostname", "true", "false", "chmod", "ps", "kill", "tty", "stty", "wc", "env", "head", "test", "readlink", "unshare", "grep", "cp", "umount", "chown", "tr", "seq", "sed", "find", "mkfifo", "chroot", "nc", "sync", "dirname", "basename", "date", "od", "uname", "yes", "rmdir", "printf", "tail", "sort", "expr", "awk", "setsid", "nsenter", "pivot_root", "xargs", "insmod", "losetup", "swapon", "ip", "ping", "chgrp", "nice"} {
		if err := os.Symlink("busybox", filepath.Join(dir, "bin", name)); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(dir, "etc/passwd"), "root:x:0:0::/root:/bin/sh\nada:x:1001:1002::/:/bin/sh\n", 0o644)
	write(t, filepath.Join(dir, "etc/group"), "root:x:0:\nada:x:1002:\nstaff:x:50:\n", 0o644)
	write(t, filepath.Join(dir, "old/a"), "a", 0o644)
	write(t, filepath.Join(dir, "old/sub/b"), "b", 0o644)
	return dir
}

func write(t *testing.T, path, content string, mode fs.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
}

// box is a sandbox under test.
type box struct {
	Spec
	out, err bytes.Buffer
	plain    *os.File // of keptAgent
}

func newBox(t *testing.T, layers ...string) *box {
	t.Helper()
	dir := t.TempDir()
	b := &box{Spec: Spec{Layers: layers, Upper: filepath.Join(dir, "upper"), Work: filepath.Join(dir, "work"), Build: true}}
	for _, d := range []string{b.Upper, b.Work} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

func (b *box) run(actions ...Action) error {
	b.Actions = actions
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	_, err := Run(ctx, &b.Spec, Streams{Stdout: &b.out, Stderr: &b.err})
	return err
}

func sh(script string) *Exec {
	return &Exec{Args: []string{"sh", "-c", script}, Env: []string{"PATH=/bin"}}
}

// tree lists what is in a layer: "d path", "f path content", "l path target",
// "p path", "w path" for a deletion.
func tree(t *testing.T, dir string) []string {
	t.Helper()
	var list []string
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		switch e.Type() {
		case fs.ModeDir:
			list = append(list, "d "+rel)
		case fs.ModeSymlink:
			target, _ := os.Readlink(path)
			list = append(list, "l "+rel+" "+target)
		case fs.ModeNamedPipe:
			list = append(list, "p "+rel)
		case fs.ModeDevice | fs.ModeCharDevice:
			list = append(list, "w "+rel)
		default:
			text, _ := os.ReadFile(path)
			list = append(list, "f "+rel+" "+string(text))
		}
		if names, _ := unix.Llistxattr(path, nil); names > 0 {
			buf := make([]byte, names)
			unix.Llistxattr(path, buf)
			if strings.Contains(string(buf), "overlay.") {
				t.Errorf("%s has attributes %q", rel, buf)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestLayerHoldsWhatChanged(t *testing.T) {
	base := lower(t)
	for _, c := range []struct {
		name    string
		actions []Action
		want    []string
	}{
		{"nothing", []Action{sh("true")}, nil},
		{"a new file", []Action{sh("echo hi >/new")}, []string{"f new hi\n"}},
		{"a deletion", []Action{sh("rm /old/a")}, []string{"d old", "w old/a"}},
		{"a new directory", []Action{sh("mkdir /usr/share")}, []string{"d usr", "d usr/share"}},
		{"a directory made anew", []Action{sh("rm -r /old; mkdir /old; echo c >/old/c")}, []string{"d old", "w old/a", "f old/c c\n", "w old/sub"}},
		{"a directory made anew, twice deep", []Action{sh("rm -r /old; mkdir -p /old/sub; echo c >/old/sub/c")}, []string{"d old", "w old/a", "d old/sub", "w old/sub/b", "f old/sub/c c\n"}},
		{"a file for a directory", []Action{sh("rm -r /old; echo f >/old")}, []string{"f old f\n"}},
		{"temporary /run", []Action{sh("echo x >/run/x; mkdir /run/y"), &Write{Dest: "/run/z", Mode: 0o644}}, nil},
		{"write", []Action{&Write{Dest: "/etc/motd", Data: []byte("hello"), Mode: 0o644}}, []string{"d etc", "f etc/motd hello"}},
		{"write over resolv.conf", []Action{&Write{Dest: "/etc/resolv.conf", Data: []byte("mine"), Mode: 0o644}, sh("cat /etc/resolv.conf >/seen")}, []string{"d etc", "f etc/resolv.conf mine", "f seen mine"}},
		{"mkdir of a mount point", []Action{&Mkdir{Dest: "/proc", Mode: 0o555}}, []string{"d proc"}},
		{"mkdir -p", []Action{&Mkdir{Dest: "/x/y/z", Parents: true, Mode: 0o700}}, []string{"d x", "d x/y", "d x/y/z"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBox(t, base)
			if err := b.run(c.actions...); err != nil {
				t.Fatalf("%v\n%s", err, b.err.String())
			}
			if got := tree(t, b.Upper); !slices.Equal(got, c.want) {
				t.Errorf("layer is\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(c.want, "\n  "))
			}
		})
	}
}

// TestSealedLayerShowsTheSame mounts a sealed layer as a lower one and looks.
func TestSealedLayerShowsTheSame(t *testing.T) {
	base := lower(t)
	b := newBox(t, base)
	const script = "rm -r /old; mkdir -p /old/sub /old/new; echo c >/old/sub/c; mv /old/new /old/newer; mv /old /older; ln -s older /old; ls -lR /older /old >/tmp/listing"
	if err := b.run(sh(script)); err != nil {
		t.Fatalf("%v\n%s", err, b.err.String())
	}
	listing, err := os.ReadFile(filepath.Join(b.Upper, "tmp/listing"))
	if err != nil {
		t.Fatal(err)
	}
	above := newBox(t, base, b.Upper)
	if err := above.run(sh("ls -lR /older /old")); err != nil {
		t.Fatal(err)
	}
	strip := func(s string) string { // sizes of directories are the file system's business
		return strings.Join(strings.Fields(s), " ")
	}
	if strip(above.out.String()) != strip(string(listing)) {
		t.Errorf("in the layer above:\n%s\nwant\n%s", above.out.String(), listing)
	}
}

func TestEmptyStack(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	src := t.TempDir()
	os.MkdirAll(filepath.Join(src, "proc"), 0o755)
	os.MkdirAll(filepath.Join(src, "etc"), 0o755)
	write(t, filepath.Join(src, "etc/resolv.conf"), "x", 0o644)
	b := newBox(t)
	err := b.run(&Mkdir{Dest: "/dev", Mode: 0o755}, &Copy{Sources: []CopySource{{Path: src}}, Dest: "/"}, &Write{Dest: "/a", Data: []byte("a"), Mode: 0o600})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"f a a", "d dev", "d etc", "f etc/resolv.conf x", "d proc"}
	if got := tree(t, b.Upper); !slices.Equal(got, want) {
		t.Errorf("layer is %q, want %q", got, want)
	}
}

func TestErrors(t *testing.T) {
	base := lower(t)
	for _, c := range []struct {
		name   string
		action Action
		want   string
	}{
		{"exit status", sh("exit 7"), "exit status 7"},
		{"signal", sh("kill -9 $$"), "killed by signal 9 (killed)"},
		{"no program", &Exec{Args: []string{"nothing"}, Env: []string{"PATH=/bin"}}, "exec nothing: no such file or directory"},
		{"not executable", &Exec{Args: []string{"/etc/passwd"}}, "exec /etc/passwd: permission denied"},
		{"no directory", &Exec{Args: []string{"true"}, Dir: "/none"}, "chdir /none: no such file or directory"},
		{"no parent", &Write{Dest: "/none/x", Mode: 0o644}, "write /none/x: no such file or directory"},
		{"mkdir of existing", &Mkdir{Dest: "/etc", Mode: 0o755}, "mkdir /etc: file exists"},
		{"write to directory", &Write{Dest: "/etc", Mode: 0o644}, "write /etc: is a directory"},
		{"unknown user", &Write{Dest: "/x", Owner: "bob"}, "look up user bob: not in the layer's /etc/passwd"},
		{"missing source", &Copy{Sources: []CopySource{{Path: "/nonexistent"}}, Dest: "/x"}, "read /nonexistent: no such file or directory"},
		{"two sources to a file", &Copy{Sources: []CopySource{{Path: base + "/etc/passwd"}, {Path: base + "/etc/group"}}, Dest: "/x"}, "copy several files to /x: not a directory"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := newBox(t, base).run(c.action)
			if err == nil || err.Error() != c.want {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
}

func TestOwnersAndModes(t *testing.T) {
	b := newBox(t, lower(t))
	err := b.run(
		&Write{Dest: "/w", Mode: 0o4755, Owner: "ada:staff"},
		&Mkdir{Dest: "/m", Mode: 0o1777, Owner: "ada:"},
		&Write{Dest: "/g", Mode: 0o600, Owner: ":50"},
		&Write{Dest: "/n", Mode: 0o600, Owner: "7:8"},
	)
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string][3]uint32{"w": {1001, 50, 0o4755}, "m": {1001, 1002, 0o1777}, "g": {0, 50, 0o600}, "n": {7, 8, 0o600}} {
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(b.Upper, path), &st); err != nil {
			t.Fatal(err)
		}
		if got := [3]uint32{st.Uid, st.Gid, st.Mode & 0o7777}; got != want {
			t.Errorf("%s: owner, group, mode are %o, want %o", path, got, want)
		}
	}
}

func TestCopyKeepsFiles(t *testing.T) {
	src := t.TempDir()
	write(t, filepath.Join(src, "f"), "f", 0o750)
	os.Link(filepath.Join(src, "f"), filepath.Join(src, "hard"))
	os.Symlink("f", filepath.Join(src, "soft"))
	os.Mkdir(filepath.Join(src, "d"), 0o700)
	write(t, filepath.Join(src, "d/skip"), "", 0o644)
	write(t, filepath.Join(src, "d/keep"), "k", 0o644)
	os.Truncate(filepath.Join(src, "d/keep"), 10<<20)
	os.Symlink("etc", filepath.Join(src, "x"))
	unix.Setxattr(filepath.Join(src, "f"), "user.note", []byte("hi"), 0)
	b := newBox(t, lower(t))
	ignore := func(rel string, _ bool) bool { return rel == "d/skip" }
	if err := b.run(&Copy{Sources: []CopySource{{Path: src, Ignore: ignore}}, Dest: "/to"}, &Copy{Sources: []CopySource{{Path: filepath.Join(src, "f")}}, Dest: "/to/sub/"}); err != nil {
		t.Fatal(err)
	}
	stat := func(p string) (st unix.Stat_t) {
		if err := unix.Lstat(filepath.Join(b.Upper, p), &st); err != nil {
			t.Fatal(err)
		}
		return st
	}
	if f, hard := stat("to/f"), stat("to/hard"); f.Ino != hard.Ino || f.Mode&0o7777 != 0o750 {
		t.Errorf("hard link or mode lost: %+v %+v", f, hard)
	}
	if keep := stat("to/d/keep"); keep.Size != 10<<20 || keep.Blocks > 100 {
		t.Errorf("sparse file has %d bytes in %d blocks", keep.Size, keep.Blocks)
	}
	if target, _ := os.Readlink(filepath.Join(b.Upper, "to/soft")); target != "f" {
		t.Errorf("link leads to %q", target)
	}
	if _, err := os.Lstat(filepath.Join(b.Upper, "to/d/skip")); err == nil {
		t.Error("an ignored file was copied")
	}
	buf := make([]byte, 10)
	if n, err := unix.Getxattr(filepath.Join(b.Upper, "to/f"), "user.note", buf); err != nil || string(buf[:n]) != "hi" {
		t.Errorf("attribute is %q, %v", buf[:max(n, 0)], err)
	}
	stat("to/sub/f")
}

// TestLinksDoNotLeadOut points links of the layer at the host.
func TestLinksDoNotLeadOut(t *testing.T) {
	base, outside := lower(t), t.TempDir()
	os.Symlink(outside, filepath.Join(base, "abs"))
	os.Symlink("../../../../../../../../.."+outside, filepath.Join(base, "rel"))
	for _, link := range []string{"/abs", "/rel"} {
		b := newBox(t, base)
		err := b.run(&Write{Dest: link + "/evil", Mode: 0o644})
		if !errors.Is(err, unix.ENOENT) {
			t.Errorf("write through %s: %v", link, err)
		}
		if err := newBox(t, base).run(&Copy{Sources: []CopySource{{Path: base + "/etc/passwd"}}, Dest: link + "/evil"}); err == nil {
			t.Logf("copy made the link's target inside, as it should")
		}
	}
	if left, _ := os.ReadDir(outside); len(left) > 0 {
		t.Errorf("outside now has %v", left)
	}
}

func TestMounts(t *testing.T) {
	base := lower(t)
	strange := filepath.Join(t.TempDir(), "a b,c:d\\e\nf")
	os.Mkdir(strange, 0o755)
	file := filepath.Join(t.TempDir(), "out")
	write(t, file, "", 0o644)
	top := t.TempDir()
	write(t, filepath.Join(top, "top"), "t", 0o644)
	b := newBox(t, base)
	b.Build = false
	b.Hostname = "box"
	b.Mounts = []Mount{
		{Dest: "/data dir", Source: strange},
		{Dest: "/ro", Source: strange, ReadOnly: true},
		{Dest: "/output/x.iso", Source: file},
		{Dest: "/sum", Overlay: []string{base, top}},
		{Dest: "/input", Dirs: []Dir{{"base-1", base}, {"top-2", top}}, Index: []byte("{}")},
	}
	err := b.run(sh(`set -e
		echo data >"/data dir/d"; cat /ro/d
		if echo x 2>/dev/null >/ro/e; then echo WRITABLE; fi
		echo image >/output/x.iso
		cat /sum/top /sum/old/a; if touch /sum/x 2>/dev/null; then echo WRITABLE; fi
		ls /input; cat /input/raptor.json /input/top-2/top
		if touch /input/top-2/x 2>/dev/null; then echo WRITABLE; fi
		hostname`))
	if err != nil {
		t.Fatalf("%v\n%s", err, b.err.String())
	}
	if want := "data\ntabase-1\nraptor.json\ntop-2\n{}tbox\n"; b.out.String() != want {
		t.Errorf("printed %q, want %q", b.out.String(), want)
	}
	if text, _ := os.ReadFile(file); string(text) != "image\n" {
		t.Errorf("output is %q", text)
	}
}

func TestManyLayers(t *testing.T) {
	layers := []string{lower(t)}
	for range 200 {
		dir := t.TempDir()
		write(t, filepath.Join(dir, "n"), dir, 0o644)
		layers = append(layers, dir)
	}
	b := newBox(t, layers...)
	if err := b.run(sh("cat /n")); err != nil {
		t.Fatal(err)
	}
	if b.out.String() != layers[200] {
		t.Errorf("the topmost layer is not on top: %q", b.out.String())
	}
}

func TestLeftoversAreKilled(t *testing.T) {
	b := newBox(t, lower(t))
	if err := b.run(sh("(sleep 1; echo late >/late) & echo now"), sh("ps >/tmp/ps; test -e /late || echo gone")); err != nil {
		t.Fatal(err)
	}
	if b.out.String() != "now\ngone\n" {
		t.Errorf("printed %q", b.out.String())
	}
	if text, _ := os.ReadFile(filepath.Join(b.Upper, "tmp/ps")); strings.Contains(string(text), "sleep") {
		t.Errorf("still running:\n%s", text)
	}
}

func TestCancel(t *testing.T) {
	b := newBox(t, lower(t))
	b.Actions = []Action{sh("echo started; sleep 1000")}
	ctx, cancel := context.WithCancelCause(context.Background())
	why := errors.New("why")
	begun := time.Now()
	_, err := Run(ctx, &b.Spec, Streams{Stdout: writerFunc(func() { cancel(why) })})
	if !errors.Is(err, why) {
		t.Errorf("got %v", err)
	}
	if d := time.Since(begun); d > 5*time.Second {
		t.Errorf("it took %v to stop", d)
	}
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	if strings.Contains(string(mounts), b.Work) {
		t.Error("the overlay is still mounted")
	}
}

type writerFunc func()

func (f writerFunc) Write(p []byte) (int, error) { f(); return len(p), nil }

func TestBigBinaryOutput(t *testing.T) {
	b := newBox(t, lower(t))
	if err := b.run(sh("dd if=/dev/zero bs=1M count=64 2>/dev/null; echo end; echo err >&2")); err != nil {
		t.Fatal(err)
	}
	if n := b.out.Len(); n != 64<<20+4 || b.err.String() != "err\n" {
		t.Errorf("%d bytes, and %q", n, b.err.String())
	}
}

func TestNoNetwork(t *testing.T) {
	b := newBox(t, lower(t))
	b.Network = NoNetwork
	if err := b.run(sh("cat /proc/net/dev | wc -l; cat /sys/class/net/lo/flags")); err != nil {
		t.Fatalf("%v %s", err, b.err.String())
	}
	if b.out.String() != "3\n0x9\n" {
		t.Errorf("printed %q", b.out.String())
	}
}

func TestCapabilities(t *testing.T) {
	for network, want := range map[Network]string{
		NoNetwork:   "00000000a80425fb", // as in Docker
		HostNetwork: "00000000a80405fb", // without NET_RAW
	} {
		b := newBox(t, lower(t))
		b.Network = network
		for line := range strings.Lines(b.runs(t, &Exec{Args: []string{"cat", "/proc/self/status"}, Env: []string{"PATH=/bin"}})) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), ":\t")
			switch name {
			case "CapInh", "CapAmb":
				if value != "0000000000000000" {
					t.Error(line)
				}
			case "CapPrm", "CapEff", "CapBnd":
				if value != want {
					t.Errorf("%s is %s, want %s", name, value, want)
				}
			}
		}
	}
}

func TestNothingIsInherited(t *testing.T) {
	t.Setenv("SECRET", "secret")
	b := newBox(t, lower(t))
	if err := b.run(sh("env; ls /proc/self/fd | wc -l")); err != nil {
		t.Fatal(err)
	}
	if got := b.out.String(); strings.Contains(got, "secret") || !strings.HasSuffix(got, "\n4\n") { // 0, 1, 2 and the directory
		t.Errorf("environment and descriptors:\n%s", got)
	}
}

func TestOutputCanBeReopened(t *testing.T) {
	b := newBox(t, lower(t))
	if err := b.run(sh("echo out >/dev/stdout; echo err >/dev/stderr; cat </dev/stdin")); err != nil {
		t.Fatal(err)
	}
	if b.out.String() != "out\n" || b.err.String() != "err\n" {
		t.Errorf("%q, %q", b.out.String(), b.err.String())
	}
}

func TestSignalsReachTheProgram(t *testing.T) {
	b := newBox(t, lower(t))
	b.Build = false
	b.Actions = []Action{sh("trap 'echo got it; exit 3' TERM; echo ready; while :; do sleep 0.1; done")}
	signals := make(chan os.Signal, 1)
	var once bool
	_, err := Run(context.Background(), &b.Spec, Streams{Signals: signals, Stdout: writerFunc(func() {
		if !once {
			once = true
			signals <- syscall.SIGTERM
		}
	})})
	var exit *ExitError
	if !errors.As(err, &exit) || exit.Status != 3 {
		t.Errorf("got %v, want exit status 3", err)
	}
}
