package sandbox

import _ "embed"

// See filter_amd64.go.
//
//go:embed filter_arm64.bin
var systemCalls []byte
