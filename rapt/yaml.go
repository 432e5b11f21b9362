package rapt

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/mitsuhiko/minijinja/minijinja-go/v2"
	"github.com/mitsuhiko/minijinja/minijinja-go/v2/value"
	"go.yaml.in/yaml/v4"
)

// loadYAML is load_yaml(file).
func (l *Loader) loadYAML(state *minijinja.State, args []value.Value, kwargs map[string]value.Value) (value.Value, error) {
	written, err := oneText("load_yaml", args, kwargs, "file")
	if err != nil {
		return value.Undefined(), err
	}
	path := besideTemplate(state, written)
	if err := l.allowed(path, written); err != nil {
		return misuse("%v", err)
	}
	l.record(SourceData, path, written)
	if v, known := l.data[path]; known {
		return v, nil
	}
	content, err := readFile(path)
	if err != nil {
		message := fmt.Sprintf("load_yaml cannot read %s: %v", shownPath(path), reason(err))
		if near := nearestEntry(path); near != "" {
			message += "; did you mean " + near + "?"
		}
		return misuse("%s", message)
	}
	var data any
	if err := yaml.Unmarshal(content, &data); err != nil {
		return value.Undefined(), minijinja.NewError(minijinja.ErrInvalidOperation, "not YAML").WithCause(yamlMistake(path, content, err))
	}
	v := fromYAML(data)
	l.data[path] = v
	if l.session.warn != nil {
		rewrittenNumbers(path, content, l.session.warn)
	}
	return v, nil
}

func yamlMistake(path string, content []byte, err error) *dataMistake {
	m := &dataMistake{source: newSource(path, content), message: "this is not YAML: " + strings.TrimPrefix(err.Error(), "yaml: ")}
	line := regexp.MustCompile(`\bline (\d+)(, column \d+)?:? ?`)
	if at := line.FindStringSubmatch(err.Error()); at != nil {
		m.line, _ = strconv.Atoi(at[1])
		m.message = strings.Replace(m.message, at[0], "", 1)
	}
	for m.line > 1 && strings.TrimSpace(m.source.lineText(m.line-1)) == "" {
		m.line-- // where the file ends is no place to look at
	}
	return m
}

// fromYAML turns what the YAML library gives into values of the engine.
func fromYAML(data any) value.Value {
	switch d := data.(type) {
	case map[string]any:
		m := make(map[string]value.Value, len(d))
		for k, v := range d {
			m[k] = fromYAML(v)
		}
		return value.FromMap(m)
	case map[any]any:
		m := make(map[string]value.Value, len(d))
		for k, v := range d {
			m[fmt.Sprint(k)] = fromYAML(v)
		}
		return value.FromMap(m)
	case []any:
		list := make([]value.Value, len(d))
		for i, v := range d {
			list[i] = fromYAML(v)
		}
		return value.FromSlice(list)
	case time.Time:
		if d.Equal(d.Truncate(24 * time.Hour)) {
			return value.FromString(d.Format(time.DateOnly))
		}
		return value.FromString(d.Format(time.RFC3339Nano))
	}
	return value.FromAny(data)
}

// rewrittenNumbers warns of numbers that templates print in another form than
// that in which they are written: 3.10 is 3.1, which may be another version.
func rewrittenNumbers(path string, content []byte, warn func(*Diagnostic)) {
	var document yaml.Node
	if yaml.Unmarshal(content, &document) != nil {
		return // as it was told
	}
	source := newSource(path, content)
	var visit func(*yaml.Node)
	visit = func(n *yaml.Node) {
		for _, inner := range n.Content {
			visit(inner)
		}
		var number any
		if tag := n.ShortTag(); tag != "!!int" && tag != "!!float" || n.Decode(&number) != nil {
			return
		}
		printed := value.FromAny(number).String()
		if printed == n.Value {
			return
		}
		e := source.line(n.Line - 1)
		e.start = min(e.start+n.Column-1, e.end) // or before it: columns count characters
		if at := strings.Index(source.text[e.start:e.end], n.Value); at >= 0 {
			e = extent{e.start + at, e.start + at + len(n.Value)}
		}
		d := place{source: source, span: source.span(e)}.diagnostic(fmt.Sprintf("%s is the number %s", n.Value, printed), "quote it if it is a text")
		d.Severity = Warning
		warn(d)
	}
	visit(&document)
}
