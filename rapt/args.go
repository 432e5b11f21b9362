package rapt

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/mitsuhiko/minijinja/minijinja-go/v2"
	"github.com/mitsuhiko/minijinja/minijinja-go/v2/value"
)

// An argsValue is what Args() gives to a template: it is told of parameters,
// and then finds their values in a list.
type argsValue struct{ params []param }

type param struct {
	name, help string
	required   bool
	fallback   value.Value
}

// newArgs is Args().
func newArgs(_ *minijinja.State, args []value.Value, kwargs map[string]value.Value) (value.Value, error) {
	if len(args)+len(kwargs) > 0 {
		return misuse("Args takes no values; declare them with .param(name)")
	}
	return value.FromObject(&argsValue{}), nil
}

func (a *argsValue) String() string { return "" }

func (a *argsValue) GetAttr(name string) value.Value {
	switch name {
	case "param":
		return value.FromCallable(argsMethod(a.param))
	case "parse":
		return value.FromCallable(argsMethod(a.parse))
	}
	return value.Undefined()
}

type argsMethod func(args []value.Value, kwargs map[string]value.Value) (value.Value, error)

func (m argsMethod) Call(_ value.State, args []value.Value, kwargs map[string]value.Value) (value.Value, error) {
	return m(args, kwargs)
}

// param is .param(name, required=false, help=none, default=none), and gives the
// same Args, so that calls can be chained.
func (a *argsValue) param(args []value.Value, kwargs map[string]value.Value) (value.Value, error) {
	values, err := parameters("param", args, kwargs, "name", "required", "help", "default")
	if err != nil {
		return value.Undefined(), err
	}
	p := param{fallback: value.None(), required: values[1].IsTrue()}
	var ok bool
	if p.name, ok = values[0].AsString(); !ok || p.name == "" {
		return misuse("param takes the name of a parameter as a text")
	}
	p.help, _ = values[2].AsString()
	if !values[3].IsUndefined() {
		p.fallback = values[3]
	}
	for _, earlier := range a.params {
		if earlier.name == p.name {
			return misuse("the parameter %s is declared twice", p.name)
		}
	}
	a.params = append(a.params, p)
	return value.FromObject(a), nil
}

// parse is .parse(list). An element is a text such as "name=value", or "name"
// alone for true, or a pair of name and value; a map will do for the list.
func (a *argsValue) parse(args []value.Value, kwargs map[string]value.Value) (value.Value, error) {
	values, err := parameters("parse", args, kwargs, "list")
	if err != nil {
		return value.Undefined(), err
	}
	given := make(map[string]value.Value)
	if m, ok := values[0].AsMap(); ok {
		given = m
	} else if values[0].Kind() == value.KindSeq {
		for _, item := range values[0].Iter() {
			name, v, ok := argsElement(item)
			if !ok {
				return misuse(`parse takes elements such as "name=value", not %s`, item.Repr())
			}
			if _, twice := given[name]; twice {
				return misuse("the parameter %s is given twice", name)
			}
			given[name] = v
		}
	} else {
		return misuse("parse takes a list, not %s", kindName(values[0]))
	}
	return a.fit(given)
}

func argsElement(item value.Value) (string, value.Value, bool) {
	if text, ok := item.AsString(); ok {
		name, v, found := strings.Cut(text, "=")
		if !found {
			return name, value.True(), name != ""
		}
		return name, value.FromString(v), name != ""
	}
	pair := item.Iter()
	if item.Kind() != value.KindSeq || len(pair) != 2 {
		return "", value.Undefined(), false
	}
	name, ok := pair[0].AsString()
	return name, pair[1], ok
}

// fit gives each parameter its value, and refuses what does not fit.
func (a *argsValue) fit(given map[string]value.Value) (value.Value, error) {
	result := make(map[string]value.Value, len(a.params))
	var missing []string
	for _, p := range a.params {
		v, ok := given[p.name]
		switch {
		case ok:
			result[p.name] = v
		case p.required:
			missing = append(missing, p.name)
		default:
			result[p.name] = p.fallback
		}
	}
	if len(missing) > 0 {
		return misuse("missing %s; expected %s", strings.Join(missing, ", "), a.expected())
	}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if _, known := result[name]; !known {
			return misuse("unknown parameter %s; expected %s", name, a.expected())
		}
	}
	return value.FromMap(result), nil
}

// expected lists the parameters for people.
func (a *argsValue) expected() string {
	if len(a.params) == 0 {
		return "none at all"
	}
	texts := make([]string, len(a.params))
	for i, p := range a.params {
		texts[i] = p.name
		switch {
		case p.required:
			texts[i] += " (required)"
		case !p.fallback.IsNone():
			texts[i] += fmt.Sprintf(" (default %s)", p.fallback.Repr())
		}
		if p.help != "" {
			texts[i] += ": " + p.help
		}
	}
	return strings.Join(texts, ", ")
}
