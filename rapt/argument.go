package rapt

import (
	"maps"
	"slices"
	"strings"

	"github.com/mitsuhiko/minijinja/minijinja-go/v2/value"
)

// evaluate resolves the lookups of an expression.
func (x *expansion) evaluate(r *reading, e *expression) (value.Value, bool) {
	switch e.kind {
	case stringExpression:
		return value.FromString(e.text), true
	case integerExpression:
		return value.FromInt(e.integer), true
	case booleanExpression:
		return value.FromBool(e.integer == 1), true
	case noneExpression:
		return value.None(), true
	case lookupExpression:
		return x.lookup(r, e.path)
	case mapExpression:
		return x.evaluateMap(r, e)
	}
	list, ok := make([]value.Value, len(e.items)), true
	for i, item := range e.items {
		v, fine := x.evaluate(r, item.value)
		list[i], ok = v, ok && fine
	}
	return value.FromSlice(list), ok
}

func (x *expansion) evaluateMap(r *reading, e *expression) (value.Value, bool) {
	m, ok := make(map[string]value.Value, len(e.items)), true
	for _, item := range e.items {
		key, fine := x.evaluate(r, item.key)
		v, fine2 := x.evaluate(r, item.value)
		if !fine || !fine2 {
			ok = false
			continue
		}
		text, isText := plainText(key)
		if !isText {
			x.fail(r, item.key.extent, kindName(key)+" cannot be a key", "")
			ok = false
			continue
		}
		if _, twice := m[text]; twice {
			x.fail(r, item.key.extent, "the key "+quoteForMessage(text)+" is given twice", "")
			ok = false
		}
		m[text] = v
	}
	return value.FromMap(m), ok
}

// lookup finds the value of "name.name".
func (x *expansion) lookup(r *reading, path []word) (value.Value, bool) {
	r.lookups[path[0].text] = true
	v := r.text.lookup(path[0].text)
	if v.IsUndefined() || v.IsCallable() {
		x.fail(r, path[0].extent, "variable "+quoteForMessage(path[0].text)+" is not defined", "").Label = x.nearVariable(r, path[0].text)
		return v, false
	}
	for i, part := range path[1:] {
		inner := v.GetAttr(part.text)
		if inner.IsUndefined() {
			x.fail(r, part.extent, quoteForMessage(joinWords(path[:i+1]))+" has no "+quoteForMessage(part.text), didYouMean(part.text, keysOf(v)))
			return inner, false
		}
		v = inner
	}
	if !hasExpression(v) {
		x.fail(r, extent{path[0].start, path[len(path)-1].end}, quoteForMessage(joinWords(path))+" cannot be handed on: it is neither text, number, list nor map", "")
		return v, false
	}
	return v, true
}

func joinWords(path []word) string { return strings.Join(texts(path), ".") }

// nearVariable suggests a variable that the file has.
func (x *expansion) nearVariable(r *reading, name string) string {
	r.template.mentions("")
	var defined []string
	for known := range r.template.names {
		if isName(known) && !r.text.lookup(known).IsUndefined() {
			defined = append(defined, known)
		}
	}
	return didYouMean(name, defined)
}

// arguments evaluates what INCLUDE and RENDER hand on.
func (x *expansion) arguments(r *reading, st *statement) (map[string]value.Value, bool) {
	vars, ok := make(map[string]value.Value, len(st.arguments)+1), true
	for _, a := range st.arguments {
		e := a.value
		if e == nil {
			e = &expression{extent: a.extent, path: []word{{extent: a.extent, text: a.name}}}
		}
		v, fine := x.evaluate(r, e)
		if !fine {
			ok = false
			continue
		}
		vars[a.name] = v
	}
	return vars, ok
}

// writeArguments writes arguments in canonical form.
func writeArguments(b *strings.Builder, vars map[string]value.Value) {
	for _, name := range slices.Sorted(maps.Keys(vars)) {
		b.WriteByte(' ')
		b.WriteString(name)
		b.WriteByte('=')
		quoteValue(b, vars[name])
	}
}
