package engine_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"raptor-make/sandbox"
)

// A model is a random project as the oracle sees it: it knows what each layer
// and job is made of, and nothing of keys, records or digests.
type model struct {
	files  map[string]string // sources that layers copy and jobs read
	layers []*modelLayer     // each stands on an earlier one
	jobs   []*modelJob       // each reads outputs of earlier ones
}

type modelLayer struct {
	name    string
	parent  *modelLayer // nil: an image, or nothing
	image   string
	run     string
	copies  string // a file; "" for none
	include string // text of a .rinc that only it includes; "" for none
	comment int    // changes nothing
}

type modelJob struct {
	name   string
	target *modelLayer
	inputs []*modelLayer
	reads  *modelJob // whose output it reads; nil: the file
	file   string
	level  int
	ran    *jobState // its last success
}

// jobState is what a job was last run with, and what it wrote.
type jobState struct{ input, output string }

func digest(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:8])
}

// value is what a layer holds, with all below it.
func (m *model) value(l *modelLayer) string {
	below := "nothing"
	switch {
	case l.parent != nil:
		below = m.value(l.parent)
	case l.image != "":
		below = "image " + l.image
	}
	return digest(below, l.run, l.include, l.copies, m.files[l.copies])
}

// output is what a job writes, from what it has.
func (m *model) output(j *modelJob, outputs map[*modelJob]string) (input, output string) {
	parts := []string{m.value(j.target), fmt.Sprint(j.level)}
	for _, l := range j.inputs {
		parts = append(parts, m.value(l))
	}
	read := m.files[j.file]
	if j.reads != nil {
		read = outputs[j.reads]
	}
	input = digest(append(parts, read)...)
	return input, digest("out", input)
}

// expect says what has to run, with layers being those that are in the store,
// and disk what is in each output now. It brings both up to date.
func (m *model) expect(layers map[string]bool, disk map[*modelJob]string) []string {
	var ran []string
	var build func(l *modelLayer)
	build = func(l *modelLayer) {
		if l == nil {
			return
		}
		build(l.parent)
		if l.parent == nil && l.image != "" && !layers["image "+l.image] {
			layers["image "+l.image] = true
			ran = append(ran, "index.docker.io-library-"+l.image+"-1")
		}
		id := l.name + " " + m.value(l)
		if !layers[id] {
			layers[id] = true
			ran = append(ran, l.name)
		}
	}
	for _, j := range m.jobs {
		input, output := m.output(j, disk)
		if j.reads == nil {
			input += " from " + j.file // another file is another input, whatever it holds
		}
		for _, l := range j.inputs {
			input += " of " + l.name
		}
		if j.ran != nil && j.ran.input == input && disk[j] == j.ran.output {
			continue
		}
		build(j.target)
		for _, l := range j.inputs {
			build(l)
		}
		ran = append(ran, "run "+j.name)
		j.ran = &jobState{input, output}
		disk[j] = output
	}
	slices.Sort(ran)
	return ran
}

// randomModel makes up a project.
func randomModel(r *rand.Rand) *model {
	m := &model{files: map[string]string{}}
	for i := range 3 + r.IntN(4) {
		m.files[fmt.Sprintf("f%d", i)] = fmt.Sprint(r.IntN(3))
	}
	for i := range 2 + r.IntN(7) {
		l := &modelLayer{name: fmt.Sprintf("l%d", i), run: fmt.Sprint(r.IntN(3))}
		switch {
		case i > 0 && r.IntN(4) > 0:
			l.parent = m.layers[r.IntN(i)]
		case r.IntN(2) == 0:
			l.image = fmt.Sprintf("img%d", r.IntN(2))
		}
		if r.IntN(2) == 0 {
			l.copies = m.anyFile(r)
		}
		if r.IntN(3) == 0 {
			l.include = fmt.Sprint(r.IntN(3))
		}
		m.layers = append(m.layers, l)
	}
	for i := range 1 + r.IntN(5) {
		j := &modelJob{name: fmt.Sprintf("j%d", i), target: m.anyLayer(r), file: m.anyFile(r), level: r.IntN(3)}
		for range r.IntN(3) {
			j.inputs = append(j.inputs, m.anyLayer(r))
		}
		if i > 0 && r.IntN(2) == 0 {
			j.reads = m.jobs[r.IntN(i)]
		}
		m.jobs = append(m.jobs, j)
	}
	return m
}

func (m *model) anyLayer(r *rand.Rand) *modelLayer { return m.layers[r.IntN(len(m.layers))] }
func (m *model) anyFile(r *rand.Rand) string       { return fmt.Sprintf("f%d", r.IntN(len(m.files))) }

// write brings the project on disk up to the model.
func (m *model) write(w *world) {
	for name, text := range m.files {
		w.writeIfChanged(name, text)
	}
	for _, l := range m.layers {
		var b strings.Builder
		for range l.comment {
			b.WriteString("# nothing\n\n")
		}
		switch {
		case l.parent != nil:
			fmt.Fprintf(&b, "FROM %s\n", l.parent.name)
		case l.image != "":
			fmt.Fprintf(&b, "FROM docker://%s:1\n", l.image)
		}
		fmt.Fprintf(&b, "RUN r %s\n", l.run)
		if l.include != "" {
			fmt.Fprintf(&b, "INCLUDE inc_%s word=\"%s\"\n", l.name, l.include)
			w.writeIfChanged("inc_"+l.name+".rinc", "RUN i {{ word }}\n")
		}
		if l.copies != "" {
			fmt.Fprintf(&b, "COPY %s /c/%s\n", l.copies, l.copies)
		}
		b.WriteString("MOUNT --layers --optional input /in\nMOUNT --file --readonly read /read\nMOUNT --file output /out\nENTRYPOINT e\n")
		w.writeIfChanged(l.name+".rapt", b.String())
	}
	var b strings.Builder
	for _, j := range m.jobs {
		read := j.file
		if j.reads != nil {
			read = "out/" + j.reads.name
		}
		fmt.Fprintf(&b, "[run.%s]\ntarget = %q\noutput = \"out/%s\"\nargs = [%q]\nenv.T_LEVEL = %d\nmount.read = %q\n", j.name, j.target.name, j.name, j.name, j.level, read)
		var inputs []string
		for _, l := range j.inputs {
			inputs = append(inputs, fmt.Sprintf("%q", l.name))
		}
		fmt.Fprintf(&b, "input = [%s]\n", strings.Join(inputs, ", "))
	}
	w.writeIfChanged("Raptor.toml", b.String())
}

func (w *world) writeIfChanged(name, text string) {
	if old, err := os.ReadFile(filepath.Join(w.dir, name)); err != nil || string(old) != text {
		w.write(name, text)
	}
}

// edit changes something, of the model, of outputs or of the store, and says
// what it was.
func (m *model) edit(r *rand.Rand, w *world, layers map[string]bool, disk map[*modelJob]string) string {
	l, j := m.anyLayer(r), m.jobs[r.IntN(len(m.jobs))]
	out := filepath.Join(w.dir, "out", j.name)
	switch r.IntN(12) {
	case 0:
		f := m.anyFile(r)
		m.files[f] = fmt.Sprint(r.IntN(3))
		return "file " + f
	case 1:
		l.run = fmt.Sprint(r.IntN(3))
		return "RUN of " + l.name
	case 2:
		if l.include != "" {
			l.include = fmt.Sprint(r.IntN(3))
		}
		return "INCLUDE of " + l.name
	case 3:
		l.comment = r.IntN(3)
		return "comment in " + l.name
	case 4:
		j.level = r.IntN(3)
		return "env of " + j.name
	case 5:
		j.file = m.anyFile(r)
		return "input of " + j.name
	case 6:
		slices.Reverse(j.inputs)
		return "order of inputs of " + j.name
	case 7:
		os.Remove(out)
		disk[j] = ""
		return "output removed: " + j.name
	case 8:
		os.WriteFile(out, []byte("edited"), 0o644)
		disk[j] = "edited"
		return "output edited: " + j.name
	case 9:
		name, _ := os.ReadFile(out)
		os.Remove(out)
		os.WriteFile(out, name, 0o644)
		return "output replaced by an equal one: " + j.name
	case 10:
		id := l.name + " " + m.value(l)
		found, _ := filepath.Glob(filepath.Join(w.dir, "layers", l.name+"-*"))
		for _, dir := range found {
			os.RemoveAll(dir)
		}
		for known := range layers {
			if strings.HasPrefix(known, l.name+" ") {
				delete(layers, known)
			}
		}
		return "layers removed: " + id
	default:
		os.Chtimes(filepath.Join(w.dir, l.name+".rapt"), epoch, epoch)
		os.Chtimes(filepath.Join(w.dir, m.anyFile(r)), epoch, epoch)
		return "touch"
	}
}

// play is an executor that computes what the oracle does, from what it is
// really given.
func (w *world) play(_ context.Context, spec *sandbox.Spec, _ sandbox.Streams) (sandbox.Result, error) {
	if !spec.Build {
		return sandbox.Result{}, w.playJob(spec)
	}
	name := filepath.Base(filepath.Dir(spec.Upper))
	name = name[:strings.LastIndex(name, "-")]
	w.note(name)
	below := "nothing"
	if n := len(spec.Layers); n > 0 {
		below = layerValue(spec.Layers[n-1])
	}
	var run, include, copies, content string
	for _, a := range spec.Actions {
		switch a := a.(type) {
		case *sandbox.Exec:
			if a.Args[0] == "r" {
				run = a.Args[1]
			} else {
				include = a.Args[1]
			}
		case *sandbox.Copy:
			text, err := os.ReadFile(a.Sources[0].Path)
			if err != nil {
				return sandbox.Result{}, err
			}
			copies, content = filepath.Base(a.Dest), string(text)
		}
	}
	value := digest(below, run, include, copies, content)
	return sandbox.Result{}, os.WriteFile(filepath.Join(spec.Upper, "value"), []byte(value), 0o644)
}

// layerValue is the value that play has left in a layer.
func layerValue(dir string) string {
	if text, err := os.ReadFile(filepath.Join(dir, "value")); err == nil {
		return string(text)
	}
	name := strings.TrimPrefix(filepath.Base(dir), "index.docker.io-library-")
	return "image " + name[:strings.Index(name, "-")]
}

func (w *world) playJob(spec *sandbox.Spec) error {
	job := spec.Actions[0].(*sandbox.Exec)
	name := job.Args[len(job.Args)-1]
	w.note("run " + name)
	level := ""
	for _, v := range job.Env {
		if rest, ok := strings.CutPrefix(v, "T_LEVEL="); ok {
			level = rest
		}
	}
	parts := []string{layerValue(spec.Layers[len(spec.Layers)-1]), level}
	var read, out string
	for _, m := range spec.Mounts {
		switch m.Dest {
		case "/in":
			parts = append(parts, indexValues(m)...)
		case "/read":
			text, err := os.ReadFile(m.Source)
			if err != nil {
				return err
			}
			read = string(text)
		case "/out":
			out = m.Source
		}
	}
	input := digest(append(parts, read)...)
	return os.WriteFile(out, []byte(digest("out", input)), 0o644)
}

// indexValues are the values of the targets of a MOUNT --layers, in order.
func indexValues(m sandbox.Mount) []string {
	var index struct {
		Targets []string
		Layers  map[string][]string
	}
	if err := json.Unmarshal(m.Index, &index); err != nil {
		return []string{err.Error()}
	}
	sources := map[string]string{}
	for _, d := range m.Dirs {
		sources[d.Name] = d.Source
	}
	var values []string
	for _, target := range index.Targets {
		stack := index.Layers[target]
		values = append(values, layerValue(sources[stack[len(stack)-1]]))
	}
	return values
}

// epoch is an old file time.
var epoch = time.Unix(1e9, 0)

var seedFlag = flag.Uint64("seed", 0, "of the random projects; 0 makes one up")

// TestRandomProjects edits random projects at random between builds. After each
// build, what ran and what the outputs hold is what the oracle says, and in the
// end what a build from nothing makes.
func TestRandomProjects(t *testing.T) {
	projects, edits := 40, 12
	if os.Getenv("RAPTOR_SOAK") != "" {
		projects = 3000
	}
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("seed %d", seed)
	for i := range projects {
		r := rand.New(rand.NewPCG(seed, uint64(i)))
		m := randomModel(r)
		w := newWorldIn(t, memoryDir(t))
		w.player, w.workers = w.play, 1+r.IntN(4)
		layers, disk := map[string]bool{}, map[*modelJob]string{}
		what := []string{"from nothing"}
		for range edits {
			m.write(w)
			want := m.expect(layers, disk)
			ran, _, err := w.make()
			if err != nil || !slices.Equal(ran, want) {
				t.Fatalf("project %d after %q: ran %q, want %q (%v)", i, what, ran, want, err)
			}
			m.compare(t, w, disk, fmt.Sprintf("project %d after %q", i, what))
			what = nil
			for range 1 + r.IntN(2) {
				what = append(what, m.edit(r, w, layers, disk))
			}
		}
		m.write(w)
		m.expect(layers, disk)
		if _, _, err := w.make(); err != nil {
			t.Fatal(err)
		}
		fresh := newWorldIn(t, memoryDir(t))
		fresh.player = fresh.play
		m.write(fresh)
		if _, _, err := fresh.make(); err != nil {
			t.Fatal(err)
		}
		m.compare(t, fresh, disk, fmt.Sprintf("project %d from nothing", i))
		os.RemoveAll(w.dir)
		os.RemoveAll(fresh.dir)
	}
}

// memoryDir is a directory without a disk behind it: thousands of builds are
// made durable here.
func memoryDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "raptor-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func (m *model) compare(t *testing.T, w *world, disk map[*modelJob]string, when string) {
	t.Helper()
	for _, j := range m.jobs {
		if got := w.read("out/" + j.name); got != disk[j] {
			t.Fatalf("%s: output of %s is %q, want %q", when, j.name, got, disk[j])
		}
	}
}
