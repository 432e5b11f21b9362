package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"raptor-make/engine"
	"raptor-make/internal/calm"
	"raptor-make/internal/images"
	"raptor-make/internal/store"
	"raptor-make/rapt"
	"raptor-make/recipes"
	"raptor-make/sandbox"
)

// projectFile is what a project's file is called.
const projectFile = "Raptor.toml"

// cacheDir is the directory for downloads, shared by all projects of a user.
func cacheDir() (string, error) {
	if dir := os.Getenv("RAPTOR_CACHE_DIR"); dir != "" {
		return filepath.Abs(dir)
	}
	if !sandbox.Rootless() {
		return "/var/cache/raptor", nil
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the cache directory: %w; set RAPTOR_CACHE_DIR", err)
	}
	return filepath.Join(dir, "raptor"), nil
}

// project loads the project file, if there is one, or the one that was asked
// for.
func (inv *invocation) project() (*recipes.Project, error) {
	calm.Over()
	file := inv.make.file
	if file == "" {
		file = projectFile
		if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
			return recipes.Empty("."), nil
		}
	}
	p, err := recipes.Load(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, rapt.Diagnostics{{Message: fmt.Sprintf("there is no project file %s", file)}}
	}
	return p, err
}

// engine wires everything that a command needs. With look, nothing is made on
// disk.
func (inv *invocation) engine(ctx context.Context, p *recipes.Project, look bool) (*engine.Engine, error) {
	cache, err := cacheDir()
	if err != nil {
		return nil, err
	}
	dir := p.Abs(p.Settings.Store.Text)
	s := store.Existing(dir)
	s.Sync = sandbox.Sync
	if !look {
		if err := inv.becomeRoot(ctx); err != nil {
			return nil, err
		}
		if err := s.CheckOwner(); err != nil {
			return nil, err
		}
	}
	watch := &engine.Watch{}
	inv.watched = watch
	lock, err := recipes.LoadLock(lockFile(p, s))
	if err != nil {
		return nil, err
	}
	watch.File(lockFile(p, s), true)
	l := &linker{inv: inv, watch: watch, cache: cache, lock: lock, known: map[string]*rapt.Package{}}
	pkg, err := l.project(ctx, p)
	if err != nil {
		return nil, err
	}
	digests := engine.LoadDigests(s.Remembered(), watch)
	if e := epoch(p); e != "" && !isEpoch(e) {
		return nil, wrong(fmt.Errorf("SOURCE_DATE_EPOCH is %q; it takes seconds since 1970, a whole number", e))
	}
	inv.closeImages()
	client := inv.images(p, cache)
	inv.client = client
	client.Content = func(f *os.File) (string, error) {
		digest, err := digests.File(f)
		return string(digest), err
	}
	e := &engine.Engine{
		Project: p, Package: pkg, Store: s, Lock: lock, Execute: sandbox.Run, Prepare: sandbox.Prepare,
		Loader: &rapt.Loader{Project: pkg, Log: func(level, template, text string) {
			watch.Break() // it is to be said each time
			inv.logTemplate(level, template, text)
		}},
		Digests: digests, Watch: watch,
		Images:  client,
		Epoch:   epoch(p),
		Workers: inv.workers(p), KeepGoing: inv.make.keepGoing, Debug: inv.make.debug, Always: inv.make.always, Update: inv.make.update,
		Proxies: proxies(), Platform: platform(p),
	}
	client.Log = e.ImageLog
	client.Warn = func(r *images.Ref, message string) {
		if !e.WarnImage(r, message) {
			inv.warn(fmt.Sprintf("%s: %s", r.URL, message))
		}
	}
	if inv.make.jobs == 0 && !look {
		if e.Jobserver, err = engine.OpenJobserver(os.Getenv("MAKEFLAGS")); err != nil {
			return nil, err
		}
		if e.Jobserver != nil {
			e.Workers = math.MaxInt
		}
	}
	return e, nil
}

// becomeRoot makes root of an ordinary user. Then it does not return: raptor
// begins again, as root. An interrupt on the way ends it.
func (inv *invocation) becomeRoot(ctx context.Context) error {
	if os.Geteuid() != 0 {
		signal.Reset(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	if inv.startDir != "" {
		here, err := os.Getwd()
		if err != nil {
			return err
		}
		defer os.Chdir(here)
		if err := os.Chdir(inv.startDir); err != nil {
			return err
		}
	}
	err := sandbox.EnterUserNamespace()
	var setup *sandbox.SetupError
	if errors.As(err, &setup) {
		return fmt.Errorf("%w\n%s\nraptor doctor says whether there is more to mend", err, setup.Help)
	}
	return err
}

// lockFile is next to the project file; without one, in the store.
func lockFile(p *recipes.Project, s *store.Store) string {
	if p.File == "" {
		return s.Pins()
	}
	return filepath.Join(p.Root, recipes.LockName)
}

func platform(p *recipes.Project) string {
	if p.Settings.Platform.Text != "" {
		return p.Settings.Platform.Text
	}
	return engine.ThisPlatform()
}

func (inv *invocation) workers(p *recipes.Project) int {
	switch {
	case inv.make.jobs > 0:
		return inv.make.jobs
	case p.Settings.Jobs > 0:
		return p.Settings.Jobs
	}
	return runtime.GOMAXPROCS(0)
}

func (inv *invocation) images(p *recipes.Project, cache string) *images.Client {
	var seconds *int64
	if n, err := strconv.ParseInt(epoch(p), 10, 64); err == nil {
		seconds = &n
	}
	c := &images.Client{Settings: images.Settings{
		Cache: cache, Platform: platform(p), Epoch: seconds, Offline: inv.make.offline, Rootless: sandbox.Rootless(),
		Mirrors: map[string][]string{}, Insecure: map[string]bool{},
	}}
	for host, r := range p.Settings.Registries {
		c.Mirrors[host] = recipes.Texts(r.Mirrors)
		c.Insecure[host] = r.Insecure
	}
	return c
}

// closeImages ends what fetches images, if it runs.
func (inv *invocation) closeImages() {
	if inv.client != nil {
		inv.client.Close()
	}
}

func epoch(p *recipes.Project) string {
	if e := os.Getenv("SOURCE_DATE_EPOCH"); e != "" {
		return e
	}
	if e := p.Settings.SourceDateEpoch; e != nil {
		return strconv.FormatInt(*e, 10)
	}
	return ""
}

func isEpoch(text string) bool {
	n, err := strconv.ParseInt(text, 10, 64)
	return err == nil && n >= 0
}

// proxies are the variables that say how to reach the network.
func proxies() []string {
	var env []string
	for _, name := range []string{"http_proxy", "https_proxy", "no_proxy"} {
		for _, key := range []string{name, strings.ToUpper(name)} {
			if value, ok := os.LookupEnv(key); ok {
				env = append(env, key+"="+value)
			}
		}
	}
	return env
}

// logTemplate says what a template has to say: with -v also at level debug,
// with -vv trace, with -q only warnings and errors, with -qq errors.
func (inv *invocation) logTemplate(level, template, text string) {
	needs := map[string]int{"trace": 2, "debug": 1, "info": 0, "warning": -1, "error": -2}
	if inv.verbose-inv.quiet >= needs[level] {
		fmt.Fprintf(os.Stderr, "%s: %s: %s\n", level, template, text)
	}
}

// A linker makes packages of directories: the project, what it links, and what
// those link.
type linker struct {
	inv   *invocation
	watch *engine.Watch
	cache string
	lock  *recipes.Lock
	main  *rapt.Package
	known map[string]*rapt.Package // by directory
}

func (l *linker) project(ctx context.Context, p *recipes.Project) (*rapt.Package, error) {
	l.main = &rapt.Package{Root: p.Root, Links: map[string]*rapt.Package{}}
	l.known[p.Root] = l.main
	for _, link := range p.Links {
		pkg, err := l.link(ctx, p, link)
		if err != nil {
			return nil, err
		}
		l.main.Links[link.Name] = pkg
	}
	for _, pair := range l.inv.links.list {
		pkg, err := l.directory(ctx, pair[0], pair[1])
		if err != nil {
			return nil, fmt.Errorf("--link %s: %w", pair[0], err)
		}
		l.main.Links[pair[0]] = pkg
	}
	if l.main.Links["recipes"] == nil {
		dir, err := recipes.Unpack(l.cache)
		if err != nil {
			return nil, err
		}
		l.main.Links["recipes"] = &rapt.Package{Name: "recipes", Root: dir, Project: l.main}
	}
	return l.main, nil
}

// link is the package that a link of a project file leads to.
func (l *linker) link(ctx context.Context, p *recipes.Project, link *recipes.Link) (*rapt.Package, error) {
	if link.Git != nil {
		dir, err := l.git(ctx, p, link)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if err != nil {
			return nil, rapt.Diagnostics{p.Diagnose(link.Git.URL.Span, err.Error(), "")}
		}
		pkg, err := l.directory(ctx, link.Name, dir)
		if err == nil {
			pkg.Confined = true
		}
		return pkg, err
	}
	pkg, err := l.directory(ctx, link.Name, p.Abs(link.Path.Text))
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err != nil && !errors.As(err, new(rapt.Diagnostics)) {
		err = rapt.Diagnostics{p.Diagnose(link.Path.Span, fmt.Sprintf("link %s: %v", link.Name, err), "")}
	}
	return pkg, err
}

func (l *linker) directory(ctx context.Context, name, dir string) (*rapt.Package, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if pkg, ok := l.known[dir]; ok {
		return pkg, nil
	}
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("there is no directory %s", dir)
	case err != nil:
		return nil, err
	case !info.IsDir():
		return nil, fmt.Errorf("%s is not a directory", dir)
	}
	pkg := &rapt.Package{Name: name, Root: dir, Links: map[string]*rapt.Package{}, Project: l.main}
	l.known[dir] = pkg
	file := filepath.Join(dir, projectFile)
	l.watch.File(file, true)
	if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
		return pkg, nil
	}
	own, err := recipes.Load(file)
	if err != nil {
		return nil, err
	}
	for _, link := range own.Links {
		if pkg.Links[link.Name], err = l.link(ctx, own, link); err != nil {
			return nil, err
		}
	}
	return pkg, nil
}
