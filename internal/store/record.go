package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// A Part is one labelled input of a key, kept so that a changed key can be
// explained by comparing two records.
type Part struct {
	Label string `json:"label"`
	Value string `json:"value"`
}

// A Layer is the record of a finished layer.
type Layer struct {
	Name    string        `json:"name"` // of its directory
	Key     string        `json:"key"`  // in full, hex
	Parts   []Part        `json:"parts"`
	Env     []string      `json:"env,omitempty"` // of a base image: "K=V"
	Entries int64         `json:"entries"`       // files and directories
	Bytes   int64         `json:"bytes"`         // in files
	Took    time.Duration `json:"took_ns"`
	Made    time.Time     `json:"made"`
}

// A Job is the record of a job's last success.
type Job struct {
	Name    string        `json:"name"`
	Key     string        `json:"key"`
	Parts   []Part        `json:"parts"`
	Outputs []Output      `json:"outputs"`
	Took    time.Duration `json:"took_ns"`
	Made    time.Time     `json:"made"`
}

// Part is the value of the part with that label, "" if there is none, or no
// record.
func (j *Job) Part(label string) string {
	if j != nil {
		for _, p := range j.Parts {
			if p.Label == label {
				return p.Value
			}
		}
	}
	return ""
}

// An Output is what a job left in one place.
type Output struct {
	Path   string `json:"path"`   // as the project file says it
	Digest string `json:"digest"` // of its content
	Bytes  int64  `json:"bytes"`
}

// A Miss says why there is no usable record; it is never a failure of the
// build, which then makes the thing anew.
type Miss struct{ Reason string }

func (m *Miss) Error() string { return m.Reason }

// Layer looks up a finished layer by its directory's name and full key. The
// error is a *Miss.
func (s *Store) Layer(name, key string) (*Layer, error) {
	info, err := os.Lstat(s.Path(name))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, &Miss{"it has not been built"}
	case err != nil:
		return nil, &Miss{fmt.Sprintf("its directory cannot be read: %v", err)}
	case !info.IsDir():
		return nil, &Miss{fmt.Sprintf("%s is not a directory", s.Path(name))}
	}
	r := new(Layer)
	if err := readRecord(s.private("layers", name+".json"), r); err != nil {
		return nil, err
	}
	if r.Key != key {
		return nil, &Miss{"its record is of another key"}
	}
	return r, nil
}

// LastLayers are the most recently made layers, by their names without the
// key: what rebuilds are compared with. Damaged records are left out.
func (s *Store) LastLayers() map[string]*Layer {
	last := map[string]*Layer{}
	entries, _ := os.ReadDir(s.private("layers"))
	for _, e := range entries {
		dir, ok := strings.CutSuffix(e.Name(), ".json")
		i := strings.LastIndexByte(dir, '-')
		if !ok || i < 0 {
			continue
		}
		r := new(Layer)
		if readRecord(s.private("layers", e.Name()), r) != nil {
			continue
		}
		if was := last[dir[:i]]; was == nil || r.Made.After(was.Made) {
			last[dir[:i]] = r
		}
	}
	return last
}

// Job looks up the record of a job's last success. The error is a *Miss.
func (s *Store) Job(name string) (*Job, error) {
	r := new(Job)
	if err := readRecord(s.private("jobs", name+".json"), r); err != nil {
		return nil, err
	}
	return r, nil
}

// ForgetJob removes the record of a job, before its outputs are touched.
func (s *Store) ForgetJob(name string) error {
	err := os.Remove(s.private("jobs", name+".json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// RecordJob records a job's success, durably.
func (s *Store) RecordJob(ctx context.Context, r *Job) error {
	return s.writeRecord(ctx, s.private("jobs", r.Name+".json"), r)
}

// Tree is what a directory held when it was copied into a layer, by its digest;
// "" if nothing is known of it.
func (s *Store) Tree(digest string) string {
	text, err := os.ReadFile(s.private("trees", filepath.Base(digest)+".txt"))
	if err != nil {
		return ""
	}
	return string(text)
}

// SaveTree remembers what a directory held, for explanations.
func (s *Store) SaveTree(ctx context.Context, digest, text string) error {
	return s.writeFile(ctx, s.private("trees", digest+".txt"), []byte(text))
}

func readRecord(file string, r any) error {
	text, err := os.ReadFile(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &Miss{"there is no record of it"}
	case err != nil:
		return &Miss{fmt.Sprintf("its record cannot be read: %v", err)}
	}
	if err := json.Unmarshal(text, r); err != nil {
		return &Miss{fmt.Sprintf("its record %s is damaged: %v", file, err)}
	}
	return nil
}

// encode is the text of a record.
func encode(r any) ([]byte, error) {
	text, err := json.MarshalIndent(r, "", " ")
	return append(text, '\n'), err
}

func (s *Store) writeRecord(ctx context.Context, file string, r any) error {
	text, err := encode(r)
	if err == nil {
		err = s.writeFile(ctx, file, text)
	}
	if err != nil {
		return fmt.Errorf("write record: %w", err)
	}
	return nil
}
