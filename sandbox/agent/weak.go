//go:build raptor_weak

package main

// without tells whether a defence is off. This file is for tests alone, which
// show that an attack succeeds without the defence against it.
func (a *agent) without(defence uint64) bool { return a.Weak&defence != 0 }
