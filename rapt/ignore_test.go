package rapt

import "testing"

func TestIgnoreRules(t *testing.T) {
	rules := parseIgnore("/root", `# a comment
*.o
!keep.o
/top
build/
doc/*.txt
a/**/z
**/deep
all/**
[ab]?.c
[!x]y
\#hash
\!bang
trail\ 
blanks   
`)
	for path, want := range map[string]bool{
		"x.o": true, "d/x.o": true, "keep.o": false, "d/keep.o": false,
		"top": true, "d/top": false, "top/x": true,
		"build/": true, "build": false, "d/build/": true, "build/x": true, "build/keep.o": true,
		"doc/a.txt": true, "doc/d/a.txt": false, "d/doc/a.txt": false,
		"a/z": true, "a/b/z": true, "a/b/c/z": true, "az": false,
		"deep": true, "x/y/deep": true, "all/x": true, "all/x/y": true, "all/": false,
		"ab.c": true, "a1.c": true, "c1.c": false, "zy": true, "xy": false,
		"#hash": true, "!bang": true, "trail ": true, "trail": false, "blanks": true,
		ignoreFile: true, "d/" + ignoreFile: false, "# a comment": false,
	} {
		isDir := path[len(path)-1] == '/'
		name := path
		if isDir {
			name = path[:len(path)-1]
		}
		if got := rules.match(name, isDir); got != want {
			t.Errorf("%q is left out: %v", path, got)
		}
	}
}
