//go:build !raptor_embed

package sandbox

var embedded []byte // nothing: the agent is found otherwise
