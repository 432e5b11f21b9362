package sandbox

import (
	"slices"

	"golang.org/x/sys/unix"
)

// A CapabilitySet is a set of capabilities, by number.
type CapabilitySet []int

// Capabilities are what programs inside may have at most, as root: what Docker
// gives by default, and no more.
var Capabilities = CapabilitySet{
	unix.CAP_AUDIT_WRITE, unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_FOWNER, unix.CAP_FSETID,
	unix.CAP_KILL, unix.CAP_MKNOD, unix.CAP_NET_BIND_SERVICE, unix.CAP_NET_RAW, unix.CAP_SETFCAP,
	unix.CAP_SETGID, unix.CAP_SETPCAP, unix.CAP_SETUID, unix.CAP_SYS_CHROOT,
}

// capabilities are those of a sandbox. On the host's network NET_RAW would let
// programs read and forge what the whole host sends: Docker gives it to
// containers that have a network of their own.
func capabilities(network Network) CapabilitySet {
	if network == NoNetwork {
		return Capabilities
	}
	return slices.DeleteFunc(slices.Clone(Capabilities), func(c int) bool { return c == unix.CAP_NET_RAW })
}

func (s CapabilitySet) mask() uint64 {
	var mask uint64
	for _, c := range s {
		mask |= 1 << c
	}
	return mask
}

func (s CapabilitySet) has(capability int) bool { return s.mask()>>capability&1 != 0 }
