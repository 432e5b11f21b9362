package main

import (
	"slices"

	"golang.org/x/sys/unix"

	"raptor-make/sandbox/internal/mounts"
	"raptor-make/sandbox/internal/wire"
)

// openRoot opens the directories that the root is made of.
func (a *agent) openRoot() (err error) {
	attr := unix.MOUNT_ATTR_NODEV
	if a.without(wire.NoDevices) {
		attr = 0
	}
	if a.overlay, err = mounts.Root(a.Spec, attr); err == nil {
		a.upper = a.overlay.Upper
	}
	return err
}

// mountRoot mounts the overlay, to become the root, over the staging area, whose
// descriptor does not mind. Raptor has made it where it could.
func (a *agent) mountRoot() (err error) {
	if a.merged < 0 {
		if a.merged, err = mountOverlay(a.overlay); err != nil {
			return err
		}
	}
	return moveTo(a.merged, stagingDir)
}

// mountOverlay makes the mount of an overlay, on any kernel. It changes the working
// directory.
func mountOverlay(o *mounts.Overlay) (int, error) {
	fd, err := o.Mount()
	if errno(err) == int(unix.EINVAL) { // as from a kernel that is older
		if fd, err := o.MountOver("/proc"); err == nil {
			return fd, nil
		}
	}
	return fd, err
}

// pivot makes the overlay the root. The old root stays the working directory until
// it is let go: it is mounted over the new one.
func (a *agent) pivot() error {
	defer unix.Close(a.merged)
	// As in pivot_root(2): the new root and the place for the old are one.
	old, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(old)
	if err := unix.Fchdir(a.merged); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return err
	}
	return unix.Fchdir(old)
}

// letGo unmounts the old root, with all that is below it, the staging area too. The
// kernel takes what is mounted over a directory for the directory, as may be the
// case with a host's root; and it says EINVAL of what is no longer mounted, but also
// of what is not ours to unmount. So it is tried until it fails, and then looked at
// whether anything is left.
func (a *agent) letGo() error {
	defer unix.Close(a.staging)
	if a.without(wire.Pivot) {
		return unix.Chdir("/")
	}
	for {
		err := unix.Unmount(".", unix.MNT_DETACH)
		if err == unix.EINVAL {
			break
		}
		if err != nil {
			return err
		}
	}
	if err := unix.Chdir("/"); err != nil {
		return err
	}
	root, err := mountID("/")
	if err != nil {
		return err
	}
	above, err := mountID("/..") // the root itself, or what is mounted over it
	if err == nil && above != root {
		err = unix.EBUSY
	}
	return err
}

func mountID(path string) (uint64, error) {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_MNT_ID, &st)
	return st.Mnt_id, err
}

// cloneRoot keeps a view of the overlay alone, for files to be written to the
// layer itself, wherever something is mounted later. Where no instruction writes
// any there is none: a view costs the end of a sandbox one more wait for all
// processors.
func (a *agent) cloneRoot() error {
	var st unix.Stat_t
	if err := unix.Stat("/", &st); err != nil {
		return err
	}
	a.bare, a.device = -1, st.Dev
	if !slices.ContainsFunc(a.Actions, func(action wire.Action) bool { return action.Kind != wire.Run }) {
		return nil
	}
	var err error
	a.bare, err = unix.OpenTree(unix.AT_FDCWD, "/", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	return err
}
