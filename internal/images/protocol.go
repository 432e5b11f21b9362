package images

import "strconv"

// What a Client and its fetcher say to each other are JSON values, one after the
// other: the Client a Setup and then Requests on the fetcher's standard input,
// the fetcher Answers on its standard output.

// ProgramFD is where the fetcher's own program is open.
const ProgramFD = 3

// A Setup is what all requests have in common.
type Setup struct {
	Settings Settings
	Cache    Raw // Settings.Cache
}

// A Request asks for an image, or that the request of the same ID be given up:
// it is answered all the same.
type Request struct {
	ID             int
	Cancel         bool
	URL, Dir, Root Raw       // as Parse takes them
	Resolved       *Resolved // nil: it is to be resolved
	Dest           Raw       // where to unpack what was
}

// An Answer is one of: how far a request is, a piece of the output of a program,
// something that the user should know, and finally what came of it.
type Answer struct {
	ID          int
	What        Raw `json:",omitempty"` // with Done and Total: a Progress
	Done, Total int64
	Log, Warn   Raw       `json:",omitempty"`
	Resolved    *Resolved `json:",omitempty"`
	Config      *Config   `json:",omitempty"`
	Failed      Raw       `json:",omitempty"`
}

// final tells whether there will be no other.
func (a *Answer) final() bool { return a.Resolved != nil || a.Config != nil || a.Failed != "" }

// A Raw is a string that need not be UTF-8, as JSON's have to be: names of files
// need not.
type Raw string

// MarshalText quotes it.
func (r Raw) MarshalText() ([]byte, error) { return strconv.AppendQuoteToASCII(nil, string(r)), nil }

// UnmarshalText is the reverse of MarshalText.
func (r *Raw) UnmarshalText(b []byte) error {
	s, err := strconv.Unquote(string(b))
	*r = Raw(s)
	return err
}

// request is a request about a reference.
func (r *Ref) request() *Request {
	return &Request{URL: Raw(r.URL), Dir: Raw(r.dir), Root: Raw(r.root)}
}

// Ref is the reference that a request is about.
func (q *Request) Ref() (*Ref, error) { return Parse(string(q.URL), string(q.Dir), string(q.Root)) }
