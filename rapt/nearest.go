package rapt

import (
	"slices"
	"strings"
)

// Nearest is the known word that somebody who wrote word may have meant, "" if
// there is none near enough.
func Nearest(word string, known []string) string {
	best, distance := "", farthest(len(word))+1
	for _, candidate := range slices.Sorted(slices.Values(known)) {
		if candidate == word {
			continue
		}
		if d := editDistance(word, candidate, distance); d < distance && d < len(candidate) {
			best, distance = candidate, d
		}
	}
	return best
}

// farthest is how many edits may lie between a word of some length and another
// that it may have been meant for.
func farthest(length int) int {
	switch {
	case length <= 3:
		return 1
	case length <= 6:
		return (length + 1) / 2
	}
	return length/3 + 1
}

// didYouMean is the label that suggests the nearest known word, or "".
func didYouMean(word string, known []string) string {
	if near := Nearest(word, known); near != "" {
		return "did you mean " + near + "?"
	}
	return ""
}

// editDistance counts the insertions, deletions, replacements and swaps of
// neighbours that make a of b, in a byte's precision; a change of case is
// free. It gives up beyond limit.
func editDistance(a, b string, limit int) int {
	a, b = strings.ToLower(a), strings.ToLower(b)
	if len(a)-len(b) > limit || len(b)-len(a) > limit {
		return limit + 1
	}
	before, above, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range above {
		above[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		least := i
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			row[j] = min(above[j]+1, row[j-1]+1, above[j-1]+change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
			least = min(least, row[j])
		}
		if least > limit {
			return limit + 1
		}
		before, above, row = above, row, before
	}
	return above[len(b)]
}
