package recipes

import (
	"fmt"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"

	"raptor-make/rapt"
)

// Set gives one key of one job another value for this call: key is
// "run.NAME.KEY", as in "run.iso.env.GRUB_TIMEOUT". A value is taken as it
// stands; where a list or table is wanted, one in the form of TOML is read, as
// in `["a", "b"]`. A table adds to what the job has.
//
// The project must come from Load or Empty. On an error it is as before.
func (p *Project) Set(key, value string) error {
	j, rest, err := p.setKey(key)
	if err != nil {
		return err
	}
	span := rapt.Span{File: "--set " + key + "=" + value}
	n := &node{name: j.Name, path: "run." + quoteKey(j.Name), value: map[string]any{}, key: span, span: span}
	innermost := n
	for _, name := range rest {
		next := &node{name: name, path: join(innermost.path, name), value: map[string]any{}, key: span, span: span}
		innermost.keys = []*node{next}
		innermost = next
	}
	innermost.value, innermost.literal, innermost.loose = value, value, true

	before := *j
	j.Env, j.Mounts = slices.Clone(j.Env), slices.Clone(j.Mounts)
	d := &decoder{project: p}
	d.job(n, j)
	if len(d.diagnostics) == 0 {
		d.diagnostics = p.check()
	}
	if len(d.diagnostics) > 0 {
		*j = before
		return d.diagnostics
	}
	return nil
}

// setKey splits a key of --set into its job and what follows. Names of jobs
// may hold dots: the longest one that fits counts.
func (p *Project) setKey(key string) (*Job, []string, error) {
	path, ok := strings.CutPrefix(key, "run.")
	if !ok {
		return nil, nil, fmt.Errorf("set %s: only values of jobs can be set, as in run.NAME.KEY=VALUE", key)
	}
	var job *Job
	var rest string
	for _, j := range p.Jobs {
		after, ok := strings.CutPrefix(path, j.Name+".")
		if ok && after != "" && (job == nil || len(j.Name) > len(job.Name)) {
			job, rest = j, after
		}
	}
	if job == nil {
		name, _, _ := strings.Cut(path, ".")
		return nil, nil, fmt.Errorf("set %s: %w", key, unknownName("job", name, jobNames(p.Jobs)))
	}
	table, inner, ok := strings.Cut(rest, ".")
	if !ok {
		return job, []string{rest}, nil
	}
	switch table {
	case "env", "mount", "limits":
		return job, []string{table, inner}, nil
	}
	return job, []string{rest}, nil
}

// parsed returns n, or what stands in it in the form of TOML when it is a
// string of the command line that begins as a list or table does.
func (d *decoder) parsed(n *node, opening byte) *node {
	if !n.loose || len(n.literal) == 0 || n.literal[0] != opening {
		return n
	}
	text := "v = " + n.literal
	var values map[string]any
	if _, err := toml.Decode(text, &values); err != nil {
		return n
	}
	root, _ := locate(text)
	if len(root.keys) != 1 {
		return n
	}
	b := &treeBuilder{ruler: newRuler(text)}
	read := b.build(root.keys[0], values["v"], n.path)
	read.place(n.span)
	return read
}

// place gives a node and all in it one place: that of an option.
func (n *node) place(span rapt.Span) {
	n.key, n.span = span, span
	for _, child := range slices.Concat(n.keys, n.elements) {
		child.place(span)
	}
}
