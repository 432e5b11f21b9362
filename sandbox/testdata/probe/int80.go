//go:build amd64

package main

// int80 makes a system call as 32-bit programs do.
func int80(nr, a, b, c uint32) uint32
