package main

import (
	"bytes"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// TestPowerLoss lets a disk go at random times of a build: from then on each
// write is an error, and what had not been made durable is lost. When it is
// back, the next build makes what a build from nothing makes: nothing that was
// lost in part is taken for whole.
func TestPowerLoss(t *testing.T) {
	const text = `
-- base.rapt --
FROM tar://busybox.tar
-- app.rapt --
FROM base
RUN sh -c "for i in 1 2 3 4 5 6; do dd if=/dev/urandom of=/r$i bs=64k count=4 2>/dev/null; cp /bin/busybox /f$i; done; rm /r[0-9]"
COPY Raptor.toml /Raptor.toml
-- job.rapt --
FROM app
MOUNT --layers input /in
MOUNT --file output /out
CMD sh -c "cd /in; find . ! -name raptor.json | sort >/out; sha256sum /f* >>/out"
-- Raptor.toml --
[run.job]
target = "job"
input = "app"
output = "out"
[run.second]
target = "job"
input = "app"
output = "second"
needs = ["job"]
`
	clean := project(t, t.TempDir(), text)
	start := time.Now()
	clean.run("raptor-make")
	whole := time.Since(start)
	want, err := os.ReadFile(filepath.Join(clean.dir, "out"))
	if err != nil {
		t.Fatal(err)
	}
	times := 6
	if os.Getenv("RAPTOR_SOAK") != "" {
		times = 100
	}
	disk := newDisk(t, 96)
	failures := 0
	for i := range times {
		w := project(t, disk.dir, text)
		if i%3 == 0 {
			os.RemoveAll(filepath.Join(w.dir, "layers"))
		}
		os.Remove(filepath.Join(w.dir, "out"))
		syscall.Sync()
		after := time.Duration(rand.Int64N(int64(whole + whole/2)))
		gone := make(chan struct{})
		torn := time.AfterFunc(after, func() { shutdown(t, disk.dir); close(gone) })
		_, said, err := w.try("raptor-make", "-q")
		if exit, ok := err.(*exec.ExitError); err != nil && (!ok || exit.ExitCode() != 1 || len(said) == 0) {
			t.Errorf("disk gone after %v: %v, want status 1 and an error:\n%s", after, err, said)
		}
		if err != nil {
			failures++
		}
		if torn.Stop() {
			shutdown(t, disk.dir) // it was too quick for us
		} else {
			<-gone
		}
		disk.again(t)
		if out, err := os.ReadFile(filepath.Join(w.dir, "out")); err == nil && !bytes.Equal(out, want) {
			t.Errorf("disk gone after %v: half an output is left:\n%s", after, out)
		}
		w.run("raptor-make", "-q")
		for _, output := range []string{"out", "second"} {
			if out, err := os.ReadFile(filepath.Join(w.dir, output)); err != nil || !bytes.Equal(out, want) {
				t.Errorf("disk gone after %v: %s of the next build is %q (%v), want %q", after, output, out, err, want)
			}
		}
		if t.Failed() {
			return
		}
	}
	t.Logf("%d of %d builds failed", failures, times)
}

// A disk is a small ext4 file system of its own.
type disk struct{ image, dir string }

func newDisk(t *testing.T, mib int64) *disk {
	t.Helper()
	return newDiskIn(t, t.TempDir(), mib)
}

// newDiskIn is newDisk with its data in a directory.
func newDiskIn(t *testing.T, dir string, mib int64) *disk {
	t.Helper()
	d := &disk{image: filepath.Join(dir, "disk"), dir: t.TempDir()}
	f, err := os.Create(d.image)
	if err == nil {
		err = f.Truncate(mib << 20)
		f.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	command(t, "mkfs.ext4", "-q", d.image)
	command(t, "mount", "-o", "loop", d.image, d.dir)
	t.Cleanup(func() {
		if err := syscall.Unmount(d.dir, 0); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return d
}

// again has the disk come back after it was gone.
func (d *disk) again(t *testing.T) {
	t.Helper()
	command(t, "umount", d.dir)
	// Sandboxes that were being made elsewhere meanwhile have the mount, too,
	// for a moment. Mounted before it is let go of, it would still be the old.
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		out, err := exec.Command("losetup", "-j", d.image).Output()
		if err == nil && len(out) == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the disk is still in use: %s %v", out, err)
		}
	}
	command(t, "mount", "-o", "loop", d.image, d.dir)
}

func command(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", args, err, out)
	}
}
