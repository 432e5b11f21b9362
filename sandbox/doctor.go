package sandbox

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"raptor-make/sandbox/internal/wire"
)

// A Finding is one thing that a machine was examined for.
type Finding struct {
	What   string // that was examined
	State  State
	Found  string // what is not well; the kernel's words, mostly
	Means  string // what comes of that
	Remedy string // how to mend it, if that is known
}

// State says how a Finding bears on building.
type State int

// The states, from good to bad, and last the unknown.
const (
	Well    State = iota // as it should be
	Notice               // something is missing that builds can do without
	Wrong                // nothing can be built before this is mended
	Untried              // it could not be tried, because of something that is Wrong
)

// Examine tries on this machine, and for the user who runs it, what sandboxes
// are made with, from the least of it to one whole sandbox; to make that, an
// ordinary user has to enter a user namespace first, and until then is told
// whether that is possible. It tries in dir, an
// empty directory on the file system that layers are to be kept on; what it
// leaves there is the caller's to remove. Nothing else is changed. Without a directory, what
// takes one is not tried.
func Examine(ctx context.Context, dir string) []Finding {
	x := &examination{dir: dir, ordinary: os.Geteuid() != 0}
	x.rootless = x.ordinary || calledBy != nil
	var err error
	if x.agent, err = agentProgram.File(); err == nil {
		x.namespaces()
		if x.rootless {
			x.identities()
		} else {
			x.owned()
		}
		x.features(ctx)
		x.limits()
	}
	x.whole(ctx)
	return x.findings
}

type examination struct {
	dir      string
	ordinary bool     // we are no root
	rootless bool     // nor was who has called us
	agent    *os.File // nil: there is none, which making a sandbox will say
	isolated bool     // namespaces can be had
	findings []Finding
}

func (x *examination) add(f Finding) { x.findings = append(x.findings, f) }

// wrong tells whether a finding is in the way.
func (x *examination) wrong() bool {
	for _, f := range x.findings {
		if f.State == Wrong {
			return true
		}
	}
	return false
}

// start starts the agent to examine, in new namespaces. With ids, an ordinary
// user is root in the user namespace, and nobody else exists there: all but a
// layer of several users can be tried so, with subordinate ids or without. The
// agent ends by itself when we do.
func (x *examination) start(flags uintptr, ids bool, in, out *os.File, args ...string) (*os.Process, error) {
	attr := &syscall.SysProcAttr{Cloneflags: flags}
	if x.ordinary {
		attr.Cloneflags |= unix.CLONE_NEWUSER
	}
	if x.ordinary && ids {
		attr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}}
	}
	return os.StartProcess("/proc/self/fd/3", append([]string{"raptor-agent", wire.Examine}, args...),
		&os.ProcAttr{Dir: "/", Env: agentEnv, Files: []*os.File{in, out, nil, x.agent}, Sys: attr})
}

// possible tells whether there can be new namespaces.
func (x *examination) possible(flags uintptr) error {
	p, err := x.start(flags, false, nil, nil)
	if err != nil {
		return reason(err)
	}
	p.Wait()
	return nil
}

func (x *examination) namespaces() {
	if x.rootless {
		f := Finding{What: "user namespaces"}
		if err := x.possible(0); err != nil && x.ordinary {
			f = Finding{f.What, Wrong, err.Error(), "Without them only root can make a sandbox.", startHelp(err, true)}
		}
		x.add(f)
	}
	all := Finding{What: "namespaces for mounts, processes, IPC and host names"}
	network := Finding{What: "namespaces for networks"}
	if x.wrong() {
		all.State, network.State = Untried, Untried
	} else {
		x.kinds(&all, Wrong, "Every sandbox has its own.", unix.CLONE_NEWNS, unix.CLONE_NEWPID, unix.CLONE_NEWIPC, unix.CLONE_NEWUTS)
		x.kinds(&network, Notice, `--network=none, and network = "none" in a job, fail; all else works.`, unix.CLONE_NEWNET)
	}
	x.add(all)
	x.add(network)
	x.isolated = all.State == Well
}

// kinds tries kinds of namespaces, one at a time.
func (x *examination) kinds(f *Finding, state State, means string, flags ...uintptr) {
	names := map[uintptr]string{unix.CLONE_NEWNS: "mnt", unix.CLONE_NEWPID: "pid", unix.CLONE_NEWIPC: "ipc", unix.CLONE_NEWUTS: "uts", unix.CLONE_NEWNET: "net"}
	var missing []string
	var why error
	for _, flag := range flags {
		if err := x.possible(flag); err != nil {
			missing = append(missing, names[flag])
			why = err
		}
	}
	if why != nil {
		*f = Finding{f.What, state, fmt.Sprintf("no new %s: %v", strings.Join(missing, ", "), why), means, startHelp(why, x.rootless)}
	}
}

// enoughIDs is up to nobody and nogroup, 65534, the highest that distributions
// use: Debian's apt needs them.
const enoughIDs = 65536

const manyUsers = "Layers have files of many users, and each takes an id of this machine."

// identities examines how an ordinary user comes to have other users inside.
func (x *examination) identities() {
	if !x.ordinary { // we came here with them
		x.add(Finding{What: "subordinate ids"})
		x.add(Finding{What: "newuidmap and newgidmap"})
		x.add(Finding{What: "nsenter"})
		return
	}
	f := Finding{What: "subordinate ids", Means: manyUsers}
	ids, err := subordinateIDs()
	var setup *SetupError
	if errors.As(err, &setup) {
		f.State, f.Found, f.Remedy = Wrong, strings.TrimPrefix(setup.Error(), "sandbox: "), setup.Help
	} else if n := min(subordinates(ids.uid), subordinates(ids.gid)); n < enoughIDs {
		f.State, f.Found = Wrong, fmt.Sprintf("/etc/subuid and /etc/subgid must both give %d, not %d", enoughIDs, n)
		f.Remedy = "as root: usermod --add-subuids FIRST-LAST --add-subgids FIRST-LAST, with ranges that no other user has"
	}
	x.add(f)
	mapped := Finding{What: "newuidmap and newgidmap", State: Untried}
	entered := Finding{What: "nsenter", State: Untried}
	if err == nil && x.findings[0].State == Well {
		x.enter(&ids, &mapped, &entered)
	}
	x.add(mapped)
	x.add(entered)
}

// owned examines whether root is root of few: in a user namespace, as that of a
// container without root's rights.
func (x *examination) owned() {
	for _, file := range []string{"/proc/self/uid_map", "/proc/self/gid_map"} {
		text, _ := os.ReadFile(file)
		n := 0
		for line := range strings.Lines(string(text)) {
			if f := strings.Fields(line); len(f) == 3 {
				count, _ := strconv.Atoi(f[2])
				n += count
			}
		}
		if n < enoughIDs {
			x.add(Finding{"ids of this user namespace", Wrong, fmt.Sprintf("%s gives it %d, not %d", file, n, enoughIDs), manyUsers,
				"start it with the subordinate ids of its user, as podman and unshare --map-auto do"})
			return
		}
	}
}

func subordinates(ids [][3]int) (n int) {
	for _, r := range ids[1:] {
		n += r[2]
	}
	return n
}

// enter makes a user namespace with all ids, and starts a program in it.
func (x *examination) enter(ids *idMap, mapped, entered *Finding) {
	wait, end, err := os.Pipe()
	if err != nil {
		mapped.State, mapped.Found = Wrong, err.Error()
		return
	}
	p, err := x.start(0, false, wait, nil)
	wait.Close()
	defer end.Close()
	if err != nil {
		mapped.State, mapped.Found = Wrong, reason(err).Error()
		return
	}
	defer p.Wait()
	defer p.Kill()
	var setup *SetupError
	err = ids.give(p.Pid)
	mapped.State = Well
	if errors.As(err, &setup) {
		*mapped = Finding{mapped.What, Wrong, strings.TrimPrefix(setup.Error(), "sandbox: "),
			"They give a user namespace its subordinate ids.", setup.Help}
		if setup.Help == "" {
			mapped.Remedy = powerlessHelp(setup.Path)
		}
		return
	}
	cmd := exec.Command("nsenter", fmt.Sprintf("--user=/proc/%d/ns/user", p.Pid), "--preserve-credentials", "/proc/self/fd/3", wire.Examine)
	cmd.Env, cmd.ExtraFiles = append(os.Environ(), agentEnv...), []*os.File{x.agent}
	text, err := cmd.CombinedOutput()
	entered.State = Well
	if err != nil {
		*entered = Finding{entered.What, Wrong, err.Error(), "raptor goes into its user namespace with it.", ""}
		if errors.Is(err, exec.ErrNotFound) {
			entered.Found, entered.Remedy = "not found", "install it: it is in the package util-linux, in Fedora util-linux-core"
		} else if said := strings.TrimSpace(string(text)); said != "" {
			entered.Found = said
		}
	}
}

// powerlessHelp says why newuidmap may not do what it is for.
func powerlessHelp(program string) string {
	path, err := exec.LookPath(program)
	if err != nil {
		return ""
	}
	var st unix.Stat_t
	var fs unix.Statfs_t
	n, _ := unix.Getxattr(path, "security.capability", nil)
	switch {
	case status("NoNewPrivs") == "1":
		return "no program may gain rights here (no_new_privs): with Docker, leave out --security-opt no-new-privileges"
	case unix.Stat(path, &st) == nil && st.Mode&unix.S_ISUID == 0 && n <= 0:
		return "it has lost its rights: as root, chmod u+s " + path
	case unix.Statfs(path, &fs) == nil && fs.Flags&unix.ST_NOSUID != 0:
		return path + " is on a file system that was mounted with nosuid: mount it without"
	case n <= 0 && !mayHave(unix.CAP_SYS_ADMIN):
		// As root, it does not own the user namespace; as its user, it does.
		capability := strings.TrimSuffix(strings.TrimPrefix(program, "new"), "map")
		return fmt.Sprintf("as a set-id program it takes CAP_SYS_ADMIN, which there is not in this container; as root: chmod u-s %s; setcap cap_set%s=ep %[1]s", path, capability)
	}
	return ""
}

// mayHave tells whether programs that we start can have a capability.
func mayHave(capability int) bool {
	bounding, err := strconv.ParseUint(status("CapBnd"), 16, 64)
	return err != nil || bounding>>capability&1 != 0
}

// features examines what the agent tries.
func (x *examination) features(ctx context.Context) {
	list := []Finding{
		wire.ChangeMounts: {What: "mounts", State: Wrong, Means: "A sandbox is made of mounts."},
		wire.CloneMounts:  {What: "clones of mounts, with attributes of their own", State: Wrong, Means: "What is lent to a sandbox is a clone of its mount, without devices and, where asked for, read-only."},
		wire.NewMounts:    {What: "/proc, /sys and /dev for sandboxes", State: Wrong, Means: "Every sandbox has its own."},
		wire.Overlays:     {What: "overlays", State: Wrong, Means: "A sandbox stands on an overlay of layers."},
		wire.Upper:        {What: "layers on " + fileSystem(x.dir), State: Wrong, Means: "Layers cannot be made where they are to be kept."},
		wire.Filters:      {What: "filters of system calls", State: Wrong, Means: "Nothing is run without one."},
		wire.Scopes: {What: "scopes for abstract sockets", State: Notice, Means: "Programs in sandboxes on the host's network can reach its abstract Unix sockets.",
			Remedy: "Linux 6.12 or newer, with landlock among the lsm= of its command line; or --network=none"},
	}
	if x.rootless {
		list[wire.Overlays].What = "overlays in user namespaces"
	}
	if x.dir == "" {
		list[wire.Upper].What = "layers where they are to be kept"
	}
	events, err := x.tried(ctx)
	for i := range list {
		f := &list[i]
		ev, ok := events[i]
		switch {
		case !ok && err != nil && i == wire.ChangeMounts:
			f.Found, f.Remedy = err.Error(), startHelp(err, x.rootless)
		case !ok, i == wire.Upper && (x.dir == "" || list[wire.Overlays].State == Wrong):
			*f = Finding{What: f.What, State: Untried}
		case ev.Kind == wire.Done:
			*f = Finding{What: f.What}
		case i == wire.Scopes:
			f.Found = "this kernel has none"
		default:
			setup := &SetupError{Stage: ev.Op, Path: ev.Path, Err: said(ev)}
			f.Found, f.Remedy = strings.TrimPrefix(setup.Error(), "sandbox: "), setupHelp(ev, x.rootless)
		}
	}
	x.findings = append(x.findings, list...)
}

// fileSystem is the kind of file system that a path is on.
func fileSystem(path string) string {
	mounts, _ := mountinfo.GetMounts(mountinfo.ParentsFilter(path))
	kind, longest := "an unknown file system", -1
	for _, m := range mounts {
		if len(m.Mountpoint) >= longest {
			kind, longest = m.FSType, len(m.Mountpoint)
		}
	}
	return kind
}

// tried are the agent's events, by what they are about.
func (x *examination) tried(ctx context.Context) (map[int]wire.Event, error) {
	if !x.isolated {
		return nil, nil
	}
	dir := x.dir
	if dir == "" {
		var err error
		if dir, err = os.MkdirTemp("", "raptor-doctor-"); err != nil {
			return nil, err
		}
		defer os.RemoveAll(dir)
	}
	from, to, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer from.Close()
	p, err := x.start(unix.CLONE_NEWNS|unix.CLONE_NEWPID|unix.CLONE_NEWIPC|unix.CLONE_NEWUTS, true, nil, to, dir)
	to.Close()
	if err != nil {
		return nil, reason(err)
	}
	defer context.AfterFunc(ctx, func() { p.Kill() })()
	text, err := io.ReadAll(from)
	state, werr := p.Wait()
	if len(text) == 0 && err == nil {
		err = ended(state, werr)
	}
	events := map[int]wire.Event{}
	for len(text) > 0 && err == nil {
		n, size := binary.Uvarint(text)
		if size <= 0 || n > uint64(len(text)-size) {
			return events, wire.ErrShort
		}
		var ev wire.Event
		ev, err = wire.DecodeEvent(text[size:][:n])
		events[ev.Action] = ev
		text = text[size:][n:]
	}
	return events, err
}

// limits examines whether a job's programs can be limited.
func (x *examination) limits() {
	f := Finding{What: "control groups for limits"}
	l := &limiter{limits: Limits{Memory: 64 << 20, Pids: 64}}
	tables, err := readTables()
	if err == nil {
		err = l.make(tables)
	}
	l.remove()
	if err != nil {
		var setup *SetupError
		errors.As(limitError(err), &setup)
		f = Finding{f.What, Notice, strings.TrimPrefix(setup.Error(), "sandbox: "), "Jobs with limits fail; all else works.", setup.Help}
	}
	x.add(f)
}

// whole makes a sandbox of nothing but the agent, which it starts in it as a
// program.
func (x *examination) whole(ctx context.Context) {
	f := Finding{What: "a whole sandbox", State: Untried}
	if !x.wrong() && x.dir != "" && !x.ordinary {
		f.State = Well
		if err := x.prove(ctx); err != nil {
			f = Finding{f.What, Wrong, strings.TrimPrefix(err.Error(), "sandbox: "), "This is how every layer is made.", ""}
			if setup := (*SetupError)(nil); errors.As(err, &setup) {
				f.Remedy = setup.Help
			}
		}
	}
	x.add(f)
}

func (x *examination) prove(ctx context.Context) error {
	spec := &Spec{Upper: filepath.Join(x.dir, "whole"), Work: filepath.Join(x.dir, "whole-work"), Build: true}
	for _, dir := range []string{spec.Upper, spec.Work} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	if x.agent != nil {
		executable := fs.FileMode(0o755)
		spec.Actions = []Action{
			&Copy{Sources: []CopySource{{Path: fmt.Sprintf("/proc/self/fd/%d", x.agent.Fd())}}, Dest: "/program", Mode: &executable},
			&Exec{Args: []string{"/program", wire.Examine}, Env: agentEnv},
		}
	}
	_, err := Run(ctx, spec, Streams{})
	return err
}
