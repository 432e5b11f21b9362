package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"
)

// scenes are played by processes of their own, for some end by a signal.
var scenes = map[string]struct {
	play func()
	end  string // as *exec.ExitError has it; "": all is well
	said string
}{
	"one interrupt": {play: func() {
		ctx, _ := interruptible(func() {})
		send(syscall.SIGINT)
		<-ctx.Done()
		fmt.Print(context.Cause(ctx))
	}, said: "interrupted"},
	"a hangup": {play: func() {
		ctx, _ := interruptible(func() {})
		send(syscall.SIGHUP)
		<-ctx.Done()
	}},
	"two interrupts": {play: func() {
		ctx, _ := interruptible(func() { fmt.Print("last") })
		send(syscall.SIGINT)
		<-ctx.Done()
		time.AfterFunc(patience/2, func() { os.Exit(1) })
		send(syscall.SIGTERM)
		select {}
	}, end: "exit status 130", said: "last"},
	"patience": {play: func() {
		interruptible(func() { fmt.Print("last") })
		send(syscall.SIGINT)
		select {}
	}, end: "exit status 130", said: "last"},
	"a container": {play: func() {
		outer, i := interruptible(func() {})
		ctx, on, stop := i.handedOn(outer)
		for _, s := range []syscall.Signal{syscall.SIGUSR1, syscall.SIGQUIT, syscall.SIGHUP, syscall.SIGTERM, syscall.SIGINT} {
			send(s)
			if got := <-on; got != s || ctx.Err() != nil {
				fmt.Print(s, " is ", got)
			}
		}
		send(syscall.SIGINT)
		<-ctx.Done()
		stop()
		fmt.Print(outer.Err())
		send(syscall.SIGINT)
		<-outer.Done()
	}, said: "<nil>"},
	"a container that does not listen": {play: func() {
		outer, i := interruptible(func() {})
		ctx, _, stop := i.handedOn(outer)
		for range 100 {
			send(syscall.SIGUSR1)
			time.Sleep(time.Millisecond)
		}
		send(syscall.SIGINT)
		time.Sleep(10 * time.Millisecond)
		send(syscall.SIGINT)
		<-ctx.Done()
		stop()
		send(syscall.SIGINT)
		<-outer.Done()
	}},
	"late for a container": {play: func() {
		outer, i := interruptible(func() {})
		_, _, stop := i.handedOn(outer)
		stop()
		for _, s := range containers[1:] {
			send(s)
		}
		time.Sleep(50 * time.Millisecond)
		fmt.Print(outer.Err())
	}, said: "<nil>"},
	"after a debug shell": {play: func() {
		outer, i := interruptible(func() {})
		_, _, stop := i.handedOn(outer)
		stop()
		i.restore()
		send(syscall.SIGQUIT)
		time.Sleep(patience)
	}, end: "exit status 2"}, // what Go's runtime does
	"nohup": {play: func() {
		signal.Ignore(syscall.SIGHUP)
		outer, i := interruptible(func() {})
		send(syscall.SIGHUP)
		_, on, stop := i.handedOn(outer)
		send(syscall.SIGHUP)
		fmt.Print(<-on, " ")
		stop()
		send(syscall.SIGHUP)
		time.Sleep(50 * time.Millisecond)
		fmt.Print(outer.Err())
	}, said: "hangup <nil>"},
}

func send(s os.Signal) { syscall.Kill(os.Getpid(), s.(syscall.Signal)) }

const sceneVariable = "RAPTOR_TEST_SCENE"

func TestMain(m *testing.M) {
	if name := os.Getenv(sceneVariable); name != "" {
		scenes[name].play()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestInterrupts(t *testing.T) {
	// Whom we start finds no signal ignored then, even if nohup started us.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	for name, scene := range scenes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, "/proc/self/exe")
			cmd.Env = append(os.Environ(), sceneVariable+"="+name)
			out, err := cmd.Output()
			end := ""
			var exit *exec.ExitError
			if errors.As(err, &exit) {
				end = exit.Error()
			} else if err != nil {
				t.Fatal(err)
			}
			if said := strings.TrimSpace(string(out)); end != scene.end || said != scene.said {
				t.Errorf("it ends with %q and says %q, want %q and %q", end, said, scene.end, scene.said)
			}
		})
	}
}
