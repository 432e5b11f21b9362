package main

import (
	"os"

	"golang.org/x/sys/unix"

	"raptor-make/sandbox/internal/wire"
)

// serveSync is all that the agent does for sandbox.Sync, until that is gone.
func serveSync() {
	call, rights := make([]byte, 1), make([]byte, unix.CmsgSpace(4*wire.FilesMost))
	for {
		n, size, _, _, err := unix.Recvmsg(wire.ControlFD, call, rights, unix.MSG_CMSG_CLOEXEC)
		if err == unix.EINTR {
			continue
		}
		if n != 1 || err != nil {
			os.Exit(0)
		}
		answer := syncReceived(call[0], rights[:size])
		unix.Sendto(wire.ControlFD, []byte{byte(answer)}, unix.MSG_NOSIGNAL, nil)
	}
}

// syncReceived syncs and closes the files of a message.
func syncReceived(call byte, rights []byte) (failed unix.Errno) {
	messages, err := unix.ParseSocketControlMessage(rights)
	if err != nil || len(messages) != 1 {
		return unix.EBADMSG
	}
	files, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return unix.EBADMSG
	}
	sync := unix.Fsync
	if call == wire.SyncWhole {
		sync = unix.Syncfs
	}
	for _, fd := range files {
		if err := sync(fd); err != nil && failed == 0 {
			if failed = unix.Errno(errno(err)); failed == 0 {
				failed = unix.EIO
			}
		}
		unix.Close(fd)
	}
	return failed
}
