package sandbox

import (
	"context"
	"fmt"
	"os"
	"strconv"
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
	agent, err := agentFile()
	if err != nil {
		return fmt.Errorf("find agent: %w", err)
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	handed := make([]*os.File, wire.AgentFD+1, wire.AgentFD+1+len(files))
	handed[0], handed[1], handed[2], handed[wire.AgentFD] = null, null, null, agent
	mode := wire.SyncFiles
	if whole {
		mode = wire.SyncWhole
	}
	process, err := os.StartProcess(fmt.Sprintf("/proc/self/fd/%d", wire.AgentFD), []string{"raptor-agent", mode, strconv.Itoa(len(files))},
		&os.ProcAttr{Dir: "/", Env: agentEnv, Files: append(handed, files...), Sys: &syscall.SysProcAttr{Setsid: true}})
	if err != nil {
		return fmt.Errorf("start agent: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { process.Kill() }) // heeded when the disk has answered
	defer stop()
	state, err := process.Wait()
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		return fmt.Errorf("run agent: %w", err)
	case !state.Exited():
		return fmt.Errorf("run agent: %v", state)
	case state.ExitCode() != 0:
		return os.NewSyscallError(mode, unix.Errno(state.ExitCode()))
	}
	return nil
}
