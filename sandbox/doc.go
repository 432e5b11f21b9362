// Package sandbox carries out the instructions of a build step, and runs
// containers, on an overlay of layers in namespaces of their own.
//
//	spec := &sandbox.Spec{
//		Layers: []string{"/layers/base"}, Upper: "/build/upper", Work: "/build/work",
//		Build: true,
//		Actions: []sandbox.Action{
//			&sandbox.Write{Dest: "/etc/motd", Data: []byte("hello\n"), Mode: 0o644},
//			&sandbox.Exec{Args: []string{"/bin/sh", "-c", "ls /"}, Env: []string{"PATH=/usr/bin:/bin"}},
//		},
//	}
//	result, err := sandbox.Run(ctx, spec, sandbox.Streams{Stdout: os.Stdout, Stderr: os.Stderr})
//
// # The life of a Spec
//
// A [Spec] is plain data, made by whoever knows what a step is. [Run] opens what
// only raptor may open (the sources of COPY, output pipes, control groups), and
// starts one process, the agent: a small static program, embedded in raptor,
// that is process 1 of new mount, PID, IPC and UTS namespaces; or takes one
// that [Prepare] has started ahead of time. The file that it is started from
// cannot be changed by anybody who gets hold of it (package helper). The agent
// makes what all sandboxes have, such as /proc and /dev, and is then told everything
// at once (package wire). It makes the rest, by a list of operations
// (agent/setup.go), lets go of the host's root, carries out the actions in
// order, seals the layer, and reports each of these as an event. Its end ends
// everything inside, and so does ours.
//
// The same program has a second use, [Sync]: it waits for disks in our place,
// because whoever does that cannot be stopped.
//
// The package refuses to know the language, projects, caching and layers'
// places: it is handed paths and leaves one directory behind.
//
// # Threat model
//
// A build step is hostile code that runs as the sandbox's root; so is a
// container. It may do what it likes to its own layer and to what was mounted for
// it to write to. It must not
//
//   - read, write or learn of files of the host that it was not lent: the root
//     is pivoted and the old one is gone, the overlay's mount options name no
//     paths, and all file instructions are carried out inside or below open
//     directories, so that no link leads out;
//   - open devices: nothing on any of its file systems is one, but for the seven
//     nodes that are bound, read-only, into /dev;
//   - see, signal or trace processes outside, or the agent;
//   - reach the kernel's own dangerous parts: the capabilities are Docker's or
//     fewer, system calls pass Docker's default filter, parts of /proc and /sys
//     are masked or read-only, as there (policy.go, internal/filter, agent/setup.go);
//   - keep anything running, or anything but the sealed directory, after its end;
//   - use more memory or processes than [Limits] say, where they are set.
//
// TestAttacks has a hundred attempts, each shown to succeed without the defence
// that it is about. Set-id programs work: programs start as root with all that can
// be had inside, so that no_new_privs would keep nothing from a hostile one and
// break sudo and su for the others; [Spec.NoNewPrivs] is for jobs that give
// up root themselves.
//
// What it does not keep from hostile code, and whoever needs that must add:
//
//   - the host's network, which builds need ([NoNetwork] does); on it, the host's
//     abstract sockets are closed only where the kernel has Landlock with scopes
//     (6.12), and families of sockets that the filter refuses can be had by 32-bit
//     calls, as in Docker (internal/filter/policy.go says why);
//   - modes and owners of those of the kernel's own files below /proc that
//     everybody may read anyway, such as /proc/meminfo, and of what the host's
//     network has in /proc/self/net: the sandbox's root is the host's and can change
//     them for everybody until the next boot, as in Docker;
//   - a kernel with holes, disk space, and time: ctx is for that.
//
// # Lent files
//
// In a build step, resolv.conf and policy-rc.d are files of the layer for as long
// as programs run, and go again if they are as they were lent. Mount points that
// the layers lack are made, and go again unless an instruction asks for them or
// something is put into them.
package sandbox
