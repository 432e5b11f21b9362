package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"
)

// starter is what a new project begins with. It builds and runs as it is.
var starter = []struct{ file, text string }{
	{"base.rapt", `# A layer: a small Debian, and what is added to it here.
FROM debian://trixie

# ENV is for the RUNs that follow. RUN executes a program with exactly these
# arguments; there is no shell.
ENV DEBIAN_FRONTEND=noninteractive
RUN apt-get update
RUN apt-get install -y --no-install-recommends iproute2
RUN apt-get clean

# WRITE makes a file, COPY copies from beside this file.
WRITE "made by raptor\n" /etc/motd

# Try it:  raptor run base cat /etc/motd
`},
	{projectFile, `# A project of raptor-make. "raptor-make" runs every job below, "raptor-make NAME"
# one, and "raptor-make -n" says what would run, and why.

# A job runs a container. $recipes are the builders that come with raptor.
[run.tarball]
description = "Root file system of base as a tar"
target = "$recipes.tarball"
input  = "base"
output = "base.tar.zst"

# A live ISO wants a kernel and live-boot in its input:
#   RUN apt-get install -y --no-install-recommends linux-image-amd64 live-boot systemd-sysv
#
# [run.iso]
# target = "$recipes.iso"
# input  = "base"
# output = "live.iso"
# cache  = "cache"
`},
}

func (inv *invocation) initCommand() *cobra.Command {
	return &cobra.Command{
		Use: "init", Short: "Write a small, working " + projectFile + " and base.rapt", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			for _, s := range starter {
				if _, err := os.Lstat(s.file); err == nil {
					return wrong(fmt.Errorf("%s exists already; it is left as it is", s.file))
				}
			}
			for _, s := range starter {
				if inv.noAct {
					fmt.Println("would write", s.file)
					continue
				}
				if err := create(s.file, s.text); err != nil {
					return err
				}
				fmt.Fprintln(os.Stderr, "wrote", s.file)
			}
			return nil
		},
	}
}

// create writes a file that must not exist yet.
func create(file, text string) (err error) {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return wrong(fmt.Errorf("%s exists already; it is left as it is", file))
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	_, err = f.WriteString(text)
	return err
}
