package images

import (
	"fmt"
	"path"
	"runtime"
	"strings"
)

// A Platform is what an image is made for, in the words of OCI's specification
// of images.
type Platform struct{ OS, Architecture, Variant string }

func (p Platform) String() string { return path.Join(p.OS, p.Architecture, p.Variant) }

// ParsePlatform reads Platform.
func (s *Settings) ParsePlatform() (Platform, error) {
	text := s.Platform
	if text == "" {
		text = "linux/" + runtime.GOARCH
	}
	parts := strings.Split(strings.ToLower(text), "/")
	for _, part := range parts {
		if part == "" || strings.Trim(part, "abcdefghijklmnopqrstuvwxyz0123456789_-") != "" {
			parts = nil
			break
		}
	}
	if len(parts) < 2 || len(parts) > 3 {
		return Platform{}, fmt.Errorf("bad platform %q: it is os/arch or os/arch/variant", s.Platform)
	}
	p := Platform{OS: parts[0], Architecture: parts[1]}
	if len(parts) == 3 {
		p.Variant = parts[2]
	}
	p.normalize()
	return p, nil
}

// normalize gives an architecture the name that images have it by: others use
// those of uname(1) and of Debian.
func (p *Platform) normalize() {
	switch p.Architecture {
	case "i386":
		p.Architecture, p.Variant = "386", ""
	case "x86_64", "x86-64":
		p.Architecture = "amd64"
	case "aarch64":
		p.Architecture = "arm64"
	case "armhf":
		p.Architecture, p.Variant = "arm", "v7"
	case "armel":
		p.Architecture, p.Variant = "arm", "v6"
	}
	if len(p.Variant) == 1 && p.Variant >= "5" && p.Variant <= "8" {
		p.Variant = "v" + p.Variant
	}
	switch {
	case p.Architecture == "arm" && p.Variant == "":
		p.Variant = "v7"
	case p.Architecture == "arm64" && p.Variant == "v8", p.Architecture == "amd64" && p.Variant == "v1":
		p.Variant = "" // what every one of them is at least
	}
}

// DebianArchitecture is Debian's name of the platform.
func (s *Settings) DebianArchitecture() (string, error) {
	p, err := s.ParsePlatform()
	if err != nil {
		return "", err
	}
	if name, ok := p.debianName(); ok {
		return name, nil
	}
	return "", fmt.Errorf("Debian has no architecture for the platform %s", p)
}

func (p Platform) debianName() (string, bool) {
	if p.OS != "linux" {
		return "", false
	}
	switch p.Architecture {
	case "amd64", "arm64", "loong64", "riscv64", "s390x":
		return p.Architecture, true
	case "386":
		return "i386", true
	case "ppc64le":
		return "ppc64el", true
	case "mips64le":
		return "mips64el", true
	case "arm":
		if p.Variant == "v7" || p.Variant == "v8" {
			return "armhf", true
		}
		return "armel", true
	}
	return "", false
}
