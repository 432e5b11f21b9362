package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"
)

// A Log is the kept output of a step: of a layer under its directory's name,
// of a job as "run-NAME".
type Log struct {
	Name string
	Path string
	Time time.Time // when it was last written to
}

// Logs lists what there is, oldest first.
func (s *Store) Logs() ([]Log, error) {
	entries, err := os.ReadDir(s.private("logs"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list logs: %w", err)
	}
	var logs []Log
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".log")
		info, err := e.Info()
		if !ok || err != nil {
			continue
		}
		logs = append(logs, Log{Name: name, Path: s.LogPath(name), Time: info.ModTime()})
	}
	slices.SortStableFunc(logs, func(a, b Log) int { return a.Time.Compare(b.Time) })
	return logs, nil
}
