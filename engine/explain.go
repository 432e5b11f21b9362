package engine

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"raptor-make/internal/store"
	"raptor-make/rapt"
)

// A detail says more about a part whose value changed; nothing if it cannot.
type detail func(label, before, after string) []string

// compare says how the parts of a key differ from those of an earlier one, a
// line for each difference. More may be nil.
func compare(old, now []store.Part, more detail) []string {
	was := make(map[string]string, len(old))
	for _, p := range old {
		was[p.Label] = p.Value
	}
	var reasons []string
	seen := make(map[string]bool, len(now))
	for _, p := range now {
		seen[p.Label] = true
		before, ok := was[p.Label]
		if strings.HasPrefix(p.Label, "name of ") && len(reasons) > 0 {
			continue // it goes without saying
		}
		switch {
		case !ok:
			reasons = append(reasons, fmt.Sprintf("%s is new: %s", p.Label, readable(p.Value)))
		case before != p.Value:
			if more != nil {
				if lines := more(p.Label, before, p.Value); len(lines) > 0 {
					reasons = append(reasons, lines...)
					continue
				}
			}
			reasons = append(reasons, changed(p.Label, before, p.Value))
		}
	}
	for _, p := range old {
		if !seen[p.Label] && !strings.HasPrefix(p.Label, "name of ") {
			reasons = append(reasons, fmt.Sprintf("%s is gone: it was %s", p.Label, readable(p.Value)))
		}
	}
	if len(reasons) == 0 {
		reasons = append(reasons, "it was made by another version of raptor")
	}
	return reasons
}

func changed(label, before, after string) string {
	if isDigest(before) && isDigest(after) {
		if label == "parent" || label == "target" || strings.HasPrefix(label, "layer ") {
			return fmt.Sprintf("%s changed: it was %s, it is %s", label, short(before), short(after))
		}
		return label + " changed"
	}
	return fmt.Sprintf("%s changed: it was %s, it is %s", label, readable(before), readable(after))
}

// readable is a value as a line of text can show it.
func readable(value string) string {
	if isDigest(value) {
		return short(value)
	}
	const most = 200
	if len(value) > most {
		value = value[:most] + "…"
	}
	return fmt.Sprintf("%q", value)
}

func isDigest(value string) bool {
	value = strings.TrimPrefix(value, "sha256:")
	return len(value) == 64 && strings.Trim(value, "0123456789abcdef") == ""
}

// sourceDetail names the files that changed in the directories that a layer
// copies.
func (e *Engine) sourceDetail(l *Layer) detail {
	return func(label, before, _ string) []string {
		for _, s := range l.Program.Sources {
			if s.Kind != rapt.SourceCopy || label != sourceLabel(s) {
				continue
			}
			was := e.Store.Tree(before)
			is, err := e.Digests.Listing(s.Path, e.ignore(s.Path, s.Ignore))
			if was == "" || err != nil {
				return nil
			}
			return compareListings(s.Written, was, is)
		}
		return nil
	}
}

// compareListings says which entries of a directory changed, a few of them by
// name.
func compareListings(dir, was, is string) []string {
	const most = 10
	old, now := entries(was), entries(is)
	var reasons []string
	say := func(path, what string) {
		reasons = append(reasons, fmt.Sprintf("source %s %s", filepath.Join(dir, path), what))
	}
	for _, path := range slices.Sorted(maps.Keys(now)) {
		before, ok := old[path]
		switch {
		case !ok:
			say(path, "is new")
		case before != now[path]:
			say(path, "changed")
		}
	}
	for _, path := range slices.Sorted(maps.Keys(old)) {
		if _, ok := now[path]; !ok {
			say(path, "is gone")
		}
	}
	if len(reasons) > most {
		reasons = append(reasons[:most], fmt.Sprintf("and %d more entries of %s", len(reasons)-most, dir))
	}
	return reasons
}

// entries are the lines of a listing by their paths.
func entries(listing string) map[string]string {
	list := map[string]string{}
	for line := range strings.Lines(listing) {
		quoted, err := strconv.QuotedPrefix(line)
		if err != nil {
			continue
		}
		path, _ := strconv.Unquote(quoted)
		list[path] = line
	}
	return list
}
