package engine

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"raptor-make/rapt"
	"raptor-make/recipes"
)

// A Recollection is a plan that had nothing to do, and the identity of every
// file that this followed from. As long as all of them are the same, the next
// plan of the same request has nothing to do either, and need not be made: a
// stat(2) for each file is all that it costs.
//
// It is complete because everything that a plan reads is watched: project files
// and links, modules, templates, base images that are files, sources of COPY with
// their directories, what path() probed, inputs and outputs of jobs, and the directories of the store in
// which layers and records appear and disappear. Files that are missing are
// watched as such. It is safe because nothing is recollected of which any file
// changed shortly before the plan was begun, or later: a change after that has
// another ctime.
//
// Of a plan with a container that mounts nothing and keeps nothing, what this
// stands on is recollected with it; neither its job, whose arguments and
// variables may be secret, nor what the surroundings say.
type Recollection struct {
	Events []Event // what a run of the plan tells, without times
	Store  string  // the store's directory if there is a container, else ""
	Epoch  string  // as in Engine

	files    []watched
	layer    *Layer   // of the container's target; nil if there is none
	imageEnv []string // of the base image that it stands on
}

// A watched file is one whose identity counts.
type watched struct {
	path   string
	follow bool // of what a symbolic link leads to
	id     identity
}

// An identity is what stat(2) says of a file that changes when the file does;
// all zero if there is none.
type identity struct {
	dev, ino     uint64
	mode         uint32
	size         int64
	mtime, ctime int64 // nanoseconds
}

func identify(path string, follow bool) (identity, error) {
	flags := unix.AT_SYMLINK_NOFOLLOW
	if follow {
		flags = 0
	}
	var st unix.Stat_t
	for {
		err := unix.Fstatat(unix.AT_FDCWD, path, &st, flags)
		switch {
		case err == nil:
			return identity{st.Dev, st.Ino, st.Mode, st.Size, st.Mtim.Nano(), st.Ctim.Nano()}, nil
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENOTDIR):
			return identity{}, nil
		default:
			return identity{}, err
		}
	}
}

// A Watch notes the files that a plan reads. The zero value is ready, and safe
// for concurrent use.
type Watch struct {
	mu     sync.Mutex
	files  map[watchKey]identity
	broken bool
}

type watchKey struct {
	path   string
	follow bool
}

// File notes a file. With follow, what a symbolic link leads to counts.
func (w *Watch) File(path string, follow bool) {
	id, err := identify(path, follow)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.files == nil {
		w.files = map[watchKey]identity{}
	}
	key := watchKey{path, follow}
	if was, ok := w.files[key]; err != nil || ok && was != id {
		w.broken = true
	}
	w.files[key] = id
}

// Dirs lists the directories of all files noted, and the directories noted
// themselves.
func (w *Watch) Dirs() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	seen := map[string]bool{}
	for key, id := range w.files {
		seen[filepath.Dir(key.path)] = true
		if id.mode&unix.S_IFMT == unix.S_IFDIR {
			seen[key.path] = true
		}
	}
	return slices.Sorted(maps.Keys(seen))
}

// Since looks at all files once more, and returns a function that tells whether
// any of them has changed from then on.
func (w *Watch) Since() (changed func() bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := make(map[watchKey]identity, len(w.files))
	for key := range w.files {
		now[key], _ = identify(key.path, key.follow)
	}
	return func() bool {
		for key, was := range now {
			if id, _ := identify(key.path, key.follow); id != was {
				return true
			}
		}
		return false
	}
}

// Break says that something counts which is no file: there will be no
// recollection.
func (w *Watch) Break() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.broken = true
}

// Recollect is what there is to remember of a plan that began at a time; nil
// if the plan has something to do, or is not sure to have nothing to do again.
func (e *Engine) Recollect(p *Plan, began time.Time) *Recollection {
	if len(p.Warnings) > 0 {
		return nil // they are told each time
	}
	r := &Recollection{}
	if c := p.Run; c != nil {
		if len(c.bindings) > 0 || c.Job.StateDir.Text != "" {
			return nil // what is mounted is looked at each time
		}
		var err error
		if r.imageEnv, err = e.imageEnv(c.Layer); err != nil {
			return nil
		}
		r.Store, r.Epoch, r.layer = e.Store.Path(""), e.Epoch, c.Layer
	}
	for _, s := range p.Steps {
		if s.State != Current {
			return nil
		}
		ev := Event{Kind: Cached, Step: s.Name, Type: s.Kind, Key: s.Key()}
		if s.Job != nil {
			record, err := e.Store.Job(s.Job.Job.Name)
			if err != nil {
				return nil
			}
			ev.Outputs = written(record)
		}
		r.Events = append(r.Events, ev)
	}
	for _, dir := range e.Store.Watched() {
		e.Watch.File(dir, true)
	}
	e.Watch.mu.Lock()
	defer e.Watch.mu.Unlock()
	if e.Watch.broken {
		return nil
	}
	before := began.Add(-settled).UnixNano()
	for key, id := range e.Watch.files {
		if id.mtime >= before || id.ctime >= before {
			return nil
		}
		r.files = append(r.files, watched{key.path, key.follow, id})
	}
	return r
}

// watchPrograms notes the files of the programs of a plan.
func (p *planner) watchPrograms() {
	for _, l := range p.built {
		p.Watch.File(l.Program.File, true)
		for _, s := range l.Program.Sources {
			if s.Kind != rapt.SourceCopy {
				p.Watch.File(s.Path, true)
				if s.Kind == rapt.SourceProbe {
					p.Watch.File(s.Path, false)
				}
				continue
			}
			// The root of its package may be any of the directories above.
			for dir := s.Path; ; dir = filepath.Dir(dir) {
				p.Watch.File(filepath.Join(dir, ".raptorignore"), true)
				if dir == "/" {
					break
				}
			}
		}
	}
}

// Recall is the plan of a request for a container alone, as it was; nil if it
// has to be made anew. Like one that Run has made true it is for Container, and
// has to be closed. Of the engine it takes what runs containers.
func (e *Engine) Recall(r *Recollection, j *recipes.Job) (*Plan, error) {
	var names []string
	for _, l := range r.layer.Stack() {
		names = append(names, l.Dir)
	}
	release, err := e.Store.Use(names)
	if err != nil {
		return nil, err
	}
	if !r.Holds() { // from here on nobody removes the layers
		release()
		return nil, nil
	}
	return &Plan{Run: &Container{Job: j, Layer: r.layer}, release: release}, nil
}

// Watch notes all files that count.
func (r *Recollection) Watch() *Watch {
	w := &Watch{files: make(map[watchKey]identity, len(r.files))}
	for _, f := range r.files {
		w.files[watchKey{f.path, f.follow}] = f.id
	}
	return w
}

// Holds tells whether all files are as they were.
func (r *Recollection) Holds() bool {
	const workers, few = 2, 200 // to look at a few takes less than to start a thread
	if len(r.files) <= few {
		return hold(r.files)
	}
	var all sync.WaitGroup
	var changed atomic.Bool
	for part := range slices.Chunk(r.files, len(r.files)/workers+1) {
		all.Go(func() {
			if !hold(part) {
				changed.Store(true)
			}
		})
	}
	all.Wait()
	return !changed.Load()
}

func hold(files []watched) bool {
	for i := range files {
		id, err := identify(files[i].path, files[i].follow)
		if err != nil || id != files[i].id {
			return false
		}
	}
	return true
}

// recollectionVersion begins every encoded Recollection. Then come the files,
// the events and the container, numbers as varints, strings after their length,
// lists after their number of elements, and CRC-32 (IEEE: of the two, the one whose
// tables take no time to make) over all of it, 4 bytes, little endian.
const recollectionVersion = "raptor recollection 3\n"

// Encode is the form in which a Recollection is kept.
func (r *Recollection) Encode() []byte {
	e := &packer{buf: []byte(recollectionVersion)}
	e.num(uint64(len(r.files)))
	for _, f := range r.files {
		follow := uint64(0)
		if f.follow {
			follow = 1
		}
		e.str(f.path)
		for _, n := range []uint64{follow, f.id.dev, f.id.ino, uint64(f.id.mode), uint64(f.id.size), uint64(f.id.mtime), uint64(f.id.ctime)} {
			e.num(n)
		}
	}
	e.num(uint64(len(r.Events)))
	for _, ev := range r.Events {
		e.str(ev.Step)
		e.str(string(ev.Type))
		e.str(ev.Key)
		e.num(uint64(len(ev.Outputs)))
		for _, out := range ev.Outputs {
			e.str(out.Path)
			e.num(uint64(out.Bytes))
		}
	}
	e.str(r.Store)
	if r.layer != nil {
		e.str(r.Epoch)
		e.layer(r.layer, r.imageEnv)
	}
	return binary.LittleEndian.AppendUint32(e.buf, crc32.ChecksumIEEE(e.buf))
}

// DecodeRecollection reads what Encode made; nil if it is damaged or of another
// version.
func DecodeRecollection(data []byte) *Recollection {
	if len(data) < len(recollectionVersion)+4 || string(data[:len(recollectionVersion)]) != recollectionVersion {
		return nil
	}
	body, sum := data[:len(data)-4], data[len(data)-4:]
	if crc32.ChecksumIEEE(body) != binary.LittleEndian.Uint32(sum) {
		return nil
	}
	d := &unpacker{buf: body[len(recollectionVersion):]}
	r := &Recollection{files: make([]watched, 0, d.count())}
	for range cap(r.files) {
		f := watched{path: d.str(), follow: d.num() == 1}
		f.id = identity{d.num(), d.num(), uint32(d.num()), int64(d.num()), int64(d.num()), int64(d.num())}
		r.files = append(r.files, f)
	}
	r.Events = make([]Event, 0, d.count())
	for range cap(r.Events) {
		ev := Event{Kind: Cached, Step: d.str(), Type: StepKind(d.str()), Key: d.str()}
		for range d.count() {
			ev.Outputs = append(ev.Outputs, Written{d.str(), int64(d.num())})
		}
		r.Events = append(r.Events, ev)
	}
	if r.Store = d.str(); r.Store != "" {
		r.Epoch = d.str()
		r.layer = d.layer()
	}
	if d.short {
		return nil
	}
	return r
}

// layer packs what Container needs of a target: which layers it stands on, with
// what a base image sets, and what its program says about containers.
func (e *packer) layer(top *Layer, imageEnv []string) {
	stack := top.Stack()
	var dirs []string
	for _, l := range stack {
		dirs = append(dirs, l.Dir)
	}
	e.strs(dirs)
	e.strs(imageEnv)
	e.str(top.Name)
	var env []string
	dir := "/"
	for _, in := range top.Program.Build {
		env, dir = follow(in.Op, env, dir)
	}
	e.strs(env)
	e.str(dir)
	for _, words := range [][]string{top.Program.Entrypoint, top.Program.Cmd} {
		given := uint64(0)
		if words != nil {
			given = 1
		}
		e.num(given)
		e.strs(words)
	}
}

func (d *unpacker) layer() (top *Layer) {
	for _, dir := range d.strs() {
		top = &Layer{Dir: dir, Below: top}
	}
	env := d.strs()
	if top == nil {
		d.short = true
		return nil
	}
	if len(env) > 0 {
		top.Stack()[0].Image = &Image{env: env}
	}
	top.Name = d.str()
	set := &rapt.Env{}
	for _, v := range d.strs() {
		key, value, _ := cutVar(v)
		set.Vars = append(set.Vars, rapt.Var{Key: key, Value: value})
	}
	top.Program = &rapt.Program{Build: []*rapt.Instruction{{Op: set}, {Op: &rapt.Workdir{Path: d.str()}}}}
	for _, words := range []*[]string{&top.Program.Entrypoint, &top.Program.Cmd} {
		given := d.num() == 1
		if list := d.strs(); given {
			*words = list
		}
	}
	return top
}

type packer struct{ buf []byte }

func (e *packer) num(n uint64) { e.buf = binary.AppendUvarint(e.buf, n) }
func (e *packer) str(s string) { e.num(uint64(len(s))); e.buf = append(e.buf, s...) }

func (e *packer) strs(list []string) {
	e.num(uint64(len(list)))
	for _, s := range list {
		e.str(s)
	}
}

type unpacker struct {
	buf   []byte
	short bool
}

func (d *unpacker) num() uint64 {
	n, size := binary.Uvarint(d.buf)
	if size <= 0 {
		d.buf, d.short = nil, true
		return 0
	}
	d.buf = d.buf[size:]
	return n
}

// count is the length of a list, which cannot have more elements than there
// are bytes left.
func (d *unpacker) count() int {
	n := d.num()
	if n > uint64(len(d.buf)) {
		d.buf, d.short = nil, true
		return 0
	}
	return int(n)
}

func (d *unpacker) str() string {
	n := d.count()
	s := string(d.buf[:n])
	d.buf = d.buf[n:]
	return s
}

func (d *unpacker) strs() []string {
	list := make([]string, 0, d.count())
	for range cap(list) {
		list = append(list, d.str())
	}
	return list
}

// LoadRecollection reads a kept Recollection; nil if there is none that is
// usable.
func LoadRecollection(file string) *Recollection {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil
	}
	return DecodeRecollection(data)
}
