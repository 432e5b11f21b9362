//go:build raptor_embed

package sandbox

import _ "embed"

// The Makefile builds the agent before it builds what embeds it.
//
//go:embed agent.bin
var embedded []byte
