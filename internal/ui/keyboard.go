package ui

import (
	"errors"
	"sync"

	"golang.org/x/sys/unix"
)

// A keyboard reads single keys from a terminal without raw mode: input is not
// gathered into lines and not echoed, but Ctrl-C, Ctrl-Z and Ctrl-\ still are
// signals, and output is treated as ever.
type keyboard struct {
	fd      int
	stopper int // an eventfd that ends the reading
	saved   unix.Termios
	reading sync.WaitGroup
}

// openKeyboard starts reading keys and calls press for each, from a goroutine.
// It returns nil when fd is no terminal, or not ours to read.
func openKeyboard(fd int, press func(key)) *keyboard {
	saved, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil || !foreground(fd) {
		return nil
	}
	stopper, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		return nil
	}
	k := &keyboard{fd: fd, stopper: stopper, saved: *saved}
	quiet := *saved
	quiet.Lflag &^= unix.ICANON | unix.ECHO
	quiet.Cc[unix.VMIN], quiet.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &quiet); err != nil {
		unix.Close(stopper)
		return nil
	}
	k.reading.Go(func() { k.read(press) })
	return k
}

// close stops reading and restores the terminal. A process in the background
// must not set its terminal; the shell that put it there has done so itself.
func (k *keyboard) close() {
	if k == nil {
		return
	}
	unix.Write(k.stopper, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	if foreground(k.fd) {
		unix.IoctlSetTermios(k.fd, unix.TCSETS, &k.saved)
	}
	k.reading.Wait()
	unix.Close(k.stopper)
}

func (k *keyboard) read(press func(key)) {
	buffer := make([]byte, 64)
	for {
		fds := []unix.PollFd{{Fd: int32(k.fd), Events: unix.POLLIN}, {Fd: int32(k.stopper), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, -1); errors.Is(err, unix.EINTR) {
			continue
		} else if err != nil || fds[1].Revents != 0 || fds[0].Revents&unix.POLLIN == 0 || !foreground(k.fd) {
			return
		}
		n, err := unix.Read(k.fd, buffer)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n <= 0 {
			return
		}
		for _, key := range keysOf(buffer[:n]) {
			press(key)
		}
	}
}

// keysOf decodes what a terminal sends. What it does not know means nothing.
func keysOf(in []byte) []key {
	var keys []key
	for len(in) > 0 {
		n := 1
		switch c := in[0]; {
		case c == 0x1b && len(in) >= 3 && (in[1] == '[' || in[1] == 'O'):
			n = 3
			for n < len(in) && in[n-1] < 0x40 {
				n++
			}
			switch in[n-1] {
			case 'A':
				keys = append(keys, key{kind: up})
			case 'B':
				keys = append(keys, key{kind: down})
			}
		case c == 'k':
			keys = append(keys, key{kind: up})
		case c == 'j':
			keys = append(keys, key{kind: down})
		case c >= '1' && c <= '9':
			keys = append(keys, key{kind: choose, number: int(c - '0')})
		case c == '0', c == 0x1b && len(in) == 1:
			keys = append(keys, key{kind: release})
		}
		in = in[n:]
	}
	return keys
}
