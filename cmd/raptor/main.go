//go:build linux

// Command raptor builds the layers that .rapt files describe, runs them as
// containers, and runs the jobs of a Raptor.toml.
package main

import (
	"os"

	_ "raptor-make/internal/ahead"
	"raptor-make/internal/cli"
)

func main() { os.Exit(cli.Raptor(os.Args[1:])) }
