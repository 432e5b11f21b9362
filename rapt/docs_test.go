package rapt

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"
)

// The reference's examples are a project for each of its chapters: blocks with
// a file's name are files, and "$ raptor …" shows what a command prints.
func TestReferenceIsTrue(t *testing.T) {
	content, err := os.ReadFile("../docs/language.md")
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?s)```(\\w+) ?([^\n]*)\n(.*?)```\n")
	for _, chapter := range strings.Split(string(content), "\n## ")[1:] {
		title, text, _ := strings.Cut(chapter, "\n")
		t.Run(title, func(t *testing.T) {
			p := project(t, nil)
			files := make(map[string]string)
			for _, b := range block.FindAllStringSubmatch(text, -1) {
				if b[1] != "console" {
					files[b[2]] = b[3]
				}
			}
			p = project(t, files)
			for _, b := range block.FindAllStringSubmatch(text, -1) {
				if b[1] == "console" {
					command, want, _ := strings.Cut(b[3], "\n")
					expect(t, runDocumented(t, p, command), want)
				}
			}
			for name := range files {
				if strings.HasSuffix(name, layerSuffix) && !strings.Contains(name, "@") && name != "broken.rapt" && name != "before.rapt" {
					if _, err := (&Loader{Project: p}).Load(name, Span{}, nil); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	grammar, _ := os.ReadFile("grammar.ebnf")
	for line := range strings.Lines(string(grammar)) {
		if strings.Contains(line, " = ") && !strings.Contains(string(content), strings.TrimSpace(line)) {
			t.Errorf("the reference's grammar lacks %s", line)
		}
	}
}

// runDocumented does what a command of the reference does.
func runDocumented(t *testing.T, p *Package, command string) string {
	words := strings.Fields(command)
	if len(words) != 4 {
		t.Fatalf("what is %q?", command)
	}
	target := words[3]
	switch words[2] {
	case "dump":
		return dump(t, p, target)
	case "check":
		_, err := (&Loader{Project: p}).Load(target, Span{}, nil)
		return err.Error() + "\n"
	case "fmt":
		content, err := os.ReadFile(target)
		if err != nil {
			t.Fatal(err)
		}
		formatted, err := Format(content, target)
		if err != nil {
			t.Fatal(err)
		}
		return string(formatted)
	}
	t.Fatalf("what is %q?", command)
	return ""
}

// The syntax definition for editors is JSON, refers to nothing that it lacks,
// and knows every instruction and statement.
func TestSyntaxDefinition(t *testing.T) {
	content, err := os.ReadFile("../docs/rapt.tmLanguage.json")
	if err != nil {
		t.Fatal(err)
	}
	var definition struct {
		Repository map[string]json.RawMessage
	}
	if err := json.Unmarshal(content, &definition); err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`"include": "#([a-z-]+)"`).FindAllStringSubmatch(string(content), -1) {
		if definition.Repository[m[1]] == nil {
			t.Errorf("there is no %q", m[1])
		}
	}
	for _, m := range regexp.MustCompile(`"(?:match|begin|end)": ("(?:[^"\\]|\\.)*")`).FindAllStringSubmatch(string(content), -1) {
		var pattern string
		if err := json.Unmarshal([]byte(m[1]), &pattern); err != nil {
			t.Fatal(err)
		}
		pattern = regexp.MustCompile(`\(\?(<[=!]|[=!])`).ReplaceAllString(pattern, "(?:") // which Go does not have
		pattern = strings.ReplaceAll(pattern, `\1`, "x")
		if _, err := regexp.Compile(pattern); err != nil {
			t.Errorf("%s: %v", m[1], err)
		}
	}
	for _, keyword := range keywords {
		if !regexp.MustCompile(`[(|]` + keyword + `[)|]`).Match(content) {
			t.Errorf("it lacks %s", keyword)
		}
	}
}
