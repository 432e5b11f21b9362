package wire

import (
	"reflect"
	"testing"
)

func example() *Spec {
	return &Spec{
		Layers: []string{"/a", "/b:c"}, Upper: "/u", Work: "/w", Hostname: "h", Build: true, State: true, Trace: true, Wait: true, Loopback: true,
		Root: true, Terminal: true, KVM: true, Rootless: true, NoNewPrivs: true, ResolvConf: []byte{}, Keep: 1 << 40, Filter: []byte{1, 2, 3},
		Mounts: []Mount{{Dest: "/d", ReadOnly: true, Source: "/s", Index: []byte("{}")}, {Dest: "/e", Overlay: []string{"/x", "/y"}, Index: []byte{}},
			{Dest: "/f", Dirs: []Dir{{"n", "/s"}}, Index: []byte{}}},
		Actions: []Action{
			{Kind: Run, Args: []string{"a", ""}, Env: []string{"A=\xff"}, Dir: "/", Data: []byte{}},
			{Kind: Copy, Dest: "/x", Parents: true, Mode: 0o4755, HasMode: true, Owner: "a:b", Data: []byte("d"), Sources: []Source{{3, "n", []string{"x/y"}}}},
		},
	}
}

func TestSpec(t *testing.T) {
	want := example()
	// Every field is set, so that none can be forgotten here.
	for v, i := reflect.ValueOf(*want), 0; i < v.NumField(); i++ {
		if f := v.Field(i); f.IsZero() {
			t.Errorf("the example lacks %s", v.Type().Field(i).Name)
		}
	}
	buf := want.Encode()
	got, err := Decode(buf)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v\n%+v\nwant\n%+v", err, got, want)
	}
	for i := range buf {
		if _, err := Decode(buf[:i]); err == nil {
			t.Errorf("the first %d bytes are taken for a spec", i)
		}
	}
	if _, err := Decode(append(buf, 0)); err == nil {
		t.Error("one byte more is not noticed")
	}
}

func TestEvent(t *testing.T) {
	want := Event{Failed, 1, 2, 3, "op", "path", "text", 1 << 50, 5}
	buf := want.Encode()
	if got, err := DecodeEvent(buf[1:]); err != nil || got != want || int(buf[0]) != len(buf)-1 {
		t.Errorf("%v %+v", err, got)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(example().Encode())
	f.Fuzz(func(t *testing.T, buf []byte) {
		Decode(buf)
		DecodeEvent(buf)
	})
}
