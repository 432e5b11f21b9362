package rapt

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// What modules are called on disk.
const (
	layerSuffix   = ".rapt"
	includeSuffix = ".rinc"
)

// A moduleName says which file is meant, in one of the four forms: relative,
// absolute ("$.a.b"), of a package ("$link.a") or any of these with an instance
// ("a@instance").
type moduleName struct {
	text      string
	link      string // of a package; "" if it is none
	absolute  bool
	elements  []string
	instance  string
	instanced bool
}

// A refusal is why something that a user named is not to be had.
type refusal struct {
	message, label, help string
	err                  error // what the system said, where that is why
}

const instanceRule = "an instance is made of letters, digits, _, -, @ and dots"

func isInstance(instance string) bool {
	return strings.IndexFunc(instance, func(r rune) bool { return !isElementRune(r) && r != '.' && r != '@' }) < 0
}

// parseModuleName reads a name.
func parseModuleName(text string) (moduleName, *refusal) {
	n := moduleName{text: text}
	path, instance, instanced := strings.Cut(text, "@")
	n.instance, n.instanced = instance, instanced
	wrong := func(label string) (moduleName, *refusal) {
		return n, &refusal{message: quoteForMessage(text) + " is not the name of a module", label: label}
	}
	if instanced && instance == "" {
		return wrong("the instance behind @ is missing")
	}
	if !isInstance(instance) {
		return wrong(instanceRule)
	}
	if strings.Contains(path, "/") {
		dotted := strings.ReplaceAll(strings.TrimPrefix(path, "./"), "/", ".")
		return wrong("directories are separated by dots: " + strings.TrimSuffix(strings.TrimSuffix(dotted, layerSuffix), includeSuffix))
	}
	rest, dollar := strings.CutPrefix(path, "$")
	if dollar {
		link, below, found := strings.Cut(rest, ".")
		if !found {
			return wrong("a package's name is followed by a dot and the name of a module in it")
		}
		n.link, n.absolute, rest = link, link == "", below
	}
	n.elements = strings.Split(rest, ".")
	names := n.elements
	if n.link != "" {
		names = append([]string{n.link}, names...)
	}
	for _, element := range names {
		switch {
		case element == "":
			return wrong("a name is missing between two dots, or at an end")
		case strings.ContainsFunc(element, func(r rune) bool { return !isElementRune(r) }):
			return wrong("names are made of letters, digits, _ and -, with dots between")
		}
	}
	return n, nil
}

func isElementRune(r rune) bool {
	return r < 0x80 && (isNamePart(byte(r)) || r == '-')
}

// A module is a file that a name stands for.
type module struct {
	path     string // absolute
	pkg      *Package
	instance string
}

// id tells modules apart.
func (m module) id() string {
	if m.instance == "" {
		return m.path
	}
	return m.path + "@" + m.instance
}

// title is how people are told of a module.
func (m module) title() string {
	if m.instance == "" {
		return shownPath(m.path)
	}
	return shownPath(m.path) + " (" + m.instance + ")"
}

// linked finds a package by the name of its link: first the package's own
// links, then the project's.
func (p *Package) linked(name string) *Package {
	if found := p.Links[name]; found != nil {
		return found
	}
	if p.Project != nil {
		return p.Project.Links[name]
	}
	return nil
}

func (p *Package) linkNames() []string {
	names := slices.Collect(maps.Keys(p.Links))
	if p.Project != nil {
		names = slices.AppendSeq(names, maps.Keys(p.Project.Links))
	}
	return names
}

// resolve finds the file that a name stands for, said by a file in dir of the
// package pkg.
func resolve(name moduleName, pkg *Package, dir, suffix string) (module, *refusal) {
	switch {
	case name.absolute:
		dir = pkg.Root
	case name.link != "":
		linked := pkg.linked(name.link)
		if linked == nil {
			label := ""
			if near := Nearest(name.link, pkg.linkNames()); near != "" {
				label = "did you mean $" + near + "?"
			}
			return module{}, &refusal{
				message: "there is no package $" + name.link,
				label:   label,
				help:    "packages are linked in Raptor.toml: [raptor.link] " + name.link + " = \"DIRECTORY\", or with -L",
			}
		}
		pkg, dir = linked, linked.Root
	}
	stem := filepath.Join(append([]string{dir}, name.elements...)...)
	m := module{path: stem + suffix, pkg: pkg, instance: name.instance}
	if name.instanced {
		m.path = stem + "@" + suffix
	}
	if isFile(m.path) {
		return m, confined(pkg, m.path, name.text)
	}
	return m, missingModule(name, stem, suffix)
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && !info.IsDir()
}

// unreadable says why a file cannot be had of which nobody knows whether it
// exists.
func unreadable(written, path string, err error) *refusal {
	return &refusal{message: "cannot read " + quoteForMessage(written) + ": " + reason(err).Error(), help: "looked for " + shownPath(path), err: err}
}

// missingModule says which file was looked for, and what there is instead.
func missingModule(name moduleName, stem, suffix string) *refusal {
	sought := stem + suffix
	if name.instanced {
		sought = stem + "@" + suffix
	}
	if _, err := os.Stat(sought); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
		return unreadable(name.text, sought, err)
	}
	r := &refusal{
		message: "there is no module " + quoteForMessage(name.text),
		help:    "looked for " + shownPath(sought),
	}
	other := map[string]string{layerSuffix: includeSuffix, includeSuffix: layerSuffix}[suffix]
	switch {
	case name.instanced && isFile(stem+suffix):
		r.message = quoteForMessage(name.text) + " names an instance of a plain file"
		r.label = "only " + shownPath(stem+suffix) + " exists: write it without @" + shortened(name.instance, 20)
	case !name.instanced && isFile(stem+"@"+suffix):
		r.message = quoteForMessage(name.text) + " lacks an instance"
		r.label = "only " + shownPath(stem+"@"+suffix) + " exists: write " + name.text + "@INSTANCE"
	case suffix == layerSuffix && isFile(stem+other):
		r.label = shownPath(stem+other) + " exists, which is for INCLUDE"
	case suffix == includeSuffix && isFile(stem+other):
		r.label = shownPath(stem+other) + " exists, which is for FROM"
	default:
		if near := nearestModule(name, stem, suffix); near != "" {
			r.label = "did you mean " + near + "?"
		}
		return r
	}
	r.help = "" // the label says it all
	return r
}

// nearestModule is the existing module whose name is nearest, in the directory
// that was looked into.
func nearestModule(name moduleName, stem, suffix string) string {
	entries, _ := os.ReadDir(filepath.Dir(stem))
	var known []string
	for _, e := range entries {
		if base, ok := strings.CutSuffix(e.Name(), suffix); ok && !e.IsDir() {
			known = append(known, base)
		}
	}
	last := name.elements[len(name.elements)-1]
	sought := last
	if name.instanced {
		sought += "@"
	}
	near := Nearest(sought, known)
	if near == "" {
		return ""
	}
	before, _, _ := strings.Cut(strings.TrimSuffix(name.text, suffix), "@")
	before = strings.TrimSuffix(before, last)
	if strings.HasSuffix(near, "@") {
		if name.instanced {
			return before + near + name.instance
		}
		return before + near + "INSTANCE"
	}
	return before + near
}

// confined refuses a path outside of a package that may not look there, with
// all symbolic links followed.
func confined(pkg *Package, path, written string) *refusal {
	if pkg == nil || !pkg.Confined {
		return nil
	}
	root, err := filepath.EvalSymlinks(pkg.Root)
	if err != nil {
		root = filepath.Clean(pkg.Root)
	}
	if rel, err := filepath.Rel(root, evalExisting(path)); err == nil && filepath.IsLocal(rel) {
		return nil
	}
	return &refusal{
		message: quoteForMessage(written) + " lies outside of the package $" + pkg.Name,
		help:    "files of a package that is linked from git may name only what is in it",
	}
}

// evalExisting follows the symbolic links of as much of a path as exists.
func evalExisting(path string) string {
	path = filepath.Clean(path)
	for range 64 {
		if real, err := filepath.EvalSymlinks(path); err == nil {
			return real
		}
		// A dangling link names what it points to, not where it lies.
		if to, err := os.Readlink(path); err == nil {
			if !filepath.IsAbs(to) {
				to = filepath.Join(evalExisting(filepath.Dir(path)), to)
			}
			path = filepath.Clean(to)
			continue
		}
		break
	}
	dir, base := filepath.Dir(path), filepath.Base(path)
	if dir == path {
		return path
	}
	return filepath.Join(evalExisting(dir), base)
}
