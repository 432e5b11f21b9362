package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/fatih/color"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"raptor-make/internal/ui"
	"raptor-make/sandbox"
)

func (inv *invocation) doctorCommand() *cobra.Command {
	return &cobra.Command{
		Use: "doctor", Short: "Say whether this machine can build, and how to mend what cannot", Args: cobra.NoArgs,
		Long: `Tries what sandboxes are made with, for the user who runs it and on the file
system that the project's layers are kept on, and looks for the programs that
raptor executes. What is missing is said with what comes of it and how to mend it:
"no" is in the way of every build, "note" only of what it says.

The exit status is 0 when layers can be built here, and 1 when not.`,
		RunE: func(c *cobra.Command, _ []string) error { return inv.doctor(c) },
	}
}

func (inv *invocation) doctor(c *cobra.Command) error {
	if os.Geteuid() == 0 {
		if err := inv.becomeRoot(c.Context()); err != nil { // it arrives
			return err
		}
	}
	p, err := inv.project()
	if err != nil {
		return err
	}
	cache, err := cacheDir()
	if err != nil {
		return err
	}
	layers := place{what: "layers in", dir: p.Abs(p.Settings.Store.Text), other: `[raptor] store = "…" in ` + projectFile,
		room: 5e9, why: "The layers of one small operating system take 1.3 GB, a disk image of it 1.5 GB. raptor clean removes what is not in use."}
	downloads := place{what: "downloads in", dir: cache, other: "RAPTOR_CACHE_DIR",
		room: 1e9, why: "Base images are kept here as they were packed, 100 MB or more each."}
	findings := make([]sandbox.Finding, 2)
	var scratch string
	if findings[1], scratch = downloads.examine(); scratch != "" {
		os.Remove(scratch)
	}
	findings[0], scratch = layers.examine()
	findings = append(findings, sandbox.Examine(c.Context(), scratch)...)
	if scratch != "" {
		if err := os.RemoveAll(scratch); err != nil {
			inv.warn(fmt.Sprintf("a directory of the examination is left: %v", err))
		}
	}
	if c.Context().Err() != nil {
		return context.Cause(c.Context())
	}
	if !slices.ContainsFunc(findings, func(f sandbox.Finding) bool { return f.State == sandbox.Wrong }) {
		// Where nothing is in the way, an ordinary user begins again as root.
		if err := inv.becomeRoot(c.Context()); err != nil {
			return err
		}
	}
	findings = append(findings, programsFound()...)
	findings = append(findings, kvm())
	return inv.prescribe(os.Stdout, findings)
}

// A place is a directory that raptor writes to, and makes when it is missing.
type place struct {
	what, dir string
	other     string // what names another
	room      int64  // that should be there, in bytes
	why       string
}

const scratchName = ".raptor-doctor-"

// examine makes a scratch directory in the place, or in what the place would be
// made in; "" if it cannot.
func (p *place) examine() (f sandbox.Finding, scratch string) {
	f.What = p.what + " " + p.dir
	parent := filepath.Join(p.dir, ".raptor") // nobody counts what comes and goes there
	for {
		if _, err := os.Stat(parent); !errors.Is(err, fs.ErrNotExist) || parent == "/" {
			break
		}
		parent = filepath.Dir(parent)
	}
	scratch, err := os.MkdirTemp(parent, scratchName)
	if err != nil {
		f.State, f.Found, f.Means = sandbox.Wrong, fmt.Sprintf("%s: %v", parent, cause(err)), "It cannot be written to."
		f.Remedy = "make it writable for you, or name another directory with " + p.other
		return f, ""
	}
	var st unix.Statfs_t
	if unix.Statfs(scratch, &st) == nil {
		free := int64(st.Bavail) * st.Bsize
		f.Found = fmt.Sprintf("%.1f GB free", float64(free)/1e9)
		if free < p.room {
			f.State, f.Means = sandbox.Notice, p.why
			f.Remedy = "make room, or name another directory with " + p.other
		}
	}
	return f, scratch
}

func cause(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// programsFound are the findings about programs that raptor executes outside of
// sandboxes. Those that every build of an ordinary user takes, package sandbox
// looks for.
func programsFound() []sandbox.Finding {
	list := []sandbox.Finding{
		found("mmdebstrap", "for FROM debian://", "install the package mmdebstrap"),
		found("git", "for links to git repositories", "install the package git"),
	}
	if list[0].State == sandbox.Well {
		list = append(list, keyring())
	}
	for _, name := range credentialHelpers() {
		list = append(list, found("docker-credential-"+name, "for logins to registries, as Docker's config.json says",
			"install it, or take it out of config.json and log in anew (docker login)"))
	}
	return list
}

func found(program, purpose, remedy string) sandbox.Finding {
	f := sandbox.Finding{What: program + ", " + purpose}
	if _, err := exec.LookPath(program); err != nil {
		f.State, f.Found, f.Remedy = sandbox.Notice, "not found", remedy
	}
	return f
}

// keyring are the keys that Debian's archive is signed with.
func keyring() sandbox.Finding {
	f := sandbox.Finding{What: "keys of Debian's archive, for FROM debian://"}
	for _, pattern := range []string{"/usr/share/keyrings/debian-archive-*", "/etc/apt/trusted.gpg.d/debian-archive-*"} {
		if files, _ := filepath.Glob(pattern); len(files) > 0 {
			return f
		}
	}
	f.State, f.Found, f.Remedy = sandbox.Notice, "not found", "install the package debian-archive-keyring"
	return f
}

// credentialHelpers are the names of the programs that Docker's configuration,
// which logins are taken from, says to ask.
func credentialHelpers() []string {
	dir := os.Getenv("DOCKER_CONFIG")
	if dir == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return nil
		}
		dir = filepath.Join(home, ".docker")
	}
	text, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		return nil
	}
	var config struct {
		CredsStore  string            `json:"credsStore"`
		CredHelpers map[string]string `json:"credHelpers"`
	}
	if json.Unmarshal(text, &config) != nil {
		return nil // what asks for a login will say so
	}
	names := slices.Sorted(maps.Values(config.CredHelpers))
	if config.CredsStore != "" {
		names = append(names, config.CredsStore)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// kvm is for virtual machines in containers: those that boot images, mostly.
func kvm() sandbox.Finding {
	f := sandbox.Finding{What: "/dev/kvm, for containers that run virtual machines"}
	fd, err := unix.Open("/dev/kvm", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err == nil {
		unix.Close(fd)
		return f
	}
	f.State, f.Found, f.Means = sandbox.Notice, err.Error(), "They have to emulate the processor, which takes many times as long."
	switch {
	case errors.Is(err, syscall.ENOENT):
		f.Remedy = "as root: modprobe kvm_intel, or kvm_amd; a virtual machine's host has to allow nested ones; a container has to be given it: with Docker, --device /dev/kvm"
	case sandbox.CallerID() == 0:
		f.Remedy = "in a container, give it the device: with Docker, --device /dev/kvm"
	case errors.Is(err, syscall.EACCES):
		f.Remedy = "as root: usermod --append --groups kvm " + userName() + ", then log in anew"
	}
	return f
}

func userName() string {
	id := strconv.Itoa(sandbox.CallerID())
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return "user " + id
}

// prescribe prints findings, a line each, and below those that are not well what
// comes of them and how to mend them.
func (inv *invocation) prescribe(w io.Writer, findings []sandbox.Finding) error {
	paint := func(a ...color.Attribute) *color.Color {
		c := color.New(a...)
		if ui.ColorWanted(inv.colorFlag, os.Stdout, os.Getenv) {
			c.EnableColor()
		} else {
			c.DisableColor()
		}
		return c
	}
	marks := map[sandbox.State]string{
		sandbox.Well:    paint(color.FgGreen, color.Bold).Sprint("ok  "),
		sandbox.Notice:  paint(color.FgYellow, color.Bold).Sprint("note"),
		sandbox.Wrong:   paint(color.FgRed, color.Bold).Sprint("no  "),
		sandbox.Untried: paint(color.FgHiBlack).Sprint("-   "),
	}
	wrong := 0
	for i, f := range findings {
		if f.State == sandbox.Wrong {
			wrong++
		}
		if inv.quiet > 0 && f.State == sandbox.Well {
			continue
		}
		line := marks[f.State] + "  " + f.What
		if f.State == sandbox.Untried {
			if i > 0 && findings[i-1].State == sandbox.Untried {
				line = "      " + f.What
			}
			if i == len(findings)-1 || findings[i+1].State != sandbox.Untried {
				line += ": not tried, for what is wrong above"
			} else {
				line += ","
			}
		} else if f.Found != "" {
			line += ": " + f.Found
		}
		fmt.Fprintln(w, line)
		for _, more := range []string{f.Means, f.Remedy} {
			if f.State != sandbox.Well && more != "" {
				fmt.Fprintln(w, "      "+strings.ReplaceAll(more, "\n", "\n      "))
			}
		}
	}
	if wrong > 0 {
		fmt.Fprintf(w, "\nNothing can be built here, as %s, before %s mended.\n", userName(), these(wrong))
		return status(statusFailed)
	}
	if inv.quiet == 0 {
		fmt.Fprintf(w, "\nLayers can be built here, as %s.\n", userName())
	}
	return nil
}

func these(n int) string {
	if n == 1 {
		return `what is marked "no" is`
	}
	return fmt.Sprintf(`the %d things marked "no" are`, n)
}
