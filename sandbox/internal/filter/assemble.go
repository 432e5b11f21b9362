// Package filter assembles a policy of system calls into the program that
// seccomp(2) takes.
//
// It is our own because the libraries do less: elastic/go-seccomp-bpf knows one
// architecture a program, so that 32-bit calls of a 64-bit kernel would be
// refused all or filtered not at all, and one errno a policy; libseccomp is C.
// And it makes decision trees, where they make lists: when a filter is
// installed, the kernel runs it once for each number to learn which are always
// allowed, so that a list costs half a millisecond each time a program is
// confined. Package sandbox keeps what it makes, and makes it anew only in a test.
package filter

import (
	"encoding/binary"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// An architecture is one way in which programs call the kernel.
type architecture struct {
	audit uint32 // AUDIT_ARCH_*
	calls string
}

// architectures lists those that a kernel has, by the name that Go has for it.
var architectures = map[string][]architecture{
	"amd64": {{unix.AUDIT_ARCH_X86_64, amd64Calls}, {unix.AUDIT_ARCH_I386, i386Calls}},
	"arm64": {{unix.AUDIT_ARCH_AARCH64, arm64Calls}, {unix.AUDIT_ARCH_ARM, armCalls}},
}

// Assemble makes the program of a policy for programs with some capabilities,
// as the kernel takes it: struct sock_filter, one after the other.
func (p *Policy) Assemble(goarch string, has func(capability int) bool) ([]byte, error) {
	code, allowed := []insn{{op: ldAbs, k: offArch}}, p.allowed(has)
	archs := architectures[goarch]
	if archs == nil {
		return nil, fmt.Errorf("no table of the system calls of %s", goarch)
	}
	for _, arch := range archs {
		section := p.section(arch, allowed, has(unix.CAP_SYS_ADMIN))
		code = append(code, insn{op: jeq, jf: 1, k: arch.audit}, insn{op: ja, k: 1}, insn{op: ja, k: uint32(len(section))})
		code = append(code, section...)
	}
	code = append(code, fails(unix.ENOSYS)) // an architecture that this machine does not have
	if len(code) > 4096 {
		return nil, fmt.Errorf("%d instructions are more than the kernel takes", len(code))
	}
	var buf []byte
	for _, i := range code {
		buf = binary.NativeEndian.AppendUint16(buf, i.op)
		buf = append(buf, i.jt, i.jf)
		buf = binary.NativeEndian.AppendUint32(buf, i.k)
	}
	return buf, nil
}

// An insn is one instruction of classic BPF.
type insn struct {
	op     uint16
	jt, jf uint8
	k      uint32
}

// armPrivate is where arm has calls of its own, out of the row.
const armPrivate = 0xf0000

const (
	ldAbs = 0x20 // the word of struct seccomp_data at k
	and   = 0x54
	ja    = 0x05
	jeq   = 0x15
	jge   = 0x35
	ret   = 0x06

	offNumber = 0
	offArch   = 4
	offArgs   = 16
)

func allow() insn             { return insn{op: ret, k: unix.SECCOMP_RET_ALLOW} }
func fails(e unix.Errno) insn { return insn{op: ret, k: unix.SECCOMP_RET_ERRNO | uint32(e)} }

// A span is all numbers from first up to the next span's.
type span struct {
	first uint32
	code  []insn // that decides about them
}

// allowed is the set of names that need no look at their arguments.
func (p *Policy) allowed(has func(int) bool) map[string]bool {
	set := make(map[string]bool, 512)
	for name := range strings.FieldsSeq(p.Allow) {
		set[name] = true
	}
	for c, names := range p.ByCap {
		if has(c) {
			for name := range strings.FieldsSeq(names) {
				set[name] = true
			}
		}
	}
	return set
}

func (p *Policy) section(arch architecture, allowed map[string]bool, admin bool) []insn {
	var youngest uint32
	for n, name := range parse(arch.calls) {
		if allowed[name] && n < armPrivate {
			youngest = n
		}
	}
	spans := []span{{0, nil}}
	add := func(first uint32, code []insn) {
		if n := len(spans); spans[n-1].first == first && n > 1 {
			spans = spans[:n-1]
		}
		if !slices.Equal(spans[len(spans)-1].code, code) {
			spans = append(spans, span{first, code})
		}
	}
	yes, no, unknown := []insn{allow()}, []insn{fails(unix.EPERM)}, []insn{fails(unix.ENOSYS)}
	next := uint32(0)
	for n, name := range parse(arch.calls) {
		if n > next {
			add(next, unknown)
		}
		next = n + 1
		rule, ruled := p.Rules[name]
		switch {
		case ruled && !(rule.Namespaces && admin):
			add(n, rule.assemble())
		case ruled || allowed[name]:
			add(n, yes)
		case n > youngest:
			add(n, unknown)
		default:
			add(n, no)
		}
	}
	add(next, unknown) // numbers of another ABI among them: x32 has its own from 1<<30 on
	code := append([]insn{{op: ldAbs, k: offNumber}}, tree(spans[1:], 0)...)
	return append(code, verdicts...)
}

// verdicts are at the end of each section, for all jumps that reach so far: what
// is shorter takes the kernel less to install.
var verdicts = []insn{allow(), fails(unix.EPERM), fails(unix.ENOSYS)}

// tree decides by halves which span a number is in. Between its end and the
// verdicts are some more instructions.
func tree(spans []span, more int) []insn {
	if len(spans) == 1 {
		return spans[0].code
	}
	half := len(spans) / 2
	lowAt, lowShared := verdict(spans[:half])
	highAt, highShared := verdict(spans[half:])
	var low, high []insn
	for fits := false; !fits; {
		low, high = nil, nil
		if !highShared {
			high = tree(spans[half:], more)
		}
		if !lowShared {
			low = tree(spans[:half], more+len(high))
		}
		// A conditional jump reaches no more than 255 instructions.
		lowFits, highFits := len(high)+more+lowAt < 256, len(low)+more+highAt < 256
		fits = (lowFits || !lowShared) && (highFits || !highShared)
		lowShared, highShared = lowShared && lowFits, highShared && highFits
	}
	code := []insn{{op: jge, k: spans[half].first}}
	if lowShared {
		code[0].jf = uint8(len(high) + more + lowAt)
	}
	switch {
	case highShared:
		code[0].jt = uint8(len(low) + more + highAt)
	case len(low) < 256:
		code[0].jt = uint8(len(low))
	default:
		code[0].jf = 1
		code = append(code, insn{op: ja, k: uint32(len(low))})
	}
	return append(append(code, low...), high...)
}

// verdict tells which of the verdicts decides about spans, if one alone does.
func verdict(spans []span) (at int, alone bool) {
	if len(spans) != 1 || len(spans[0].code) != 1 {
		return 0, false
	}
	at = slices.Index(verdicts, spans[0].code[0])
	return at, at >= 0
}

func (r Rule) assemble() []insn {
	match, other := allow(), fails(r.Errno)
	if !r.Allowed {
		match, other = other, match
	}
	if len(r.Values) == 0 {
		return []insn{other}
	}
	low := uint32(0)
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		low = 4
	}
	code := []insn{{op: ldAbs, k: offArgs + 8*uint32(r.Arg) + low}}
	if r.Mask != 0 {
		code = append(code, insn{op: and, k: r.Mask})
	}
	for i, v := range r.Values {
		code = append(code, insn{op: jeq, jt: uint8(len(r.Values) - i), k: v})
	}
	return append(code, other, match)
}

// parse reads a table of calls, in ascending order.
func parse(table string) iter.Seq2[uint32, string] {
	return func(yield func(uint32, string) bool) {
		next := uint32(0)
		for field := range strings.FieldsSeq(table) {
			if field[0] == '=' {
				n, err := strconv.ParseUint(field[1:], 10, 32)
				if err != nil {
					panic(err) // the table is ours
				}
				next = uint32(n)
				continue
			}
			if !yield(next, field) {
				return
			}
			next++
		}
	}
}
