package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"raptor-make/sandbox"
)

// job runs the container of a job, whose lock is held, and records it.
func (e *Engine) job(ctx context.Context, s *stepRun) ([]Written, error) {
	c := s.step.Job
	if err := e.jobKey(c, nil, nil); err != nil {
		return nil, err
	}
	if limit := c.Job.Limits.Timeout; limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, limit, fmt.Errorf("it took longer than its limit of %s", limit))
		defer cancel()
	}
	if err := e.sweepOutputs(c); err != nil {
		return nil, err
	}
	// From here on the job counts as one that failed, until it is recorded.
	if err := e.Store.ForgetJob(c.Job.Name); err != nil {
		return nil, err
	}
	r, err := e.start(ctx, c, nil)
	if err != nil {
		return nil, err
	}
	s.later(r.close)
	if _, err := e.Execute(ctx, r.spec, s.streams()); err != nil {
		s.keep(r.spec, err)
		return nil, jobFailure(c, err)
	}
	s.prepareNext()
	if err := r.commit(s.interrupt, e.Store); err != nil {
		return nil, err
	}
	if err := e.ownChanges(c); err != nil {
		return nil, err
	}
	record, err := e.record(c)
	if err != nil {
		return nil, err
	}
	record.Took = s.elapsed()
	if err := e.Store.RecordJob(s.interrupt, record); err != nil {
		return nil, err
	}
	return written(record), nil
}

// ownChanges brings a job's key up to what it may have changed in its own
// inputs, which must not make it run again. What it could only read is recorded
// as it was before: if somebody else has changed it meanwhile, the job runs
// again.
func (e *Engine) ownChanges(c *Container) error {
	k := &keyer{parts: c.Parts}
	for _, b := range c.bindings {
		if !b.isInput() || b.mount.ReadOnly {
			continue
		}
		digest, err := e.inputDigest(b)
		if err != nil {
			return err
		}
		for i := range k.parts {
			if k.parts[i].Label == contentLabel(b) {
				k.parts[i].Value = string(digest)
			}
		}
	}
	c.Key = JobKey(k.sum())
	return nil
}

// jobFailure says which container failed, and how.
func jobFailure(c *Container, err error) error {
	var exit *sandbox.ExitError
	var act *sandbox.ActionError
	var setup *sandbox.SetupError
	switch {
	case errors.As(err, &exit):
		return fmt.Errorf("%s (%s): %w", of(c.Job), c.Job.Target.Text, err)
	case errors.As(err, &act):
		return fmt.Errorf("%s (%s): %w", of(c.Job), c.Job.Target.Text, err)
	case errors.As(err, &setup):
		return setupFailure(err, setup)
	}
	return err
}

// sweepOutputs removes temporary files that killed runs of this job have left
// beside its outputs. The job's lock is held: nobody is writing them.
func (e *Engine) sweepOutputs(c *Container) error {
	for _, b := range c.outputs() {
		if b.path == "" {
			continue
		}
		dir := filepath.Dir(b.path)
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue
		}
		prefix := fmt.Sprintf(stagedName, filepath.Base(b.path))
		for _, entry := range entries {
			if name := entry.Name(); len(name) > len(prefix) && name[:len(prefix)] == prefix {
				if err := os.Remove(filepath.Join(dir, name)); err != nil {
					return fmt.Errorf("remove leftover: %w", err)
				}
			}
		}
	}
	return nil
}
