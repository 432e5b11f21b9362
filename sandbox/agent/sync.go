package main

import (
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"raptor-make/sandbox/internal/wire"
)

// syncFiles is all that the agent does for sandbox.Sync. The status that it
// ends with is the error's number.
func syncFiles(sync func(fd int) error, count string) int {
	n, _ := strconv.Atoi(count)
	for i := range n {
		if err := sync(wire.AgentFD + 1 + i); err != nil {
			if errno, ok := err.(syscall.Errno); ok {
				return int(errno)
			}
			return int(unix.EIO)
		}
	}
	return 0
}
