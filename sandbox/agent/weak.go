//go:build raptor_weak

package main

import (
	"os"
	"strconv"
)

// without tells whether a defence is off. This file is for tests alone, which
// show that an attack succeeds without the defence against it: they say which are
// off in the agent's first argument.
func (a *agent) without(defence uint64) bool {
	if len(os.Args) < 2 {
		return false
	}
	off, _ := strconv.ParseUint(os.Args[1], 10, 64)
	return off&defence != 0
}
