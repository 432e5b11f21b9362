package rapt

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
)

// Lines around each change that a diff shows.
const diffContext = 3

// Texts with more differing lines than this are compared as a whole.
const maxDiffLines = 4000

// Diff returns how two versions of a file differ, as `diff -u` shows it; nil if
// they do not.
func Diff(file string, before, after []byte) []byte {
	if bytes.Equal(before, after) {
		return nil
	}
	edits := diffLines(slices.Collect(strings.Lines(string(before))), slices.Collect(strings.Lines(string(after))))
	var b bytes.Buffer
	fmt.Fprintf(&b, "--- %s\n+++ %s\n", file, file)
	for start := 0; start < len(edits); {
		if edits[start].sign == ' ' {
			start++
			continue
		}
		from, end := max(start-diffContext, 0), start
		for same := 0; end < len(edits) && same <= 2*diffContext; end++ {
			if same++; edits[end].sign != ' ' {
				same = 0
			}
		}
		for end > start && edits[end-1].sign == ' ' {
			end--
		}
		to := min(end+diffContext, len(edits))
		writeHunk(&b, edits, from, to)
		start = to
	}
	return b.Bytes()
}

// An edit is a line that is kept, removed or added.
type edit struct {
	sign byte // ' ', '-' or '+'
	line string
}

func writeHunk(b *bytes.Buffer, edits []edit, from, to int) {
	count := func(edits []edit, other byte) (n int) {
		for _, e := range edits {
			if e.sign != other {
				n++
			}
		}
		return n
	}
	hunk := edits[from:to]
	before, after := count(hunk, '+'), count(hunk, '-')
	first := func(other byte, n int) int {
		line := count(edits[:from], other)
		if n > 0 {
			line++
		}
		return line
	}
	fmt.Fprintf(b, "@@ -%d,%d +%d,%d @@\n", first('+', before), before, first('-', after), after)
	for _, e := range hunk {
		b.WriteByte(e.sign)
		b.WriteString(e.line)
		if !strings.HasSuffix(e.line, "\n") {
			b.WriteString("\n\\ No newline at end of file\n")
		}
	}
}

// diffLines finds a shortest way from one list of lines to another.
func diffLines(before, after []string) []edit {
	var head, tail []edit
	for len(before) > 0 && len(after) > 0 && before[0] == after[0] {
		head = append(head, edit{' ', before[0]})
		before, after = before[1:], after[1:]
	}
	for len(before) > 0 && len(after) > 0 && before[len(before)-1] == after[len(after)-1] {
		tail = append(tail, edit{' ', before[len(before)-1]})
		before, after = before[:len(before)-1], after[:len(after)-1]
	}
	slices.Reverse(tail)
	return slices.Concat(head, diffMiddle(before, after), tail)
}

func diffMiddle(before, after []string) []edit {
	edits := make([]edit, 0, len(before)+len(after))
	if len(before) > maxDiffLines || len(after) > maxDiffLines {
		for _, line := range before {
			edits = append(edits, edit{'-', line})
		}
		for _, line := range after {
			edits = append(edits, edit{'+', line})
		}
		return edits
	}
	// common[i][j] is the length of the longest common part of before[i:] and
	// after[j:].
	width := len(after) + 1
	common := make([]int32, (len(before)+1)*width)
	for i := len(before) - 1; i >= 0; i-- {
		for j := len(after) - 1; j >= 0; j-- {
			if before[i] == after[j] {
				common[i*width+j] = common[(i+1)*width+j+1] + 1
			} else {
				common[i*width+j] = max(common[(i+1)*width+j], common[i*width+j+1])
			}
		}
	}
	for i, j := 0, 0; i < len(before) || j < len(after); {
		switch {
		case i < len(before) && j < len(after) && before[i] == after[j]:
			edits = append(edits, edit{' ', before[i]})
			i, j = i+1, j+1
		case j == len(after) || i < len(before) && common[(i+1)*width+j] >= common[i*width+j+1]:
			edits = append(edits, edit{'-', before[i]})
			i++
		default:
			edits = append(edits, edit{'+', after[j]})
			j++
		}
	}
	return edits
}
