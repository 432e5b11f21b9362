package fetch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/klauspost/compress/zstd"

	"raptor-make/internal/images"
)

// mmdebstrap is a run of the program of that name: by itself in a mount and a
// process namespace, so that whatever becomes of it, or of us, no mount and no
// process stays behind.
type mmdebstrap struct {
	args   []string
	tmp    string // where its root file system grows; it and its content are removed
	epoch  *int64
	stdout io.Writer
	log    io.Writer
	stage  func(string) // told what mmdebstrap says it does
}

// errNoMmdebstrap tells what to do about it.
var errNoMmdebstrap = errors.New("mmdebstrap is not installed, which makes debian:// images: apt-get install mmdebstrap")

// ownPartial is what apt does itself, where its user can get there.
const ownPartial = `! chroot "$1" getent passwd _apt >/dev/null || chroot "$1" chown -f _apt:root /var/lib/apt/lists/partial /var/cache/apt/archives/partial || true`

// make bootstraps into part, as a compressed tar.
func (b *bootstrap) make(ctx context.Context, c *Client, r *images.Ref, part *os.File, p images.Progress) error {
	arguments, err := b.arguments(c)
	if err != nil {
		return err
	}
	z, err := zstd.NewWriter(localWriter{part}, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(2))
	if err != nil {
		return err
	}
	out := &notedWriter{Writer: z}
	run := &mmdebstrap{
		args: append(arguments,
			"--format=tar",
			// Those of this machine, which mmdebstrap copies for apt to work.
			`--customize-hook=rm -f "$1/etc/resolv.conf" "$1/etc/hostname"`,
			// apt gives them to its own user where that can reach them: they must not
			// depend on who may read the directories above our cache.
			"--customize-hook="+ownPartial,
			"--", b.Suite, "-"),
		tmp:    strings.TrimSuffix(part.Name(), partSuffix) + rootSuffix,
		epoch:  c.Epoch,
		stdout: out,
		log:    c.log(r),
		stage:  func(s string) { p("bootstrap: "+s, 0, 0) },
	}
	if uri := b.URI(); uri != "" {
		run.args = append(run.args, uri)
	}
	err = run.run(ctx)
	if out.err != nil {
		err = out.err // mmdebstrap's own is only that nobody reads from it
	}
	if closeErr := z.Close(); err == nil {
		err = closeErr
	}
	return err
}

// notedWriter remembers the error that writing ended with.
type notedWriter struct {
	io.Writer
	err error
}

func (n *notedWriter) Write(b []byte) (int, error) {
	written, err := n.Writer.Write(b)
	if err != nil && n.err == nil {
		n.err = err
	}
	return written, err
}

// arguments are the options that a bootstrap and the question for its mirror
// have in common.
func (b *bootstrap) arguments(c *Client) ([]string, error) {
	architecture, err := c.DebianArchitecture()
	if err != nil {
		return nil, err
	}
	args := []string{
		"--mode=root",
		"--variant=minbase",
		"--architectures=" + architecture,
		"--components=" + strings.Join(b.Components, ","),
	}
	if len(b.Include) > 0 {
		args = append(args, "--include="+strings.Join(b.Include, ","))
	}
	if b.Snapshot != "" {
		// It has expired, here and later in the image.
		args = append(args, `--aptopt=Acquire::Check-Valid-Until "false"`)
	}
	return args, nil
}

// sourceMark begins the lines that defaultSources looks for.
const sourceMark = "raptor-source: "

// defaultSources are those that mmdebstrap would use: it is run until it has
// written the sources.list, and stopped.
func (b *bootstrap) defaultSources(ctx context.Context, c *Client, r *images.Ref) ([]source, error) {
	arguments, err := b.arguments(c)
	if err != nil {
		return nil, err
	}
	probe := filepath.Join(c.Cache, bootstrapDir, "probe-"+b.Suite)
	if err := os.MkdirAll(filepath.Dir(probe), 0o755); err != nil {
		return nil, fmt.Errorf("cache: %w", err)
	}
	part, err := lockPart(ctx, probe+partSuffix, nil)
	if err != nil {
		return nil, fmt.Errorf("cache: %w", err)
	}
	defer part.Close()
	defer os.Remove(part.Name())
	var said bytes.Buffer
	run := &mmdebstrap{
		args: append(arguments,
			"--format=tar",
			`--setup-hook=sed "s/^/`+sourceMark+`/" "$1/etc/apt/sources.list" >&2; exit 1`,
			"--", b.Suite, "/dev/null"),
		tmp:    probe + rootSuffix,
		stdout: io.Discard,
		log:    &said,
		stage:  func(string) {},
	}
	err = run.run(ctx)
	sources := parseSources(said.String())
	if len(sources) == 0 {
		if err == nil {
			err = errors.New("its output names none")
		}
		return nil, fmt.Errorf("ask mmdebstrap for its mirror: %w", err)
	}
	return sources, nil
}

// parseSources reads marked lines of a sources.list: deb [options] URI suite component…
func parseSources(said string) []source {
	var sources []source
	for line := range strings.Lines(said) {
		line, ok := strings.CutPrefix(strings.TrimSpace(line), sourceMark)
		rest, isDeb := strings.CutPrefix(line, "deb ")
		if !ok || !isDeb {
			continue
		}
		rest = strings.TrimSpace(rest)
		if strings.HasPrefix(rest, "[") {
			_, rest, _ = strings.Cut(rest, "]")
		}
		if f := strings.Fields(rest); len(f) >= 3 {
			sources = append(sources, source{strings.TrimRight(f[0], "/"), f[1], f[2:]})
		}
	}
	return sources
}

func (m *mmdebstrap) run(ctx context.Context) error {
	program, err := exec.LookPath("mmdebstrap")
	if err != nil {
		return errNoMmdebstrap
	}
	if err := os.RemoveAll(m.tmp); err != nil {
		return fmt.Errorf("remove what an earlier run has left: %w", err)
	}
	if err := os.Mkdir(m.tmp, 0o755); err != nil {
		return fmt.Errorf("cache: %w", err)
	}
	defer os.RemoveAll(m.tmp)

	said := &transcript{log: m.log, stage: m.stage}
	cmd := exec.CommandContext(ctx, program, m.args...)
	cmd.Env = m.environment()
	cmd.Stdout, cmd.Stderr = m.stdout, said
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Pdeathsig: syscall.SIGKILL,
		Setpgid:   true, // the terminal's Ctrl-C is for us to act on
		// As the first process of its namespace it takes all others with it.
		Cloneflags: syscall.CLONE_NEWPID,
		// Unshared, not cloned: then Go makes all mounts private.
		Unshareflags: syscall.CLONE_NEWNS,
	}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 2 * time.Second
	// Pdeathsig is sent when the thread ends that started the process.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err = cmd.Run()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("mmdebstrap: %w%s", err, said.end())
	}
	return nil
}

// environment is a small part of ours: what comes out must not depend on the
// rest.
func (m *mmdebstrap) environment() []string {
	env := []string{
		"PATH=" + os.Getenv("PATH") + ":/usr/local/sbin:/usr/sbin:/sbin",
		"HOME=" + m.tmp,
		"LC_ALL=C.UTF-8",
		"TMPDIR=" + m.tmp,
	}
	for _, name := range []string{"http_proxy", "https_proxy", "no_proxy"} {
		for _, name := range []string{name, strings.ToUpper(name)} {
			if value, ok := os.LookupEnv(name); ok {
				env = append(env, name+"="+value)
			}
		}
	}
	if m.epoch != nil {
		env = append(env, fmt.Sprintf("SOURCE_DATE_EPOCH=%d", *m.epoch))
	}
	return env
}

// A transcript passes on what mmdebstrap says, and keeps the last of it for an
// error.
type transcript struct {
	log   io.Writer
	stage func(string)

	mu      sync.Mutex
	partial []byte
	lines   []string
}

// lastLines is how many lines of output go into an error.
const lastLines = 15

func (t *transcript) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.log.Write(b) // a log that fails is no reason to stop
	t.partial = append(t.partial, b...)
	for {
		line, rest, ok := bytes.Cut(t.partial, []byte("\n"))
		if !ok {
			return len(b), nil
		}
		t.partial = bytes.Clone(rest)
		t.line(strings.TrimRight(string(line), "\r"))
	}
}

func (t *transcript) line(s string) {
	// Those with a path in them are of no interest.
	doing, ok := strings.CutPrefix(s, "I: ")
	if doing, ends := strings.CutSuffix(doing, "..."); ok && ends && !strings.Contains(doing, "/") {
		t.stage(doing)
	}
	if strings.TrimSpace(s) == "" {
		return
	}
	t.lines = append(t.lines, s)
	if len(t.lines) > lastLines {
		t.lines = t.lines[1:]
	}
}

// end is the last output, to be put behind an error.
func (t *transcript) end() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var s strings.Builder
	for _, line := range append(t.lines, string(t.partial)) {
		if line != "" {
			s.WriteString("\n  " + line)
		}
	}
	return s.String()
}
