package main

import (
	"os/exec"
	"strings"
	"testing"
)

// TestKeptAgent runs a container with the agent kept in /run, and where that
// cannot be: it has to run all the same.
func TestKeptAgent(t *testing.T) {
	w := project(t, t.TempDir(), "-- app.rapt --\nFROM tar://busybox.tar\nENTRYPOINT echo hello\n")
	script := `set -eu
run() {
	out=$("$0" run -q app) && test "$out" = hello || { echo "$1: it says $out"; exit 1; }
}
kept() { stat -c %i /run/raptor-make/raptor-agent-*/raptor-agent; }
made_anew() {
	new=$(kept)
	test "$new" != "$old" || { echo "$1: it is not made anew"; exit 1; }
	old=$new
}
mount -t tmpfs -o mode=755 x /run
run first; old=$(kept)
run again; test "$(kept)" = "$old" || { echo "it is made anew"; exit 1; }
rm -r /run/raptor-make; run removed; made_anew removed
rm /run/raptor-make/raptor-agent-*/raptor-agent; run 'half removed'; made_anew 'half removed'
chown 1 /run/raptor-make/raptor-agent-*/raptor-agent; run "another's"; made_anew "another's"
mount -o remount,noexec /run; run noexec; test "$(kept)" = "$old"; mount -o remount,exec /run
chmod 400 /run/raptor-make/raptor-agent-*/raptor-agent; run 'nobody may execute it'; test "$(kept)" = "$old"
rm -r /run/raptor-make
chmod 1777 /run; run 'everybody may write to /run'; test ! -e /run/raptor-make/raptor-agent-*; chmod 755 /run
rm -rf /run/raptor-make; echo >/run/raptor-make; run 'a file'; rm /run/raptor-make
mount -o remount,ro /run; run 'a read-only /run'
umount /run; mount -t tmpfs -o size=1m,mode=755 x /run; run 'a full /run'; test -z "$(ls -A /run/raptor-make | grep -v empty)"
`
	if out, err := exec.Command("unshare", "--mount", "sh", "-c", "cd "+w.dir+"; "+script, program(t, "raptor")).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, strings.TrimSpace(string(out)))
	}
}
