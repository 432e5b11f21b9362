package main

import (
	"golang.org/x/sys/unix"

	"raptor-make/sandbox/internal/wire"
)

// receive waits for the files of a sandbox, puts each in its place, and tells how
// many there are. There are none when no sandbox is to be made, because raptor has
// ended or changed its mind.
func receive() (total int) {
	message, rights := make([]byte, 4), make([]byte, unix.CmsgSpace(4*wire.FilesMost))
	total = 1
	for got := 0; got < total; {
		n, size, flags, _, err := unix.Recvmsg(wire.ControlFD, message, rights, 0)
		if err == unix.EINTR {
			continue
		}
		total = wire.DecodeTotal(message[:max(n, 0)])
		if err != nil || total == 0 || flags&unix.MSG_CTRUNC != 0 {
			return 0
		}
		messages, err := unix.ParseSocketControlMessage(rights[:size])
		if err != nil || len(messages) != 1 {
			return 0
		}
		files, err := unix.ParseUnixRights(&messages[0])
		if err != nil {
			return 0
		}
		for _, fd := range files {
			if !place(fd, got) {
				return 0
			}
			got++
		}
	}
	return total
}

// place moves a file that was received to where it belongs, by its number in
// the order of arrival: those before it are in their places, and it has the
// lowest number that was free, so that nothing is in its way.
func place(fd, number int) bool {
	to := wire.FileOf(number)
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
