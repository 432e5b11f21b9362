package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"raptor-make/sandbox"
)

const starts = 100

// A project is a chain of layers, each on the one before it: l1 up to the
// highest. The lowest has busybox as /bin/true, and the directories that other
// programs want to mount on.
type project struct {
	dir    string
	layers []string // their directories, lowest first
}

const entry = "ENTRYPOINT /bin/true\n"

func (b *bench) project(name, dir string, layers int) (*project, error) {
	p := &project{dir: filepath.Join(dir, name)}
	root := filepath.Join(p.dir, "root")
	for _, d := range []string{"bin", "dev", "etc", "proc", "run", "sys", "tmp", "usr"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			return nil, err
		}
	}
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return nil, err
	}
	steps := []func() error{
		command("cp", "-L", busybox, filepath.Join(root, "bin/true")),
		command("tar", "-C", root, "-cf", filepath.Join(p.dir, "root.tar"), "."),
		func() error { return p.write("l1.rapt", "FROM tar://root.tar\n"+entry) },
	}
	for i := 2; i <= layers; i++ {
		steps = append(steps, func() error {
			return p.write(fmt.Sprintf("l%d.rapt", i), fmt.Sprintf("FROM l%d\nWRITE \"%d\\n\" /etc/layer%d\n"+entry, i-1, i, i))
		})
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return nil, err
		}
	}
	if err := b.in(p.dir, "build", "-q", fmt.Sprintf("l%d", layers))(); err != nil {
		return nil, err
	}
	p.layers = []string{root} // what the tar became, for those that mount no layers
	for i := 2; i <= layers; i++ {
		found, err := filepath.Glob(filepath.Join(p.dir, fmt.Sprintf("layers/l%d-*", i)))
		if err != nil || len(found) != 1 {
			return nil, fmt.Errorf("layer l%d is in %q", i, found)
		}
		p.layers = append(p.layers, found[0])
	}
	return p, nil
}

func (p *project) write(name, text string) error {
	return os.WriteFile(filepath.Join(p.dir, name), []byte(text), 0o644)
}

// in runs raptor in a directory.
func (b *bench) in(dir string, args ...string) func() error {
	return func() error {
		cmd := exec.Command(b.raptor, args...)
		cmd.Dir = dir
		return said(cmd)
	}
}

// headway is how long before an empty command its agent is started, as a running
// engine does before it waits for the disk.
const headway = 5 * time.Millisecond

// engine starts an empty command as a running engine does, in new directories.
// They are left, for to ext4 it matters what was removed just before.
func engine(name string, p *project, layers int, prepare func()) *contender {
	var upper, work string
	return &contender{
		name: name,
		prepare: func() (err error) {
			prepare()
			upper, work, err = overlay(p.dir)
			time.Sleep(headway)
			return err
		},
		do: func() error {
			_, err := sandbox.Run(context.Background(), &sandbox.Spec{
				Layers: p.layers[:layers], Upper: upper, Work: work,
				Actions: []sandbox.Action{&sandbox.Exec{Args: []string{"/bin/true"}}},
			}, sandbox.Streams{})
			return err
		},
	}
}

// mounted has util-linux mount the same layers, which is what the kernel and two
// small programs take for them, and runs the command in them: with the
// namespaces, but nothing else of a sandbox.
func mounted(p *project, layers int) *contender {
	var lower []string
	for _, dir := range slices.Backward(p.layers[:layers]) {
		rel, _ := filepath.Rel(p.dir, dir) // a page has to hold all names
		lower = append(lower, rel)
	}
	var upper, work string
	return &contender{
		name: "unshare, mount and chroot: the same overlay alone",
		prepare: func() (err error) {
			upper, work, err = overlay(p.dir)
			return err
		},
		do: func() error {
			cmd := exec.Command("unshare", "--mount", "--pid", "--ipc", "--uts", "--fork", "sh", "-c", `mount -t overlay overlay -o "$0" root && exec chroot root /bin/true`,
				"lowerdir="+strings.Join(lower, ":")+",upperdir="+upper+",workdir="+work)
			cmd.Dir = p.dir
			return said(cmd)
		},
	}
}

// start compares the start of an empty command.
func start(b *bench) error {
	dir, unmount, err := b.disk("disk")
	if err != nil {
		return err
	}
	defer unmount()
	onDisk, err := b.project("start", dir, 100)
	if err != nil {
		return err
	}
	inMemory, err := b.project("start", b.memory, 1)
	if err != nil {
		return err
	}
	root := onDisk.layers[0]
	bundle, err := b.bundle(root)
	if err != nil {
		return err
	}
	for _, layers := range []int{1, 10, 100} {
		bwrap := &contender{name: "bwrap", do: command("bwrap", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--hostname", "bench", "--new-session", "--die-with-parent",
			"--ro-bind", root, "/", "--proc", "/proc", "--dev", "/dev", "--mqueue", "/dev/mqueue", "--ro-bind", "/sys", "/sys", "--tmpfs", "/run", "/bin/true")}
		list := []*contender{
			engine("raptor, from a running engine", onDisk, layers, sandbox.Prepare),
			engine("raptor, with the start of the agent", onDisk, layers, func() {}),
			{name: "raptor run, a whole process", do: b.in(onDisk.dir, "run", "-q", fmt.Sprintf("l%d", layers))},
			bwrap,
			mounted(onDisk, layers),
		}
		if layers == 1 {
			list = append(list,
				engine("raptor, from a running engine, upper in memory", inMemory, 1, sandbox.Prepare),
				&contender{name: "raptor run, a whole process, project in memory", do: b.in(inMemory.dir, "run", "-q", "l1")},
				&contender{name: "unshare: namespaces and chroot alone", do: command("unshare", "--mount", "--pid", "--ipc", "--uts", "--fork", "--root="+root, "/bin/true")},
				&contender{name: "runc", do: command("runc", "--root", filepath.Join(b.dir, "runc"), "run", "--bundle", bundle, "raptor-bench")},
				&contender{name: "systemd-nspawn", do: command("systemd-nspawn", "-q", "-D", root, "--read-only", "--register=no", "--keep-unit", "--resolv-conf=off", "--timezone=off",
					"--console=pipe", "/bin/true")},
			)
		}
		err := warmUp(list...)
		if err == nil {
			err = race(starts, list...)
		}
		if err != nil {
			return err
		}
		title("start of an empty command over %d layer%s, as often as bwrap's; medians of %d", layers, strings.Repeat("s", min(layers-1, 1)), starts)
		for _, c := range list {
			c.row(bwrap)
		}
	}
	fmt.Println("  Where nothing else is said, only raptor mounts an overlay: to the others, any number of layers is one directory, mounted read-only.\n" +
		"  A running engine has made the two directories for an overlay before, and started the agent while it waited for\n" +
		"  the disk; the process does all of it, and removes the directories.")
	return nil
}

// bundle is a container for runc that is like ours: the same namespaces, mounts
// and capabilities. It has no filter of system calls, for runc has none of its
// own.
func (b *bench) bundle(root string) (string, error) {
	type mount struct {
		Destination string   `json:"destination"`
		Type        string   `json:"type"`
		Source      string   `json:"source"`
		Options     []string `json:"options"`
	}
	safe := []string{"nosuid", "noexec", "nodev"}
	caps := strings.Fields("CAP_CHOWN CAP_DAC_OVERRIDE CAP_FSETID CAP_FOWNER CAP_MKNOD CAP_NET_RAW CAP_SETGID CAP_SETUID CAP_SETFCAP CAP_SETPCAP " +
		"CAP_NET_BIND_SERVICE CAP_SYS_CHROOT CAP_KILL CAP_AUDIT_WRITE")
	type object = map[string]any
	config := object{
		"ociVersion": "1.0.2",
		"hostname":   "bench",
		"root":       object{"path": root, "readonly": true},
		"process": object{
			"args": []string{"/bin/true"}, "env": []string{"PATH=/bin"}, "cwd": "/", "user": object{"uid": 0, "gid": 0},
			"capabilities": object{"bounding": caps, "effective": caps, "permitted": caps},
		},
		"mounts": []mount{
			{"/proc", "proc", "proc", safe},
			{"/dev", "tmpfs", "tmpfs", []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
			{"/dev/pts", "devpts", "devpts", []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
			{"/dev/shm", "tmpfs", "shm", append(safe, "mode=1777", "size=65536k")},
			{"/dev/mqueue", "mqueue", "mqueue", safe},
			{"/sys", "sysfs", "sysfs", append(safe, "ro")},
			{"/run", "tmpfs", "tmpfs", []string{"nosuid", "nodev", "mode=755"}},
		},
		"linux": object{
			"namespaces":    []object{{"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}},
			"maskedPaths":   []string{"/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/scsi", "/sys/firmware"},
			"readonlyPaths": []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"},
		},
	}
	dir := filepath.Join(b.dir, "bundle")
	text, err := json.Marshal(config)
	if err == nil {
		err = os.Mkdir(dir, 0o755)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "config.json"), text, 0o644)
	}
	return dir, err
}
