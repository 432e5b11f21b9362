package cli

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"raptor-make/recipes"
	"raptor-make/sandbox"
)

// git is the directory that holds the files of a link to a git repository at
// the commit that the lock file pins, or that its revision stands for now. A
// commit is fetched once, and kept in the cache:
//
//	git/COMMIT/   its files, without the repository
func (l *linker) git(ctx context.Context, p *recipes.Project, link *recipes.Link) (string, error) {
	url, rev := link.Git.URL.Text, link.Git.Rev.Text
	commit, pinned := l.lock.Lookup(recipes.PinGit, url, rev)
	if l.inv.make.update {
		pinned = false
	}
	if !pinned && isFullCommit(rev) {
		commit, pinned = rev, true
	}
	if pinned && !isFullCommit(commit) {
		return "", fmt.Errorf("the lock file pins %s of %s to %q, which is no commit", rev, url, commit)
	}
	if pinned {
		dir := filepath.Join(l.cache, "git", commit)
		if _, err := os.Stat(dir); err == nil {
			return dir, nil
		}
	}
	if l.inv.make.offline {
		return "", fmt.Errorf("fetch %s: it is not in the cache, and --offline is given", url)
	}
	want := rev
	if pinned {
		want = commit
	}
	from := url
	if !strings.Contains(url, ":") { // a path, neither a URL nor host:path
		from = p.Abs(url)
	}
	commit, err := l.fetch(ctx, from, want)
	if err != nil {
		return "", err
	}
	l.lock.Record(recipes.PinGit, url, rev, commit)
	return filepath.Join(l.cache, "git", commit), nil
}

// fetch brings a revision into the cache and returns its commit.
func (l *linker) fetch(ctx context.Context, url, rev string) (string, error) {
	parent := filepath.Join(l.cache, "git")
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return "", err
	}
	temp, err := os.MkdirTemp(parent, ".fetch-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(temp)
	for _, args := range [][]string{
		{"init", "-q"},
		{"fetch", "-q", "--depth=1", "--", url, rev},
		{"-c", "advice.detachedHead=false", "checkout", "-q", "FETCH_HEAD"},
	} {
		if _, err := gitCommand(ctx, temp, args...); err != nil {
			return "", err
		}
	}
	out, err := gitCommand(ctx, temp, "rev-parse", "HEAD")
	if err != nil {
		return "", err
	}
	commit := strings.TrimSpace(out)
	if err := os.RemoveAll(filepath.Join(temp, ".git")); err != nil {
		return "", err
	}
	if err := os.Chmod(temp, 0o755); err != nil {
		return "", err
	}
	dir := filepath.Join(parent, commit)
	err = unix.Renameat2(unix.AT_FDCWD, temp, unix.AT_FDCWD, dir, unix.RENAME_NOREPLACE)
	if err != nil && err != unix.EEXIST { // another process was first: the same files
		return "", &os.LinkError{Op: "rename", Old: temp, New: dir, Err: err}
	}
	return commit, nil
}

func gitCommand(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Cancel = func() error { return killTree(cmd.Process.Pid) }
	cmd.WaitDelay = patience / 2
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_TERMINAL_PROMPT=0", "LC_ALL=C", "GIT_DIR=", "GIT_WORK_TREE=")
	cmd.Env = withoutEmpty(cmd.Env)
	sandbox.AsCaller(cmd)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		said := strings.TrimSpace(stderr.String())
		if said == "" {
			said = err.Error()
		}
		return "", fmt.Errorf("git %s: %s", args[0], said)
	}
	return string(out), nil
}

// killTree kills a process and all below it: git's helpers, which wait for the
// network, do not end with git. They are no group of their own, which could not
// ask the user for a password or to trust a host.
func killTree(pid int) error {
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, list := range lists {
		children, _ := os.ReadFile(list)
		for child := range strings.FieldsSeq(string(children)) {
			if n, err := strconv.Atoi(child); err == nil {
				killTree(n)
			}
		}
	}
	return syscall.Kill(pid, syscall.SIGKILL)
}

// withoutEmpty drops variables that are set to nothing, which git takes for
// paths.
func withoutEmpty(env []string) []string {
	last := map[string]bool{}
	var kept []string
	for i := len(env) - 1; i >= 0; i-- {
		key, value, _ := strings.Cut(env[i], "=")
		if !last[key] && (value != "" || !strings.HasPrefix(key, "GIT_")) {
			kept = append(kept, env[i])
		}
		last[key] = true
	}
	return kept
}

// isFullCommit tells whether a revision is the whole name of a commit, in
// either of git's two object formats.
func isFullCommit(rev string) bool {
	return (len(rev) == 40 || len(rev) == 64) && strings.Trim(rev, "0123456789abcdef") == ""
}
