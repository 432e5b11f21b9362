package engine

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"raptor-make/internal/store"
	"raptor-make/rapt"
	"raptor-make/recipes"
)

// A Container is a job of a plan, or what `raptor run` runs, with its mounts
// bound.
type Container struct {
	Job   *recipes.Job
	Layer *Layer // of its target
	Key   JobKey // "" until it can be known
	Parts []store.Part

	bindings []*binding
	step     *Step
}

// A binding is a MOUNT of a target and what it is given.
type binding struct {
	mount   *rapt.Mount
	written []string // as the job says it
	span    rapt.Span
	path    string   // absolute, for --simple and --file
	layers  []*Layer // for --layers and --overlay: a target each
}

// isOutput, isCache: what these two hold is not what a job depends on.
func (b *binding) isOutput() bool { return b.mount.Name == "output" }
func (b *binding) isCache() bool  { return b.mount.Name == "cache" }

// isInput tells whether a job depends on the files at the path.
func (b *binding) isInput() bool { return b.path != "" && !b.isOutput() && !b.isCache() }

// needs lists the layers that the container is made of and is given.
func (j *Container) needs() []*Layer {
	list := []*Layer{j.Layer}
	for _, b := range j.bindings {
		list = append(list, b.layers...)
	}
	return list
}

// stacks lists all layers that the container stands on or is given, with those
// below them.
func (j *Container) stacks() []*Layer {
	var list []*Layer
	for _, l := range j.needs() {
		list = append(list, l.Stack()...)
	}
	return list
}

// outputs lists what the job writes.
func (j *Container) outputs() []*binding {
	var list []*binding
	for _, b := range j.bindings {
		if b.isOutput() {
			list = append(list, b)
		}
	}
	return list
}

// job loads the target of a job and binds its mounts; nil if that fails.
func (p *planner) job(j *recipes.Job) *Container {
	layer := p.target(j.Target)
	if layer == nil {
		return nil
	}
	job := &Container{Job: j, Layer: layer}
	given := map[string]bool{}
	for _, m := range j.Bindings() {
		given[m.Name] = true
		if !slices.ContainsFunc(layer.Program.Mounts, func(d *rapt.Mount) bool { return d.Name == m.Name }) {
			given[p.undeclared(j, layer, m)] = true // whose absence is no second mistake
			continue
		}
		if b := p.bind(j, layer, m); b != nil {
			job.bindings = append(job.bindings, b)
		}
	}
	for _, m := range layer.Program.Mounts {
		if !m.Optional && !given[m.Name] {
			d := p.Project.Diagnose(j.Span, fmt.Sprintf("%s needs %s, which is not given", of(j), mountName(m.Name)), "")
			d.Label = howToGive(j, m.Name)
			if d.Span.Line == 0 {
				d.Label, d.Help = "", d.Label // the command line has no text to underline
			}
			d.Chain = []rapt.Frame{{Verb: "declared", Span: m.Span}}
			p.found = append(p.found, d)
		}
	}
	slices.SortStableFunc(job.bindings, func(a, b *binding) int {
		return slices.Index(layer.Program.Mounts, a.mount) - slices.Index(layer.Program.Mounts, b.mount)
	})
	return job
}

func of(j *recipes.Job) string {
	if j.Name == "" {
		return j.Target.Text
	}
	return "job " + j.Name
}

func mountName(name string) string {
	switch name {
	case "input", "output", "cache":
		return "the mount " + name
	}
	return fmt.Sprintf("the mount %q", name)
}

// howToGive says what to write to fill a mount, in the terms of the place that
// the job comes from.
func howToGive(j *recipes.Job, name string) string {
	short := map[string]string{"input": "-I", "output": "-O", "cache": "-C"}[name]
	switch {
	case j.Name == "" && short != "":
		return "give it with " + short
	case j.Name == "":
		return "give it with -M " + name
	case short != "":
		return fmt.Sprintf("write %s = …", name)
	}
	return fmt.Sprintf("write mount.%s = …", name)
}

// bind finds the MOUNT that a job fills, which is declared, and what fills it.
func (p *planner) bind(j *recipes.Job, layer *Layer, m recipes.Mount) *binding {
	i := slices.IndexFunc(layer.Program.Mounts, func(d *rapt.Mount) bool { return d.Name == m.Name })
	b := &binding{mount: layer.Program.Mounts[i], written: recipes.Texts(m.Sources), span: m.Sources[0].Span}
	single := b.mount.Type != rapt.MountLayers
	if single && len(m.Sources) > 1 {
		d := p.Project.Diagnose(m.Sources[1].Span, fmt.Sprintf("%s of %s takes one source, not %d", mountName(m.Name), j.Target.Text, len(m.Sources)), "")
		d.Chain = []rapt.Frame{{Verb: "declared", Span: b.mount.Span}}
		p.found = append(p.found, d)
		return nil
	}
	switch b.mount.Type {
	case rapt.MountLayers, rapt.MountOverlay:
		for _, s := range m.Sources {
			if l := p.target(s); l != nil {
				b.layers = append(b.layers, l)
			}
		}
	default:
		path, err := p.path(m.Sources[0].Text)
		if err != nil {
			p.found = append(p.found, p.Project.Diagnose(m.Sources[0].Span, err.Error(), ""))
			return nil
		}
		b.path = path
	}
	return b
}

// undeclared reports a mount that the target does not have, and returns the one
// that may have been meant, or "".
func (p *planner) undeclared(j *recipes.Job, layer *Layer, m recipes.Mount) (meant string) {
	var names []string
	for _, d := range layer.Program.Mounts {
		names = append(names, d.Name)
	}
	message := fmt.Sprintf("%s gives %s, which %s does not declare", of(j), mountName(m.Name), j.Target.Text)
	if j.Name == "" {
		message = fmt.Sprintf("%s does not declare %s", j.Target.Text, mountName(m.Name))
	}
	d := p.Project.Diagnose(m.Span, message, "")
	p.found = append(p.found, d)
	switch near := rapt.Nearest(m.Name, names); {
	case m.Name == "cache":
		d.Severity = rapt.Warning
		d.Label = "it has no effect"
	case near != "":
		d.Label = "did you mean " + near + "?"
		return near
	case len(names) == 0:
		d.Help = j.Target.Text + " declares no MOUNT at all"
	default:
		d.Help = j.Target.Text + " declares " + strings.Join(names, ", ")
	}
	return ""
}

// path is the absolute path that a source of a job means: a leading "$link/"
// is that package's directory.
func (e *Engine) path(written string) (string, error) {
	name, rest, _ := strings.Cut(written, "/")
	if !strings.HasPrefix(name, "$") {
		return e.Project.Abs(written), nil
	}
	if name == "$" {
		return filepath.Join(e.Project.Root, rest), nil
	}
	pkg := e.Package.Links[name[1:]]
	if pkg == nil {
		return "", fmt.Errorf("%s: there is no link %s", written, name[1:])
	}
	return filepath.Join(pkg.Root, rest), nil
}

// allJobs binds the jobs of a request, and those that have to come before
// them.
func (p *planner) allJobs(requested []*recipes.Job) {
	p.jobs = map[*recipes.Job]*Container{}
	todo := slices.Clone(requested)
	for len(todo) > 0 {
		j := todo[0]
		todo = todo[1:]
		if _, ok := p.jobs[j]; ok {
			continue
		}
		c := p.job(j)
		p.jobs[j] = c
		if c != nil {
			todo = append(todo, p.writers.before(c)...)
		}
	}
}

// jobSteps makes the steps of jobs, in the order of the project file.
func (p *planner) jobSteps() {
	for _, j := range p.Project.Jobs {
		c := p.jobs[j]
		if c == nil {
			continue
		}
		c.step = &Step{Kind: Job, Name: p.name("run "+j.Name, ""), Job: c}
		for _, l := range c.needs() {
			c.step.Needs = append(c.step.Needs, l.step)
		}
		p.plan.Steps = append(p.plan.Steps, c.step)
	}
	for _, c := range p.jobs {
		for _, need := range p.writers.before(c) {
			c.step.Needs = append(c.step.Needs, p.jobs[need].step)
		}
	}
}

// decideJob says whether a job has something to do. Undecided are the jobs
// that may still run: where one of them writes what this job reads, and all
// else is as it was, the job stays open, for the output may turn out the same.
func (e *Engine) decideJob(s *Step, w *writers, undecided map[*recipes.Job]bool) {
	s.State, s.Reasons = ToDo, nil
	record, err := e.Store.Job(s.Job.Job.Name)
	if err != nil {
		s.Reasons = []string{err.Error()}
	}
	open := openInputs(s.Job, w, undecided)
	if err := e.jobKey(s.Job, record, open); err != nil {
		s.Reasons = []string{err.Error()}
		return
	}
	switch {
	case e.Always:
		s.Reasons = []string{"everything is to be made anew"}
	case len(s.Reasons) > 0:
	case record.Key != string(s.Job.Key):
		s.Reasons = compare(record.Parts, s.Job.Parts, nil)
	default:
		for _, out := range record.Outputs {
			if reason := e.outputChanged(out); reason != "" {
				s.Reasons = append(s.Reasons, reason)
			}
		}
		if len(s.Reasons) == 0 {
			s.State = Current
		}
	}
	if len(open) > 0 {
		s.Job.Key = "" // it was that of another time
		if s.State == Current {
			s.State = Pending
			for _, name := range open {
				s.Reasons = append(s.Reasons, "it reads the output of run "+name)
			}
		}
	}
}

// openInputs are the inputs of a job whose content is not known yet, by the
// jobs that write them.
func openInputs(c *Container, w *writers, undecided map[*recipes.Job]bool) map[*binding]string {
	open := map[*binding]string{}
	if len(undecided) == 0 {
		return open
	}
	for _, b := range c.bindings {
		if !b.isInput() {
			continue
		}
		for _, other := range w.of(b.path) {
			if undecided[other] {
				open[b] = other.Name
			}
		}
	}
	return open
}

// jobKey gives a job its key. It fails when an input cannot be read. Of open
// inputs, what the record says is taken for their content.
func (e *Engine) jobKey(j *Container, record *store.Job, open map[*binding]string) error {
	k := &keyer{}
	k.add("target", string(j.Layer.Key))
	if e.Epoch != "" {
		k.add("SOURCE_DATE_EPOCH", e.Epoch)
	}
	program := j.Layer.Program
	for _, m := range program.Mounts {
		k.add("mount "+m.Name, fmt.Sprintf("type %d at %s, read-only %t", m.Type, m.Dest, m.ReadOnly))
	}
	k.add("entrypoint", jsonText(j.entrypoint()))
	k.add("args", jsonText(j.command()))
	for _, v := range j.Job.Env {
		k.add("env "+v.Key, v.Value.Text)
	}
	k.add("network", e.network(j))
	if dir := j.Job.StateDir.Text; dir != "" {
		k.add("state-dir", dir)
	}
	for _, b := range j.bindings {
		e.bindingKey(k, b)
		if !b.isInput() {
			continue
		}
		label := contentLabel(b)
		if _, ok := open[b]; ok {
			k.add(label, record.Part(label))
			continue
		}
		digest, err := e.inputDigest(b)
		if err != nil {
			return err
		}
		k.add(label, string(digest))
	}
	j.Parts, j.Key = k.parts, JobKey(k.sum())
	return nil
}

func (e *Engine) bindingKey(k *keyer, b *binding) {
	name := b.mount.Name
	k.add(name, jsonText(b.written))
	for i, target := range b.layers {
		for n, l := range target.Stack() {
			k.add(fmt.Sprintf("layer %d of %s %s", n+1, name, b.written[i]), string(l.Key))
			k.add(fmt.Sprintf("name of layer %d of %s %s", n+1, name, b.written[i]), l.Name)
		}
	}
}

func contentLabel(b *binding) string { return "content of " + b.mount.Name }

func (e *Engine) inputDigest(b *binding) (Digest, error) {
	digest, err := e.Digests.Tree(b.path, nil)
	switch {
	case isMissing(err) && !b.mount.ReadOnly:
		return "missing", nil // it is made
	case err != nil:
		return "", fmt.Errorf("read %s %s: %w", b.mount.Name, b.written[0], err)
	}
	return digest, nil
}

func jsonText(list []string) string {
	text, _ := json.Marshal(list) // strings always can be
	return string(text)
}

// outputChanged says how an output differs from what the job wrote; "" if it
// does not.
func (e *Engine) outputChanged(out store.Output) string {
	path, err := e.path(out.Path)
	var digest Digest
	if err == nil {
		digest, _, err = e.outputDigest(path, false)
	}
	switch {
	case isMissing(err):
		return fmt.Sprintf("its output %s is gone", out.Path)
	case err != nil:
		return fmt.Sprintf("its output %s cannot be read: %v", out.Path, err)
	case string(digest) != out.Digest:
		return fmt.Sprintf("its output %s is not what it wrote", out.Path)
	}
	return ""
}
