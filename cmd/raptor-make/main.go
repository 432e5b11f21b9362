//go:build linux

// Command raptor-make runs the jobs and groups of a Raptor.toml. It is
// `raptor make` under a shorter name.
package main

import (
	"os"

	"raptor-make/internal/cli"
)

func main() { os.Exit(cli.RaptorMake(os.Args[1:])) }
