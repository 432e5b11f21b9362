// Package calm lets Go's runtime wake up less often while raptor starts. Most
// calls are over in milliseconds.
//
// A thread of the runtime, its monitor, looks every 20 us whether another has been
// in a system call for so long, and sleeps longer only after it has seen nothing
// of interest fifty times. It takes a tenth of a short program's processor time,
// and has system calls handed to other threads that would have been over in a
// moment. The kernel may let a thread sleep longer than it asks for, by its timer
// slack: a millisecond here, in place of 50 us. Threads and processes inherit it
// from the thread that starts them, and the monitor does start some. So it has
// its own again when there is work to do.
package calm

import (
	"strconv"
	"syscall" // and no more: who needs least is initialised first
)

func init() { set("1000000") } // nanoseconds

// Over says that raptor will not be done in a moment.
func Over() { set("0") } // as it was when the thread began

func set(slack string) {
	// The monitor is the first thread that the runtime starts. Where something
	// else has come between, it stays as it is: the number is another's then.
	monitor := strconv.Itoa(syscall.Getpid() + 1)
	if syscall.Access("/proc/self/task/"+monitor, 0) != nil {
		return
	}
	// Not below task/, where the file is missing.
	fd, err := syscall.Open("/proc/"+monitor+"/timerslack_ns", syscall.O_WRONLY|syscall.O_CLOEXEC, 0)
	if err == nil {
		syscall.Write(fd, []byte(slack)) // where we may
		syscall.Close(fd)
	}
}
