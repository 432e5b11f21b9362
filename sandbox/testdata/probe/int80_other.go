//go:build !amd64

package main

func int80(nr, a, b, c uint32) uint32 { return ^uint32(0) }
