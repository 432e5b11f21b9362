package cli

import (
	"bytes"
	"os"

	"github.com/google/renameio/v2"
	"github.com/hashicorp/go-multierror"
	"github.com/spf13/cobra"

	"raptor-make/rapt"
)

func (inv *invocation) fmtCommand() *cobra.Command {
	var write bool
	c := &cobra.Command{
		Use: "fmt [-w] FILE…", Short: "Print the canonical form of .rapt and .rinc files",
		RunE: func(c *cobra.Command, files []string) error {
			if len(files) == 0 {
				return usage(c, "no file given")
			}
			var errs *multierror.Error
			for _, file := range files {
				errs = multierror.Append(errs, format(file, write))
			}
			return joinDiagnostics(errs.ErrorOrNil())
		},
	}
	c.Flags().BoolVarP(&write, "write", "w", false, "write the result to the file")
	return c
}

func format(file string, write bool) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	formatted, err := rapt.Format(text, file)
	if err != nil {
		return err
	}
	same := bytes.Equal(text, formatted)
	switch {
	case write && !same:
		info, err := os.Stat(file)
		if err != nil {
			return err
		}
		return renameio.WriteFile(file, formatted, info.Mode().Perm(), renameio.IgnoreUmask())
	case !write:
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
