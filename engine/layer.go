package engine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	"raptor-make/internal/images"
	"raptor-make/internal/store"
	"raptor-make/rapt"
	"raptor-make/sandbox"
)

func hashText(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

func isMissing(err error) bool { return errors.Is(err, fs.ErrNotExist) }

func cutVar(v string) (key, value string, ok bool) { return strings.Cut(v, "=") }

// follow is the environment and working directory after an instruction.
func follow(op rapt.Op, env []string, dir string) ([]string, string) {
	switch op := op.(type) {
	case *rapt.Env:
		for _, v := range op.Vars {
			env = append(env[:len(env):len(env)], v.Key+"="+v.Value)
		}
	case *rapt.Workdir:
		dir = within(dir, op.Path)
	}
	return env, dir
}

// within joins a path of an instruction to the working directory. A trailing
// slash, which means a directory, stays.
func within(dir, p string) string {
	joined := p
	if !path.IsAbs(p) {
		joined = dir + "/" + p
	}
	joined = path.Clean(joined)
	if strings.HasSuffix(p, "/") && joined != "/" {
		joined += "/"
	}
	return joined
}

// actions is what building a layer takes, and which instruction each action
// comes from.
func (e *Engine) actions(l *Layer) (actions []sandbox.Action, from []*rapt.Instruction, err error) {
	dir := "/"
	env, err := e.environment(l)
	if err != nil {
		return nil, nil, err
	}
	for _, in := range l.Program.Build {
		env, dir = follow(in.Op, env, dir)
		a := e.action(in.Op, env, dir)
		if w, ok := a.(*sandbox.Write); ok && path.Dir(w.Dest) != "/" {
			// As COPY does: missing parents of a destination are made.
			actions, from = append(actions, &sandbox.Mkdir{Dest: path.Dir(w.Dest), Parents: true, Mode: 0o755}), append(from, in)
		}
		if a != nil {
			actions, from = append(actions, a), append(from, in)
		}
	}
	return actions, from, nil
}

func (e *Engine) action(op rapt.Op, env []string, dir string) sandbox.Action {
	switch op := op.(type) {
	case *rapt.Run:
		return &sandbox.Exec{Args: op.Args, Env: unique(env), Dir: dir}
	case *rapt.Write:
		return &sandbox.Write{Dest: within(dir, op.Dest), Data: []byte(op.Value), Mode: mode(op.Mode, 0o644), Owner: op.Owner}
	case *rapt.Render:
		return &sandbox.Write{Dest: within(dir, op.Dest), Data: []byte(op.Text), Mode: mode(op.Mode, 0o644), Owner: op.Owner}
	case *rapt.Mkdir:
		return &sandbox.Mkdir{Dest: within(dir, op.Dest), Parents: op.Parents, Mode: mode(op.Mode, 0o755), Owner: op.Owner}
	case *rapt.Copy:
		c := &sandbox.Copy{Dest: within(dir, op.Dest), Mode: op.Mode, Owner: op.Owner}
		for _, s := range op.Sources {
			c.Sources = append(c.Sources, sandbox.CopySource{Path: s.Path, Ignore: e.ignore(s.Path, s.Ignore)})
		}
		return c
	}
	return nil
}

func mode(given *fs.FileMode, otherwise fs.FileMode) fs.FileMode {
	if given != nil {
		return *given
	}
	return otherwise
}

// ignore is what a copied directory leaves out: what it is told to, the
// project's own store, and outputs that are just being written.
func (e *Engine) ignore(dir string, ignore func(string, bool) bool) func(string, bool) bool {
	own := ""
	root, err := filepath.EvalSymlinks(dir)
	if err == nil {
		own, err = filepath.Rel(root, resolved(e.Store.Path("")))
	}
	if err != nil || !filepath.IsLocal(own) {
		own = "" // the store is elsewhere
	}
	return func(rel string, isDir bool) bool {
		return rel == own || isStaged(filepath.Base(rel)) || ignore != nil && ignore(rel, isDir)
	}
}

// build makes a layer, whose lock is held.
func (e *Engine) build(ctx context.Context, s *stepRun) error {
	l := s.step.Layer
	build, err := e.Store.Begin(l.Dir)
	if err != nil {
		return err
	}
	s.later(func() { build.Discard() })
	record := &store.Layer{Key: string(l.Key), Parts: l.Parts}
	if l.Image != nil {
		err = e.fetch(ctx, s, build.Upper, record)
	} else {
		err = e.buildProgram(ctx, s, build, record)
	}
	if err != nil {
		return err
	}
	record.Took = s.elapsed()
	s.prepareNext()
	return build.Publish(s.interrupt, record)
}

func (e *Engine) fetch(ctx context.Context, s *stepRun, dest string, record *store.Layer) error {
	image := s.step.Layer.Image
	e.fetching.Store(image.Ref, s)
	defer e.fetching.Delete(image.Ref)
	config, err := e.Images.Unpack(ctx, image.Ref, image.Resolved, dest, s.progress)
	if err != nil && ctx.Err() == nil {
		return s.step.Layer.at(err)
	}
	if err != nil {
		return err
	}
	record.Env = config.Env
	return nil
}

// ImageLog is where the output of programs goes that fetch an image: to its
// step. It is nil while no step fetches it.
func (e *Engine) ImageLog(r *images.Ref) io.Writer {
	if s, ok := e.fetching.Load(r); ok {
		return &output{s.(*stepRun), false}
	}
	return nil
}

// WarnImage tells the user what is suspicious about an image that a step
// fetches. It is false if none does.
func (e *Engine) WarnImage(r *images.Ref, message string) bool {
	s, ok := e.fetching.Load(r)
	if ok {
		run := s.(*stepRun)
		run.event(run.step, Event{Kind: Message, Level: "warning", Text: r.URL + ": " + message})
	}
	return ok
}

func (e *Engine) buildProgram(ctx context.Context, s *stepRun, build *store.Build, record *store.Layer) error {
	l := s.step.Layer
	spec := &sandbox.Spec{Upper: build.Upper, Work: build.Work, Build: true, Hostname: "raptor"}
	for _, below := range l.Below.Stack() {
		spec.Layers = append(spec.Layers, e.Store.Path(below.Dir))
	}
	if e.Network == "none" {
		spec.Network = sandbox.NoNetwork
	}
	actions, from, err := e.actions(l)
	if err != nil {
		return err
	}
	spec.Actions = actions
	before, err := e.stamps(l)
	if err != nil {
		return err
	}
	streams := s.streams()
	streams.Started = func(i int) { s.detail(from[i].Text) }
	result, err := e.Execute(ctx, spec, streams)
	if err != nil {
		s.keep(spec, err)
		return explainFailure(err, from)
	}
	record.Entries, record.Bytes = result.Entries, result.Bytes
	after, err := e.stamps(l)
	if err != nil {
		return err
	}
	return e.sameSources(s.interrupt, l, before == after)
}

// stamps is the identity of everything that a layer copies, times of change
// included: a file that was changed and changed back in between shows.
func (e *Engine) stamps(l *Layer) (string, error) {
	h := sha256.New()
	for _, s := range l.Program.Sources {
		if s.Kind == rapt.SourceCopy {
			if err := stamp(h, s.Path, e.ignore(s.Path, s.Ignore)); err != nil {
				return "", err
			}
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// sameSources makes sure that what was copied is what the key says. Untouched:
// nothing was changed since the step began.
func (e *Engine) sameSources(ctx context.Context, l *Layer, untouched bool) error {
	k := &keyer{}
	p := &planner{Engine: e}
	p.layerKey(l, k)
	if LayerKey(k.sum()) == l.Key && untouched {
		return e.rememberTrees(ctx, l, k)
	}
	what := "it was changed and changed back"
	if LayerKey(k.sum()) != l.Key {
		what = strings.Join(compare(l.Parts, k.parts, nil), "; ")
	}
	return fmt.Errorf("%s: a source changed while it was copied (%s): build it again", l.Name, what)
}

// rememberTrees keeps what was in the directories that were copied, so that a
// later rebuild can name the files that changed.
func (e *Engine) rememberTrees(ctx context.Context, l *Layer, k *keyer) error {
	for _, s := range l.Program.Sources {
		info, err := os.Stat(s.Path)
		if s.Kind != rapt.SourceCopy || err != nil || !info.IsDir() {
			continue
		}
		text, err := e.Digests.Listing(s.Path, e.ignore(s.Path, s.Ignore))
		if err != nil {
			return err
		}
		for _, part := range k.parts {
			if part.Label == sourceLabel(s) && e.Store.Tree(part.Value) == "" {
				if err := e.Store.SaveTree(ctx, part.Value, text); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// explainFailure points at the instruction that failed.
func explainFailure(err error, from []*rapt.Instruction) error {
	var exit *sandbox.ExitError
	var act *sandbox.ActionError
	var setup *sandbox.SetupError
	switch {
	case errors.As(err, &exit):
		d := from[exit.Action].Diagnose(fmt.Sprintf("RUN failed: %v", exit))
		return &Failure{Err: err, Diagnostic: d}
	case errors.As(err, &act):
		d := from[act.Action].Diagnose(act.Error())
		if run, ok := from[act.Action].Op.(*rapt.Run); ok {
			d.Help = whyNotFound(act, run.Args[0])
		}
		return &Failure{Err: err, Diagnostic: d}
	case errors.As(err, &setup):
		return setupFailure(err, setup)
	}
	return err
}

// setupFailure says how to mend that a sandbox could not be made, or who knows:
// raptor doctor does, if the kernel said no for a reason of its own.
func setupFailure(err error, setup *sandbox.SetupError) error {
	help := setup.Help
	if help == "" && (errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSYS) || errors.Is(err, syscall.ENODEV) || errors.Is(err, syscall.EOPNOTSUPP)) {
		help = "raptor doctor says what this machine lacks"
	}
	if help == "" {
		return err
	}
	return fmt.Errorf("%w (%s)", err, help)
}

// whyNotFound says what a program that is not there may have been meant as.
func whyNotFound(err *sandbox.ActionError, word string) string {
	switch {
	case !isMissing(err.Err) || err.Op != "exec":
		return ""
	case strings.ContainsAny(word, "|&;<>$()`*?") || word == "cd" || word == "export" || strings.Contains(word, "="):
		return "RUN has no shell: write RUN sh -c \"…\" for a command line of the shell"
	}
	return "there is no such program in the layers below; install it first"
}

// A Failure is a step that failed at a place in a user's file.
type Failure struct {
	Err        error // *sandbox.ExitError or *sandbox.ActionError
	Diagnostic *rapt.Diagnostic
}

func (f *Failure) Error() string { return rapt.Diagnostics{f.Diagnostic}.Error() }

// Print shows the place.
func (f *Failure) Print(w io.Writer, color bool) { rapt.Diagnostics{f.Diagnostic}.Print(w, color) }

func (f *Failure) Unwrap() error { return f.Err }

// diagnose is an error at a place, with the file's text if it can be read.
func diagnose(span rapt.Span, chain []rapt.Frame, message string) *rapt.Diagnostic {
	source, _ := os.ReadFile(span.File)
	return &rapt.Diagnostic{Message: message, Span: span, Chain: chain, Source: source}
}
