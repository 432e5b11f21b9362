package recipes

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode"

	"github.com/BurntSushi/toml"

	"raptor-make/rapt"
)

// Load reads and checks a project file. What is wrong in the file comes back
// as rapt.Diagnostics, all of it at once; that it cannot be read, as the error
// of the file system.
//
// Only what the file alone can tell is checked: not whether a target exists,
// nor a directory.
func Load(file string) (*Project, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read project file: %w", err)
	}
	root, err := filepath.Abs(filepath.Dir(file))
	if err != nil {
		return nil, fmt.Errorf("find the directory of %s: %w", file, err)
	}
	p, diagnostics := parse(file, root, text)
	if len(diagnostics) > 0 {
		return nil, diagnostics
	}
	return p, nil
}

// parse makes a project of a file's text.
func parse(file, root string, text []byte) (*Project, rapt.Diagnostics) {
	p := Empty(root)
	p.File, p.source = file, text
	tree, diagnostics := parseTree(file, text)
	if tree == nil {
		return nil, diagnostics
	}
	d := &decoder{project: p, diagnostics: diagnostics}
	d.file(tree)
	if len(d.diagnostics) == 0 {
		d.diagnostics = p.check()
	}
	return p, sorted(d.diagnostics)
}

// sorted puts diagnostics in the order of their places.
func sorted(diagnostics rapt.Diagnostics) rapt.Diagnostics {
	slices.SortStableFunc(diagnostics, func(a, b *rapt.Diagnostic) int {
		return cmp.Or(cmp.Compare(a.Span.Line, b.Span.Line), cmp.Compare(a.Span.Column, b.Span.Column))
	})
	return diagnostics
}

// A node is a value of the file with its places: a table when keys is set, a
// list when elements is.
type node struct {
	name string // its key
	path string // dotted, from the top: "run.iso.target"
	key  rapt.Span
	span rapt.Span

	value    any
	literal  string // the value as it is written
	keys     []*node
	elements []*node

	// loose is set for a value of the command line: it is a string of which a
	// number, list or table may be read if that is what is wanted.
	loose bool
}

// byteOrderMark may begin a file that an editor of another system wrote.
const byteOrderMark = "\uFEFF"

// parseTree parses TOML. The tree is nil when the text is not TOML; with a
// tree, there may still be diagnostics about keys that are given twice.
func parseTree(file string, source []byte) (*node, rapt.Diagnostics) {
	text := strings.TrimPrefix(string(source), byteOrderMark)
	b := &treeBuilder{file: file, ruler: newRuler(text)}
	root, clashes := locate(text)

	var values map[string]any
	_, err := toml.Decode(text, &values)
	var syntax toml.ParseError
	switch {
	case errors.As(err, &syntax) && (len(clashes) == 0 || !isClash(syntax)):
		return nil, rapt.Diagnostics{{
			Message: syntaxMessage(syntax.Message),
			Span:    b.span(extent{syntax.Position.Start, syntax.Position.Start + max(1, syntax.Position.Len)}),
			Source:  source,
		}}
	case err != nil && len(clashes) == 0:
		return nil, rapt.Diagnostics{{Message: syntaxMessage(err.Error()), Span: rapt.Span{File: file}, Source: source}}
	}
	var diagnostics rapt.Diagnostics
	for _, c := range clashes {
		line, _ := b.ruler.at(c.first.start)
		diagnostics = append(diagnostics, &rapt.Diagnostic{
			Message: fmt.Sprintf("%s is given twice", c.name),
			Span:    b.span(c.again),
			Label:   fmt.Sprintf("the first is on line %d", line),
			Source:  source,
		})
	}
	if err != nil {
		return nil, diagnostics
	}
	return b.build(root, values, ""), diagnostics
}

// isClash tells whether the library complains of a key given twice, which our
// own finding says better.
func isClash(err toml.ParseError) bool {
	return strings.Contains(err.Message, "already")
}

// syntaxMessage gives the library's message the form of ours.
func syntaxMessage(message string) string {
	message = strings.TrimSuffix(strings.TrimPrefix(message, "toml: "), ".")
	// The library shows the end of the text as a zero byte.
	message = strings.ReplaceAll(message, "\x00", "")
	first := []rune(message)
	if len(first) > 1 && unicode.IsUpper(first[0]) && !unicode.IsUpper(first[1]) {
		first[0] = unicode.ToLower(first[0])
	}
	return "not valid TOML: " + string(first)
}

// A treeBuilder joins the library's values with our places.
type treeBuilder struct {
	file  string
	ruler *ruler
}

func (b *treeBuilder) span(e extent) rapt.Span {
	s := rapt.Span{File: b.file}
	s.Line, s.Column = b.ruler.at(e.start)
	s.EndLine, s.EndColumn = b.ruler.at(e.end)
	return s
}

func (b *treeBuilder) build(p *place, value any, path string) *node {
	n := &node{
		name: p.name, path: path, value: value,
		key: b.span(p.key), span: b.span(p.value),
		literal: b.ruler.text[p.value.start:p.value.end],
	}
	switch value := value.(type) {
	case map[string]any:
		for _, key := range p.keys {
			if v, ok := value[key.name]; ok {
				n.keys = append(n.keys, b.build(key, v, join(path, key.name)))
			}
		}
	case []any:
		for i, element := range p.elements[:min(len(p.elements), len(value))] {
			n.elements = append(n.elements, b.build(element, value[i], path))
		}
	}
	return n
}

func join(path, key string) string {
	if path == "" {
		return quoteKey(key)
	}
	return path + "." + quoteKey(key)
}
