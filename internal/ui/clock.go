package ui

import "time"

// A clock tells the time and calls back; tests have one that they set.
type clock interface {
	Now() time.Time
	AfterFunc(time.Duration, func()) stopper
}

type stopper interface{ Stop() bool }

type systemClock struct{}

func (systemClock) Now() time.Time { return time.Now() }

func (systemClock) AfterFunc(d time.Duration, f func()) stopper { return time.AfterFunc(d, f) }
