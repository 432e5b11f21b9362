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
	"strings"

	"raptor-make/sandbox"
)

func init() {
	if len(os.Args) > 2 && (os.Args[1] == "run" || os.Args[1] == "r") && os.Geteuid() == 0 && acts(os.Args[2:]) {
		sandbox.Prepare()
	}
}

// acts tells whether a call is sure to do something: options are not understood
// yet. Where it cannot be told, an agent is started later.
func acts(args []string) bool {
	if os.Getenv("RAPTOR_NO_ACT") != "" {
		return false
	}
	for _, arg := range args {
		switch {
		case arg == "--":
			return true
		case strings.HasPrefix(arg, "--no-act"), strings.HasPrefix(arg, "--help"):
			return false
		case strings.HasPrefix(arg, "-") && !strings.HasPrefix(arg, "--") && strings.ContainsAny(arg, "nh"):
			return false
		}
	}
	return true
}
