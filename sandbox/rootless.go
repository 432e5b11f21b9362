package sandbox

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"raptor-make/sandbox/internal/wire"
)

// An ordinary user's raptor is in a user namespace, as a whole: there the user
// is root and the others are the subordinate ids that the machine's administrator
// gave the user, so that unpacking images, building, removing and all else is
// done as root does it. The overlay keeps its marks in user attributes there, and
// sealing turns them into the same whiteouts as root's. What differs from a layer
// that root made: device nodes cannot be made; file capabilities are stored with
// the user's id in them, and count for nobody else; on the host, all owners but
// the user are subordinate ids.

// Rootless tells whether this process has no more rights on the machine than an
// ordinary user: it is one, or it is root in a user namespace, its own or one that
// a container engine made.
func Rootless() bool { return os.Geteuid() != 0 || !initialNamespace() }

// initialNamespace tells whether we are where the kernel's own ids count. The
// number is the kernel's PROC_USER_INIT_INO.
var initialNamespace = sync.OnceValue(func() bool {
	var st unix.Stat_t
	return unix.Stat("/proc/self/ns/user", &st) != nil || st.Ino == 0xEFFFFFFD
})

// entered is the variable that tells a process that EnterUserNamespace has
// started it: the number of a descriptor that is left, and the user's ids.
const entered = "RAPTOR_USER_NAMESPACE"

// EnterUserNamespace makes root of an ordinary user, which [Run] takes: the
// program starts again, as the same process and with the same arguments and
// descriptors, in a new user namespace. So it returns an error, or nil where
// there is nothing to do; call it before anything is done that must not be done
// twice. The namespace ends with its processes.
func EnterUserNamespace() error {
	if os.Geteuid() == 0 {
		arrive()
		return nil
	}
	program, err := os.Executable()
	if err != nil {
		return err
	}
	ids, err := subordinateIDs()
	if err != nil {
		return err
	}
	enter, err := exec.LookPath("nsenter")
	if err != nil {
		return &SetupError{Stage: "find", Path: "nsenter", Err: exec.ErrNotFound, Help: "install it: in most distributions, it is in the package util-linux"}
	}
	namespace, err := ids.namespace()
	if err != nil {
		return err
	}
	// A process of several threads, as all of Go's are, cannot change its user
	// namespace. nsenter can, before it executes us.
	words := []string{"nsenter", fmt.Sprintf("--user=/proc/self/fd/%d", namespace), "--preserve-credentials", "--", program}
	env := append(os.Environ(), fmt.Sprintf("%s=%d,%d,%d", entered, namespace, os.Geteuid(), os.Getegid()))
	return &SetupError{Stage: "execute", Path: enter, Err: syscall.Exec(enter, append(words, os.Args[1:]...), env)}
}

// A caller is the user who was made root by EnterUserNamespace, by the ids of
// before.
type caller struct{ uid, gid int }

var calledBy *caller

// arrive takes down what the way into the namespace has left.
func arrive() {
	way, found := os.LookupEnv(entered)
	if !found {
		return
	}
	var namespace int
	var c caller
	if n, _ := fmt.Sscanf(way, "%d,%d,%d", &namespace, &c.uid, &c.gid); n == 3 && !initialNamespace() {
		unix.Close(namespace)
		calledBy = &c
	}
	os.Unsetenv(entered)
}

// CallerID is the id of the user for whom we work: our own, or that of before
// EnterUserNamespace.
func CallerID() int {
	if calledBy != nil {
		return calledBy.uid
	}
	return os.Geteuid()
}

// AsCaller has a command run with the user's own ids, where EnterUserNamespace
// has made us root: programs like ssh look for a user's files by them.
func AsCaller(cmd *exec.Cmd) {
	if calledBy == nil {
		return
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: calledBy.uid, HostID: 0, Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: calledBy.gid, HostID: 0, Size: 1}},
	}
}

// namespace makes a user namespace and returns a descriptor of it, which is kept
// by programs that we execute. It takes a process to make one.
func (m *idMap) namespace() (int, error) {
	agent, err := agentProgram.File()
	if err != nil {
		return -1, noAgent(err)
	}
	wait, held, err := os.Pipe()
	if err != nil {
		return -1, err
	}
	defer held.Close()
	holder, err := os.StartProcess(fmt.Sprintf("/proc/self/fd/%d", wire.AgentFD), []string{"raptor-agent", wire.Examine}, &os.ProcAttr{
		Env: agentEnv, Files: []*os.File{0: wait, wire.AgentFD: agent}, Sys: &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER}})
	wait.Close()
	if err != nil {
		return -1, &SetupError{Stage: "make user namespace", Err: reason(err), Help: userNamespaceHelp(err)}
	}
	defer func() {
		holder.Kill()
		holder.Wait()
	}()
	if err := m.give(holder.Pid); err != nil {
		return -1, err
	}
	path := fmt.Sprintf("/proc/%d/ns/user", holder.Pid)
	fd, err := unix.Open(path, unix.O_RDONLY, 0)
	if err != nil {
		return -1, &SetupError{Stage: "open", Path: path, Err: err}
	}
	return fd, nil
}

// idMap is who is who in a user namespace: triples of inside, outside, count.
type idMap struct{ uid, gid [][3]int }

// subordinateIDs finds what a user may be inside.
func subordinateIDs() (idMap, error) {
	uid, gid := os.Geteuid(), os.Getegid()
	names := []string{strconv.Itoa(uid)}
	if u, err := user.LookupId(names[0]); err == nil {
		names = append(names, u.Username)
	}
	var m idMap
	for _, kind := range []struct {
		file string
		own  int
		ids  *[][3]int
	}{{"/etc/subuid", uid, &m.uid}, {"/etc/subgid", gid, &m.gid}} {
		text, err := os.ReadFile(kind.file)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return m, &SetupError{Stage: "read", Path: kind.file, Err: reason(err)}
		}
		ranges := subordinate(string(text), names)
		if len(ranges) == 0 {
			name := names[len(names)-1]
			return m, &SetupError{Stage: "find subordinate ids", Path: kind.file, Err: fmt.Errorf("none for %s", name),
				Help: fmt.Sprintf("as root: usermod --add-subuids %[1]s --add-subgids %[1]s %[2]s", freeRange(), name)}
		}
		*kind.ids = append([][3]int{{0, kind.own, 1}}, ranges...)
	}
	return m, nil
}

// freeRange is a range of ids that is nobody's yet, as usermod(8) takes it.
func freeRange() string {
	first := 100000 // where useradd(8) begins
	for _, file := range []string{"/etc/subuid", "/etc/subgid"} {
		text, _ := os.ReadFile(file)
		for line := range strings.Lines(string(text)) {
			var start, count int
			if f := strings.SplitN(strings.TrimSpace(line), ":", 2); len(f) == 2 {
				fmt.Sscanf(f[1], "%d:%d", &start, &count)
				first = max(first, start+count)
			}
		}
	}
	return fmt.Sprintf("%d-%d", first, first+65535)
}

// subordinate reads the ranges of a user, and lays them side by side from 1 on.
func subordinate(text string, names []string) (ranges [][3]int) {
	next := 1
	for line := range strings.Lines(text) {
		f := strings.Split(strings.TrimSpace(line), ":")
		if len(f) != 3 || f[0] != names[0] && f[0] != names[len(names)-1] {
			continue
		}
		first, err1 := strconv.Atoi(f[1])
		count, err2 := strconv.Atoi(f[2])
		if err1 != nil || err2 != nil || count <= 0 {
			continue
		}
		ranges = append(ranges, [3]int{next, first, count})
		next += count
	}
	return ranges
}

// give gives the user namespace of a process its ids, users and groups at once.
func (m *idMap) give(pid int) error {
	groups := make(chan error, 1)
	go func() { groups <- give("newgidmap", pid, m.gid) }()
	err := give("newuidmap", pid, m.uid)
	if gerr := <-groups; err == nil {
		err = gerr
	}
	return err
}

// give has one of the two programs do it that have the right to that which we lack.
func give(program string, pid int, ids [][3]int) error {
	words := []string{strconv.Itoa(pid)}
	for _, r := range ids {
		words = append(words, strconv.Itoa(r[0]), strconv.Itoa(r[1]), strconv.Itoa(r[2]))
	}
	text, err := exec.Command(program, words...).CombinedOutput()
	if err == nil {
		return nil
	}
	e := &SetupError{Stage: "map ids with", Path: program, Err: err}
	if errors.Is(err, exec.ErrNotFound) {
		e.Err, e.Help = exec.ErrNotFound, "install it: in Debian and Ubuntu, it is in the package uidmap"
	} else if said := strings.TrimSpace(string(text)); said != "" {
		e.Err = errors.New(said)
	}
	return e
}

// userNamespaceHelp says why there is no user namespace, if it is known.
func userNamespaceHelp(err error) string {
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EUSERS):
		return "as root: sysctl -w user.max_user_namespaces=65536"
	case !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EACCES):
		return ""
	case says("/proc/sys/kernel/unprivileged_userns_clone", "0"):
		return "as root: sysctl -w kernel.unprivileged_userns_clone=1"
	case says("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1"):
		return "as root: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor profile for raptor that allows userns"
	}
	return "this system lets no ordinary user make user namespaces; use sudo"
}

func says(file, what string) bool {
	text, err := os.ReadFile(file)
	return err == nil && strings.TrimSpace(string(text)) == what
}
