package rapt

import (
	"fmt"
	"strings"
	"testing"
)

// generatedLines is a layer as a program would write it.
func generatedLines(n int) string {
	var b strings.Builder
	for i := range n {
		switch i % 4 {
		case 0:
			fmt.Fprintf(&b, "RUN apt-get install -q -y --no-install-recommends package-%d\n", i)
		case 1:
			fmt.Fprintf(&b, "WRITE \"[Match]\\nName=eth%d\\n\" /etc/systemd/network/%d.network # the network\n", i, i)
		case 2:
			fmt.Fprintf(&b, "ENV KEY_%d=value OTHER=\"with a blank\"\n", i)
		case 3:
			fmt.Fprintf(&b, "MKDIR --chmod=0755 --chown=root:root -p /srv/www/site-%d\n", i)
		}
	}
	return b.String()
}

// The parser alone, and from text to instructions with their places.
func BenchmarkParse(b *testing.B) {
	text := generatedLines(10_000)
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		parse(text, func(p problem) { b.Fatal(p) })
	}
}

func BenchmarkExpand(b *testing.B) {
	text := generatedLines(10_000)
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	l := &Loader{Project: &Package{Root: b.TempDir()}}
	l.prepare()
	path := l.Project.Root + "/x.rapt"
	l.template(path, []byte(text), newSource)
	for b.Loop() {
		if _, problems := l.expand(module{path: path, pkg: l.Project}); len(problems) > 0 {
			b.Fatal(problems)
		}
	}
}

// The template pass, which is the engine's.
func BenchmarkTemplate(b *testing.B) {
	for name, text := range map[string]string{
		"loop":        "$ for i in range(10000)\nRUN apt-get install -q -y package-{{ i }}\n$ endfor\n",
		"expressions": strings.Repeat("RUN apt-get install -q -y package-{{ 1 + 1 }}\n", 10_000),
		"statements":  strings.Repeat("$ if true\nRUN apt-get install -q -y package\n$ endif\n", 10_000),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				l := &Loader{Project: &Package{Root: "/nowhere"}}
				l.prepare()
				t := l.template("/nowhere/x.rapt", []byte(text), newSource)
				if _, problems := l.renderTemplate(t, nil, session{}, true); len(problems) > 0 {
					b.Fatal(problems[0])
				}
			}
		})
	}
}

// What every command pays that loads a program.
func BenchmarkLoadSmall(b *testing.B) {
	l := &Loader{Project: &Package{Root: "../examples/debian-live"}}
	for b.Loop() {
		l = &Loader{Project: l.Project}
		if _, err := l.Load("ssh", Span{}, nil); err != nil {
			b.Fatal(err)
		}
	}
}
