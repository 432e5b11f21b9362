//go:build !amd64 && !arm64

package sandbox

var systemCalls []byte // none: nothing is run without
