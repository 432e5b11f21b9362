package sandbox

import (
	"runtime"
	"sync"

	"golang.org/x/sys/unix"

	"raptor-make/sandbox/internal/filter"
)

// A CapabilitySet is a set of capabilities, by number.
type CapabilitySet []int

// Capabilities are what programs inside may have as root: what Docker gives by
// default, and no more.
var Capabilities = CapabilitySet{
	unix.CAP_AUDIT_WRITE, unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_FOWNER, unix.CAP_FSETID,
	unix.CAP_KILL, unix.CAP_MKNOD, unix.CAP_NET_BIND_SERVICE, unix.CAP_NET_RAW, unix.CAP_SETFCAP,
	unix.CAP_SETGID, unix.CAP_SETPCAP, unix.CAP_SETUID, unix.CAP_SYS_CHROOT,
}

func (s CapabilitySet) mask() uint64 {
	var mask uint64
	for _, c := range s {
		mask |= 1 << c
	}
	return mask
}

func (s CapabilitySet) has(capability int) bool { return s.mask()>>capability&1 != 0 }

// systemCalls is the filter that every program inside runs under. It is made
// once, out here: the agent just hands the kernel its bytes.
var systemCalls = sync.OnceValues(func() ([]byte, error) {
	return filter.Default.Assemble(runtime.GOARCH, Capabilities.has)
})
