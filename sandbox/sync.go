package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"raptor-make/sandbox/internal/wire"
)

// Sync makes files durable, and with whole all of the file systems that they
// are on. If ctx ends before it is done, the error is its cause.
//
// A thread that waits for a disk cannot be killed, and as long as it waits its
// process does not end. So the waiting is done by a process of its own, which
// may outlive ours. Sync itself does wait for it, lest its caller touches files
// that are being written, and waits for the disk, too; whoever cannot wait
// any longer may exit.
func Sync(ctx context.Context, whole bool, files ...*os.File) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	s, err := idleSyncer()
	if err != nil {
		return fmt.Errorf("start agent: %w", err)
	}
	call, op := wire.SyncFiles, "fsync"
	if whole {
		call, op = wire.SyncWhole, "syncfs"
	}
	stop := context.AfterFunc(ctx, func() { s.process.kill() }) // heeded when the disk has answered
	for some := range slices.Chunk(files, wire.FilesMost) {
		var errno unix.Errno
		if errno, err = s.sync(call, some); err == nil && errno != 0 {
			err = os.NewSyscallError(op, errno)
			break
		} else if err != nil {
			stop()
			s.end()
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return fmt.Errorf("run agent: %w", err)
		}
	}
	if !stop() { // it is being killed
		s.end()
		return context.Cause(ctx)
	}
	syncers.Lock()
	syncers.idle = append(syncers.idle, s)
	syncers.Unlock()
	return err
}

// syncers that have nothing to do are kept: to start one takes a while.
var syncers struct {
	sync.Mutex
	idle []*agent
}

func idleSyncer() (*agent, error) {
	syncers.Lock()
	if n := len(syncers.idle); n > 0 {
		s := syncers.idle[n-1]
		syncers.idle = syncers.idle[:n-1]
		syncers.Unlock()
		return s, nil
	}
	syncers.Unlock()
	program, err := agentProgram.File()
	if err != nil {
		return nil, err
	}
	return startAgent(program, &syscall.SysProcAttr{Setsid: true}, wire.Sync)
}

// sync has files synced by a call, and returns what that returned.
func (a *agent) sync(call byte, files []*os.File) (unix.Errno, error) {
	if err := a.send([]byte{call}, files); err != nil {
		return 0, err
	}
	answer := make([]byte, 1)
	for {
		n, _, err := unix.Recvfrom(int(a.control.Fd()), answer, 0)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return 0, os.NewSyscallError("recvfrom", err)
		case n == 0:
			return 0, errors.New("it has ended")
		default:
			return unix.Errno(answer[0]), nil
		}
	}
}
