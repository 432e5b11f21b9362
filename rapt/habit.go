package rapt

import (
	"slices"
	"strings"
)

// Words that people bring along from other build files, and what to say.
var foreign = map[string]string{
	"ADD":         "did you mean COPY?",
	"ARG":         "a variable is set by a template: $ set name = value, or given by INCLUDE",
	"EXEC":        "did you mean RUN?",
	"VOLUME":      "did you mean MOUNT?",
	"USER":        "RUN is always root; a program such as setpriv runs others",
	"SHELL":       `RUN has no shell; write RUN sh -c "…"`,
	"EXPOSE":      "a container has no ports of its own",
	"LABEL":       "a layer has no labels",
	"HEALTHCHECK": "a container has no health checks",
}

// singleQuotes finds what a shell would quote in a part of a text, from the
// opening quote to the closing one.
func singleQuotes(text string, e extent) (extent, bool) {
	if strings.IndexByte(text[e.start:e.end], '\'') < 0 {
		return extent{}, false
	}
	open := -1
	s := scanner{text: text[:e.end], pos: e.start, quiet: true}
	for s.space(); !s.atLineEnd(); s.space() {
		w := s.word()
		raw := text[w.start:s.pos]
		if at := strings.IndexByte(raw, '\''); open < 0 && (at == 0 || at > 0 && raw[at-1] == '=' && !strings.Contains(raw[:at], `"`)) {
			open = w.start + at
		}
		if open >= 0 && s.pos-1 > open && strings.HasSuffix(raw, "'") {
			return extent{open, s.pos}, true
		}
		if raw == "" {
			s.pos++ // a backslash before the end
		}
	}
	return extent{}, false
}

// shellQuotes warns of single quotes, once an instruction.
func (p *parser) shellQuotes(st *statement) {
	e, found := singleQuotes(p.text, extent{st.start + len(st.keyword), p.pos})
	if !found || !slices.Contains(keywords, st.keyword) {
		return
	}
	label := "use double quotes"
	if quoted := p.text[e.start+1 : e.end-1]; len(quoted) < 60 && !strings.Contains(quoted, "\n") {
		label = "write " + quoteText(quoted)
	}
	p.warn(e, label, "single quotes do not quote, they are characters like others")
}

// listForm refuses a program and its arguments in the form of a list, which
// Dockerfiles have. It leaves alone what is none: [ is a program, too, and may
// have one argument in quotes.
func (p *parser) listForm(st *statement) bool {
	p.space()
	if !strings.HasPrefix(p.text[p.pos:], "[") {
		return false
	}
	q := parser{scanner: scanner{text: p.text, pos: p.pos, quiet: true}}
	list, ok := q.expression()
	if !ok || len(list.items) == 0 || len(list.items) == 1 && isBlank(p.text[p.pos+1]) {
		return false
	}
	var label strings.Builder
	label.WriteString("write " + st.keyword)
	for _, item := range list.items {
		if item.value.kind != stringExpression {
			return false
		}
		label.WriteString(" " + quoteWord(item.value.text))
	}
	if q.space(); !q.atLineEnd() {
		return false
	}
	p.pos, p.end = q.pos, q.end
	p.fail(list.extent, label.String(), "%s takes words, not a list", st.keyword)
	return true
}

// commandLine warns of a program's name that looks like a whole command.
func (p *parser) commandLine(st *statement) {
	if st.keyword == "CMD" || len(st.words) != 1 {
		return // a single word of CMD can be a line for the shell
	}
	w := st.words[0]
	words := strings.Fields(w.text)
	if len(words) < 2 {
		return
	}
	var label strings.Builder
	label.WriteString("write " + st.keyword)
	if strings.ContainsAny(w.text, `"'\`) || hasShellSign(w.text) {
		label.WriteString(" sh -c " + quoteText(w.text))
	} else {
		quoteWords(&label, words)
	}
	p.warn(w.extent, label.String(), "%s as a whole is taken for the name of the program", quoteForMessage(w.text))
}

// settingForm is how ENV is written that was meant to set a variable, but was
// given no =; "" if it was not.
func settingForm(words []word) string {
	if len(words) < 2 || slices.ContainsFunc(words, func(w word) bool { return strings.Contains(w.text, "=") }) || !isName(words[0].text) {
		return ""
	}
	return "ENV " + quoteVariable(words[0].text, strings.Join(texts(words[1:]), " "))
}

// imageName adds to the refusal of a module's name what was meant if it is that
// of an image.
func imageName(text string, why *refusal) *refusal {
	scheme, rest, colon := strings.Cut(text, ":")
	host, _, path := strings.Cut(text, "/")
	switch {
	case text == "scratch":
		why.label = "leave FROM out: without it a layer starts from nothing"
	case scheme == "debian":
		why.label = "for an image, write docker://" + text + " or debian://trixie"
	case colon && scheme == "docker":
		why.label = "write docker://" + strings.TrimLeft(rest, "/")
	case colon && slices.Contains(schemes, scheme):
		why.label = "write " + scheme + "://" + rest
	case strings.HasSuffix(text, ".tar") || strings.Contains(text, ".tar.") || strings.HasSuffix(text, ".tgz"):
		why.label = "for a tar, write tar://" + text
	case colon || path && strings.Trim(host, ".") != "" && strings.Contains(host, "."):
		why.label = "for an image, write docker://" + text
	case why.label == "" && why.help != "" && isModuleElement(text):
		why.help += "; an image is written docker://" + text
	}
	return why
}

func isModuleElement(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return !isElementRune(r) })
}
