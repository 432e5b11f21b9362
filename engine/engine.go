package engine

import (
	"context"
	"sync"

	"raptor-make/internal/images"
	"raptor-make/internal/store"
	"raptor-make/rapt"
	"raptor-make/recipes"
	"raptor-make/sandbox"
)

// An Executor carries out what a step runs. [sandbox.Run] is one.
type Executor func(ctx context.Context, spec *sandbox.Spec, streams sandbox.Streams) (sandbox.Result, error)

// Images finds and fetches base images. An [images.Client] does.
type Images interface {
	Resolve(ctx context.Context, r *images.Ref, locked string) (*images.Resolved, error)
	Unpack(ctx context.Context, r *images.Ref, res *images.Resolved, dest string, p images.Progress) (*images.Config, error)
}

// An Engine builds the layers and runs the jobs of one project. All fields
// without a word about it must be set; none may change once it is used. It is
// safe for concurrent use.
type Engine struct {
	Project *recipes.Project
	Package *rapt.Package // the project's, with all its links
	Loader  *rapt.Loader
	Store   *store.Store
	Digests *Digests
	Watch   *Watch // notes what plans read
	Images  Images
	Lock    *recipes.Lock
	Execute Executor
	Prepare func() // called a moment before Execute will probably be; may be nil

	Platform  string     // "os/arch", as images know it
	Epoch     string     // SOURCE_DATE_EPOCH for every step; "" if not set
	Workers   int        // how many steps run at once; at least 1
	KeepGoing bool       // finish what does not depend on a failure
	Debug     bool       // keep the first step that fails for a DebugShell
	Always    bool       // nothing counts as there or up to date
	Update    bool       // what the lock file pins is looked up anew
	Jobserver *Jobserver // nil: only Workers counts
	Network   string     // "none" shuts the network off for all that runs; "" leaves it to each job

	fetching sync.Map // *images.Ref -> *stepRun

	// Proxies are variables such as http_proxy=…, passed on to every step.
	Proxies []string
}

// A Request names what is to be there in the end.
type Request struct {
	Layers []recipes.Value // module names
	Jobs   []*recipes.Job
	// Run is a container that is not a job of the project: what it needs is
	// planned, the container itself is left to [Engine.Container].
	Run *recipes.Job
	// Whole keeps layers in the plan that are missing but not needed.
	Whole bool
}

// A Plan is what a request comes to. It belongs to one Run.
type Plan struct {
	Steps    []*Step    // each after those it needs
	Run      *Container // of Request.Run
	Targets  []*Layer
	Warnings rapt.Diagnostics
	Failed   *DebugShell // after Run, with Engine.Debug, if a step's program failed

	release func() // of the layers it uses, from Run on
}

// Close lets go of what the plan uses. Only a plan with a container that was
// not run has to be closed; a second call does nothing.
func (p *Plan) Close() {
	if p.release != nil {
		p.release()
		p.release = nil
	}
}

// A Step is one piece of work: a layer that is fetched or built, or a job
// that is run.
type Step struct {
	Kind  StepKind
	Name  string // unique in a plan
	Needs []*Step
	Layer *Layer
	Job   *Container

	State   State
	Reasons []string // why it would run, in words

	building sync.Mutex   // held while a postponed layer is built
	failure  error        // of a postponed layer
	last     *store.Layer // made under the same name before, if it has to be made
}

// State says what there is to do for a step.
type State int

const (
	// Pending: of a job, it is decided when the jobs whose outputs it reads are
	// done; of a layer, it is built as soon as such a job needs it.
	Pending State = iota
	ToDo
	Current // there is nothing to do
)

// Key is the step's key in its short form, "" when it is not known yet.
func (s *Step) Key() string {
	if s.Layer != nil {
		return s.Layer.Key.Short()
	}
	return s.Job.Key.Short()
}

// A Layer is a layer of a plan.
type Layer struct {
	Name    string // as the specification of layers has it: a file's stem or an image's name
	Dir     string // of the layer in the store: Name-KEY16
	Key     LayerKey
	Parts   []store.Part // what Key was made from
	Below   *Layer       // nil: it starts from nothing
	Program *rapt.Program
	Image   *Image

	step *Step
}

// An Image is a base image of a plan.
type Image struct {
	Ref      *images.Ref
	Resolved *images.Resolved

	from rapt.Span // a FROM that names it
	env  []string  // recollected; nil: its record has it
}

// Stack lists the layers that l stands on and l itself, lowest first.
func (l *Layer) Stack() []*Layer {
	if l == nil {
		return nil
	}
	return append(l.Below.Stack(), l)
}
