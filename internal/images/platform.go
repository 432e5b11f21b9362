package images

import (
	"fmt"
	"runtime"
	"strings"

	"github.com/regclient/regclient/types/platform"
)

// ParsePlatform reads Platform.
func (s *Settings) ParsePlatform() (platform.Platform, error) {
	switch {
	case s.Platform == "":
		return platform.Parse("linux/" + runtime.GOARCH)
	case !strings.Contains(s.Platform, "/"):
		return platform.Platform{}, fmt.Errorf("bad platform %q: it is os/arch or os/arch/variant", s.Platform)
	}
	return platform.Parse(s.Platform)
}

// DebianArchitecture is Debian's name of the platform.
func (s *Settings) DebianArchitecture() (string, error) {
	p, err := s.ParsePlatform()
	if err != nil {
		return "", err
	}
	if name, ok := debianName(p); ok {
		return name, nil
	}
	return "", fmt.Errorf("Debian has no architecture for the platform %s", p)
}

func debianName(p platform.Platform) (string, bool) {
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
