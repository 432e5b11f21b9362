package rapt

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
)

// operation makes what the engine carries out of a statement that changes the
// layer, and the statement's canonical text. It gives nil if that is wrong.
func (x *expansion) operation(r *reading, st *statement) (Op, string) {
	switch st.keyword {
	case "RUN":
		return x.run(r, st)
	case "ENV":
		return x.env(r, st)
	case "WORKDIR":
		return x.workdir(r, st)
	case "WRITE":
		return x.write(r, st)
	case "MKDIR":
		return x.mkdir(r, st)
	case "COPY":
		return x.copy(r, st)
	case "RENDER":
		return x.render(r, st)
	}
	return nil, ""
}

func (x *expansion) run(r *reading, st *statement) (Op, string) {
	x.shellSyntax(r, st)
	args := texts(st.words)
	if args[0] == "" {
		x.fail(r, st.words[0].extent, "the name of the program is empty", "")
		return nil, ""
	}
	var b strings.Builder
	b.Grow(st.end - st.start + 8)
	b.WriteString("RUN")
	for i, arg := range args {
		b.WriteByte(' ')
		if looksLikeShell(st.words, i, arg) {
			b.WriteString(quoteText(arg))
		} else {
			b.WriteString(quoteWord(arg))
		}
	}
	return &Run{Args: args}, b.String()
}

func (x *expansion) env(r *reading, st *statement) (Op, string) {
	op := &Env{}
	var b strings.Builder
	b.WriteString("ENV")
	for _, w := range st.words {
		key, v, given := strings.Cut(w.text, "=")
		if !given {
			found, ok := x.lookup(r, []word{{extent: w.extent, text: key}})
			if !ok {
				if d := x.problems[len(x.problems)-1]; strings.HasSuffix(d.Message, "is not defined") {
					d.Help = howToSet(st.words, key)
				}
				return nil, ""
			}
			if v, ok = plainText(found); !ok {
				x.fail(r, w.extent, kindName(found)+" cannot be the value of a variable", "")
				return nil, ""
			}
		}
		op.Vars = append(op.Vars, Var{key, v})
		b.WriteByte(' ')
		b.WriteString(quoteVariable(key, v))
	}
	return op, b.String()
}

// howToSet is how a variable is given a value where there is none to be taken.
func howToSet(words []word, key string) string {
	if meant := settingForm(words); meant != "" {
		return "to set it, write " + meant
	}
	return "to set it, write ENV " + key + "=value; a name alone takes the template's variable of that name"
}

// quoteVariable writes KEY=value.
func quoteVariable(key, v string) string {
	if v == "" || canBeBare("="+v) {
		return key + "=" + v
	}
	return key + "=" + quoteText(v)
}

func (x *expansion) workdir(r *reading, st *statement) (Op, string) {
	if !x.destination(r, st.words[0], true) {
		return nil, ""
	}
	return &Workdir{Path: st.words[0].text}, "WORKDIR " + quoteWord(st.words[0].text)
}

func (x *expansion) write(r *reading, st *statement) (Op, string) {
	o, ok := x.fileOptions(r, st)
	text, dest := st.words[0].text, st.words[1]
	if !x.destination(r, dest, false) || !ok {
		return nil, ""
	}
	head := o.text("WRITE")
	return &Write{o, text, dest.text}, head + " " + quoteOperand(text) + " " + quoteOperand(dest.text)
}

func (x *expansion) mkdir(r *reading, st *statement) (Op, string) {
	o, ok := x.fileOptions(r, st)
	dest := st.words[0]
	if !x.destination(r, dest, true) || !ok {
		return nil, ""
	}
	op := &Mkdir{FileOptions: o, Dest: dest.text}
	head := o.text("MKDIR")
	for _, option := range st.options {
		if option.name == "-p" {
			op.Parents = true
			head += " -p"
		}
	}
	return op, head + " " + quoteOperand(dest.text)
}

func (x *expansion) copy(r *reading, st *statement) (Op, string) {
	o, ok := x.fileOptions(r, st)
	last := len(st.words) - 1
	op := &Copy{FileOptions: o, Dest: st.words[last].text}
	ok = x.destination(r, st.words[last], true) && ok
	text := o.text("COPY")
	for _, w := range st.words[:last] {
		source, fine := x.copySource(r, w)
		ok = ok && fine
		op.Sources = append(op.Sources, source)
		text += " " + quoteOperand(w.text)
	}
	if !ok {
		return nil, ""
	}
	return op, text + " " + quoteOperand(op.Dest)
}

// copySource finds one source of a COPY.
func (x *expansion) copySource(r *reading, w word) (CopySource, bool) {
	source := CopySource{Written: w.text, Path: besideFile(r.dir, w.text)}
	if !x.destination(r, w, true) {
		return source, false
	}
	if why := confined(r.pkg, source.Path, w.text); why != nil {
		x.refuse(r, w.extent, why)
		return source, false
	}
	info, err := os.Stat(source.Path)
	if err != nil {
		if link, lerr := os.Lstat(source.Path); lerr == nil && link.Mode()&fs.ModeSymlink != 0 {
			info, err = link, nil // copied as a link, wherever that leads
		}
	}
	if err != nil {
		why := missingFile(source.Path, w.text, err)
		if strings.ContainsAny(w.text, "*?") && !w.quoted {
			why.label = ""
			why.help = "COPY has no patterns: name a directory, and leave files out with " + ignoreFile
		}
		x.refuse(r, w.extent, why)
		return source, false
	}
	if mode := info.Mode().Type(); mode&^(fs.ModeDir|fs.ModeSymlink) != 0 {
		x.fail(r, w.extent, quoteForMessage(w.text)+" is neither a file nor a directory nor a link", "")
		return source, false
	}
	if info.IsDir() {
		source.Ignore = x.ignore(r, source.Path)
		if source.Ignore != nil && allIgnored(source.Path, source.Ignore) {
			x.report(r, problem{extent: w.extent, severity: Warning, message: "nothing is copied of " + quoteForMessage(w.text),
				label: ignoreFile + " leaves all of it out"})
		}
	}
	x.source(SourceCopy, source.Path, w.text, source.Ignore)
	return source, true
}

// missingFile says why a file is not to be had, and which one there is instead.
func missingFile(path, written string, err error) *refusal {
	if !errors.Is(err, fs.ErrNotExist) {
		return unreadable(written, path, err)
	}
	r := &refusal{message: "cannot find " + quoteForMessage(written), help: "looked for " + shownPath(path)}
	if near := nearestEntry(path); near != "" {
		r.label = "did you mean " + filepath.Join(filepath.Dir(written), near) + "?"
	}
	return r
}

func (x *expansion) render(r *reading, st *statement) (Op, string) {
	o, ok := x.fileOptions(r, st)
	w, dest := st.words[0], st.words[1]
	ok = x.destination(r, dest, false) && ok
	vars, fine := x.arguments(r, st)
	op := &Render{FileOptions: o, Template: besideFile(r.dir, w.text), Dest: dest.text}
	if why := confined(r.pkg, op.Template, w.text); why != nil {
		x.refuse(r, w.extent, why)
		return nil, ""
	}
	content, err := readFile(op.Template)
	if err != nil {
		x.refuse(r, w.extent, missingFile(op.Template, w.text, err))
		return nil, ""
	}
	x.source(SourceTemplate, op.Template, w.text, nil)
	if !ok || !fine {
		return nil, ""
	}
	t := x.loader.template(op.Template, content, exactSource)
	text, problems := x.loader.renderTemplate(t, vars, x.session(r), false)
	if len(problems) > 0 {
		at := r.text.place(st.extent)
		chain := append(append([]Frame{{Verb: "rendered", Span: at.span}}, at.frames...), r.chain...)
		problems = framed(problems, chain)
		suggestArgument(problems, "RENDER")
		x.problems = append(x.problems, problems...)
		return nil, ""
	}
	op.Text = text.text
	x.unused(r, st, t, nil)
	var b strings.Builder
	b.WriteString(o.text("RENDER") + " " + quoteOperand(w.text) + " " + quoteOperand(dest.text))
	writeArguments(&b, vars)
	return op, b.String()
}

// destination checks the path of what an instruction makes.
func (x *expansion) destination(r *reading, w word, directory bool) bool {
	switch {
	case w.text == "":
		x.fail(r, w.extent, "the path is empty", "")
	case !directory && strings.HasSuffix(w.text, "/"):
		x.fail(r, w.extent, quoteForMessage(w.text)+" names a directory, not a file", "")
	default:
		return true
	}
	return false
}

// isOwner tells whether a text is user, "user:", "user:group", ":group" or ":".
func isOwner(text string) bool {
	user, group, colon := strings.Cut(text, ":")
	return text != "" && (isOwnerName(user) || user == "" && colon) && (isOwnerName(group) || group == "")
}

// isOwnerName tells whether a text can be a user, a group or an id.
func isOwnerName(text string) bool {
	text = strings.TrimSuffix(text, "$") // as machine accounts end
	for i := range len(text) {
		if c := text[i]; !isNamePart(c) && (i == 0 || c != '.' && c != '-') {
			return false
		}
	}
	return text != ""
}

// fileOptions reads --chmod and --chown.
func (x *expansion) fileOptions(r *reading, st *statement) (FileOptions, bool) {
	var o FileOptions
	ok := true
	for _, option := range st.options {
		v := option.value
		switch option.name {
		case "--chmod":
			bits, err := strconv.ParseUint(v.text, 8, 32)
			if err != nil || len(v.text) < 3 || len(v.text) > 4 {
				x.fail(r, v.extent, quoteForMessage(v.text)+" is no mode", "three or four octal digits, such as 0644")
				ok = false
				continue
			}
			mode := fs.FileMode(bits)
			o.Mode = &mode
		case "--chown":
			if !isOwner(v.text) {
				at := v.extent
				if at.start == at.end {
					at = option.extent
				}
				x.fail(r, at, quoteForMessage(v.text)+" is no owner", `user, "user:", "user:group" or ":group"`)
				ok = false
				continue
			}
			o.Owner = v.text
		}
	}
	return o, ok
}

// text begins the canonical form of an instruction.
func (o FileOptions) text(keyword string) string {
	if o.Mode != nil {
		keyword += " --chmod=" + octal(*o.Mode)
	}
	if o.Owner != "" {
		keyword += " --chown=" + o.Owner
	}
	return keyword
}

func octal(mode fs.FileMode) string {
	text := strconv.FormatUint(uint64(mode), 8)
	return strings.Repeat("0", 4-len(text)) + text
}

// shellWord matches what a shell would act on, and RUN hands to the program.
var shellWord = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^([0-9]?>>?(&[0-9-])?.*|<<?<?|\|\|?|&&|&|;|\$\(.*|.*` + "`" + `.*|\$[A-Za-z_][A-Za-z0-9_]*|\$\{.*|[^|;&<>]*;)$`)
})

// isAssignment tells whether a shell would take a word for NAME=value.
func isAssignment(text string) bool {
	name, _, found := strings.Cut(text, "=")
	return found && isName(name)
}

var builtins = map[string]string{
	"cd":     "WORKDIR changes the directory",
	"export": "ENV sets variables",
	"source": `write RUN sh -c ". FILE && …"`,
	".":      `write RUN sh -c ". FILE && …"`,
	"set":    `write RUN sh -c "set -e; …"`,
	"unset":  "ENV sets variables",
	"umask":  "every RUN has the umask 0022",
	"exec":   "RUN needs no exec",
}

// shellSyntax warns of words that look like a shell's, once an instruction.
func (x *expansion) shellSyntax(r *reading, st *statement) {
	if _, found := singleQuotes(r.text.text, st.extent); found {
		return // as it was told
	}
	for i, w := range st.words {
		if !w.plain || !looksLikeShell(st.words, i, w.text) {
			continue
		}
		p := problem{extent: w.extent, severity: Warning, help: `if it is meant as it stands, quote it; for a shell, write RUN sh -c "…"`}
		switch {
		case i == 0 && builtins[w.text] != "":
			p.message, p.label = quoteForMessage(w.text)+" is a part of shells, not a program", builtins[w.text]
		case i == 0 && isAssignment(w.text):
			p.message, p.label = "RUN has no shell, which would take "+quoteForMessage(w.text)+" for a variable", "ENV sets variables"
		default:
			p.message = "RUN has no shell: " + quoteForMessage(w.text) + " is handed to the program as it stands"
		}
		x.report(r, p)
		return
	}
}

// looksLikeShell tells whether a word of a RUN, if it stands there without
// quotes, may have been meant for a shell.
func looksLikeShell(words []word, i int, text string) bool {
	if i == 0 && (builtins[text] != "" || isAssignment(text)) {
		return true
	}
	if i > 0 && isGlob(text) && !takesPattern[words[i-1].text] {
		return true
	}
	if !hasShellSign(text) || !shellWord().MatchString(text) {
		return false
	}
	return text != ";" || !hasExec(words) // which ends with it
}

// Options whose argument is a pattern, of programs that layers often run.
var takesPattern = map[string]bool{
	"-path": true, "-ipath": true, "-wholename": true, "-iwholename": true, "-regex": true, "-iregex": true,
	"--exclude": true, "--include": true, "--exclude-dir": true,
}

// hasShellSign is a quick test before the exact one.
func hasShellSign(text string) bool {
	for i := range len(text) {
		if classes[text[i]]&shellSign != 0 {
			return true
		}
	}
	return false
}

// isGlob tells whether a shell would take a word for a pattern of files. Other
// patterns than of absolute paths are mostly meant for the program.
func isGlob(text string) bool {
	return text != "" && text[0] == '/' && strings.Contains(text, "*")
}

// hasExec tells whether a command is a find that executes another.
func hasExec(words []word) bool {
	for _, w := range words {
		if strings.HasPrefix(w.text, "-exec") || strings.HasPrefix(w.text, "-ok") {
			return true
		}
	}
	return false
}
