package rapt

import (
	"path/filepath"
	"strings"
)

// mount declares a mount.
func (x *expansion) mount(r *reading, st *statement) {
	name, dest := st.words[0], st.words[1]
	m := &Mount{Span: r.text.place(st.extent).span, Name: name.text, Dest: dest.text}
	ok := x.mountOptions(r, st, m)
	if name.text == "" || strings.ContainsFunc(name.text, func(c rune) bool { return !isElementRune(c) && c != '.' }) {
		x.fail(r, name.extent, "the name of a mount is made of letters, digits, _, - and dots", "")
		ok = false
	}
	if !strings.HasPrefix(dest.text, "/") {
		x.fail(r, dest.extent, "the path of a mount is absolute: there is no working directory yet", "write /"+dest.text)
		ok = false
	}
	m.Dest = filepath.Clean(dest.text)
	for _, earlier := range x.program.Mounts {
		if earlier.Name == m.Name || earlier.Dest == m.Dest {
			what, at := "the mount "+m.Name, name.extent
			if earlier.Name != m.Name {
				what, at = "a mount at "+m.Dest, dest.extent
			}
			x.fail(r, at, what+" is declared twice", "first on line "+itoa(earlier.Span.Line)+" of "+earlier.Span.File)
			ok = false
			break
		}
	}
	if ok {
		x.program.Mounts = append(x.program.Mounts, m)
	}
}

// mountOptions reads the options of a mount: one of each kind.
func (x *expansion) mountOptions(r *reading, st *statement, m *Mount) bool {
	kinds := map[string]string{
		"--simple": "type", "--file": "type", "--layers": "type", "--overlay": "type",
		"--readonly": "access", "--readwrite": "access", "--optional": "need", "--required": "need",
	}
	types := map[string]MountType{"--simple": MountSimple, "--file": MountFile, "--layers": MountLayers, "--overlay": MountOverlay}
	given := make(map[string]string)
	for _, o := range st.options {
		if earlier := given[kinds[o.name]]; earlier != "" {
			x.fail(r, o.extent, "a mount is not "+earlier+" and "+o.name+" at once", "")
			return false
		}
		given[kinds[o.name]] = o.name
	}
	m.Type = types[given["type"]]
	// Layers are what they are: a container changes them only where it says so.
	m.ReadOnly = given["access"] == "--readonly" || given["access"] == "" && (m.Type == MountLayers || m.Type == MountOverlay)
	m.Optional = given["need"] == "--optional"
	return true
}

// once sets what a program has one of.
func (x *expansion) once(r *reading, st *statement, first *place, to *[]string) {
	if *to != nil {
		x.fail(r, st.extent, st.keyword+" is given twice", "first at "+position(first.span))
		return
	}
	*first = r.text.place(st.extent)
	*to = texts(st.words)
}

func texts(words []word) []string {
	list := make([]string, len(words))
	for i, w := range words {
		list[i] = w.text
	}
	return list
}
