package main

import (
	"strings"

	"golang.org/x/sys/unix"

	"raptor-make/sandbox/internal/mounts"
	"raptor-make/sandbox/internal/wire"
)

// A lent thing is a piece of the host that is bound into the sandbox: opened
// before the root changes, attached after.
type lent struct {
	from, to string
	make     func() (int, error)
	dir      bool
	fd       int
}

func (l *lent) open() (err error) {
	l.fd, err = l.make()
	return err
}

func (l *lent) attach(a *agent) func() error {
	return func() error {
		defer unix.Close(l.fd)
		path, err := a.mountPoint(l.to, l.dir)
		if err != nil {
			return err
		}
		return moveTo(l.fd, path)
	}
}

// cloneTree clones the mounts at path. Nothing on them counts as a device, and
// read-only holds for mounts below it, too.
func cloneTree(path string, attr uint64) (int, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return -1, err
	}
	err = unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &unix.MountAttr{Attr_set: attr, Propagation: unix.MS_PRIVATE})
	if err != nil {
		unix.Close(fd)
		return -1, &opError{"set attributes", path, err}
	}
	return fd, nil
}

// openSources lists what Mounts bind, in an order in which each can be
// attached.
func (a *agent) openSources() []*lent {
	var list []*lent
	for i := range a.Mounts {
		m := &a.Mounts[i]
		attr := uint64(unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOSUID)
		if a.without(wire.NoDevices) {
			attr &^= unix.MOUNT_ATTR_NODEV
		}
		if a.without(wire.NoSetID) {
			attr &^= unix.MOUNT_ATTR_NOSUID
		}
		if m.ReadOnly && !a.without(wire.ReadOnlyMounts) {
			attr |= unix.MOUNT_ATTR_RDONLY
		}
		switch {
		case m.Source != "":
			var st unix.Stat_t
			dir := unix.Stat(m.Source, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR
			list = append(list, &lent{from: m.Source, to: m.Dest, dir: dir, make: func() (int, error) { return cloneTree(m.Source, attr) }})
		case len(m.Overlay) > 0:
			list = append(list, &lent{from: m.Overlay[len(m.Overlay)-1], to: m.Dest, dir: true, make: func() (int, error) { return a.sum(m.Overlay) }})
		default:
			list = append(list, a.sideBySide(m.Dest, m.Index)...)
			for _, d := range m.Dirs {
				list = append(list, &lent{from: d.Source, to: m.Dest + "/" + d.Name, dir: true, make: func() (int, error) { return cloneTree(d.Source, attr|unix.MOUNT_ATTR_RDONLY) }})
			}
		}
	}
	return list
}

// sum shows layers as one directory. An overlay of lower directories alone
// wants at least two.
func (a *agent) sum(layers []string) (int, error) {
	if len(layers) == 1 {
		return cloneTree(layers[0], unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_RDONLY)
	}
	return mountOverlay(&mounts.Overlay{Layers: layers, Upper: -1, Attr: unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_RDONLY, UserMarks: a.Rootless})
}

// sideBySide is the directory that layers are bound below, with raptor.json.
func (a *agent) sideBySide(dest string, index []byte) []*lent {
	return []*lent{{from: "tmpfs", to: dest, dir: true, make: func() (int, error) {
		fd, err := mounts.New("tmpfs", unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOSUID, "mode=755")
		if err != nil {
			return -1, err
		}
		if err := create(fd, "raptor.json", index, 0o644); err != nil {
			return -1, &opError{"write", "raptor.json", err}
		}
		return fd, nil
	}}}
}

func create(dir int, name string, data []byte, mode uint32) error {
	fd, err := unix.Openat(dir, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, mode)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return writeAll(fd, data)
}

func writeAll(fd int, data []byte) error {
	for len(data) > 0 {
		n, err := unix.Write(fd, data)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		data = data[n:]
	}
	return nil
}

const (
	resolvConf   = "/etc/resolv.conf"
	policyHelper = "/usr/sbin/policy-rc.d"
)

// A lentFile is a file that raptor puts into the layer for as long as programs
// run. It is no mount: a program that deletes or replaces it, as package
// scripts do, must not be told that it is busy, and what it puts there is the
// layer's own.
type lentFile struct {
	path    string // without links
	content []byte
	id      inode // as seen in the sandbox
	ino     uint64
	ctime   unix.Timespec
}

// provideResolvConf lets names be resolved as on the host.
func (a *agent) provideResolvConf() error {
	if a.ResolvConf == nil {
		return nil
	}
	real, err := resolve(resolvConf)
	if err != nil {
		return nil // a loop of links resolves no names
	}
	if strings.HasPrefix(real, "/run/") {
		return a.behindLink(real)
	}
	var st unix.Stat_t
	if unix.Stat("/etc", &st) != nil {
		return nil // nothing here resolves names
	}
	if a.State && a.statUpper(real[1:], &st) == nil {
		return nil // the container has made its own
	}
	return a.lendFile(real, a.ResolvConf, 0o644)
}

// behindLink fills in the resolv.conf of a layer that keeps it below the
// temporary /run.
func (a *agent) behindLink(real string) error {
	for i := len("/run/"); i < len(real); i++ {
		if real[i] == '/' {
			if err := unix.Mkdir(real[:i], 0o755); err != nil && err != unix.EEXIST {
				return &opError{"mkdir", real[:i], err}
			}
		}
	}
	return create(unix.AT_FDCWD, real, a.ResolvConf, 0o644)
}

// providePolicy tells package scripts to start no services, unless the layer
// has its own mind about it.
func (a *agent) providePolicy() error {
	var st unix.Stat_t
	if unix.Lstat(policyHelper, &st) == nil || unix.Stat("/usr/sbin", &st) != nil {
		return nil
	}
	real, err := resolve(policyHelper)
	if err != nil {
		return nil
	}
	return a.lendFile(real, []byte("#!/bin/sh\nexit 101\n"), 0o755)
}

// lendFile puts content at a path without links. What the layers below have
// there shows again when it goes.
//
// A hostile layer's link must not have us write elsewhere, to the kernel's files
// below /proc for instance: it would be with all our rights.
func (a *agent) lendFile(path string, content []byte, mode uint32) error {
	for _, own := range []string{"/proc/", "/sys/", "/dev/", "/run/"} {
		if strings.HasPrefix(path, own) {
			return nil
		}
	}
	if err := a.parents(path); err != nil {
		return err
	}
	a.noteCopied(path)
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, mode)
	if err != nil {
		return nil // a directory, or something stranger: the layer's own mind, too
	}
	defer unix.Close(fd)
	var st, above unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return err
	}
	if err := unix.Stat(path[:strings.LastIndexByte(path, '/')+1], &above); err != nil || above.Dev != a.device {
		return err
	}
	a.lentFiles = append(a.lentFiles, lentFile{path: path, content: content, id: inode{st.Dev, st.Ino}})
	return writeAll(fd, content)
}

// unchanged tells whether a file is still as it was lent. A resolv.conf that
// was put away and back, or touched, is; a policy-rc.d that a program has
// written is the layer's, whatever it says.
func (l *lentFile) unchanged(dir int, name string, st *unix.Stat_t) bool {
	if st.Ctim == l.ctime {
		return true
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size != int64(len(l.content)) || strings.HasSuffix(l.path, policyHelper) {
		return false
	}
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	buf := make([]byte, len(l.content))
	n, err := unix.Read(fd, buf)
	return err == nil && string(buf[:n]) == string(l.content)
}
