// Package internal_test asserts the architecture: which package may import
// which. The table is that of docs/design.md.
package internal_test

import (
	"encoding/json"
	"os/exec"
	"strings"
	"testing"
)

const module = "raptor-make/"

// allowed lists, for each package, the packages of this module and the outside
// libraries that it may import beside the standard library. A trailing / is
// everything below.
var allowed = map[string][]string{
	"graph":                   {},
	"rapt":                    {"github.com/mitsuhiko/minijinja/", "go.yaml.in/yaml/"},
	"recipes":                 {"rapt", "github.com/BurntSushi/toml", "github.com/google/renameio/", "github.com/hashicorp/go-multierror"},
	"sandbox":                 {"internal/helper", "sandbox/internal/mounts", "sandbox/internal/wire", "golang.org/x/sys/", "golang.org/x/term", "github.com/moby/sys/"},
	"sandbox/agent":           {"sandbox/internal/mounts", "sandbox/internal/wire", "golang.org/x/sys/", "github.com/moby/sys/"},
	"sandbox/internal/mounts": {"sandbox/internal/wire", "golang.org/x/sys/"},
	"engine":                  {"graph", "rapt", "recipes", "sandbox", "internal/store", "internal/images", "golang.org/x/sync/", "golang.org/x/sys/", "github.com/hashicorp/go-multierror", "github.com/google/renameio/"},
	"internal/store":          {"golang.org/x/sys/"},
	"internal/ui":             {"engine", "github.com/fatih/color", "golang.org/x/", "github.com/clipperhouse/displaywidth"},
	"internal/helper":         {"golang.org/x/sys/"},
	"internal/ahead":          {"sandbox"},
	"internal/calm":           {"golang.org/x/sys/"},
	"internal/images":         {"internal/helper"},
	"internal/images/fetch":   {"internal/images", "golang.org/x/", "github.com/"},
	"internal/images/fetcher": {"internal/images", "internal/images/fetch"},
}

func TestImports(t *testing.T) {
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", module+"...").Output()
	if err != nil {
		t.Fatal(err)
	}
	dec := json.NewDecoder(strings.NewReader(string(out)))
	checked := 0
	for dec.More() {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := dec.Decode(&p); err != nil {
			t.Fatal(err)
		}
		list, ok := allowed[strings.TrimPrefix(p.ImportPath, module)]
		if !ok {
			continue
		}
		checked++
		for _, i := range p.Imports {
			if !mayImport(list, i) {
				t.Errorf("%s must not import %s", p.ImportPath, i)
			}
		}
	}
	if checked != len(allowed) {
		t.Errorf("checked %d packages, the table has %d", checked, len(allowed))
	}
}

func mayImport(list []string, path string) bool {
	inside, ours := strings.CutPrefix(path, module)
	if !ours && !strings.Contains(strings.SplitN(path, "/", 2)[0], ".") {
		return true // the standard library
	}
	for _, a := range list {
		if ours && inside == a || !ours && (path == a || strings.HasSuffix(a, "/") && strings.HasPrefix(path, a)) {
			return true
		}
	}
	return false
}
