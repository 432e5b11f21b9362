package sandbox

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"raptor-make/sandbox/internal/mounts"
	"raptor-make/sandbox/internal/wire"
)

// Run makes the sandbox of a spec, carries out its actions and takes it down
// again. When ctx ends, everything inside is killed at once and the error is
// ctx's cause. Other errors are *SetupError, *ActionError and *ExitError; a
// failed action leaves Upper unspecified.
//
// No mount, process or descriptor is left behind, also when this process dies.
// Run may be called from several goroutines at a time.
func Run(ctx context.Context, spec *Spec, streams Streams) (Result, error) {
	if err := ctx.Err(); err != nil {
		return Result{}, context.Cause(ctx)
	}
	s, err := prepare(spec, streams)
	if err != nil {
		return Result{}, err
	}
	defer s.close()
	return s.run(ctx)
}

// A session is one sandbox seen from outside.
type session struct {
	spec    *Spec
	streams Streams
	files   []*os.File  // to close at the end
	handed  []*os.File  // what the agent is handed: see package wire
	agents  []io.Closer // its ends of pipes, to close once it has them
	events  *os.File
	pumps   []*pump
	wire    *wire.Spec
	agent   *agent
	limiter *limiter // nil: no limits
	action  int      // that was started last
}

func (s *session) close() {
	if s.limiter != nil {
		s.limiter.remove()
	}
	if s.agent != nil {
		s.agent.control.Close()
	}
	for _, f := range s.agents {
		f.Close()
	}
	for _, f := range s.files {
		f.Close()
	}
}

func (s *session) keep(f *os.File) *os.File {
	s.files = append(s.files, f)
	return f
}

// prepare opens everything that the agent is handed.
func prepare(spec *Spec, streams Streams) (*session, error) {
	s := &session{spec: spec, streams: streams}
	if systemCalls == nil {
		return nil, &SetupError{Stage: "filter system calls", Err: fmt.Errorf("there is no list of those of %s", runtime.GOARCH)}
	}
	w := &wire.Spec{
		Layers: spec.Layers, Upper: spec.Upper, Work: spec.Work, Hostname: spec.Hostname, Build: spec.Build,
		State: spec.State, Trace: streams.Stage != nil,
		Loopback: spec.Network == NoNetwork, Terminal: streams.Terminal != nil, Keep: capabilities(spec.Network).mask(), Filter: systemCalls,
		NoNewPrivs: spec.NoNewPrivs,
	}
	if w.Hostname == "" {
		w.Hostname = "raptor"
	}
	w.Hostname = w.Hostname[:min(len(w.Hostname), maxHostname)]
	if spec.Network == HostNetwork {
		w.ResolvConf = resolvConf()
	}
	if !spec.Build {
		_, err := os.Stat("/dev/kvm")
		w.KVM = err == nil
	}
	if w.Rootless = Rootless(); w.Rootless && os.Geteuid() != 0 {
		return nil, &SetupError{Stage: "make namespaces", Err: unix.EPERM, Help: "enter a user namespace first"}
	}
	s.wire = w
	// Ordinary users may change no mounts but their agents'. Where the upper directory
	// is kept, the agent needs the directories themselves.
	w.Root = !w.Rootless && !w.Build && !w.State && spec.weak == 0
	s.weaken(w)
	w.Wait = spec.Limits != Limits{}
	err := s.mounts(w)
	var sources []*os.File
	if err == nil {
		sources, err = s.actions(w)
	}
	if err == nil {
		err = s.descriptors(w.Encode(), sources)
	}
	if err == nil {
		err = s.limit()
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// weaken switches off what is switched off out here. See Spec.weak.
func (s *session) weaken(w *wire.Spec) {
	if s.spec.weak&wire.Seccomp != 0 {
		w.Filter = nil
	}
	if s.spec.weak&wire.Capabilities != 0 {
		w.Keep = 1<<63 - 1
	}
}

// maxHostname is the kernel's limit; targets may have longer names.
const maxHostname = 64

// mounts translates the mounts.
func (s *session) mounts(w *wire.Spec) error {
	for _, m := range s.spec.Mounts {
		mount := wire.Mount{Dest: filepath.Clean("/" + m.Dest), ReadOnly: m.ReadOnly, Source: m.Source, Overlay: m.Overlay, Index: m.Index}
		if mount.Dest == "/" {
			return &SetupError{Stage: "mount", Path: "/", Err: unix.EBUSY, Help: "the layers are mounted there"}
		}
		for _, d := range m.Dirs {
			if d.Name == "" || d.Name == "." || d.Name == ".." || strings.Contains(d.Name, "/") {
				return &SetupError{Stage: "mount", Path: mount.Dest + "/" + d.Name, Err: unix.EINVAL}
			}
			mount.Dirs = append(mount.Dirs, wire.Dir(d))
		}
		w.Mounts = append(w.Mounts, mount)
	}
	return nil
}

// actions translates the actions, and opens the sources of COPY.
func (s *session) actions(w *wire.Spec) (sources []*os.File, err error) {
	for i, action := range s.spec.Actions {
		var a wire.Action
		switch action := action.(type) {
		case *Exec:
			if len(action.Args) == 0 {
				return nil, &ActionError{Action: i, Op: "exec", Path: "nothing", Err: unix.EINVAL}
			}
			a = wire.Action{Kind: wire.Run, Args: action.Args, Env: action.Env, Dir: action.Dir}
		case *Mkdir:
			a = wire.Action{Kind: wire.Mkdir, Dest: action.Dest, Parents: action.Parents, Mode: uint32(action.Mode), Owner: action.Owner}
		case *Write:
			a = wire.Action{Kind: wire.Write, Dest: action.Dest, Data: action.Data, Mode: uint32(action.Mode), Owner: action.Owner}
		case *Copy:
			a = wire.Action{Kind: wire.Copy, Dest: action.Dest, Owner: action.Owner, HasMode: action.Mode != nil}
			if action.Mode != nil {
				a.Mode = uint32(*action.Mode)
			}
			for _, src := range action.Sources {
				// Not to wait for anybody to write to a named pipe.
				fd, err := unix.Open(src.Path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
				if err != nil {
					return nil, &ActionError{Action: i, Op: "read", Path: src.Path, Err: err}
				}
				f := s.keep(os.NewFile(uintptr(fd), src.Path))
				exclude, err := excluded(src)
				if err != nil {
					return nil, &ActionError{Action: i, Op: "read", Path: src.Path, Err: reason(err)}
				}
				a.Sources = append(a.Sources, wire.Source{Index: len(sources), Name: filepath.Base(src.Path), Exclude: exclude})
				sources = append(sources, f)
			}
		}
		w.Actions = append(w.Actions, a)
	}
	return sources, nil
}

// excluded lists what a source leaves out.
func excluded(src CopySource) ([]string, error) {
	if src.Ignore == nil {
		return nil, nil
	}
	root, err := filepath.EvalSymlinks(src.Path)
	if err != nil {
		return nil, err
	}
	var list []string
	err = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		rel := strings.TrimPrefix(path[len(root):], "/")
		if !src.Ignore(rel, entry.IsDir()) {
			return nil
		}
		list = append(list, rel)
		if entry.IsDir() {
			return fs.SkipDir
		}
		return nil
	})
	return list, err
}

// descriptors lays out what the agent finds open: see package wire.
func (s *session) descriptors(encoded []byte, sources []*os.File) error {
	fd, err := unix.MemfdCreate("raptor-spec", unix.MFD_CLOEXEC)
	if err != nil {
		return &SetupError{Stage: "create specification", Err: err}
	}
	specFile := s.keep(os.NewFile(uintptr(fd), "raptor-spec"))
	if _, err := specFile.Write(encoded); err != nil {
		return &SetupError{Stage: "write specification", Err: reason(err)}
	}
	// Not by os.Pipe, whose ends go through the poller: one thread more would have
	// to be woken for each event.
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_CLOEXEC); err != nil {
		return &SetupError{Stage: "create event pipe", Err: err}
	}
	s.events = s.keep(os.NewFile(uintptr(ends[0]), "events"))
	toEvents := os.NewFile(uintptr(ends[1]), "events")
	s.agents = append(s.agents, toEvents)
	if s.handed, err = s.standard(); err != nil {
		return err
	}
	s.handed = append(append(s.handed, specFile, toEvents), sources...)
	return nil
}

// run starts the agent and follows it to its end.
func (s *session) run(ctx context.Context) (Result, error) {
	err := s.start()
	for _, f := range s.agents {
		f.Close()
	}
	if err != nil {
		return Result{}, err
	}
	stopKilling := context.AfterFunc(ctx, func() { s.agent.process.kill() }) // process 1: all others go with it
	defer stopKilling()
	detach := s.attach()
	stopSignals := s.forward()
	defer stopSignals()
	result, err := s.follow()
	state, werr := s.agent.process.wait()
	if err == nil && result == nil {
		err = &SetupError{Stage: agentLost, Err: ended(state, werr)}
	}
	err = s.blame(err)
	s.drain(ctx)
	detach(ctx.Err() == nil)
	switch {
	case ctx.Err() != nil:
		return Result{}, context.Cause(ctx)
	case err != nil:
		return Result{}, err
	}
	return *result, nil
}

// start finds an agent in new namespaces and hands it the sandbox.
func (s *session) start() error {
	attr := &syscall.SysProcAttr{Cloneflags: namespaces, Setsid: true}
	if s.spec.Network == NoNetwork {
		attr.Cloneflags |= unix.CLONE_NEWNET
	}
	for defence, flag := range map[uint64]uintptr{wire.PIDs: unix.CLONE_NEWPID, wire.IPC: unix.CLONE_NEWIPC, wire.HostNames: unix.CLONE_NEWUTS} {
		if s.spec.weak&defence != 0 {
			attr.Cloneflags &^= flag
		}
	}
	var args []string
	if s.spec.weak != 0 {
		args = []string{strconv.FormatUint(s.spec.weak, 10)}
	}
	if attr.Cloneflags == namespaces && s.limiter == nil && s.spec.agent == nil && args == nil {
		if s.agent = takePrepared(); s.agent != nil {
			if s.hand() == nil {
				return nil
			}
			s.agent.end()
		}
	}
	program, err := s.spec.agent, error(nil)
	if program == nil {
		if program, err = agentProgram.File(); err != nil {
			return noAgent(err)
		}
	}
	if s.limiter != nil {
		attr.CgroupFD, attr.UseCgroupFD = s.limiter.fd()
	}
	if s.agent, err = startAgent(program, attr, args...); err != nil {
		return s.startError(err)
	}
	if err := s.hand(); err != nil {
		state, werr := s.agent.end()
		return &SetupError{Stage: agentLost, Err: errors.Join(err, ended(state, werr))}
	}
	if err := s.introduce(); err != nil {
		s.agent.end()
		return err
	}
	return nil
}

// hand gives the agent the files of its sandbox, and then the root.
func (s *session) hand() error {
	if err := s.agent.hand(s.handed); err != nil || !s.wire.Root {
		return err
	}
	root := s.mountRoot()
	if root == nil {
		return s.agent.send([]byte{0}, nil)
	}
	defer root.Close() // the agent's is the last to be closed, and waits for what that takes
	err := s.agent.send([]byte{0}, []*os.File{root})
	if err == nil {
		s.lookAhead(int(root.Fd()))
	}
	return err
}

// mountRoot makes the overlay of a container, while the agent is still busy with its
// start. Where that fails it is nil, and the agent tries for itself, and tells what
// is wrong. That is so before Linux 6.7.
func (s *session) mountRoot() (root *os.File) {
	if time.Since(s.agent.started) > starting {
		return nil
	}
	onOwnThread(func() {
		if unix.Unshare(unix.CLONE_FS) != nil {
			return
		}
		overlay, err := mounts.Root(s.wire, unix.MOUNT_ATTR_NODEV)
		if err != nil {
			return
		}
		defer overlay.Close()
		if mount, err := overlay.Mount(); err == nil {
			root = os.NewFile(uintptr(mount), "overlay")
		}
	})
	return root
}

// onOwnThread calls a function on a thread that ends with it: what it does to its
// thread, it does to nobody else.
func onOwnThread(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if unix.Gettid() != unix.Getpid() {
			f()
			return
		}
		// The main thread would not end. While we have it, it is not given to another.
		defer runtime.UnlockOSThread()
		onOwnThread(f)
	}()
	<-done
}

// lookAhead looks up what the agent, which wakes up just now, will look up in the
// root: each name may have to be looked up in a hundred layers.
func (s *session) lookAhead(root int) {
	names := []string{"dev", "run", "etc/resolv.conf", "sys", "proc"}
	for _, action := range s.wire.Actions[:min(1, len(s.wire.Actions))] {
		if action.Kind == wire.Run && strings.HasPrefix(action.Args[0], "/") {
			names = append(names, strings.TrimLeft(action.Args[0], "/"))
		}
	}
	for _, name := range names {
		fd, err := unix.Openat2(root, name, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV})
		if err == nil {
			unix.Close(fd)
		}
	}
}

// starting is how long an agent takes, more or less, until it waits for its sandbox:
// from then on it is as fast as we are.
const starting = 4 * time.Millisecond

// introduce gives the agent what it cannot take for itself, and waits for.
func (s *session) introduce() error {
	if s.limiter != nil {
		if err := s.limiter.join(s.agent.process.pid); err != nil {
			return limitError(err)
		}
		s.agent.control.Write([]byte{wire.GoAhead})
	}
	return nil
}

// blame says so when a limit is why a run failed. The kernel may choose the
// agent to be killed, too.
func (s *session) blame(err error) error {
	if s.limiter == nil || err == nil {
		return err
	}
	var exit *ExitError
	var setup *SetupError
	limit := s.limiter.reached()
	switch {
	case errors.As(err, &exit):
		exit.Limit = limit
	case limit == "memory" && errors.As(err, &setup) && setup.Stage == agentLost:
		return &ExitError{Action: s.action, Status: 128 + int(syscall.SIGKILL), Signal: syscall.SIGKILL, Limit: limit}
	}
	return err
}

const agentLost = "run agent"

func ended(state fmt.Stringer, err error) error {
	if err != nil {
		return fmt.Errorf("it ended without a word: %w", err)
	}
	return fmt.Errorf("it ended without a word: %v", state)
}

// follow reads events until the agent closes the pipe. A nil result with a nil
// error means that the agent ended without one.
func (s *session) follow() (*Result, error) {
	r := bufio.NewReader(s.events)
	for {
		n, err := binary.ReadUvarint(r)
		if err != nil {
			return nil, nil
		}
		buf := make([]byte, n)
		if _, err := io.ReadFull(r, buf); err != nil {
			return nil, nil
		}
		ev, err := wire.DecodeEvent(buf)
		if err != nil {
			return nil, &SetupError{Stage: "read event", Err: err}
		}
		switch ev.Kind {
		case wire.Started:
			s.action = ev.Action
			if s.streams.Started != nil {
				s.streams.Started(ev.Action)
			}
		case wire.Exited:
			return nil, &ExitError{Action: ev.Action, Status: ev.Status, Signal: syscall.Signal(ev.Errno)}
		case wire.Failed:
			return nil, &ActionError{Action: ev.Action, Op: ev.Op, Path: ev.Path, Err: said(ev)}
		case wire.NoSetup:
			return nil, &SetupError{Stage: ev.Op, Path: ev.Path, Err: said(ev), Help: s.setupHelp(ev)}
		case wire.Stage:
			s.streams.Stage(ev.Op, ev.Entries)
		case wire.Done:
			return &Result{Entries: ev.Entries, Bytes: ev.Bytes}, nil
		}
	}
}

// forward hands signals to the agent, which hands them to the program.
func (s *session) forward() (stop func()) {
	if s.streams.Signals == nil {
		return func() {}
	}
	done := make(chan struct{})
	go func() {
		for {
			select {
			case sig, open := <-s.streams.Signals:
				if !open {
					return
				}
				if n, ok := sig.(syscall.Signal); ok && n > 0 && n < 128 {
					s.agent.control.Write([]byte{byte(n)})
				}
			case <-done:
				return
			}
		}
	}()
	return func() { close(done) }
}

// resolvConf is what the host resolves names with; nil when it does not say.
// The sandbox shares the host's network, so a resolver on loopback will do.
func resolvConf() []byte {
	for _, file := range []string{"/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"} {
		if text, err := os.ReadFile(file); err == nil {
			return text
		}
	}
	return nil
}
