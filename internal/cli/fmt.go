package cli

import (
	"bytes"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"
	"github.com/hashicorp/go-multierror"
	"github.com/spf13/cobra"

	"raptor-make/rapt"
)

func (inv *invocation) fmtCommand() *cobra.Command {
	var write, diff bool
	c := &cobra.Command{
		Use: "fmt [-w] [-d] FILE…", Short: "Print the canonical form of .rapt and .rinc files",
		RunE: func(c *cobra.Command, files []string) error {
			if len(files) == 0 {
				return usage(c, "no file given")
			}
			var errs *multierror.Error
			for _, file := range files {
				errs = multierror.Append(errs, format(file, write, diff))
			}
			return joinDiagnostics(errs.ErrorOrNil())
		},
	}
	c.Flags().BoolVarP(&write, "write", "w", false, "write the result to the file")
	c.Flags().BoolVarP(&diff, "diff", "d", false, "show what would change, as a diff")
	return c
}

func format(file string, write, diff bool) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	formatted, err := rapt.Format(text, file)
	if err != nil {
		return err
	}
	same := bytes.Equal(text, formatted)
	if diff && !same {
		os.Stdout.Write(rapt.Diff(file, text, formatted))
	}
	switch {
	case write && !same:
		file, err := filepath.EvalSymlinks(file) // a link stays one
		if err != nil {
			return err
		}
		info, err := os.Stat(file)
		if err != nil {
			return err
		}
		return renameio.WriteFile(file, formatted, info.Mode().Perm(), renameio.IgnoreUmask())
	case !write && !diff:
		_, err := os.Stdout.Write(formatted)
		return err
	}
	return nil
}

// joinDiagnostics makes one of several errors of which all are the user's
// mistakes.
func joinDiagnostics(err error) error {
	many, ok := err.(*multierror.Error)
	if !ok {
		return err
	}
	var all rapt.Diagnostics
	for _, e := range many.Errors {
		ds, ok := e.(rapt.Diagnostics)
		if !ok {
			return err
		}
		all = append(all, ds...)
	}
	return all
}
