package filter

import (
	"encoding/binary"
	"maps"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// call is struct seccomp_data.
type call struct {
	arch uint32
	nr   uint32
	args [6]uint64
}

func (c call) word(off uint32) uint32 {
	buf := binary.NativeEndian.AppendUint32(nil, c.nr)
	buf = binary.NativeEndian.AppendUint32(buf, c.arch)
	buf = append(buf, make([]byte, 8)...)
	for _, a := range c.args {
		buf = binary.NativeEndian.AppendUint64(buf, a)
	}
	return binary.NativeEndian.Uint32(buf[off:])
}

// run runs a program as the kernel does, and counts its steps.
func run(t *testing.T, program []byte, c call) (verdict uint32, steps int) {
	t.Helper()
	var a uint32
	for pc := 0; ; pc++ {
		i := program[8*pc:]
		op, jt, jf, k := binary.NativeEndian.Uint16(i), i[2], i[3], binary.NativeEndian.Uint32(i[4:])
		steps++
		jump := func(cond bool) {
			if cond {
				pc += int(jt)
			} else {
				pc += int(jf)
			}
		}
		switch op {
		case ldAbs:
			a = c.word(k)
		case and:
			a &= k
		case ja:
			pc += int(k)
		case jeq:
			jump(a == k)
		case jge:
			jump(a >= k)
		case ret:
			return k, steps
		default:
			t.Fatalf("instruction %#x", op)
		}
	}
}

func none(int) bool { return false }

func number(t *testing.T, calls, name string) uint32 {
	for n, c := range parse(calls) {
		if c == name {
			return n
		}
	}
	t.Fatalf("no call %s", name)
	return 0
}

func TestDefault(t *testing.T) {
	const allowed = unix.SECCOMP_RET_ALLOW
	fails := func(e unix.Errno) uint32 { return unix.SECCOMP_RET_ERRNO | uint32(e) }
	amd64, err := Default.Assemble("amd64", none)
	if err != nil {
		t.Fatal(err)
	}
	arm64, err := Default.Assemble("arm64", none)
	if err != nil {
		t.Fatal(err)
	}
	admin, _ := Default.Assemble("amd64", func(c int) bool { return c == unix.CAP_SYS_ADMIN })
	machines := map[string]struct {
		program []byte
		audit   uint32
		calls   string
	}{
		"x86-64": {amd64, unix.AUDIT_ARCH_X86_64, amd64Calls}, "i386": {amd64, unix.AUDIT_ARCH_I386, i386Calls},
		"arm64": {arm64, unix.AUDIT_ARCH_AARCH64, arm64Calls}, "arm": {arm64, unix.AUDIT_ARCH_ARM, armCalls},
		"admin": {admin, unix.AUDIT_ARCH_X86_64, amd64Calls},
	}
	const high = 0xdead << 32
	for _, c := range []struct {
		on, call string
		args     [6]uint64
		want     uint32
	}{
		{"x86-64 i386 arm64 arm", "read", [6]uint64{}, allowed},
		{"x86-64 i386 arm64 arm", "execve", [6]uint64{}, allowed},
		{"x86-64 i386 arm64 arm", "openat2", [6]uint64{}, allowed},
		{"x86-64 i386", "modify_ldt", [6]uint64{}, allowed},
		{"arm", "cacheflush", [6]uint64{}, allowed},
		{"i386", "socketcall", [6]uint64{}, allowed},
		{"x86-64 i386 arm64 arm admin", "keyctl", [6]uint64{}, fails(unix.EPERM)},
		{"x86-64 i386 arm64 arm admin", "kexec_load", [6]uint64{}, fails(unix.EPERM)},
		{"x86-64 i386 arm64 arm admin", "io_uring_setup", [6]uint64{}, fails(unix.EPERM)},
		{"x86-64 i386 arm64 arm admin", "userfaultfd", [6]uint64{}, fails(unix.EPERM)},
		{"x86-64 i386 arm64 arm admin", "open_by_handle_at", [6]uint64{}, fails(unix.EPERM)},
		{"x86-64 i386 arm64 arm", "bpf", [6]uint64{}, fails(unix.EPERM)},
		{"x86-64 i386 arm64 arm", "mount", [6]uint64{}, fails(unix.EPERM)},
		{"x86-64 i386 arm64 arm", "unshare", [6]uint64{}, fails(unix.EPERM)},
		{"x86-64 i386 arm64 arm", "setns", [6]uint64{}, fails(unix.EPERM)},
		{"x86-64 i386 arm64 arm", "pivot_root", [6]uint64{}, fails(unix.EPERM)},
		{"x86-64 i386 arm64 arm", "chroot", [6]uint64{}, fails(unix.EPERM)},
		{"x86-64 i386 arm64 arm", "file_setattr", [6]uint64{}, fails(unix.ENOSYS)},
		{"admin", "mount", [6]uint64{}, allowed},
		{"admin", "clone3", [6]uint64{}, allowed},
		{"admin", "clone", [6]uint64{unix.CLONE_NEWUSER}, allowed},
		{"x86-64 i386 arm64 arm", "clone3", [6]uint64{}, fails(unix.ENOSYS)},
		{"x86-64 i386 arm64 arm", "clone", [6]uint64{unix.CLONE_VM | unix.CLONE_THREAD}, allowed},
		{"x86-64 i386 arm64 arm", "clone", [6]uint64{unix.CLONE_NEWUSER | uint64(unix.SIGCHLD)}, fails(unix.EPERM)},
		{"x86-64 arm64", "clone", [6]uint64{high | unix.CLONE_NEWNS}, fails(unix.EPERM)},
		{"x86-64 i386 arm64 arm", "ioctl", [6]uint64{0, unix.TCGETS}, allowed},
		{"x86-64 i386 arm64 arm admin", "ioctl", [6]uint64{0, tiocsti}, fails(unix.EPERM)},
		{"x86-64 arm64", "ioctl", [6]uint64{0, high | tiocsti}, fails(unix.EPERM)},
		{"x86-64 i386 arm64 arm", "ioctl", [6]uint64{0, tioclinux}, fails(unix.EPERM)},
		{"x86-64 i386 arm64 arm", "personality", [6]uint64{0x20008}, allowed},
		{"x86-64 i386 arm64 arm", "personality", [6]uint64{0x40000}, fails(unix.EPERM)},
		{"x86-64 i386 arm64 arm", "socket", [6]uint64{unix.AF_INET6}, allowed},
		{"x86-64 i386 arm64 arm", "socket", [6]uint64{unix.AF_VSOCK}, fails(unix.EAFNOSUPPORT)},
		{"x86-64 arm64", "socket", [6]uint64{high | unix.AF_ALG}, fails(unix.EAFNOSUPPORT)},
	} {
		for _, on := range strings.Fields(c.on) {
			m := machines[on]
			got, steps := run(t, m.program, call{m.audit, number(t, m.calls, c.call), c.args})
			if got != c.want {
				t.Errorf("%s on %s: %#x, want %#x", c.call, on, got, c.want)
			}
			if steps > 60 {
				t.Errorf("%s on %s takes %d steps", c.call, on, steps)
			}
		}
	}
	for _, c := range []call{
		{unix.AUDIT_ARCH_X86_64, 9999, [6]uint64{}},
		{unix.AUDIT_ARCH_X86_64, 1 << 30, [6]uint64{}},               // x32's read
		{unix.AUDIT_ARCH_X86_64, 1<<30 | 165, [6]uint64{}},           // x32's mount
		{unix.AUDIT_ARCH_X86_64, 0xffffffff, [6]uint64{}},            // what tracers set to skip a call
		{unix.AUDIT_ARCH_S390X, 1, [6]uint64{}},                      // another machine's
		{unix.AUDIT_ARCH_AARCH64, 63, [6]uint64{unix.CLONE_NEWUSER}}, // arm's read on a PC
	} {
		if got, _ := run(t, amd64, c); got != fails(unix.ENOSYS) {
			t.Errorf("%+v: %#x, want ENOSYS", c, got)
		}
	}
}

// TestEveryCall compares the program with the policy, number by number.
func TestEveryCall(t *testing.T) {
	allowed := map[string]bool{}
	for _, name := range strings.Fields(Default.Allow) {
		if allowed[name] {
			t.Errorf("%s is listed twice", name)
		}
		allowed[name] = true
	}
	known := map[string]bool{"uretprobe": true, "riscv_hwprobe": true, "getsid": true, "sync_file_range2": true}
	for goarch, archs := range architectures {
		program, err := Default.Assemble(goarch, none)
		if err != nil {
			t.Fatal(err)
		}
		for _, arch := range archs {
			calls := maps.Collect(parse(arch.calls))
			for _, name := range calls {
				known[name] = true
			}
			for n := range uint32(600) {
				name, exists := calls[n]
				if _, ruled := Default.Rules[name]; ruled {
					continue
				}
				got, _ := run(t, program, call{arch.audit, n, [6]uint64{}})
				if (got == unix.SECCOMP_RET_ALLOW) != allowed[name] || !exists && got != unix.SECCOMP_RET_ERRNO|uint32(unix.ENOSYS) {
					t.Errorf("%s: call %d, %q: %#x", goarch, n, name, got)
				}
			}
		}
	}
	for name := range allowed {
		if !known[name] {
			t.Errorf("no machine has a call %s", name)
		}
	}
}

func TestSize(t *testing.T) {
	program, err := Default.Assemble("amd64", none)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d instructions", len(program)/8)
	if _, err := Default.Assemble("vax", none); err == nil {
		t.Error("an unknown machine is not refused")
	}
}

// TestFarVerdicts has more numbers than conditional jumps reach over.
func TestFarVerdicts(t *testing.T) {
	kinds := [][]insn{{allow()}, {fails(unix.EPERM)}, {fails(unix.ENOSYS)}, {{op: ldAbs, k: offArgs}, {op: jeq, jt: 1, k: 7}, fails(unix.EINVAL), allow()}}
	for _, count := range []uint32{2, 3, 50, 150, 255, 256, 400, 1000} {
		var spans []span
		for n := range count {
			spans = append(spans, span{n, kinds[(n*n/3+n)%4]})
		}
		var program []byte
		for _, i := range append(append([]insn{{op: ldAbs, k: offNumber}}, tree(spans, 0)...), verdicts...) {
			program = binary.NativeEndian.AppendUint16(program, i.op)
			program = append(program, i.jt, i.jf)
			program = binary.NativeEndian.AppendUint32(program, i.k)
		}
		for n := range count {
			for _, arg := range []uint64{7, 8} {
				want := kinds[(n*n/3+n)%4][0].k
				if (n*n/3+n)%4 == 3 {
					want = map[uint64]uint32{7: allow().k, 8: fails(unix.EINVAL).k}[arg]
				}
				if got, _ := run(t, program, call{0, n, [6]uint64{arg}}); got != want {
					t.Fatalf("%d of %d: %#x, want %#x", n, count, got, want)
				}
			}
		}
	}
}

func BenchmarkAssemble(b *testing.B) {
	for b.Loop() {
		Default.Assemble("amd64", none)
	}
}
