package main

import (
	"os"
	"strings"

	"github.com/moby/sys/mount"
	"golang.org/x/sys/unix"

	"raptor-make/sandbox/internal/mounts"
	"raptor-make/sandbox/internal/wire"
)

// An examiner tries, for raptor doctor, what sandboxes are made with: by the
// same calls, in namespaces of its own, in a directory of its own.
type examiner struct {
	agent
	dir   string
	fresh string // a temporary file system in it
}

// examine reports on standard output what came of each feature: Done, or
// NoSetup with the reason. Without a directory there is nothing to try: to have
// been started, and to live until standard input ends, is all.
func examine(args []string) {
	if len(args) == 0 {
		for b := make([]byte, 1); ; {
			if n, err := unix.Read(0, b); n < 1 && err != unix.EINTR {
				os.Exit(0)
			}
		}
	}
	unix.Umask(0o022)
	x := &examiner{agent: agent{Spec: &wire.Spec{Rootless: inUserNamespace()}}, dir: args[0], fresh: args[0] + "/fresh"}
	for feature, op := range [...]operation{
		wire.ChangeMounts: {"make mounts private", "/", x.changeMounts},
		wire.CloneMounts:  {"clone mounts", "", x.cloneMounts},
		wire.NewMounts:    {"mount", "", x.newMounts},
		wire.Overlays:     {"mount overlay", "", func() error { return x.useOverlay(x.fresh, nothing) }},
		wire.Upper:        {"mount overlay", x.dir, func() error { return x.useOverlay(x.dir, replaceDirectory) }},
		wire.Filters:      {"install system call filter", "", installNothing},
		wire.Scopes:       {"restrict sockets", "", scopes},
	} {
		if err := x.report(feature, op); err != nil && feature == wire.ChangeMounts {
			break // what follows changes mounts, the host's perhaps
		}
	}
	os.Exit(0)
}

func (x *examiner) report(feature int, op operation) error {
	err := op.do()
	ev := &wire.Event{Kind: wire.Done, Action: feature}
	if err != nil {
		ev = &wire.Event{Kind: wire.NoSetup, Action: feature, Op: op.stage, Path: op.path, Errno: errno(err), Text: err.Error()}
		if e := described(err); e != nil {
			ev.Path, ev.Errno, ev.Text = e.path, errno(e.err), e.err.Error()
			if e.op != "" {
				ev.Op += ": " + e.op
			}
		}
	}
	sendTo(1, ev)
	return err
}

// changeMounts is what all that follows takes.
func (x *examiner) changeMounts() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := unix.Mkdir(x.fresh, 0o755); err != nil {
		return &opError{"mkdir", x.fresh, err}
	}
	if err := mount.Mount("tmpfs", x.fresh, "tmpfs", "nosuid,nodev"); err != nil {
		return &opError{"mount", "tmpfs", cause(err)}
	}
	return nil
}

// cloneMounts is how files and directories of the host are lent.
func (x *examiner) cloneMounts() error {
	fd, err := cloneTree(x.fresh, unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NODEV)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return x.attach(fd, "/clone")
}

func (x *examiner) attach(fd int, at string) error {
	at = x.fresh + at
	if err := unix.Mkdir(at, 0o755); err != nil {
		return &opError{"mkdir", at, err}
	}
	if err := moveTo(fd, at); err != nil {
		return &opError{"move mount", "", err}
	}
	return nil
}

// newMounts mounts the file systems that every sandbox has.
func (x *examiner) newMounts() error {
	for _, e := range append([]entry{{"/proc", "proc", ""}, {"/sys", "sysfs", ""}}, devEntries...) {
		if e.kind == "" {
			continue
		}
		at := x.fresh + "/new"
		if err := unix.Mkdir(at, 0o755); err != nil && err != unix.EEXIST {
			return &opError{"mkdir", at, err}
		}
		// There may be no group for terminals here.
		err := cause(mount.Mount(e.kind, at, e.kind, strings.Replace(e.options, ",gid=5", "", 1)))
		if err == unix.EPERM && e.kind == "sysfs" && x.Rootless {
			continue // the host's is cloned then
		}
		if err != nil {
			return &opError{"", e.path, err}
		}
	}
	return nil
}

// useOverlay makes an overlay in a directory, and changes it. It leaves nothing:
// directories of overlayfs's own are for root alone to remove.
func (x *examiner) useOverlay(dir string, change func(merged string) error) error {
	at, err := mounts.Directory(dir, unix.O_RDONLY)
	if err != nil {
		return err
	}
	defer unix.Close(at)
	for _, sub := range []string{"lower", "lower/old", "lower/old/file", "upper", "work", "merged"} {
		if err := unix.Mkdirat(at, sub, 0o755); err != nil {
			return &opError{"mkdir", dir + "/" + sub, err}
		}
		defer removeTree(at, sub)
	}
	fds, err := mounts.Directories([]string{dir + "/upper", dir + "/work"})
	if err != nil {
		return err
	}
	defer unix.Chdir("/")
	defer unix.Close(fds[0])
	defer unix.Close(fds[1])
	fd, err := mountOverlay(&mounts.Overlay{Layers: []string{dir + "/lower"}, Upper: fds[0], Work: fds[1], Attr: unix.MOUNT_ATTR_NODEV, Volatile: true, UserMarks: x.Rootless})
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	merged := dir + "/merged"
	if err := moveTo(fd, merged); err != nil {
		return &opError{"move mount", "", err}
	}
	defer unix.Unmount(merged, unix.MNT_DETACH)
	return change(merged)
}

// nothing is all that can be changed where a file system may not have what it
// takes: until Linux 6.6, a temporary one has no attributes that are a user's.
func nothing(string) error { return nil }

// replaceDirectory takes whiteouts and opaque marks.
func replaceDirectory(merged string) error {
	old := merged + "/old"
	err := unix.Rmdir(old + "/file")
	if err == nil {
		err = unix.Rmdir(old)
	}
	if err == nil {
		err = unix.Mkdir(old, 0o755)
	}
	if err != nil {
		return &opError{"replace a directory", "", err}
	}
	return nil
}

// installNothing installs a filter that lets everything pass.
func installNothing() error {
	pass := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW}
	return installFilter(&unix.SockFprog{Len: 1, Filter: &pass})
}

// scopes tells whether abstract sockets of the host can be closed.
func scopes() error {
	if landlock() < abiWithScopes {
		return unix.ENOSYS
	}
	return nil
}

// inUserNamespace tells whether this is another than the first one. Its number
// is part of the kernel's interface; its map of ids would not tell.
func inUserNamespace() bool {
	const first = 0xEFFFFFFD
	var st unix.Stat_t
	return unix.Stat("/proc/self/ns/user", &st) == nil && st.Ino != first
}
