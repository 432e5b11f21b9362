package main

import (
	"unsafe"

	"golang.org/x/sys/unix"

	"raptor-make/sandbox/internal/wire"
)

// confine gives up capabilities and system calls, for this thread and all
// that it starts: a child inherits the bounding set, the session keyring and the
// filter of the thread that forks it.
func (a *agent) confine() *opError {
	if !a.without(wire.Keyring) {
		// So that the host's session keys are out of reach. The library's own
		// call for this passes "" where the kernel wants no name.
		if _, err := unix.KeyctlInt(unix.KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0); err != nil && err != unix.ENOSYS {
			return &opError{"join keyring", "", err}
		}
	}
	if err := a.scopeSockets(); err != nil {
		return &opError{"restrict sockets", "", err}
	}
	for c := uintptr(0); c < 64; c++ {
		if a.Keep>>c&1 != 0 {
			continue
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil {
			if err == unix.EINVAL {
				break // this kernel knows no more
			}
			return &opError{"drop capability", itoa(int(c)), err}
		}
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return &opError{"clear ambient capabilities", "", err}
	}
	if err := a.limitCapabilities(); err != nil {
		return &opError{"set capabilities", "", err}
	}
	if a.NoNewPrivs {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return &opError{"forbid new privileges", "", err}
		}
	}
	if len(a.Filter) == 0 {
		if a.without(wire.Seccomp) {
			return nil
		}
		return &opError{"find system call filter", "", unix.ENOENT}
	}
	prog := &unix.SockFprog{Len: uint16(len(a.Filter) / 8), Filter: (*unix.SockFilter)(unsafe.Pointer(&a.Filter[0]))}
	if err := installFilter(prog); err != nil {
		return &opError{"install system call filter", "", err}
	}
	return nil
}

// installFilter installs a filter for this thread. SPEC_ALLOW: it is no defence
// against speculation, and without the flag every system call pays for one on
// some processors.
func installFilter(prog *unix.SockFprog) error {
	if _, _, err := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW, uintptr(unsafe.Pointer(prog))); err != 0 {
		return err
	}
	return nil
}

// privileged does what takes rights that the main thread has given up, on a thread
// that has not. Go starts no thread from one that a goroutine is locked to, because
// its state may be strange; so that all but the main one have all rights.
func (a *agent) privileged(do func()) {
	if !a.confined {
		do()
		return
	}
	done := make(chan struct{})
	go func() {
		do()
		close(done)
	}()
	<-done
}

// limitCapabilities leaves this thread what programs may have, and SYS_ADMIN,
// which installing a filter without no_new_privs takes; an exec drops that,
// because the bounding set does not have it. What raptor itself does not have, in
// a container say, programs cannot have either.
func (a *agent) limitCapabilities() error {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	keep := a.Keep | 1<<unix.CAP_SYS_ADMIN
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return err
	}
	for i := range data {
		part := uint32(keep>>(32*i)) & data[i].Permitted
		data[i] = unix.CapUserData{Effective: part, Permitted: part}
	}
	return unix.Capset(&hdr, &data[0])
}

// scopeSockets closes the host's abstract sockets, which live in the network
// namespace that builds share with the host, and which no path or mode guards:
// those of desktops and container runtimes are worth guarding. It takes Linux
// 6.12 with Landlock; otherwise whoever needs this must use no network.
func (a *agent) scopeSockets() error {
	const scopeAbstractUnix = 1 << 0
	if a.without(wire.Landlock) || landlock() < abiWithScopes {
		return nil
	}
	attr := struct{ files, network, scoped uint64 }{scoped: scopeAbstractUnix}
	fd, _, errno := unix.RawSyscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr), 0)
	if errno != 0 {
		return errno
	}
	defer unix.Close(int(fd))
	if _, _, errno := unix.RawSyscall(unix.SYS_LANDLOCK_RESTRICT_SELF, fd, 0, 0); errno != 0 {
		return errno
	}
	return nil
}

const abiWithScopes = 6

// landlock is the version of the kernel's Landlock; 0 is none.
func landlock() int {
	abi, _, errno := unix.RawSyscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return 0
	}
	return int(abi)
}
