package engine

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"strings"

	"raptor-make/internal/store"
)

// These are all SHA-256, in hex, and are not to be confused.
type (
	// A LayerKey says what a layer is made from.
	LayerKey string
	// A JobKey says what a job is run with.
	JobKey string
	// A Digest says what is in a file or directory.
	Digest string
)

// Short is the form of a key in the names of layers and in messages: its first
// 16 digits, in capitals.
func (k LayerKey) Short() string { return short(string(k)) }

// Short is as for a LayerKey.
func (k JobKey) Short() string { return short(string(k)) }

func short(key string) string { return strings.ToUpper(key[:min(16, len(key))]) }

// keyVersion is part of every key. It changes when the same parts mean other
// content than before, so that nothing made by an older raptor is taken for it.
const keyVersion = "raptor key 1"

// A keyer collects the labelled parts of a key.
type keyer struct{ parts []store.Part }

func (k *keyer) add(label, value string) {
	k.parts = append(k.parts, store.Part{Label: label, Value: value})
}

// sum is SHA-256 over the version and the parts, each string preceded by its
// length (8 bytes, big endian), so that no two lists of parts read the same.
func (k *keyer) sum() string {
	h := sha256.New()
	write := func(s string) {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(s)))
		h.Write(n[:])
		h.Write([]byte(s))
	}
	write(keyVersion)
	for _, p := range k.parts {
		write(p.Label)
		write(p.Value)
	}
	return hex.EncodeToString(h.Sum(nil))
}
