package engine

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"raptor-make/graph"
	"raptor-make/internal/images"
	"raptor-make/internal/store"
	"raptor-make/rapt"
	"raptor-make/recipes"
)

// Plan finds out what a request takes. The network is asked only for base
// images that the lock file does not know. The error is of type
// rapt.Diagnostics when a user's file is wrong.
func (e *Engine) Plan(ctx context.Context, req Request) (*Plan, error) {
	p := &planner{Engine: e, plan: &Plan{}, layers: map[string]*Layer{}, bases: map[string]*Layer{}, names: map[string]bool{}}
	p.load(req)
	if err := p.failed(); err != nil {
		return nil, err
	}
	if err := p.resolve(ctx); err != nil {
		return nil, err
	}
	p.keys()
	p.watchPrograms()
	if err := p.failed(); err != nil {
		return nil, err
	}
	if err := p.order(); err != nil {
		return nil, err
	}
	p.decide(req.Whole)
	return p.plan, nil
}

// Check finds what is wrong or suspicious in a request without anything being
// executed or looked up, and counts the modules that it is made of.
func (e *Engine) Check(req Request) (modules int, found rapt.Diagnostics) {
	p := &planner{Engine: e, plan: &Plan{}, layers: map[string]*Layer{}, bases: map[string]*Layer{}, names: map[string]bool{}}
	p.load(req)
	return len(p.built), p.found
}

// Load loads the programs that names stand for, and tells what is wrong or
// suspicious in them.
func (e *Engine) Load(names []recipes.Value) ([]*rapt.Program, rapt.Diagnostics) {
	p := &planner{Engine: e, plan: &Plan{}, layers: map[string]*Layer{}, bases: map[string]*Layer{}, names: map[string]bool{}}
	var programs []*rapt.Program
	for _, name := range names {
		if l := p.target(name); l != nil {
			programs = append(programs, l.Program)
		}
	}
	return programs, p.found
}

// A planner turns a request into a plan, in the order of its methods.
type planner struct {
	*Engine
	plan   *Plan
	found  rapt.Diagnostics
	layers map[string]*Layer // by Program.ID
	bases  map[string]*Layer // by URL, and directory if that counts
	names  map[string]bool   // of steps
	built  []*Layer          // layers of programs, each after the one below
	jobs   map[*recipes.Job]*Container
	lasts  map[string]*store.Layer

	writers *writers
}

func (p *planner) failed() error {
	var errs, warnings rapt.Diagnostics
	type place struct {
		span    rapt.Span
		message string
	}
	told := map[place]bool{}
	for _, d := range p.found {
		if at := (place{d.Span, d.Message}); told[at] {
			continue // what many lead to is wrong once
		} else {
			told[at] = true
		}
		if d.Severity == rapt.Warning {
			warnings = append(warnings, d)
		} else {
			errs = append(errs, d)
		}
	}
	p.plan.Warnings = warnings
	if len(errs) > 0 {
		return errs
	}
	return nil
}

// found collects what Loader.Load and others report.
func (p *planner) note(err error) {
	var ds rapt.Diagnostics
	if errors.As(err, &ds) {
		p.found = append(p.found, ds...)
	} else if err != nil {
		p.found = append(p.found, &rapt.Diagnostic{Message: err.Error()})
	}
}

// load loads the programs of all targets and binds the mounts of jobs.
func (p *planner) load(req Request) {
	p.writers = p.Engine.writers()
	for _, name := range req.Layers {
		if l := p.target(name); l != nil {
			p.plan.Targets = append(p.plan.Targets, l)
		}
	}
	p.allJobs(req.Jobs)
	if req.Run != nil {
		p.plan.Run = p.job(req.Run)
	}
	p.paths()
}

// target is the layer that a module name stands for, nil if there is none.
func (p *planner) target(name recipes.Value) *Layer {
	var source []byte
	if name.Span.Line > 0 {
		source = p.Project.Diagnose(name.Span, "", "").Source
	}
	program, err := p.Loader.Load(name.Text, name.Span, source)
	if err != nil {
		p.note(p.misnamed(name, err))
		return nil
	}
	return p.layer(program)
}

// misnamed is the error about a target that is none, and says so if it is
// something else that the project has.
func (p *planner) misnamed(name recipes.Value, err error) error {
	var found rapt.Diagnostics
	if !errors.As(err, &found) || len(found) != 1 || found[0].Span != name.Span {
		return err
	}
	d := *found[0]
	d.Label = ""
	switch j := p.Project.Job(name.Text); {
	case j != nil:
		d.Message = name.Text + " is a job, not a layer"
		d.Help = fmt.Sprintf("raptor-make %s runs it; the layer that it runs is %s", name.Text, j.Target.Text)
	case p.Project.Group(name.Text) != nil:
		d.Message = name.Text + " is a group, not a layer"
		d.Help = fmt.Sprintf("raptor-make %s makes all that it names", name.Text)
	default:
		return err
	}
	return rapt.Diagnostics{&d}
}

func (p *planner) layer(program *rapt.Program) *Layer {
	if l, ok := p.layers[program.ID]; ok {
		return l
	}
	l := &Layer{Name: program.Name, Program: program}
	p.layers[program.ID] = l
	p.found = append(p.found, program.Warnings...)
	if from := program.From; from != nil && from.Base != nil {
		l.Below = p.layer(from.Base)
	} else if from != nil {
		l.Below = p.base(from)
	}
	l.step = &Step{Kind: Build, Name: p.name(program.Name, program.File), Layer: l}
	if l.Below != nil {
		l.step.Needs = []*Step{l.Below.step}
	}
	p.plan.Steps = append(p.plan.Steps, l.step)
	p.built = append(p.built, l)
	return l
}

// base is the layer of a base image, which several programs may share.
func (p *planner) base(from *rapt.From) *Layer {
	id := from.URL
	if scheme, _, _ := strings.Cut(id, "://"); !isPinned(scheme) {
		id = from.Dir + "\x00" + id // a path means another file elsewhere
	}
	if l, ok := p.bases[id]; ok {
		return l
	}
	root := ""
	if from.Pkg != nil && from.Pkg.Confined {
		root = from.Pkg.Root
	}
	ref, err := images.Parse(from.URL, from.Dir, root)
	if err != nil {
		p.found = append(p.found, diagnose(from.Span, nil, err.Error()))
		ref = &images.Ref{URL: from.URL, Name: "image"}
	}
	for _, file := range ref.Files() {
		p.Watch.File(file, true)
	}
	l := &Layer{Name: ref.Name, Image: &Image{Ref: ref, from: from.Span}}
	p.bases[id] = l
	l.step = &Step{Kind: Fetch, Name: p.name(ref.Name, from.URL), Layer: l}
	p.plan.Steps = append(p.plan.Steps, l.step)
	return l
}

// name makes a step's name unique.
func (p *planner) name(name, file string) string {
	if p.names[name] {
		if rel, err := filepath.Rel(p.Project.Root, file); err == nil && filepath.IsAbs(file) {
			file = rel
		}
		name = fmt.Sprintf("%s (%s)", name, file)
	}
	for n := 2; p.names[name]; n++ {
		name += "#" + strconv.Itoa(n)
	}
	p.names[name] = true
	return name
}

// resolve finds out which images are meant, several at a time.
func (p *planner) resolve(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(8)
	for _, l := range p.bases {
		group.Go(func() error {
			ref := l.Image.Ref
			locked := ""
			if isPinned(ref.Scheme) && !p.Update {
				locked, _ = p.Lock.Lookup(recipes.PinImage, ref.URL, p.Platform)
			}
			res, err := p.Images.Resolve(ctx, ref, locked)
			if err != nil && ctx.Err() == nil {
				return l.at(err)
			}
			if err != nil {
				return err
			}
			if isPinned(ref.Scheme) {
				p.Lock.Record(recipes.PinImage, ref.URL, p.Platform, res.Digest)
			}
			l.Image.Resolved = res
			return nil
		})
	}
	return group.Wait()
}

// at is an error about a base image, at the FROM that names it.
func (l *Layer) at(err error) error {
	return &Failure{Err: err, Diagnostic: diagnose(l.Image.from, nil, err.Error())}
}

// isPinned tells whether what a name stands for may change behind our back. A
// file of the user's own is just what it is.
func isPinned(scheme string) bool { return scheme == "docker" || scheme == "debian" }

// keys gives every layer its key, from the bottom up.
func (p *planner) keys() {
	for _, l := range p.bases {
		k := &keyer{}
		k.add("image", l.Image.Resolved.Digest)
		k.add("platform", p.Platform)
		l.setKey(k)
		for _, d := range l.Image.Resolved.Detail {
			l.Parts = append(l.Parts, store.Part{Label: "detail " + d[0], Value: d[1]})
		}
	}
	for _, l := range p.built {
		k := &keyer{}
		p.layerKey(l, k)
		l.setKey(k)
	}
}

func (l *Layer) setKey(k *keyer) {
	l.Parts, l.Key = k.parts, LayerKey(k.sum())
	l.Dir = l.Name + "-" + l.Key.Short()
}

// layerKey adds all that a layer's content depends on.
func (p *planner) layerKey(l *Layer, k *keyer) {
	parent := "nothing"
	if l.Below != nil {
		parent = string(l.Below.Key)
	}
	k.add("parent", parent)
	k.add("platform", p.Platform)
	if p.Epoch != "" {
		k.add("SOURCE_DATE_EPOCH", p.Epoch)
	}
	for i, in := range l.Program.Build {
		k.add("instruction "+strconv.Itoa(i+1), in.Text)
		if r, ok := in.Op.(*rapt.Render); ok {
			k.add("text "+strconv.Itoa(i+1), r.Text)
		}
	}
	for _, s := range l.Program.Sources {
		digest, err := p.source(s)
		if err != nil {
			p.found = append(p.found, &rapt.Diagnostic{Message: fmt.Sprintf("read %s: %v", s.Written, err), Span: rapt.Span{File: l.Program.File}, Err: err})
			continue
		}
		if digest != "" {
			k.add(sourceLabel(s), string(digest))
		}
	}
}

func sourceLabel(s *rapt.Source) string { return "source " + s.Written }

// source is the digest of what counts of a source; "" when its instructions
// say it all.
func (p *planner) source(s *rapt.Source) (Digest, error) {
	switch s.Kind {
	case rapt.SourceModule:
		return "", nil
	case rapt.SourceProbe:
		return Probe(s.Path), nil
	default:
		return p.Digests.Tree(s.Path, p.ignore(s.Path, s.Ignore))
	}
}

// order adds the steps of jobs, and sorts all steps.
func (p *planner) order() error {
	p.jobSteps()
	g := stepGraph(p.plan.Steps, func(*Step) time.Duration { return 1 })
	order, err := g.Order()
	var cycle *graph.CycleError
	if errors.As(err, &cycle) {
		slices.Reverse(cycle.Path)
		return rapt.Diagnostics{{Message: "jobs wait for each other's output: " + strings.Join(cycle.Path, " -> "), Span: rapt.Span{File: p.Project.File}}}
	}
	if err != nil {
		return err
	}
	sorted := make([]*Step, len(order))
	for i, n := range order {
		sorted[i] = p.plan.Steps[n]
	}
	p.plan.Steps = sorted
	return nil
}

// stepGraph is the graph of steps, with a node for each, in their order.
func stepGraph(steps []*Step, cost func(*Step) time.Duration) *graph.Graph {
	g := &graph.Graph{}
	at := make(map[*Step]graph.Node, len(steps))
	for _, s := range steps {
		at[s] = g.Add(s.Name, int64(cost(s)))
	}
	for _, s := range steps {
		for _, need := range s.Needs {
			if n, ok := at[need]; ok {
				g.Edge(n, at[s])
			}
		}
	}
	return g
}

// decide says for each step whether there is something to do, and leaves out
// missing layers that nobody needs: those below jobs that are up to date.
func (p *planner) decide(whole bool) {
	needed := map[*Step]bool{}
	for _, l := range p.plan.Targets {
		needed[l.step] = true
	}
	if p.plan.Run != nil {
		for _, l := range p.plan.Run.needs() {
			needed[l.step] = true
		}
	}
	undecided := map[*recipes.Job]bool{}
	for _, s := range p.plan.Steps {
		if s.Layer != nil {
			p.decideLayer(s)
			continue
		}
		p.decideJob(s, p.writers, undecided)
		undecided[s.Job.Job] = s.State != Current
		if s.State == Current {
			delete(undecided, s.Job.Job)
		}
		needed[s] = s.State == ToDo
	}
	p.spread(needed)
	p.postpone(needed)
	p.plan.Steps = slices.DeleteFunc(p.plan.Steps, func(s *Step) bool {
		return s.Layer != nil && !needed[s] && s.State == ToDo && !whole
	})
}

// spread adds the layers below those that are needed: a finished layer stands
// on them, whoever needs it.
func (p *planner) spread(needed map[*Step]bool) {
	for _, s := range slices.Backward(p.plan.Steps) {
		for _, need := range s.Needs {
			if needed[s] && need.Layer != nil {
				needed[need] = true
			}
		}
	}
}

// postpone marks missing layers that only undecided jobs need: each is built
// when a job has been decided that needs it.
func (p *planner) postpone(needed map[*Step]bool) {
	for _, job := range p.plan.Steps {
		if job.State != Pending || job.Job == nil {
			continue
		}
		for _, l := range job.Job.stacks() {
			if s := l.step; s.State != Current && !needed[s] {
				s.State, s.Reasons = Pending, append(s.Reasons, job.Name+" may need it")
			}
		}
	}
}

func (p *planner) decideLayer(s *Step) {
	l := s.Layer
	if p.Always {
		s.State, s.Reasons = ToDo, []string{"everything is to be made anew"}
		return
	}
	_, err := p.Store.Layer(l.Dir, string(l.Key))
	if err == nil {
		s.State = Current
		return
	}
	s.State = ToDo
	s.Reasons = []string{err.Error()}
	if p.lasts == nil {
		p.lasts = p.Store.LastLayers()
	}
	if s.last = p.lasts[l.Name]; s.last != nil && s.last.Key != string(l.Key) {
		var more detail
		if l.Program != nil {
			more = p.sourceDetail(l)
		}
		s.Reasons = compare(s.last.Parts, l.Parts, more)
	}
}

// ThisPlatform is the platform of the machine that raptor runs on.
func ThisPlatform() string { return "linux/" + runtime.GOARCH }
