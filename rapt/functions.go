package rapt

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/mitsuhiko/minijinja/minijinja-go/v2"
	"github.com/mitsuhiko/minijinja/minijinja-go/v2/filters"
	"github.com/mitsuhiko/minijinja/minijinja-go/v2/value"
)

func itoa(n int) string { return strconv.Itoa(n) }

// addFunctions gives templates what the engine does not have.
func (l *Loader) addFunctions(env *minijinja.Environment) {
	env.AddFunction("load_yaml", l.loadYAML)
	env.AddFunction("require", requireVariable)
	env.AddFunction("path", l.path)
	env.AddFunction("header", header)
	env.AddFunction("lipsum", noFunction("lipsum")) // the engine's has no bounds, and no use here
	env.AddFunction("Args", newArgs)
	for _, level := range []string{"trace", "debug", "info", "warning", "error"} {
		env.AddFunction(level, l.logger(level))
	}
	env.AddFilter("sh", quoteFilter)
	env.AddFilter("escape_sh", quoteFilter)
	env.AddFunction(needFunction, l.needVariable)
	env.AddFunction(loopFunction, l.loopRound)
	env.AddFunction(lastFunction, l.rememberState)
}

// misuse is the error of a function that was called wrongly, or failed.
func misuse(format string, args ...any) (value.Value, error) {
	return value.Undefined(), minijinja.NewError(minijinja.ErrInvalidOperation, fmt.Sprintf(format, args...))
}

func noFunction(name string) minijinja.FunctionFunc {
	return func(*minijinja.State, []value.Value, map[string]value.Value) (value.Value, error) {
		return misuse("there is no function %s", name)
	}
}

// parameters fits the arguments of a call to the names of the parameters. What
// is not given is undefined.
func parameters(function string, args []value.Value, kwargs map[string]value.Value, names ...string) ([]value.Value, error) {
	if len(args) > len(names) {
		_, err := misuse("%s takes %s, not %d values", function, counted(len(names)), len(args))
		return nil, err
	}
	values := make([]value.Value, len(names))
	for i, name := range names {
		values[i] = value.Undefined()
		if i < len(args) {
			values[i] = args[i]
		}
		if v, given := kwargs[name]; given {
			values[i] = v
		}
	}
	for given := range kwargs {
		if !slices.Contains(names, given) {
			_, err := misuse("%s has no parameter %s; it has %s", function, given, strings.Join(names, ", "))
			return nil, err
		}
	}
	return values, nil
}

func counted(n int) string {
	if n == 1 {
		return "one value"
	}
	return itoa(n) + " values"
}

// besideTemplate is the path that a template means by a relative one.
func besideTemplate(state *minijinja.State, path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	template, _ := versionOf(state.Name())
	return filepath.Join(filepath.Dir(template), path)
}

// oneText is the only argument of a function, a text.
func oneText(function string, args []value.Value, kwargs map[string]value.Value, name string) (string, error) {
	values, err := parameters(function, args, kwargs, name)
	if err != nil {
		return "", err
	}
	text, ok := values[0].AsString()
	if !ok || text == "" {
		_, err := misuse("%s takes the %s as a text", function, name)
		return "", err
	}
	return text, nil
}

// reason is an error without the operation and path that its user knows.
func reason(err error) error {
	if e, ok := err.(*os.PathError); ok {
		return e.Err
	}
	return err
}

// requireVariable is require(name).
func requireVariable(state *minijinja.State, args []value.Value, kwargs map[string]value.Value) (value.Value, error) {
	name, err := oneText("require", args, kwargs, "name")
	if err != nil {
		return value.Undefined(), err
	}
	return definedVariable(state, name, true)
}

// needVariable is what woven templates call for each name.
func (l *Loader) needVariable(state *minijinja.State, args []value.Value, _ map[string]value.Value) (value.Value, error) {
	name, _ := args[0].AsString()
	v, err := definedVariable(state, name, false)
	l.session.neededName, l.session.needed = name, v
	return v, err
}

func definedVariable(state *minijinja.State, name string, required bool) (value.Value, error) {
	v := state.Lookup(name)
	if !v.IsUndefined() || v.IsSilentUndefined() {
		if tooLarge(v) {
			return misuse("the variable %s has grown beyond all measure", name)
		}
		return v, nil
	}
	var known []string
	for _, k := range state.KnownVariables() {
		if !strings.HasPrefix(k, "raptor__") {
			known = append(known, k)
		}
	}
	err := minijinja.NewError(minijinja.ErrUndefinedVar, name).WithCause(&undefinedName{name, known, required})
	return value.Undefined(), err
}

// Values that are larger than this end a template, lest it doubles a text or a
// list until the machine has no more memory.
const (
	maxTextLength = 64 << 20
	maxListLength = 4 << 20
)

func tooLarge(v value.Value) bool {
	switch v.Kind() {
	case value.KindString:
		s, _ := v.AsString()
		return len(s) > maxTextLength
	case value.KindSeq:
		n, _ := v.Len()
		return n > maxListLength
	}
	return false
}

// loopRound is what marked templates print at the start of each round of a
// loop.
func (l *Loader) loopRound(_ *minijinja.State, args []value.Value, _ map[string]value.Value) (value.Value, error) {
	id, _ := args[0].AsInt()
	l.session.rounds = append(l.session.rounds, args[1:])
	return value.FromSafeString(fmt.Sprintf("\x00@%d:%d\x00", id, len(l.session.rounds)-1)), nil
}

// rememberState keeps the variables of a template, which calls it at its end.
func (l *Loader) rememberState(state *minijinja.State, _ []value.Value, _ map[string]value.Value) (value.Value, error) {
	l.session.last = state
	return value.Undefined(), nil
}

// logger is trace(…), debug(…) and so on.
func (l *Loader) logger(level string) minijinja.FunctionFunc {
	return func(state *minijinja.State, args []value.Value, kwargs map[string]value.Value) (value.Value, error) {
		if len(kwargs) > 0 {
			return misuse("%s takes what it says, and no names", level)
		}
		texts := make([]string, len(args))
		for i, a := range args {
			texts[i] = a.String()
		}
		if l.Log != nil && !l.session.quiet {
			template, _ := versionOf(state.Name())
			l.Log(level, shownPath(template), strings.Join(texts, " "))
		}
		return value.FromString(""), nil
	}
}

// What header puts at the head of a generated file.
var banner = []string{
	"This file was generated by raptor. Do not edit it:",
	"changes are lost when it is generated again.",
}

// header is header(start="## ", end="").
func header(_ *minijinja.State, args []value.Value, kwargs map[string]value.Value) (value.Value, error) {
	values, err := parameters("header", args, kwargs, "start", "end")
	if err != nil {
		return value.Undefined(), err
	}
	start, end := "## ", ""
	if s, ok := values[0].AsString(); ok {
		start = s
	}
	if s, ok := values[1].AsString(); ok {
		end = s
	}
	lines := make([]string, len(banner))
	for i, line := range banner {
		lines[i] = start + line + end
	}
	return value.FromString(strings.Join(lines, "\n")), nil
}

// quoteFilter is the filter sh: what it gives is one word, or one for each
// element of a list.
func quoteFilter(_ filters.State, v value.Value, args []value.Value, kwargs map[string]value.Value) (value.Value, error) {
	if len(args) > 0 || len(kwargs) > 0 {
		return misuse("the filter sh takes nothing but the value")
	}
	items := []value.Value{v}
	if v.Kind() == value.KindSeq {
		items = v.Iter()
	}
	words := make([]string, len(items))
	for i, item := range items {
		text, ok := plainText(item)
		if !ok {
			return misuse("the filter sh quotes texts, numbers, true and false, and lists of them, not %s", kindName(item))
		}
		words[i] = quoteWord(text)
	}
	return value.FromSafeString(strings.Join(words, " ")), nil
}

// plainText is the text of a value that has one: not of a list, map or none.
func plainText(v value.Value) (string, bool) {
	switch v.Kind() {
	case value.KindString:
		s, _ := v.AsString()
		return s, true
	case value.KindBool:
		if b, _ := v.AsBool(); b {
			return "true", true
		}
		return "false", true
	case value.KindNumber:
		return v.String(), true
	}
	return "", false
}

func kindName(v value.Value) string {
	switch v.Kind() {
	case value.KindUndefined:
		return "an undefined value"
	case value.KindNone:
		return "none"
	case value.KindSeq:
		return "a list"
	case value.KindMap:
		return "a map"
	case value.KindString:
		return "a text"
	case value.KindNumber:
		return "a number"
	case value.KindBool:
		return "true or false"
	}
	return "a " + v.Kind().String()
}

// path is path(p).
func (l *Loader) path(state *minijinja.State, args []value.Value, kwargs map[string]value.Value) (value.Value, error) {
	written, err := oneText("path", args, kwargs, "path")
	if err != nil {
		return value.Undefined(), err
	}
	absolute := besideTemplate(state, written)
	if err := l.allowed(absolute, written); err != nil {
		return misuse("%v", err)
	}
	l.record(SourceProbe, absolute, written)
	return value.FromObject(&pathValue{written, absolute}), nil
}

// A pathValue is what path(p) gives to a template.
type pathValue struct{ written, absolute string }

func (p *pathValue) String() string { return p.written }

func (p *pathValue) GetAttr(name string) value.Value {
	var test func() bool
	switch name {
	case "exists":
		test = func() bool { _, err := os.Stat(p.absolute); return err == nil }
	case "is_dir":
		test = func() bool { info, err := os.Stat(p.absolute); return err == nil && info.IsDir() }
	case "is_file":
		test = func() bool { info, err := os.Stat(p.absolute); return err == nil && info.Mode().IsRegular() }
	case "is_symlink":
		test = func() bool {
			info, err := os.Lstat(p.absolute)
			return err == nil && info.Mode()&os.ModeSymlink != 0
		}
	default:
		return value.Undefined()
	}
	return value.FromCallable(pathTest(test))
}

type pathTest func() bool

func (t pathTest) Call(_ value.State, args []value.Value, kwargs map[string]value.Value) (value.Value, error) {
	if len(args)+len(kwargs) > 0 {
		return misuse("this takes no values")
	}
	return value.FromBool(t()), nil
}
