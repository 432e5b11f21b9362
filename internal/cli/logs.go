package cli

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"raptor-make/internal/store"
	"raptor-make/rapt"
)

func (inv *invocation) logsCommand() *cobra.Command {
	return &cobra.Command{
		Use: "logs [NAME]", Short: "Print the output of the last execution of a layer or job; none named: list them",
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			p, err := inv.project()
			if err != nil {
				return err
			}
			logs, err := store.Existing(p.Abs(p.Settings.Store.Text)).Logs()
			if err != nil {
				return err
			}
			if len(args) == 0 {
				for _, l := range logs {
					fmt.Printf("%s  %s\n", l.Time.Format("2006-01-02 15:04:05"), l.Name)
				}
				return nil
			}
			log := findLog(logs, args[0])
			if log == nil {
				return rapt.Diagnostics{{Message: fmt.Sprintf("there is no output of %s: it was never executed here", args[0]), Help: nearestLog(logs, args[0])}}
			}
			f, err := os.Open(log.Path)
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = io.Copy(os.Stdout, f)
			return err
		},
	}
}

// findLog is the newest log of a job, of a layer by its name, or of a layer by
// its directory's name. Logs come oldest first.
func findLog(logs []store.Log, name string) *store.Log {
	name = strings.TrimPrefix(name, "run ")
	for i := len(logs) - 1; i >= 0; i-- {
		l := &logs[i]
		layer, _, _ := cutLast(l.Name, "-")
		if l.Name == "run-"+name || l.Name == name || layer == name {
			return l
		}
	}
	return nil
}

// nearestLog says which log was meant, or how to see what there is.
func nearestLog(logs []store.Log, name string) string {
	var names []string
	for _, l := range logs {
		job, ok := strings.CutPrefix(l.Name, "run-")
		if layer, _, _ := cutLast(l.Name, "-"); !ok {
			names = append(names, layer)
		} else {
			names = append(names, job)
		}
	}
	if near := rapt.Nearest(name, names); near != "" {
		return "did you mean " + near + "?"
	}
	if len(names) == 0 {
		return "" // nor was anything else
	}
	return "raptor logs, with no name, lists what there is"
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}
