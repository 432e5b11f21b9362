package sandbox

import (
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// agentFile is the agent as a sealed file in memory: nothing inside a sandbox
// can change what the next one is started with.
var agentFile = sync.OnceValues(func() (*os.File, error) {
	program, err := agentProgram()
	if err != nil {
		return nil, err
	}
	return sealed(program)
})

// sealed puts a program into a file in memory that nobody can change.
func sealed(program []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate("raptor-agent", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_EXEC)
	if err == unix.EINVAL { // before Linux 6.3
		fd, err = unix.MemfdCreate("raptor-agent", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), "raptor-agent")
	if _, err := f.Write(program); err != nil {
		return nil, err
	}
	_, err = unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_SEAL|unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_WRITE)
	return f, os.NewSyscallError("seal", err)
}
