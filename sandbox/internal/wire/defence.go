package wire

// The defences that tests switch off one by one, to see the attacks succeed
// that they are there for. An agent that is built without the tag raptor_weak
// has them all, whatever it is told.
const (
	Seccomp uint64 = 1 << iota
	Capabilities
	Landlock
	Masks           // masked and read-only paths below /proc and /sys
	ReadOnlySys     // the mount of /sys
	NoDevices       // file systems on which nothing is a device
	ReadOnlyDevices // the mounts of the host's device nodes
	Undumpable      // the agent cannot be traced or looked into
	Keyring         // a session keyring of its own
	Descriptors     // closed on exec
	KillRest        // what an action leaves running is killed
	ReadOnlyMounts  // read-only mounts are, with all below
	Pivot           // the old root is let go, not just left
	NoSetID         // on lent file systems
	PIDs            // namespaces of its own
	IPC
	HostNames
)
