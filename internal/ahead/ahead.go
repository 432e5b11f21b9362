// Package ahead begins `raptor run` before raptor is ready itself: the command
// imports it, and that is all.
//
// What takes longest in the start of a container is that of its agent. It can be
// started by whoever has package sandbox, while other packages, those for
// templates, TOML and YAML, still initialise themselves: packages do so in the
// order of their paths, each as soon as all that it imports have. For others than
// root it would be too early: raptor begins again first.
package ahead

import (
	"os"
	"slices"

	"raptor-make/sandbox"
)

func init() {
	if len(os.Args) < 3 || os.Args[1] != "run" && os.Args[1] != "r" || os.Geteuid() != 0 {
		return
	}
	for _, not := range []string{"-n", "--no-act", "-h", "--help"} {
		if slices.Contains(os.Args[2:], not) {
			return
		}
	}
	sandbox.Prepare()
}
