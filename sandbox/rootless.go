package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"raptor-make/sandbox/internal/wire"
)

// An ordinary user's sandbox is in a user namespace, where the user is root and
// the others are the subordinate ids that the machine's administrator gave the
// user. The overlay keeps its marks in user attributes there, and sealing turns
// them into the same whiteouts as root's. What differs from a layer that root
// made: device nodes cannot be made; file capabilities are stored with the
// user's id in them, and count for nobody else; on the host, all owners but the
// user are subordinate ids.

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
				Help: "as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 " + name + "   (ranges that no other user has)"}
		}
		*kind.ids = append([][3]int{{0, kind.own, 1}}, ranges...)
	}
	return m, nil
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

// mapIDs gives the agent, which waits for it, its ids. The two programs have
// the right to that which we lack.
func (s *session) mapIDs() error {
	for _, m := range []struct {
		program string
		ids     [][3]int
	}{{"newuidmap", s.ids.uid}, {"newgidmap", s.ids.gid}} {
		words := []string{strconv.Itoa(s.process.Pid)}
		for _, r := range m.ids {
			words = append(words, strconv.Itoa(r[0]), strconv.Itoa(r[1]), strconv.Itoa(r[2]))
		}
		text, err := exec.Command(m.program, words...).CombinedOutput()
		if err == nil {
			continue
		}
		e := &SetupError{Stage: "map ids with", Path: m.program, Err: err}
		if errors.Is(err, exec.ErrNotFound) {
			e.Err, e.Help = exec.ErrNotFound, "install it: in Debian and Ubuntu, it is in the package uidmap"
		} else if said := strings.TrimSpace(string(text)); said != "" {
			e.Err = errors.New(said)
		}
		return e
	}
	return nil
}

// Remove removes directories with all that is in them, upper directories above
// all, whoever the files belong to inside. One that does not exist is no error.
func Remove(ctx context.Context, paths ...string) error {
	var left []string
	for _, path := range paths {
		path, err := filepath.Abs(path)
		if err != nil {
			return err
		}
		if err := os.RemoveAll(path); err == nil {
			continue
		} else if os.Geteuid() == 0 {
			return err
		}
		left = append(left, path)
	}
	if len(left) == 0 {
		return nil
	}
	ids, err := subordinateIDs()
	if err != nil {
		return err
	}
	s := &session{spec: &Spec{}, ids: &ids}
	defer s.close()
	if err := s.descriptors((&wire.Spec{Remove: left, Rootless: true}).Encode(), nil); err != nil {
		return err
	}
	_, err = s.run(ctx)
	return err
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
