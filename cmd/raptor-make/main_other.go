//go:build !linux

package main

import (
	"fmt"
	"os"
)

// Layers are overlays, and steps run in namespaces: only Linux has them.
func main() {
	fmt.Fprintln(os.Stderr, "error: raptor-make runs on Linux; use a virtual machine")
	os.Exit(1)
}
