// Package usertest runs parts of tests as an ordinary user, who has subordinate
// ids: for tests only, which root runs.
package usertest

import (
	"context"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// name is the user's, who is made where there is none, and stays.
const name = "raptor-test"

// A User is an ordinary user with a directory of their own, which goes at the
// end of the test with all that is in it.
type User struct {
	Name     string
	UID, GID int
	Dir      string
}

// New makes the user for a test. Without the programs that it takes the test is
// skipped.
func New(t testing.TB) *User {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to become an ordinary user")
	}
	for _, program := range []string{"useradd", "newuidmap", "newgidmap", "nsenter"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("needs %s", program)
		}
	}
	if _, err := user.Lookup(name); err != nil {
		if out, err := exec.Command("useradd", "--create-home", "--add-subids-for-system", name).CombinedOutput(); err != nil {
			t.Fatalf("useradd: %v: %s", err, out)
		}
	}
	found, err := user.Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	u := &User{Name: name}
	u.UID, _ = strconv.Atoi(found.Uid)
	u.GID, _ = strconv.Atoi(found.Gid)
	if u.Dir, err = os.MkdirTemp("", "raptor-user-"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(u.Dir) })
	for _, dir := range []string{"", "home", "tmp"} {
		dir = filepath.Join(u.Dir, dir)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		u.Give(t, dir)
	}
	return u
}

// Path is a path in the user's directory.
func (u *User) Path(elem ...string) string {
	return filepath.Join(append([]string{u.Dir}, elem...)...)
}

// Give makes the user the owner of a file or of a directory and all below it.
func (u *User) Give(t testing.TB, path string) {
	t.Helper()
	err := filepath.WalkDir(path, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, u.UID, u.GID)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Copy copies a file, or a directory, to a path in the user's directory, which it
// returns.
func (u *User) Copy(t testing.TB, from string, to ...string) string {
	t.Helper()
	dest := u.Path(to...)
	info, err := os.Stat(from)
	if err != nil {
		t.Fatal(err)
	}
	if info.IsDir() {
		err = os.CopyFS(dest, os.DirFS(from))
	} else {
		err = copyFile(from, dest, info.Mode())
	}
	if err != nil {
		t.Fatal(err)
	}
	u.Give(t, dest)
	return dest
}

func copyFile(from, to string, mode os.FileMode) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		out.Close()
		return err
	}
	return out.Close()
}

// Command is a program that the user runs in a directory of theirs, with little
// but the given variables in its environment. It is killed when ctx ends.
func (u *User) Command(ctx context.Context, dir string, env []string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir = dir
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + u.Path("home"), "TMPDIR=" + u.Path("tmp"), "USER=" + u.Name}, env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(u.UID), Gid: uint32(u.GID)}}
	cmd.WaitDelay = 10 * time.Second
	return cmd
}
