package rapt

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// ignoreFile, in the root of a package, says what COPY leaves out of the
// directories that it copies. It is written as .gitignore is: one pattern a
// line, "#" before comments, "!" before patterns that take back, "/" at the
// start or in the midst for patterns that start at the root, "/" at the end for
// directories alone, and "*", "?", "[…]" and "**".
const ignoreFile = ".raptorignore"

// ignoreRules are the patterns of one package.
type ignoreRules struct {
	root  string
	rules []ignoreRule
}

type ignoreRule struct {
	pattern     *regexp.Regexp // of the whole path below the root
	takesBack   bool
	directories bool
}

// ignore is what is left out of a directory that r copies; nil if nothing is.
func (x *expansion) ignore(r *reading, dir string) func(rel string, isDir bool) bool {
	rules := x.loader.ignoreRules(r.pkg)
	if rules == nil {
		return nil
	}
	x.source(SourceModule, filepath.Join(rules.root, ignoreFile), ignoreFile, nil)
	below, err := filepath.Rel(rules.root, dir)
	if err != nil || !filepath.IsLocal(below) {
		return nil // not of this package
	}
	return func(rel string, isDir bool) bool {
		return rules.match(filepath.ToSlash(filepath.Join(below, rel)), isDir)
	}
}

func (l *Loader) ignoreRules(pkg *Package) *ignoreRules {
	if known, ok := l.ignores[pkg.Root]; ok {
		return known
	}
	var rules *ignoreRules
	path := filepath.Join(pkg.Root, ignoreFile)
	if content, err := os.ReadFile(path); err == nil && confined(pkg, path, ignoreFile) == nil {
		rules = parseIgnore(pkg.Root, string(content))
	}
	l.ignores[pkg.Root] = rules
	return rules
}

func parseIgnore(root, text string) *ignoreRules {
	rules := &ignoreRules{root: root}
	for line := range strings.Lines(text) {
		line = trimIgnoreLine(strings.TrimRight(line, "\r\n"))
		if line == "" || line[0] == '#' {
			continue
		}
		var rule ignoreRule
		if line[0] == '!' {
			rule.takesBack, line = true, line[1:]
		}
		if rest, ok := strings.CutSuffix(line, "/"); ok {
			rule.directories, line = true, rest
		}
		pattern, err := regexp.Compile(ignorePattern(line))
		if err != nil || line == "" {
			continue // as git does with what is no pattern
		}
		rule.pattern = pattern
		rules.rules = append(rules.rules, rule)
	}
	return rules
}

// trimIgnoreLine removes blanks at the end, unless a backslash keeps them.
func trimIgnoreLine(line string) string {
	for strings.HasSuffix(line, " ") && !strings.HasSuffix(line, `\ `) {
		line = line[:len(line)-1]
	}
	return line
}

// ignorePattern turns a pattern into a regular expression of whole paths.
func ignorePattern(p string) string {
	var b strings.Builder
	b.WriteString("^")
	if strings.Contains(p, "/") {
		p = strings.TrimPrefix(p, "/")
	} else {
		b.WriteString("(.*/)?")
	}
	for i := 0; i < len(p); i++ {
		switch {
		case strings.HasPrefix(p[i:], "**/") && (i == 0 || p[i-1] == '/'):
			b.WriteString("(.*/)?")
			i += 2
		case p[i:] == "**" && (i == 0 || p[i-1] == '/'):
			b.WriteString(".+")
			i++
		case p[i] == '*':
			b.WriteString("[^/]*")
		case p[i] == '?':
			b.WriteString("[^/]")
		case p[i] == '[':
			end := strings.IndexByte(p[min(i+2, len(p)):], ']')
			if end < 0 {
				b.WriteString(`\[`)
				continue
			}
			set := p[i+1 : i+2+end]
			if set[0] == '!' {
				set = "^" + set[1:]
			}
			b.WriteString("[" + strings.NewReplacer(`[`, `\[`, `\`, `\\`).Replace(set) + "]")
			i += 2 + end
		case p[i] == '\\' && i+1 < len(p):
			i++
			b.WriteString(regexp.QuoteMeta(p[i : i+1]))
		default:
			b.WriteString(regexp.QuoteMeta(p[i : i+1]))
		}
	}
	b.WriteString("$")
	return b.String()
}

// match tells whether a path below the root is left out: the last pattern that
// matches decides, and what lies in a directory that is left out is too.
func (r *ignoreRules) match(path string, isDir bool) bool {
	if path == ignoreFile {
		return true
	}
	for i := range len(path) {
		if path[i] == '/' && r.decide(path[:i], true) {
			return true
		}
	}
	return r.decide(path, isDir)
}

func (r *ignoreRules) decide(path string, isDir bool) bool {
	for i := len(r.rules) - 1; i >= 0; i-- {
		rule := r.rules[i]
		if (isDir || !rule.directories) && rule.pattern.MatchString(path) {
			return !rule.takesBack
		}
	}
	return false
}

// allIgnored tells whether nothing is left of a directory that holds something.
func allIgnored(dir string, ignore func(string, bool) bool) bool {
	entries, kept := 0, false
	filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return nil
		}
		entries++
		rel, _ := filepath.Rel(dir, path)
		if !ignore(rel, e.IsDir()) {
			kept = true
			return fs.SkipAll
		}
		if e.IsDir() {
			return fs.SkipDir
		}
		return nil
	})
	return entries > 0 && !kept
}
