package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"

	"raptor-make/internal/store"
	"raptor-make/rapt"
	"raptor-make/recipes"
	"raptor-make/sandbox"
)

// defaultPath is where programs are looked for.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// environment is what every program of a layer is started with, before ENV.
// Later values of a variable win.
func (e *Engine) environment(l *Layer) ([]string, error) {
	env := []string{"PATH=" + defaultPath, "HOME=/root", "container=raptor"}
	env = append(env, e.Proxies...)
	if e.Epoch != "" {
		env = append(env, "SOURCE_DATE_EPOCH="+e.Epoch)
	}
	image, err := e.imageEnv(l)
	return append(env, image...), err
}

// imageEnv is the Env of the base image that a layer stands on.
func (e *Engine) imageEnv(l *Layer) ([]string, error) {
	for ; l != nil; l = l.Below {
		if l.Image == nil {
			continue
		}
		if l.Image.env != nil {
			return l.Image.env, nil
		}
		record, err := e.Store.Layer(l.Dir, string(l.Key))
		if err != nil {
			return nil, fmt.Errorf("read what base image %s sets: %w", l.Name, err)
		}
		return record.Env, nil
	}
	return nil, nil
}

// entrypoint and command are what a container runs.
func (c *Container) entrypoint() []string {
	switch {
	case len(c.Job.Entrypoint) > 0:
		return recipes.Texts(c.Job.Entrypoint)
	case c.Layer.Program.Entrypoint != nil:
		return c.Layer.Program.Entrypoint
	}
	return nil
}

func (c *Container) command() []string {
	if len(c.Job.Args) > 0 {
		return recipes.Texts(c.Job.Args)
	}
	return c.Layer.Program.Cmd
}

// program is the whole command line. Without an entrypoint one argument is a
// line for the shell, several are a program and its arguments.
func (c *Container) program() []string {
	entrypoint, args := c.entrypoint(), c.command()
	switch {
	case entrypoint != nil:
		return append(append([]string{}, entrypoint...), args...)
	case len(args) == 0:
		return []string{"/bin/sh"}
	case len(args) == 1:
		return []string{"/bin/sh", "-c", args[0]}
	}
	return args
}

func (e *Engine) network(c *Container) string {
	if e.Network != "" {
		return e.Network
	}
	if n := c.Job.Network.Text; n != "" {
		return n
	}
	return "host"
}

// A running container has what has to be tidied up after it.
type running struct {
	spec    *sandbox.Spec
	staged  []stagedOutput
	discard []func()
}

// A stagedOutput is a file that takes the place of an output when all is well.
type stagedOutput struct {
	written, temp, path string
}

func (r *running) close() {
	for i := len(r.discard) - 1; i >= 0; i-- {
		r.discard[i]()
	}
}

// commit lets the outputs appear, each whole: also after a power failure, a
// name stands for the old file or for all of the new one.
func (r *running) commit(ctx context.Context, s *store.Store) error {
	for _, out := range r.staged {
		err := s.Durable(ctx, out.temp)
		if err == nil {
			err = os.Rename(out.temp, out.path)
		}
		if err == nil {
			err = s.Durable(ctx, filepath.Dir(out.path))
		}
		if err != nil {
			return fmt.Errorf("put output %s in its place: %w", out.written, err)
		}
	}
	return nil
}

var containers atomic.Int64

// start prepares a container: its changes, its mounts, its program.
func (e *Engine) start(ctx context.Context, c *Container, extra []string) (_ *running, err error) {
	r := &running{spec: &sandbox.Spec{Hostname: hostname(c)}}
	defer func() {
		if err != nil {
			r.close()
		}
	}()
	for _, l := range c.Layer.Stack() {
		r.spec.Layers = append(r.spec.Layers, e.Store.Path(l.Dir))
	}
	r.spec.Limits = sandbox.Limits{Memory: c.Job.Limits.Memory, Pids: c.Job.Limits.Pids}
	if e.network(c) == "none" {
		r.spec.Network = sandbox.NoNetwork
	}
	if err := e.changes(ctx, c, r); err != nil {
		return nil, err
	}
	dir := "/"
	env, err := e.environment(c.Layer)
	if err != nil {
		return nil, err
	}
	for _, in := range c.Layer.Program.Build {
		env, dir = follow(in.Op, env, dir)
	}
	if outputs := c.outputs(); len(outputs) == 1 && len(outputs[0].written) == 1 {
		env = append(env, "RAPTOR_OUTPUT="+outputs[0].written[0])
	}
	for _, b := range c.bindings {
		if err := e.mount(r, b); err != nil {
			return nil, err
		}
	}
	for _, v := range c.Job.Env {
		env = append(env, v.Key+"="+v.Value.Text)
	}
	r.spec.Actions = []sandbox.Action{&sandbox.Exec{Args: c.program(), Env: unique(append(env, extra...)), Dir: dir}}
	return r, nil
}

// unique keeps the last value of each variable, in the order of first use.
func unique(env []string) []string {
	at := map[string]int{}
	var list []string
	for _, v := range env {
		key, _, _ := cutVar(v)
		if i, ok := at[key]; ok {
			list[i] = v
			continue
		}
		at[key] = len(list)
		list = append(list, v)
	}
	return list
}

// hostname is the target's name as far as a host can have it.
func hostname(c *Container) string {
	var name []byte
	for _, ch := range []byte(c.Layer.Name) {
		switch {
		case ch >= 'a' && ch <= 'z', ch >= 'A' && ch <= 'Z', ch >= '0' && ch <= '9', ch == '.':
			name = append(name, ch)
		default:
			name = append(name, '-')
		}
	}
	return string(name[:min(len(name), 64)])
}

// changes is where what the container changes goes: to its state directory, or
// to one that is thrown away.
func (e *Engine) changes(ctx context.Context, c *Container, r *running) error {
	if state := c.Job.StateDir.Text; state != "" {
		return e.state(ctx, e.Project.Abs(state), r)
	}
	name := "container-" + strconv.Itoa(os.Getpid()) + "-" + strconv.FormatInt(containers.Add(1), 10)
	lock, err := e.Store.Lock(ctx, name, nil)
	if err != nil {
		return err
	}
	r.discard = append(r.discard, lock.Remove)
	build, err := e.Store.Begin(name)
	if err != nil {
		return err
	}
	r.discard = append(r.discard, func() { build.Discard() })
	r.spec.Upper, r.spec.Work = build.Upper, build.Work
	return nil
}

// state is a directory in which the changes of a container are kept: below it
// are upper/, in the form of a layer, and work/, which is overlayfs's own.
func (e *Engine) state(ctx context.Context, dir string, r *running) error {
	lock, err := e.Store.Lock(ctx, "state-"+short(hashText(dir)), nil)
	if err != nil {
		return err
	}
	r.discard = append(r.discard, lock.Unlock)
	r.spec.Upper, r.spec.Work, r.spec.State = filepath.Join(dir, "upper"), filepath.Join(dir, "work"), true
	if err := os.MkdirAll(r.spec.Upper, 0o755); err != nil {
		return fmt.Errorf("make state directory: %w", err)
	}
	if err := freshWork(r.spec.Work); err != nil {
		return fmt.Errorf("make state directory: %w", err)
	}
	return nil
}

// mount adds what a binding means to the sandbox.
func (e *Engine) mount(r *running, b *binding) error {
	m := sandbox.Mount{Dest: b.mount.Dest, ReadOnly: b.mount.ReadOnly}
	switch b.mount.Type {
	case rapt.MountLayers:
		dirs, index := e.sideBySide(b)
		m.Dirs, m.Index = dirs, index
	case rapt.MountOverlay:
		for _, l := range b.layers[0].Stack() {
			m.Overlay = append(m.Overlay, e.Store.Path(l.Dir))
		}
	case rapt.MountSimple:
		if err := e.directory(b); err != nil {
			return err
		}
		m.Source = b.path
	case rapt.MountFile:
		if err := e.file(r, b); err != nil {
			return err
		}
		m.Source = b.path
		if b.isOutput() {
			m.Source = r.staged[len(r.staged)-1].temp
		}
	}
	r.spec.Mounts = append(r.spec.Mounts, m)
	return nil
}

// directory makes sure that there is one to mount.
func (e *Engine) directory(b *binding) error {
	info, err := os.Stat(b.path)
	switch {
	case err == nil && info.IsDir():
		return nil
	case err == nil:
		return fmt.Errorf("mount %s: %s is no directory", b.mount.Name, b.written[0])
	case !errors.Is(err, fs.ErrNotExist) || b.mount.ReadOnly && b.isInput():
		return fmt.Errorf("mount %s: %w", b.mount.Name, err)
	}
	if err := os.MkdirAll(b.path, 0o755); err != nil {
		return fmt.Errorf("mount %s: %w", b.mount.Name, err)
	}
	return nil
}

// file makes sure that there is a file to mount. An output is written beside
// its place.
func (e *Engine) file(r *running, b *binding) error {
	info, err := os.Stat(b.path)
	switch {
	case err == nil && info.IsDir():
		return fmt.Errorf("mount %s: %s is a directory, a file is wanted", b.mount.Name, b.written[0])
	case err != nil && (!errors.Is(err, fs.ErrNotExist) || b.mount.ReadOnly && b.isInput()):
		return fmt.Errorf("mount %s: %w", b.mount.Name, err)
	case err == nil && !b.isOutput():
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(b.path), 0o755); err != nil {
		return fmt.Errorf("mount %s: %w", b.mount.Name, err)
	}
	if !b.isOutput() {
		f, err := os.OpenFile(b.path, os.O_RDONLY|os.O_CREATE, 0o644)
		if err != nil {
			return fmt.Errorf("mount %s: %w", b.mount.Name, err)
		}
		return f.Close()
	}
	return r.stage(b)
}

// stagedName is how the temporary file of an output is called, with the
// output's name in it and a number after it.
const stagedName = ".%s.raptor-"

func isStaged(name string) bool {
	return strings.HasPrefix(name, ".") && strings.Contains(name, ".raptor-")
}

func (r *running) stage(b *binding) error {
	path := b.path
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target // a link that the user made stays a link
	}
	f, err := os.CreateTemp(filepath.Dir(path), fmt.Sprintf(stagedName, filepath.Base(path)))
	if err == nil {
		err = errors.Join(f.Chmod(0o644), f.Close())
	}
	if err != nil {
		return fmt.Errorf("make output %s: %w", b.written[0], err)
	}
	r.staged = append(r.staged, stagedOutput{b.written[0], f.Name(), path})
	r.discard = append(r.discard, func() { os.Remove(f.Name()) }) // fails once it is renamed
	return nil
}

// sideBySide lists the distinct layers of targets, and describes them in the
// form that builders read: {"targets": [name…], "layers": {name: [dir…]}}.
func (e *Engine) sideBySide(b *binding) ([]sandbox.Dir, []byte) {
	var index struct {
		Targets []string            `json:"targets"`
		Layers  map[string][]string `json:"layers"`
	}
	index.Targets, index.Layers = b.written, map[string][]string{}
	var dirs []sandbox.Dir
	seen := map[string]bool{}
	for i, target := range b.layers {
		var names []string
		for _, l := range target.Stack() {
			names = append(names, l.Dir)
			if !seen[l.Dir] {
				seen[l.Dir] = true
				dirs = append(dirs, sandbox.Dir{Name: l.Dir, Source: e.Store.Path(l.Dir)})
			}
		}
		index.Layers[b.written[i]] = names
	}
	text, _ := json.Marshal(index) // strings always can be
	return dirs, append(text, '\n')
}

// outputDigest is the digest of what a job wrote, and its size. With learn it
// has just been written.
func (e *Engine) outputDigest(path string, learn bool) (Digest, int64, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", 0, err
	}
	if info.Mode().IsRegular() {
		if learn {
			return e.Digests.Learn(path)
		}
		digest, err := e.Digests.Content(path)
		return digest, info.Size(), err
	}
	digest, err := e.Digests.Tree(path, nil)
	if err != nil {
		return "", 0, err
	}
	var size int64
	err = filepath.WalkDir(path, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			var info fs.FileInfo
			if info, err = d.Info(); err == nil {
				size += info.Size()
			}
		}
		return err
	})
	return digest, size, err
}

// Container runs the container of a plan that Run has made true.
func (e *Engine) Container(ctx context.Context, p *Plan, streams sandbox.Streams, env []string) error {
	defer p.Close()
	c := p.Run
	r, err := e.start(ctx, c, env)
	if err != nil {
		return err
	}
	defer r.close()
	if _, err := e.Execute(ctx, r.spec, streams); err != nil {
		return err
	}
	return r.commit(ctx, e.Store)
}

// record is what is written down about a job that succeeded.
func (e *Engine) record(c *Container) (*store.Job, error) {
	j := &store.Job{Name: c.Job.Name, Key: string(c.Key), Parts: c.Parts}
	for _, b := range c.outputs() {
		digest, size, err := e.outputDigest(b.path, true)
		if err != nil {
			return nil, fmt.Errorf("read output %s: %w", b.written[0], err)
		}
		j.Outputs = append(j.Outputs, store.Output{Path: b.written[0], Digest: string(digest), Bytes: size})
	}
	return j, nil
}
