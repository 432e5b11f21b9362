// Package engine makes true what a project asks for: it plans steps, decides
// which of them have nothing to do, and has the others executed.
//
// A step fetches a base image, builds a layer or runs a job. [Engine.Plan]
// reads files and gives steps with keys and the reason why each would run; it
// changes nothing, so that every command which only shows something shows the
// very plan that a build would carry out. [Engine.Run] takes a plan and makes
// it true, in parallel, and tells a [Sink] what happens.
//
//	plan, err := e.Plan(ctx, engine.Request{Jobs: jobs, Layers: layers})
//	if err != nil {
//		return err // rapt.Diagnostics when a user's file is wrong
//	}
//	err = e.Run(ctx, plan, display.Event)
//
// What is skipped is decided by keys (key.go): a layer is there when its
// directory is, under a record with the same full key; a job is up to date when
// its key is the recorded one and each output is what the job wrote. Where a
// key changed, the reason is the difference between the labelled parts of the
// two, not a guess.
//
// The engine knows no terminals and no flags. How a step's programs run is
// behind an [Executor], which tests replace.
package engine
