//go:build !raptor_weak

package main

// without tells whether a defence is off, which it never is.
func (a *agent) without(uint64) bool { return false }
