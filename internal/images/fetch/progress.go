package fetch

import (
	"context"
	"io"
	"sync"
	"time"

	"raptor-make/internal/images"
)

// A meter adds up the bytes of an operation's streams and tells how far it is,
// at the pace of eyes.
type meter struct {
	what   string
	total  int64
	report images.Progress

	mu   sync.Mutex
	done int64
	last time.Time
}

const reportEvery = 100 * time.Millisecond

// add counts n more bytes; they are negative where a download starts over.
func (m *meter) add(n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.done += n
	if now := time.Now(); now.Sub(m.last) >= reportEvery {
		m.last = now
		m.report(m.what, m.done, m.total)
	}
}

// finish tells the last figure, which add may have kept for itself.
func (m *meter) finish() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.report(m.what, m.done, m.total)
}

// reader counts what is read through it, and stops when ctx ends.
func (m *meter) reader(ctx context.Context, r io.Reader) io.Reader {
	return readerFunc(func(b []byte) (int, error) {
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		n, err := r.Read(b)
		m.add(int64(n))
		return n, err
	})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }
