package main

import (
	"testing"
	"time"

	"raptor-make/internal/boottest"
)

// bootISO boots an image made by somebody else's builder.
func bootISO(t *testing.T, file string) {
	t.Helper()
	s := boottest.Machine{Image: file, CD: true, Deadline: 15 * time.Minute}.Boot(t)
	s.Login("root", "raptor")
	s.PowerOff()
}
