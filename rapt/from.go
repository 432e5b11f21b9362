package rapt

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// from resolves what the layer stands on.
func (x *expansion) from(r *reading, st *statement) {
	at := r.text.place(st.extent)
	switch {
	case r.parent != nil:
		x.fail(r, st.extent, "FROM cannot stand in a file that is included", "it belongs into a .rapt file")
		return
	case x.program.From != nil:
		x.fail(r, st.extent, "a layer stands on one FROM alone", "the first is on line "+itoa(x.program.From.Span.Line))
		return
	case len(x.program.Build) > 0:
		x.fail(r, st.extent, "FROM must come before all that changes the layer", "line "+itoa(x.program.Build[0].Span.Line)+" comes before it").
			Help = "only MOUNT, ENTRYPOINT and CMD may stand before it"
	}
	w := st.words[0]
	from := &From{Span: at.span, Dir: r.dir, Pkg: r.pkg, written: st.words[0].text}
	x.program.From = from
	if strings.Contains(w.text, "://") {
		from.URL = w.text
		if why := checkImage(w.text, r); why != nil {
			x.refuse(r, w.extent, why)
		}
		return
	}
	name, why := parseModuleName(w.text)
	if why != nil {
		x.refuse(r, w.extent, imageName(w.text, why))
		return
	}
	base, why := resolve(name, r.pkg, r.dir, layerSuffix)
	if why != nil {
		x.refuse(r, w.extent, imageName(w.text, why))
		return
	}
	if path := x.loader.cycle(base); path != "" {
		x.fail(r, w.extent, "the layer stands on itself: "+path, "closes the cycle")
		return
	}
	if len(x.loader.loading) >= maxLayers {
		x.fail(r, w.extent, "the layer stands on more than "+itoa(maxLayers)+" others", "")
		return
	}
	program, problems := x.loader.program(base)
	frame := append([]Frame{{Verb: "built on", Span: at.span}}, at.frames...)
	x.problems = append(x.problems, framed(slices.Clone(problems), frame)...)
	from.Base = program
}

// The kinds of images that FROM knows.
var schemes = []string{"docker", "oci", "tar", "debian"}

// checkImage finds what can be told to be wrong with an image without looking
// for it anywhere but in the project.
func checkImage(url string, r *reading) *refusal {
	scheme, rest, _ := strings.Cut(url, "://")
	if !slices.Contains(schemes, scheme) {
		label := "the kinds of images are docker://, oci://, tar:// and debian://"
		if near := Nearest(scheme, schemes); near != "" {
			label = "did you mean " + near + "://?"
		}
		return &refusal{message: "unknown kind of image " + quoteForMessage(scheme+"://"), label: label}
	}
	if rest == "" {
		return &refusal{message: "the image's name is missing behind " + scheme + "://"}
	}
	if scheme != "oci" && scheme != "tar" {
		return nil
	}
	path := besideFile(r.dir, rest)
	_, err := os.Stat(path)
	if err != nil && scheme == "oci" {
		if i := strings.LastIndexByte(rest, ':'); i > 0 && !strings.Contains(rest[i:], "/") {
			path = besideFile(r.dir, rest[:i])
			_, err = os.Stat(path)
		}
	}
	if why := confined(r.pkg, path, rest); why != nil || err == nil {
		return why
	}
	return missingFile(path, rest, err)
}

// besideFile is the path that a file in dir means by a written one.
func besideFile(dir, written string) string {
	if filepath.IsAbs(written) {
		return filepath.Clean(written)
	}
	return filepath.Join(dir, written)
}
