package cli

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"raptor-make/engine"
	"raptor-make/internal/store"
	"raptor-make/recipes"
)

func (inv *invocation) cleanCommand() *cobra.Command {
	var all, dryRun bool
	c := &cobra.Command{
		Use: "clean", Short: "Remove layers that no target of the project uses", Args: cobra.NoArgs,
		Long: `Removes finished layers that nothing in the project uses as it stands: no job, no
group, and no .rapt file below the project's root. With --all, removes all
layers. What a running build uses is left alone, and so are outputs, the caches
of jobs, and the downloads that all projects share.`,
		RunE: func(c *cobra.Command, _ []string) error {
			p, err := inv.project()
			if err != nil {
				return err
			}
			return inv.clean(c, p, all, dryRun || inv.noAct)
		},
	}
	c.Flags().BoolVar(&all, "all", false, "remove all layers")
	c.Flags().BoolVar(&dryRun, "dry-run", false, "only print what would be removed")
	inv.offlineFlag(c)
	return c
}

func (inv *invocation) clean(c *cobra.Command, p *recipes.Project, all, dryRun bool) error {
	s := store.Existing(p.Abs(p.Settings.Store.Text))
	layers, err := s.Layers()
	if err != nil || len(layers) == 0 {
		return err
	}
	if !all {
		used, err := inv.usedLayers(c, p)
		if err != nil {
			return fmt.Errorf("find out what is used: %w", err)
		}
		layers = slices.DeleteFunc(layers, func(dir string) bool { return used[dir] })
	}
	if dryRun {
		for _, dir := range layers {
			fmt.Println("would remove", dir)
		}
		return nil
	}
	if err := inv.becomeRoot(c.Context()); err != nil {
		return err
	}
	if s, err = store.Open(p.Abs(p.Settings.Store.Text)); err != nil {
		return err
	}
	busy, err := s.Remove(layers)
	for _, dir := range layers {
		if !slices.Contains(busy, dir) {
			fmt.Fprintln(os.Stderr, "removed", dir)
		}
	}
	for _, dir := range busy {
		fmt.Fprintf(os.Stderr, "left %s: a running build uses it\n", dir)
	}
	return err
}

// usedLayers are the directories of the layers that the project's targets are
// made of.
func (inv *invocation) usedLayers(c *cobra.Command, p *recipes.Project) (map[string]bool, error) {
	e, err := inv.engine(c.Context(), p, true)
	if err != nil {
		return nil, err
	}
	req := engine.Request{Jobs: p.Jobs, Whole: true}
	for _, g := range p.Groups {
		req.Layers = append(req.Layers, g.Build...)
	}
	for _, file := range modules(p) {
		req.Layers = append(req.Layers, recipes.Value{Text: file})
	}
	plan, err := e.Plan(c.Context(), req)
	if err != nil {
		return nil, err
	}
	used := map[string]bool{}
	for _, s := range plan.Steps {
		if s.Layer != nil {
			used[s.Layer.Dir] = true
		}
	}
	return used, nil
}

// modules are the plain .rapt files below a project's root: those that need no
// instance. Its store is not looked into.
func modules(p *recipes.Project) []string {
	var list []string
	filepath.WalkDir(p.Root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return nil
		case d.IsDir() && (path == p.Abs(p.Settings.Store.Text) || strings.HasPrefix(d.Name(), ".") && path != p.Root):
			return fs.SkipDir
		case strings.HasSuffix(path, ".rapt") && !strings.HasSuffix(path, "@.rapt") && d.Type().IsRegular():
			if rel, err := filepath.Rel(p.Root, path); err == nil {
				list = append(list, rel)
			}
		}
		return nil
	})
	return list
}
