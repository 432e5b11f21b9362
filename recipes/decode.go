package recipes

import (
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"raptor-make/rapt"
)

// A decoder turns nodes into a project and collects what is wrong with them.
type decoder struct {
	project     *Project
	diagnostics rapt.Diagnostics

	// known, when set, is told of every table and the keys that it may have.
	known func(table string, keys []string)
}

// fields are the keys that a table may have, each with what decodes it.
type fields map[string]func(*node)

func (d *decoder) fail(span rapt.Span, label, format string, args ...any) *rapt.Diagnostic {
	diagnostic := d.project.Diagnose(span, fmt.Sprintf(format, args...), label)
	d.diagnostics = append(d.diagnostics, diagnostic)
	return diagnostic
}

// file = { "raptor" | "run" | "group" }
func (d *decoder) file(n *node) {
	d.table(n, "", fields{
		"raptor": d.raptor,
		"run": func(n *node) {
			d.each(n, func(n *node) {
				j := &Job{Name: n.name, Span: n.key}
				d.name(n, "job")
				d.job(n, j)
				d.project.Jobs = append(d.project.Jobs, j)
			})
		},
		"group": func(n *node) {
			d.each(n, func(n *node) {
				g := &Group{Name: n.name, Span: n.key}
				d.name(n, "group")
				d.group(n, g)
				d.project.Groups = append(d.project.Groups, g)
			})
		},
	})
}

// [raptor]
func (d *decoder) raptor(n *node) {
	s := &d.project.Settings
	d.table(n, "raptor", fields{
		"link": func(n *node) { d.each(n, d.link) },
		"jobs": func(n *node) {
			if i, ok := d.integer(n, 1, 1<<16); ok {
				s.Jobs = int(i)
			}
		},
		"store":    d.text(&s.Store),
		"platform": d.platform,
		"source-date-epoch": func(n *node) {
			if i, ok := d.integer(n, 0, math.MaxInt64); ok {
				s.SourceDateEpoch = &i
			}
		},
		"registry": func(n *node) {
			s.Registries = make(map[string]Registry)
			d.each(n, d.registry)
		},
	})
}

// [raptor.registry."HOST"]
func (d *decoder) registry(n *node) {
	r := Registry{Span: n.key}
	if n.name == "" {
		d.fail(n.key, "", "the name of a registry is empty")
	}
	d.table(n, `raptor.registry."HOST"`, fields{
		"mirrors":  d.texts(&r.Mirrors),
		"insecure": d.boolean(&r.Insecure),
	})
	d.project.Settings.Registries[n.name] = r
}

var (
	linkName     = pattern(`^[A-Za-z0-9_-]+$`)
	jobName      = pattern(`^[A-Za-z0-9_][A-Za-z0-9_.+-]*$`)
	platformName = pattern(`^[a-z0-9]+/[a-z0-9_]+(/[a-z0-9]+)?$`)
	memorySize   = pattern(`^([0-9]{1,15}) ?([KMGT]?)(i?B)?$`)
)

// pattern compiles a regular expression when it is first used: not at each
// start of the program, of which it would be a noticeable part.
func pattern(text string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(text) })
}

func (d *decoder) platform(n *node) {
	p := &d.project.Settings.Platform
	d.text(p)(n)
	if p.Text != "" && !platformName().MatchString(p.Text) {
		d.fail(n.span, `such as "linux/amd64"`, "platform %s is not of the form os/architecture", strconv.Quote(p.Text))
	}
}

// link = "directory" | { git = "URL", rev = "REVISION" }
func (d *decoder) link(n *node) {
	l := &Link{Name: n.name, Span: n.key}
	if !linkName().MatchString(n.name) {
		d.fail(n.key, "", "the name of a link is made of letters, digits, _ and -, not %s", strconv.Quote(n.name))
	}
	d.project.Links = append(d.project.Links, l)
	if _, ok := n.value.(string); ok {
		d.text(&l.Path)(n)
		return
	}
	if _, ok := n.value.(map[string]any); !ok {
		d.wrongType(n, `a directory, or { git = "URL", rev = "REVISION" }`)
		return
	}
	l.Git = &Git{}
	before := len(d.diagnostics)
	d.table(n, "raptor.link.NAME", fields{"git": d.text(&l.Git.URL), "rev": d.text(&l.Git.Rev)})
	if len(d.diagnostics) == before {
		d.gitLink(n, l)
	}
}

// gitLink checks that nothing is missing in a link to git, and that nothing
// in it would be taken as an option by the git program.
func (d *decoder) gitLink(n *node, l *Link) {
	switch url, rev := l.Git.URL.Text, l.Git.Rev.Text; {
	case url == "":
		d.fail(n.key, "", "link %s lacks git, the URL of its repository", quoteKey(l.Name))
	case rev == "":
		d.fail(n.key, "", "link %s lacks rev, the revision that it is pinned to", quoteKey(l.Name)).
			Help = "a tag, a branch or a full commit; Raptor.lock keeps the commit that it stood for"
	case strings.HasPrefix(url, "-"):
		d.fail(l.Git.URL.Span, "", "%s is not the URL of a repository", strconv.Quote(url))
	case strings.HasPrefix(rev, "-") || strings.ContainsAny(rev, " \t\n:?*[\\^~"):
		d.fail(l.Git.Rev.Span, "a tag, a branch or a full commit", "%s is not a revision", strconv.Quote(rev))
	}
}

// [run.NAME], onto what j has already
func (d *decoder) job(n *node, j *Job) {
	d.table(n, "run.NAME", fields{
		"target":      d.text(&j.Target),
		"input":       d.texts(&j.Input),
		"output":      d.texts(&j.Output),
		"cache":       d.texts(&j.Cache),
		"entrypoint":  d.words(&j.Entrypoint),
		"args":        d.words(&j.Args),
		"env":         func(n *node) { d.each(n, func(n *node) { d.variable(n, j) }) },
		"state-dir":   d.text(&j.StateDir),
		"mount":       func(n *node) { d.each(n, func(n *node) { d.mount(n, j) }) },
		"needs":       d.texts(&j.Needs),
		"description": d.text(&j.Description),
		"network":     func(n *node) { d.network(n, j) },
		"limits":      func(n *node) { d.limits(n, j) },
	})
}

// [group.NAME]
func (d *decoder) group(n *node, g *Group) {
	d.table(n, "group.NAME", fields{
		"build":       d.texts(&g.Build),
		"run":         d.texts(&g.Run),
		"description": d.text(&g.Description),
	})
}

// env.KEY = string | number | boolean
func (d *decoder) variable(n *node, j *Job) {
	v := Var{Key: n.name, Span: n.key, Value: Value{Text: n.literal, Span: n.span}}
	if n.name == "" || strings.ContainsAny(n.name, "=\x00") {
		d.fail(n.key, "", "%s cannot be the name of a variable", strconv.Quote(n.name))
	}
	switch value := n.value.(type) {
	case string:
		v.Value.Text = value
		if strings.Contains(value, "\x00") {
			d.fail(n.span, "", "%s cannot hold a zero byte", n.path)
		}
	case int64, float64, bool:
	default:
		d.wrongType(n, "a string, a number or a boolean")
	}
	i := slices.IndexFunc(j.Env, func(old Var) bool { return old.Key == v.Key })
	if i >= 0 {
		j.Env[i] = v
	} else {
		j.Env = append(j.Env, v)
	}
}

// mount.NAME = string or list
func (d *decoder) mount(n *node, j *Job) {
	m := Mount{Name: n.name, Span: n.key}
	switch n.name {
	case "":
		d.fail(n.key, "", "the name of a mount is empty")
	case "input", "output", "cache":
		d.fail(n.key, "write "+n.name+" = …", "the mount %s is a key of the job itself", n.name)
	}
	d.texts(&m.Sources)(n)
	i := slices.IndexFunc(j.Mounts, func(old Mount) bool { return old.Name == m.Name })
	if i >= 0 {
		j.Mounts[i] = m
	} else {
		j.Mounts = append(j.Mounts, m)
	}
}

func (d *decoder) network(n *node, j *Job) {
	d.text(&j.Network)(n)
	if t := j.Network.Text; t != "" && t != "none" && t != "host" {
		d.fail(n.span, didYouMean(t, []string{"none", "host"}), `network is "host" or "none", not %s`, strconv.Quote(t))
	}
}

func (d *decoder) limits(n *node, j *Job) {
	l := &j.Limits
	if len(n.keys) > 0 && l.Span.Line == 0 {
		l.Span = n.keys[0].key
	}
	d.table(n, "run.NAME.limits", fields{
		"memory": func(n *node) { d.memory(n, &l.Memory) },
		"pids": func(n *node) {
			if i, ok := d.integer(n, 1, math.MaxInt32); ok {
				l.Pids = i
			}
		},
		"timeout": func(n *node) { d.duration(n, &l.Timeout) },
	})
}

// memory reads bytes, or a number with K, M, G or T, which count in 1024s as
// they do in every other tool that limits memory.
func (d *decoder) memory(n *node, to *int64) {
	if _, text := n.value.(string); !text {
		if i, ok := d.integer(n, 1, math.MaxInt64); ok {
			*to = i
		}
		return
	}
	var v Value
	d.text(&v)(n)
	if v.Text == "" {
		return
	}
	m := memorySize().FindStringSubmatch(v.Text)
	if m == nil {
		d.fail(n.span, `such as "512M" or "2G"`, "%s is not an amount of memory", strconv.Quote(v.Text))
		return
	}
	count, _ := strconv.ParseInt(m[1], 10, 64) // 15 digits fit
	shift := 10 * (1 + strings.Index("KMGT", m[2]))
	if m[2] == "" {
		shift = 0
	}
	if count == 0 || count > math.MaxInt64>>shift {
		d.fail(n.span, "", "%s of memory is out of range", v.Text)
		return
	}
	*to = count << shift
}

// duration reads seconds, or a number with a unit such as "1h30m".
func (d *decoder) duration(n *node, to *time.Duration) {
	if _, text := n.value.(string); !text {
		if i, ok := d.integer(n, 1, int64(math.MaxInt64/time.Second)); ok {
			*to = time.Duration(i) * time.Second
		}
		return
	}
	var v Value
	d.text(&v)(n)
	if v.Text == "" {
		return
	}
	written := v.Text
	if _, err := strconv.Atoi(written); err == nil && n.loose {
		written += "s"
	}
	t, err := time.ParseDuration(written)
	if err != nil || t <= 0 {
		d.fail(n.span, `such as "90s" or "1h30m"`, "%s is not a length of time", strconv.Quote(v.Text))
		return
	}
	*to = t
}

// name checks the name of a job or group: one that can stand on a command
// line, in a key of --set and in the name of a file.
func (d *decoder) name(n *node, what string) {
	if !jobName().MatchString(n.name) {
		d.fail(n.key, "", "the name of a %s is made of letters, digits, _, -, + and ., and begins with a letter, digit or _, not %s",
			what, strconv.Quote(n.name))
	}
}

// table decodes the keys that a table may have and rejects the others. where
// names the table for readers, with NAME for what the user chooses.
func (d *decoder) table(n *node, where string, known fields) {
	names := slices.Sorted(maps.Keys(known))
	if d.known != nil {
		d.known(where, names)
	}
	n = d.parsed(n, '{')
	if _, ok := n.value.(map[string]any); !ok {
		d.wrongType(n, "a table")
		return
	}
	for _, key := range n.keys {
		if decode, ok := known[key.name]; ok {
			decode(key)
			continue
		}
		d.unknownKey(n, key, names)
	}
}

// unknownKey reports a key that a table may not have.
func (d *decoder) unknownKey(n, key *node, known []string) {
	in := "[" + n.path + "]"
	if n.path == "" {
		in = "the project file"
	}
	label := didYouMean(key.name, known)
	diagnostic := d.fail(key.key, label, "unknown key %s in %s", strconv.Quote(key.name), in)
	switch {
	case n.path == "" && slices.Contains([]string{"link", "registry", "jobs", "store", "platform", "source-date-epoch"}, key.name):
		diagnostic.Label = "write raptor." + key.name
	case label == "":
		diagnostic.Help = "the keys here are " + strings.Join(known, ", ")
	}
}

// each decodes a table whose keys are the user's to choose.
func (d *decoder) each(n *node, decode func(*node)) {
	n = d.parsed(n, '{')
	if _, ok := n.value.(map[string]any); !ok {
		d.wrongType(n, "a table")
		return
	}
	for _, key := range n.keys {
		decode(key)
	}
}

// text decodes a string that must say something.
func (d *decoder) text(to *Value) func(*node) {
	return func(n *node) {
		s, ok := n.value.(string)
		switch {
		case !ok:
			d.wrongType(n, "a string")
		case s == "":
			d.fail(n.span, "", "%s is empty", n.path)
		case strings.Contains(s, "\x00"):
			d.fail(n.span, "", "%s cannot hold a zero byte", n.path)
		default:
			*to = Value{Text: s, Span: n.span}
		}
	}
}

// texts decodes a string or a list of strings, none of them empty.
func (d *decoder) texts(to *[]Value) func(*node) {
	return func(n *node) {
		n = d.parsed(n, '[')
		values := []Value{}
		switch n.value.(type) {
		case string:
			var v Value
			d.text(&v)(n)
			values = append(values, v)
		case []any:
			for _, element := range n.elements {
				var v Value
				d.text(&v)(element)
				values = append(values, v)
			}
		default:
			d.wrongType(n, "a string or a list of strings")
		}
		*to = values
	}
}

// wordList is the list that a command line was meant as. What a shell would make
// of quotes is left to its user.
func wordList(line string) string {
	words := strings.Fields(line)
	if strings.ContainsAny(line, "\"'\\") || len(words) == 0 {
		return `["PROGRAM", "ARGUMENT", …]`
	}
	for i, w := range words {
		words[i] = quote(w)
	}
	return "[" + strings.Join(words, ", ") + "]"
}

// words decodes a list of strings that may be empty: the arguments of a
// program. A single string is refused, for it would be taken as one word by us
// and as a command line by its reader.
func (d *decoder) words(to *[]Value) func(*node) {
	return func(n *node) {
		n = d.parsed(n, '[')
		if _, ok := n.value.([]any); !ok {
			diagnostic := d.wrongType(n, "a list of strings")
			if s, ok := n.value.(string); ok {
				diagnostic.Label = "write a list, one string for each word: " + wordList(s)
			}
			return
		}
		values := []Value{}
		for _, element := range n.elements {
			s, ok := element.value.(string)
			if !ok {
				d.wrongType(element, "a string")
			} else if strings.Contains(s, "\x00") {
				d.fail(element.span, "", "%s cannot hold a zero byte", n.path)
			}
			values = append(values, Value{Text: s, Span: element.span})
		}
		*to = values
	}
}

func (d *decoder) boolean(to *bool) func(*node) {
	return func(n *node) {
		b, ok := n.value.(bool)
		if !ok {
			d.wrongType(n, "true or false")
			return
		}
		*to = b
	}
}

func (d *decoder) integer(n *node, low, high int64) (int64, bool) {
	i, ok := n.value.(int64)
	if n.loose {
		parsed, err := strconv.ParseInt(n.literal, 10, 64)
		i, ok = parsed, err == nil
	}
	switch {
	case !ok:
		d.wrongType(n, "an integer")
		return 0, false
	case i < low:
		d.fail(n.span, "", "%s must be at least %d", n.path, low)
		return 0, false
	case i > high:
		d.fail(n.span, "", "%s must be at most %d", n.path, high)
		return 0, false
	}
	return i, true
}

// wrongType reports a value that is not what it should be.
func (d *decoder) wrongType(n *node, want string) *rapt.Diagnostic {
	label := ""
	switch n.value.(type) {
	case int64, float64, bool:
		if strings.Contains(want, "string") {
			label = "write it in quotes: " + quote(n.literal)
		}
	}
	return d.fail(n.span, label, "%s must be %s, not %s", n.path, want, typeName(n.value))
}

func typeName(value any) string {
	switch value.(type) {
	case string:
		return "a string"
	case int64:
		return "an integer"
	case float64:
		return "a number with a fraction"
	case bool:
		return "a boolean"
	case time.Time:
		return "a date or time"
	case []any:
		return "a list"
	case []map[string]any:
		return "a list of tables"
	case map[string]any:
		return "a table"
	}
	return fmt.Sprintf("a %T", value)
}

// didYouMean returns a label that suggests the nearest known word, or "".
func didYouMean(word string, known []string) string {
	if near := rapt.Nearest(word, known); near != "" {
		return "did you mean " + near + "?"
	}
	return ""
}
