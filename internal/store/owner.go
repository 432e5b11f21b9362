package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"strconv"
	"strings"
	"syscall"
)

// CheckOwner makes an error of a store that belongs to another user, or to this
// one with other subordinate ids: owners of files in layers would not be whom
// the layers mean. A store that does not exist is anybody's.
func (s *Store) CheckOwner() error {
	info, err := os.Stat(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open store: %w", err)
	}
	if owner := int(info.Sys().(*syscall.Stat_t).Uid); owner != os.Geteuid() {
		return fmt.Errorf("the layers in %s belong to %s: made by one user, their files would have wrong owners for another.\n"+
			"Build as that user, or name a store of your own in Raptor.toml ([raptor] store)", s.dir, userName(owner))
	}
	ours, err := ids()
	if err != nil {
		return err
	}
	theirs, err := os.ReadFile(s.private("ids"))
	if err == nil && string(theirs) != ours {
		return fmt.Errorf("the layers in %s were made with other ids of users (%s) than there are now (%s): their files would have wrong owners.\n"+
			"Give the ids back (/etc/subuid, /etc/subgid), or name another store in Raptor.toml ([raptor] store)", s.dir, oneLine(string(theirs)), oneLine(ours))
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("open store: %w", err)
	}
	return nil
}

// signOwner writes down who is who in the store's layers.
func (s *Store) signOwner() error {
	if _, err := os.Stat(s.private("ids")); err == nil {
		return nil
	}
	text, err := ids()
	if err != nil {
		return err
	}
	return s.writeFile(context.Background(), s.private("ids"), []byte(text))
}

// ids are the user namespace's ids and what they are outside, as
// user_namespaces(7) has it: inside, outside, count.
func ids() (string, error) {
	var lines strings.Builder
	for _, kind := range []string{"uid", "gid"} {
		text, err := os.ReadFile("/proc/self/" + kind + "_map")
		if err != nil {
			return "", fmt.Errorf("find out who is who: %w", err)
		}
		for line := range strings.Lines(string(text)) {
			lines.WriteString(kind + " " + strings.Join(strings.Fields(line), " ") + "\n")
		}
	}
	return lines.String(), nil
}

func oneLine(text string) string { return strings.ReplaceAll(strings.TrimSpace(text), "\n", ", ") }

// nobody is whom the kernel shows for all who have no id here.
const nobody = 65534

func userName(uid int) string {
	if uid == nobody {
		return "root, or another user that there is not here"
	}
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return u.Username
	}
	return "user " + strconv.Itoa(uid)
}
