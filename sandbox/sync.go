package sandbox

import (
	"context"
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
	stop := context.AfterFunc(ctx, func() { s.process.Kill() }) // heeded when the disk has answered
	for some := range slices.Chunk(files, wire.SyncMost) {
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

// A syncer is a process that waits for disks, one request at a time, and ends
// with us.
type syncer struct {
	process *os.Process
	conn    int // our end of a socket
}

// syncers that have nothing to do are kept: to start one takes a while.
var syncers struct {
	sync.Mutex
	idle []*syncer
}

func idleSyncer() (*syncer, error) {
	syncers.Lock()
	if n := len(syncers.idle); n > 0 {
		s := syncers.idle[n-1]
		syncers.idle = syncers.idle[:n-1]
		syncers.Unlock()
		return s, nil
	}
	syncers.Unlock()
	return startSyncer()
}

func startSyncer() (*syncer, error) {
	agent, err := agentFile()
	if err != nil {
		return nil, err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socketpair", err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "syncer")
	defer theirs.Close()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err == nil {
		defer null.Close()
		s := &syncer{conn: pair[0]}
		handed := []*os.File{0: null, 1: null, 2: null, wire.ControlFD: theirs, wire.AgentFD: agent}
		s.process, err = os.StartProcess(fmt.Sprintf("/proc/self/fd/%d", wire.AgentFD), []string{"raptor-agent", wire.Sync},
			&os.ProcAttr{Dir: "/", Env: agentEnv, Files: handed, Sys: &syscall.SysProcAttr{Setsid: true}})
		if err == nil {
			return s, nil
		}
	}
	unix.Close(pair[0])
	return nil, err
}

// sync has files synced by a call, and returns what that returned.
func (s *syncer) sync(call byte, files []*os.File) (unix.Errno, error) {
	fds := make([]int, len(files))
	for i, f := range files {
		fds[i] = int(f.Fd())
	}
	if err := unix.Sendmsg(s.conn, []byte{call}, unix.UnixRights(fds...), nil, unix.MSG_NOSIGNAL); err != nil {
		return 0, os.NewSyscallError("sendmsg", err)
	}
	answer := make([]byte, 1)
	for {
		n, _, err := unix.Recvfrom(s.conn, answer, 0)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return 0, os.NewSyscallError("recvfrom", err)
		case n == 0:
			return 0, fmt.Errorf("it has ended")
		default:
			return unix.Errno(answer[0]), nil
		}
	}
}

func (s *syncer) end() {
	unix.Close(s.conn)
	s.process.Kill()
	s.process.Wait()
}
