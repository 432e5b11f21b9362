package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"raptor-make/internal/boottest"
)

// testBoots boots the images under both firmwares, to a login over the serial
// console. The long form boots the ISO from a USB stick, too.
func testBoots(t *testing.T) {
	iso, disk := filepath.Join(demo, "live.iso"), filepath.Join(demo, "disk.img")
	machines := []boottest.Machine{
		{Image: iso, CD: true}, {Image: iso, CD: true, UEFI: true},
		{Image: disk}, {Image: disk, UEFI: true},
	}
	if os.Getenv("RAPTOR_SOAK") != "" {
		machines = append(machines, boottest.Machine{Image: iso}, boottest.Machine{Image: iso, UEFI: true})
	}
	for _, m := range machines {
		t.Run(filepath.Base(m.Image)+" "+m.String(), func(t *testing.T) {
			t.Parallel() // as many as there are CPUs
			boot(t, m, m.Image == iso)
		})
	}
}

func boot(t *testing.T, m boottest.Machine, live bool) {
	m.Deadline = 15 * time.Minute // on a machine that has much else to do
	s := m.Boot(t)
	s.Login("root", "raptor")
	for _, c := range []struct {
		command, want string
		live, disk    bool
	}{
		{"id -un", "root", true, true},
		{"cat /proc/1/comm", "systemd", true, true},
		{"test -d /sys/firmware/efi && echo UEFI || echo BIOS", map[bool]string{true: "UEFI", false: "BIOS"}[m.UEFI], true, true},
		{"findmnt -n -o FSTYPE /", "overlay", true, false},
		{"findmnt -n -o FSTYPE /", "ext4", false, true},
		{"dpkg-query -W -f '${db:Status-Status}\\n' openssh-server", "installed", true, true},
		{"i=0; until [ -e /etc/ssh/ssh_host_ed25519_key ] || [ $((i += 1)) = 300 ]; do sleep 1; done; test -s /etc/machine-id && ls /etc/ssh/ssh_host_ed25519_key", "/etc/ssh/ssh_host_ed25519_key", true, true},
	} {
		if live && !c.live || !live && !c.disk {
			continue
		}
		if got := strings.TrimSpace(s.Run(c.command)); got != c.want {
			t.Errorf("%s: %q, want %q", c.command, got, c.want)
		}
	}
	s.PowerOff()
}
