package engine

import (
	"fmt"
	"strings"

	"raptor-make/internal/store"
)

// compare says how the parts of a key differ from those of an earlier one, a
// line for each difference.
func compare(old, now []store.Part) []string {
	was := make(map[string]string, len(old))
	for _, p := range old {
		was[p.Label] = p.Value
	}
	var reasons []string
	seen := make(map[string]bool, len(now))
	for _, p := range now {
		seen[p.Label] = true
		before, ok := was[p.Label]
		switch {
		case !ok:
			reasons = append(reasons, fmt.Sprintf("%s is new: %s", p.Label, readable(p.Value)))
		case before != p.Value:
			reasons = append(reasons, changed(p.Label, before, p.Value))
		}
	}
	for _, p := range old {
		if !seen[p.Label] {
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
		if label == "parent" || strings.HasPrefix(label, "layer ") {
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
