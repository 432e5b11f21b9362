package main

import (
	"archive/tar"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"raptor-make/internal/images"
)

// A peer speaks to a server as a client does.
type peer struct {
	t       *testing.T
	in      io.WriteCloser
	ask     *json.Encoder
	answers *json.Decoder
	ended   chan error
}

func newPeer(t *testing.T) *peer {
	t.Helper()
	fromUs, in := io.Pipe()
	out, toUs := io.Pipe()
	p := &peer{t, in, json.NewEncoder(in), json.NewDecoder(out), make(chan error, 1)}
	go func() { p.ended <- serve(fromUs, toUs) }()
	p.ask.Encode(&images.Setup{Settings: images.Settings{Platform: "linux/amd64", Rootless: os.Geteuid() != 0}, Cache: images.Raw(t.TempDir())})
	return p
}

// last is the last answer to each of n requests.
func (p *peer) last(n int) map[int]*images.Answer {
	p.t.Helper()
	last := map[int]*images.Answer{}
	for len(last) < n {
		a := new(images.Answer)
		if err := p.answers.Decode(a); err != nil {
			p.t.Fatal(err)
		}
		if a.What == "" && a.Log == "" && a.Warn == "" {
			last[a.ID] = a
		}
	}
	return last
}

func (p *peer) end() {
	p.t.Helper()
	p.in.Close()
	if err := <-p.ended; err != nil {
		p.t.Error(err)
	}
}

// TestServe asks for many images at once, some of which cannot be had, and calls
// off what would never end.
func TestServe(t *testing.T) {
	dir := t.TempDir()
	f, err := os.Create(dir + "/a.tar")
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(f)
	w.WriteHeader(&tar.Header{Name: "file", Mode: 0o644, Uid: os.Getuid(), Gid: os.Getgid()})
	w.Close()
	f.Close()
	silent, err := net.Listen("tcp", "127.0.0.1:0") // accepts, and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()

	p := newPeer(t)
	const each = 8
	id := 0
	for range each {
		p.ask.Encode(&images.Request{ID: id, URL: "tar://a.tar", Dir: images.Raw(dir)})
		p.ask.Encode(&images.Request{ID: id + 1, URL: "tar://missing.tar", Dir: images.Raw(dir)})
		p.ask.Encode(&images.Request{ID: id + 2, URL: images.Raw("docker://" + silent.Addr().String() + "/os:v1"), Dir: "/"})
		p.ask.Encode(&images.Request{ID: id + 2, Cancel: true})
		p.ask.Encode(&images.Request{ID: id + 3, URL: "florg://x"})
		id += 4
	}
	for id, a := range p.last(id) {
		want := map[int]string{1: "no such file", 2: errCancelled.Error(), 3: `unknown scheme "florg"`}[id%4]
		if id%4 == 0 && (a.Resolved == nil || a.Failed != "") || !strings.Contains(string(a.Failed), want) {
			t.Errorf("request %d: %+v, want %q", id, a, want)
		}
	}
	p.ask.Encode(&images.Request{ID: id, URL: "tar://a.tar", Dir: images.Raw(dir)})
	res := p.last(1)[id].Resolved
	for i := range each {
		dest := filepath.Join(dir, fmt.Sprint("d\xff", i))
		os.Mkdir(dest, 0o755)
		p.ask.Encode(&images.Request{ID: id + i, URL: "tar://a.tar", Dir: images.Raw(dir), Resolved: res, Dest: images.Raw(dest)})
	}
	for i, a := range p.last(each) {
		_, err := os.Stat(filepath.Join(dir, fmt.Sprint("d\xff", i-id), "file"))
		if a.Config == nil || err != nil {
			t.Errorf("request %d: %+v, %v", i, a, err)
		}
	}
	p.end()
}

// TestServeTells has what the client of a request has to say arrive with its
// number.
func TestServeTells(t *testing.T) {
	out, in := io.Pipe()
	s := &server{answers: json.NewEncoder(in)}
	ref, err := images.Parse("docker://debian", "/", "")
	if err != nil {
		t.Fatal(err)
	}
	s.asked.Store(ref, 7)
	c := s.newClient(images.Settings{})
	go func() {
		fmt.Fprint(c.Log(ref), "caf\xe9\n")
		c.Warn(ref, "beware")
	}()
	answers := json.NewDecoder(out)
	for _, want := range []images.Answer{{ID: 7, Log: "caf\xe9\n"}, {ID: 7, Warn: "beware"}} {
		var got images.Answer
		if err := answers.Decode(&got); err != nil || got != want {
			t.Errorf("got %+v (%v), want %+v", got, err, want)
		}
	}
}

func TestServeRefuses(t *testing.T) {
	for _, in := range []string{"", "{", `{"Settings":{}}{"ID":"x"}`, `{"Settings":{},"Cache":"x"}`} {
		if err := serve(strings.NewReader(in), io.Discard); err == nil {
			t.Errorf("%q is heeded", in)
		}
	}
}
