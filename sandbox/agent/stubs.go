package main

import (
	"strings"

	"golang.org/x/sys/unix"
)

// A stub is a file or directory that was made in the layer just to have
// something to mount on. It goes again before the layer is sealed, unless an
// instruction has meanwhile asked for it.
type stub struct {
	path string
	id   inode
	dir  bool
	// copied are the directories above it, outermost first, that came into the
	// layer with it, as they were in the layers below.
	copied []copiedDir
}

type copiedDir struct {
	path string
	was  unix.Stat_t
}

// mountPoint makes sure that there is a directory or file to mount on.
func (a *agent) mountPoint(path string, dir bool) error {
	for at := 1; ; {
		end := strings.IndexByte(path[at:], '/')
		if end < 0 {
			return a.makeStub(path, dir)
		}
		if err := a.makeStub(path[:at+end], true); err != nil {
			return err
		}
		at += end + 1
	}
}

func (a *agent) makeStub(path string, dir bool) error {
	var st unix.Stat_t
	if unix.Stat(path, &st) == nil {
		return nil
	}
	s := stub{path: path, dir: dir}
	if a.Build {
		s.copied = a.notInUpper(path)
	}
	var err error
	if dir {
		err = unix.Mkdir(path, 0o755)
	} else {
		var fd int
		if fd, err = unix.Open(path, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o644); err == nil {
			unix.Close(fd)
		}
	}
	if err != nil {
		return &opError{"make mount point", path, err}
	}
	if err := unix.Lstat(path, &st); err != nil {
		return &opError{"stat", path, err}
	}
	s.id = inode{st.Dev, st.Ino}
	if a.bare != 0 { // what is made on top of another mount is not in the layer
		a.stubs = append(a.stubs, s)
	}
	return nil
}

// notInUpper lists the directories above path that the layer does not have of
// its own yet.
func (a *agent) notInUpper(path string) []copiedDir {
	var list []copiedDir
	for i := 1; i < len(path); i++ {
		if path[i] != '/' {
			continue
		}
		var st unix.Stat_t
		if unix.Fstatat(a.upper, path[1:i], &st, unix.AT_SYMLINK_NOFOLLOW) == nil {
			continue
		}
		if unix.Lstat(path[:i], &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
			list = append(list, copiedDir{path[:i], st})
		}
	}
	return list
}

// claim says that an instruction asks for what is only a stub so far: from now
// on it is part of the layer.
func (a *agent) claim(st *unix.Stat_t) bool {
	for i, s := range a.stubs {
		if s.id == (inode{st.Dev, st.Ino}) {
			a.stubs = append(a.stubs[:i:i], a.stubs[i+1:]...)
			return true
		}
	}
	return false
}

// removeStubs takes the stubs out of the layer. Everything that was mounted on
// them is gone by now.
func (a *agent) removeStubs() *opError {
	for i := len(a.stubs) - 1; i >= 0; i-- {
		s := a.stubs[i]
		var st unix.Stat_t
		if unix.Fstatat(a.bare, s.path[1:], &st, unix.AT_SYMLINK_NOFOLLOW) != nil || s.id != (inode{st.Dev, st.Ino}) {
			continue
		}
		flags := 0
		if s.dir {
			flags = unix.AT_REMOVEDIR
		} else if st.Size > 0 {
			continue // somebody has written to it
		}
		if err := unix.Unlinkat(a.bare, s.path[1:], flags); err != nil && err != unix.ENOTEMPTY {
			return &opError{"remove mount point", s.path, err}
		}
	}
	return nil
}

// forgetCopied removes directories from the layer that came into it just
// because a stub was made below them.
func (a *agent) forgetCopied() {
	for i := len(a.stubs) - 1; i >= 0; i-- {
		copied := a.stubs[i].copied
		for j := len(copied) - 1; j >= 0; j-- {
			var st unix.Stat_t
			was := &copied[j].was
			path := copied[j].path[1:]
			if unix.Fstatat(a.upper, path, &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
				continue
			}
			if st.Mode == was.Mode && st.Uid == was.Uid && st.Gid == was.Gid && !a.isOpaque(path) {
				unix.Unlinkat(a.upper, path, unix.AT_REMOVEDIR) // not if there is anything in it
			}
		}
	}
}

const (
	resolvConf   = "/etc/resolv.conf"
	policyHelper = "/usr/sbin/policy-rc.d"
)

// provideResolvConf lets names be resolved as on the host, without the layer
// noticing.
func (a *agent) provideResolvConf() error {
	if a.ResolvConf == nil {
		return nil
	}
	var st unix.Stat_t
	err := unix.Stat(resolvConf, &st)
	if err == unix.ENOENT {
		if target, ok := readlink(resolvConf); ok {
			return a.behindLink(target)
		}
	}
	if unix.Stat("/etc", &st) != nil {
		return nil // nothing here resolves names
	}
	return a.lendFile(resolvConf, a.ResolvConf, 0o644)
}

// behindLink fills in the target of a dangling link, if that is below the
// temporary /run.
func (a *agent) behindLink(target string) error {
	switch {
	case strings.HasPrefix(target, "../run/"):
		target = target[2:]
	case strings.HasPrefix(target, "/run/"):
	default:
		return nil
	}
	if strings.Contains(target, "/../") {
		return nil
	}
	for i := len("/run/"); i < len(target); i++ {
		if target[i] == '/' {
			if err := unix.Mkdir(target[:i], 0o755); err != nil && err != unix.EEXIST {
				return &opError{"mkdir", target[:i], err}
			}
		}
	}
	return create(unix.AT_FDCWD, target, a.ResolvConf, 0o644)
}

// providePolicy tells package scripts to start no services, unless the layer
// has its own mind about it.
func (a *agent) providePolicy() error {
	var st unix.Stat_t
	if unix.Lstat(policyHelper, &st) == nil || unix.Stat("/usr/sbin", &st) != nil {
		return nil
	}
	return a.lendFile(policyHelper, []byte("#!/bin/sh\nexit 101\n"), 0o755)
}

// lendFile shows content at a path without writing it to the layer.
func (a *agent) lendFile(path string, content []byte, mode uint32) error {
	if err := a.mountPoint(path, false); err != nil {
		return err
	}
	attr := unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOSUID
	fs, err := fresh("tmpfs", attr, "mode=755")
	if err != nil {
		return err
	}
	defer unix.Close(fs)
	if err := create(fs, "file", content, mode); err != nil {
		return err
	}
	// A mount that is attached nowhere cannot be cloned in part: it is put on
	// /run for a moment, and taken away by its descriptor's last reference.
	if err := unix.MoveMount(fs, "", unix.AT_FDCWD, "/run", unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return err
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, "/run/file", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if uerr := unix.Unmount("/run", unix.MNT_DETACH); err == nil {
		err = uerr
	}
	if err != nil {
		return err
	}
	return a.attach(fd, path)
}

func readlink(path string) (string, bool) {
	buf := make([]byte, 4096)
	n, err := unix.Readlink(path, buf)
	if err != nil || n == len(buf) {
		return "", false
	}
	return string(buf[:n]), true
}
