// Package boottest boots images in an emulator, for tests only: no program may
// import it. What it knows of an image is that it talks on the first serial
// line, and asks for a login there in the end.
//
// A machine is described, booted, talked to and switched off:
//
//	system := boottest.Machine{Image: "disk.img", UEFI: true}.Boot(t)
//	system.Login("root", "raptor")
//	kernel := system.Run("uname -r")
//	system.PowerOff()
//
// Everything is emulated in software, as where tests run there may be no
// hardware for it, or some that hangs. What goes wrong fails the test and shows
// the end of what the machine said.
package boottest

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A Machine is what an image is booted on. It is not changed by booting, nor is
// the image.
type Machine struct {
	Image  string
	Format string // of a disk, as QEMU names it: "raw" if empty
	CD     bool   // the image is in a CD drive; a disk otherwise
	UEFI   bool   // the firmware; BIOS otherwise
	Memory int    // MiB: 1024 if 0
	CPUs   int    // 2 if 0

	// Deadline is how long anything that is waited for may take: 5 minutes if
	// 0, and never past the test's own deadline.
	Deadline time.Duration
}

// String names the machine, for the names of tests.
func (m Machine) String() string {
	name := "BIOS disk"
	if m.UEFI {
		name = "UEFI disk"
	}
	if m.CD {
		name = strings.TrimSuffix(name, "disk") + "CD"
	}
	return name
}

const (
	emulator = "qemu-system-x86_64"

	// Firmware resets a machine that it can't boot, and a kernel that panics
	// stops: the first is made to end the emulator, and the second the wait.
	panicked = "Kernel panic - not syncing"
)

// firmware holds the places of UEFI firmware and of what it remembers.
var firmware = [][2]string{
	{"/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"},
	{"/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"},
	{"/usr/share/edk2/x64/OVMF_CODE.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd"},
}

// A System is a machine that runs. It is for one goroutine, and ends with its
// test at the latest.
type System struct {
	t       testing.TB
	machine Machine
	cmd     *exec.Cmd
	input   io.WriteCloser
	started time.Time
	gone    chan struct{} // closed when the emulator has ended

	mu    sync.Mutex
	said  []byte        // on the serial line, so far
	heard chan struct{} // closed and replaced when said grows

	read     int // how much of said was waited for
	commands int
}

// Boot starts the machine. A test on a host without the emulator is skipped.
func (m Machine) Boot(t testing.TB) *System {
	t.Helper()
	if _, err := exec.LookPath(emulator); err != nil {
		t.Skipf("needs %s, to boot %s", emulator, m)
	}
	s := &System{t: t, machine: m, gone: make(chan struct{}), heard: make(chan struct{})}
	s.cmd = exec.Command(emulator, m.arguments(t)...)
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	s.cmd.Stdout = serial{s}
	s.cmd.Stderr = s.cmd.Stdout
	input, err := s.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	s.input = input
	started := make(chan error)
	go func() {
		// The death of the thread that started it would end the emulator.
		runtime.LockOSThread()
		defer close(s.gone)
		err := s.cmd.Start()
		started <- err
		if err == nil {
			s.cmd.Wait() // how it ended is told by what it said
		}
	}()
	s.started = time.Now()
	if err := <-started; err != nil {
		t.Fatalf("start %s: %v", emulator, err)
	}
	t.Cleanup(func() {
		s.cmd.Process.Kill()
		<-s.gone
	})
	return s
}

// arguments of the emulator. What it leaves out, such as a network card, is
// what firmware and kernel would spend their time on.
func (m Machine) arguments(t testing.TB) []string {
	t.Helper()
	memory, cpus := cmp.Or(m.Memory, 1024), cmp.Or(m.CPUs, 2)
	// With the room that QEMU takes for translated code by default, its
	// forgetting of code whose memory is used anew takes minutes where an
	// initrd is thrown away: a live system's login came after 160 seconds of
	// processor time, and after 61 with this much room. Half of it is too little.
	args := []string{
		"-accel", "tcg,thread=multi,tb-size=128", "-cpu", "max", "-smp", strconv.Itoa(cpus), "-m", strconv.Itoa(memory),
		"-nodefaults", "-no-user-config", "-display", "none", "-vga", "std", "-no-reboot",
		"-chardev", "stdio,id=serial,signal=off", "-serial", "chardev:serial",
		"-object", "rng-random,id=rng,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=rng",
	}
	if m.UEFI {
		args = append(args, uefi(t)...)
	}
	// In a list of options, a comma is doubled.
	file := strings.ReplaceAll(m.Image, ",", ",,")
	if m.CD {
		return append(args, "-drive", "if=none,id=image,media=cdrom,readonly=on,format=raw,file="+file,
			"-device", "virtio-scsi-pci", "-device", "scsi-cd,drive=image,bootindex=0")
	}
	format := m.Format
	if format == "" {
		format = "raw"
	}
	return append(args, "-drive", "if=none,id=image,snapshot=on,format="+format+",file="+file,
		"-device", "virtio-blk-pci,drive=image,bootindex=0")
}

// uefi returns the options for firmware with a memory of its own.
func uefi(t testing.TB) []string {
	t.Helper()
	for _, f := range firmware {
		memory, err := os.ReadFile(f[1])
		if err != nil {
			continue
		}
		file := filepath.Join(t.TempDir(), "variables")
		if err := os.WriteFile(file, memory, 0o600); err != nil {
			t.Fatal(err)
		}
		return []string{
			"-drive", "if=pflash,unit=0,format=raw,readonly=on,file=" + f[0],
			"-drive", "if=pflash,unit=1,format=raw,file=" + strings.ReplaceAll(file, ",", ",,"),
		}
	}
	t.Skip("needs UEFI firmware, the package ovmf")
	return nil
}

// serial is the receiving end of the machine's serial line.
type serial struct{ *System }

func (s serial) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.said = append(s.said, p...)
	close(s.heard)
	s.heard = make(chan struct{})
	return len(p), nil
}

// Wait waits until the machine says text, and returns what it said up to and
// with it since the last wait.
func (s *System) Wait(text string) string {
	s.t.Helper()
	heard, ok := s.hear(text, s.deadline())
	if !ok {
		s.fail("the machine did not say %q in time", text)
	}
	return heard
}

// hear is Wait for a time, after which it returns false.
func (s *System) hear(text string, limit time.Duration) (string, bool) {
	s.t.Helper()
	timeout := time.NewTimer(limit)
	defer timeout.Stop()
	for {
		s.mu.Lock()
		unread, more := s.said[s.read:], s.heard
		s.mu.Unlock()
		if at := bytes.Index(unread, []byte(text)); at >= 0 {
			end := at + len(text)
			s.read += end
			return string(unread[:end]), true
		}
		if _, why, ok := bytes.Cut(unread, []byte(panicked)); ok && bytes.Contains(why, []byte("\n")) {
			s.fail("the kernel panicked before it said %q", text)
		}
		select {
		case <-more:
			continue
		default:
		}
		select {
		case <-more:
		case <-timeout.C:
			return "", false
		case <-s.gone:
			// Nothing can come any more; what came last is looked at above.
			select {
			case <-more:
			default:
				s.fail("the machine stopped before it said %q", text)
			}
		}
	}
}

// deadline is how long the next thing may take. It leaves some of the test's
// time for telling what went wrong.
func (s *System) deadline() time.Duration {
	limit := s.machine.Deadline
	if limit == 0 {
		limit = 5 * time.Minute
	}
	if t, ok := s.t.(interface{ Deadline() (time.Time, bool) }); ok {
		if end, ok := t.Deadline(); ok {
			limit = min(limit, time.Until(end)-10*time.Second)
		}
	}
	return limit
}

func (s *System) fail(format string, args ...any) {
	s.t.Helper()
	s.t.Fatalf("%s, after %v: %s; its last words:\n%s", s.machine, s.elapsed(), fmt.Sprintf(format, args...), s.last())
}

func (s *System) elapsed() time.Duration { return time.Since(s.started).Round(100 * time.Millisecond) }

// last is the end of what was said.
func (s *System) last() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return readable(s.said[max(0, len(s.said)-4000):])
}

// control matches what moves the cursor, clears the screen and sets colours.
var control = regexp.MustCompile("\x1b(\\[[0-9;?=]*[A-Za-z]|[()].|[=>c78])|[\r\x00]")

func readable(said []byte) string { return string(control.ReplaceAll(said, nil)) }

// Login waits for the login prompt, logs in, and gets a shell that Run can use.
func (s *System) Login(user, password string) {
	s.t.Helper()
	s.Wait("login: ")
	s.t.Logf("%s: login prompt after %v, %v of processor time", s.machine, s.elapsed(), s.used())
	s.send(user)
	s.Wait("assword: ")
	s.send(password)
	// Login throws away what it is sent too early, so the line is sent again
	// until it is carried out. What it prints is not the text that is echoed. If
	// some of it was lost, the shell may wait for the end of a string: then what it
	// has is given up first.
	ready := `stty -echo -onlcr; dmesg -n 1 2>/dev/null; printf '%s-%s\n' shell ready; exec env PS1= TERM=dumb sh`
	for deadline := time.Now().Add(s.deadline()); ; {
		if strings.HasSuffix(s.last(), "\n> ") {
			io.WriteString(s.input, "\x03")
		}
		s.send(ready)
		if _, ok := s.hear("shell-ready\n", min(3*time.Second, time.Until(deadline))); ok {
			return
		}
		if time.Now().After(deadline) {
			s.fail("%s did not get a shell in time", user)
		}
	}
}

// Run runs a command line of the shell on the machine and returns what it
// prints. One that fails, fails the test.
func (s *System) Run(command string) string {
	s.t.Helper()
	s.commands++
	begin, end := fmt.Sprintf("begin-%d\n", s.commands), fmt.Sprintf("\nend-%d ", s.commands)
	s.send(fmt.Sprintf(`printf '%%s-%%d\n' begin %d; { %s
} 2>&1; printf '\n%%s-%%d %%d.\n' end %d $?`, s.commands, command, s.commands))
	s.Wait(begin)
	output := strings.TrimSuffix(s.Wait(end), end)
	status := strings.TrimSuffix(s.Wait(".\n"), ".\n")
	if status != "0" {
		s.t.Fatalf("%s: %s: status %s\n%s", s.machine, command, status, readable([]byte(output)))
	}
	return strings.TrimSuffix(readable([]byte(output)), "\n")
}

// Logout ends the shell. The machine asks for a login again.
func (s *System) Logout() {
	s.t.Helper()
	s.send("exit")
}

// PowerOff switches the machine off by its power button's way, from the shell,
// and waits until it is off.
func (s *System) PowerOff() {
	s.t.Helper()
	s.send("poweroff")
	timeout := time.NewTimer(s.deadline())
	defer timeout.Stop()
	select {
	case <-s.gone:
		s.t.Logf("%s: off after %v", s.machine, s.elapsed())
	case <-timeout.C:
		s.fail("the machine did not switch itself off in time")
	}
}

func (s *System) send(line string) {
	s.t.Helper()
	if _, err := io.WriteString(s.input, line+"\n"); err != nil {
		s.fail("the machine does not listen: %v", err)
	}
}

// used is the processor time of the emulator so far, which says more than the
// clock on a host that is busy with other things.
func (s *System) used() time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	// The name in parentheses may hold anything; behind it, fields 14 and 15
	// are times in hundredths of a second.
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 13 {
		return 0
	}
	var ticks int
	for _, f := range fields[11:13] {
		n, _ := strconv.Atoi(f)
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}
