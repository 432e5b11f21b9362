package main

import (
	"os"

	"golang.org/x/sys/unix"

	"raptor-make/sandbox/internal/wire"
)

// receive waits for the files of a sandbox, and puts each in its place. It is
// false when there is no sandbox to be made, because raptor has ended or changed
// its mind.
func receive() bool {
	for got, total := 0, 1; got < total; {
		message, files, err := receiveFiles(0)
		total = wire.DecodeTotal(message)
		if err != nil || total == 0 {
			return false
		}
		for _, fd := range files {
			if !place(fd, got) {
				return false
			}
			got++
		}
	}
	return true
}

// receiveFiles receives a message with files; an empty one when raptor has ended.
func receiveFiles(flags int) (message []byte, files []int, err error) {
	message, rights := make([]byte, 4), make([]byte, unix.CmsgSpace(4*wire.FilesMost))
	for {
		n, size, got, _, err := unix.Recvmsg(wire.ControlFD, message, rights, flags)
		if err == unix.EINTR {
			continue
		}
		if err != nil || got&unix.MSG_CTRUNC != 0 {
			return nil, nil, err
		}
		messages, err := unix.ParseSocketControlMessage(rights[:size])
		for i := range messages {
			if files, err = unix.ParseUnixRights(&messages[i]); err != nil {
				break
			}
		}
		return message[:n], files, err
	}
}

// receiveRoot receives the overlay that raptor has made while we were busy; -1: it
// could not, or did not try.
func receiveRoot() int {
	message, files, err := receiveFiles(unix.MSG_CMSG_CLOEXEC)
	if err != nil || len(message) == 0 {
		os.Exit(1)
	}
	if len(files) == 0 {
		return -1
	}
	return files[0]
}

// place moves a file that was received to where it belongs, by its number in
// the order of arrival: those before it are in their places, and it has the
// lowest number that was free, so that nothing is in its way.
func place(fd, number int) bool {
	to := number
	if to >= wire.ControlFD {
		to += wire.SourceFD - wire.ControlFD
	}
	if fd == to {
		return true
	}
	err := unix.Dup3(fd, to, 0)
	unix.Close(fd)
	return err == nil
}

func readSpec() (*wire.Spec, error) {
	var st unix.Stat_t
	if err := unix.Fstat(wire.SpecFD, &st); err != nil {
		return nil, err
	}
	buf := make([]byte, st.Size)
	for n := 0; n < len(buf); {
		m, err := unix.Pread(wire.SpecFD, buf[n:], int64(n))
		if err != nil {
			return nil, err
		}
		if m == 0 {
			return nil, wire.ErrShort
		}
		n += m
	}
	unix.Close(wire.SpecFD)
	return wire.Decode(buf)
}
