package fetch

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/regclient/regclient"
	"github.com/regclient/regclient/config"
	"github.com/regclient/regclient/scheme/reg"
	"github.com/regclient/regclient/types/errs"
	"github.com/regclient/regclient/types/ref"

	"raptor-make/internal/images"
)

// A remote is a host that images are fetched from: a registry, or a mirror of
// one.
type remote struct {
	name   string // host[:port], for people and for credentials
	prefix string // of repositories: a mirror may keep them below a path
	client *regclient.RegClient
	// silent is set once the host could not be reached: others go first then.
	silent atomic.Bool
}

// remotes are the hosts a Client has spoken to.
type remotes struct {
	mu     sync.Mutex
	known  map[remoteKey]*remote
	logins func() ([]config.Host, error)
}

// A remoteKey is what decides about how a host is spoken to.
type remoteKey struct {
	url      string
	insecure bool
}

const (
	// headerTimeout is how long a host may take to begin its answer.
	headerTimeout = 60 * time.Second
	dialTimeout   = 15 * time.Second
	// tries is how often a request is repeated that failed for a reason that
	// may pass; the waits between are 0.2 s, 0.4 s and so on.
	tries = 4
)

// ask returns the hosts to ask for images of a registry, in this order: its
// mirrors, then the registry. Those that turned out to be silent go last.
func (c *Client) ask(ctx context.Context, registry string) ([]*remote, error) {
	if c.Offline {
		return nil, errOffline
	}
	var urls []string
	for host, mirrors := range c.Mirrors {
		if canonicalHost(host) == registry {
			urls = append(urls, mirrors...)
		}
	}
	// Mirrors of an insecure registry are in the same network.
	insecure := c.insecure(registry)
	var hosts, silent []*remote
	for _, url := range append(urls, registry) {
		h, err := c.remote(ctx, url, insecure)
		if err != nil {
			return nil, err
		}
		if h.silent.Load() {
			silent = append(silent, h)
		} else {
			hosts = append(hosts, h)
		}
	}
	return append(hosts, silent...), nil
}

// errOffline is the end of every attempt to use the network when it is off.
var errOffline = errors.New("not in the cache, and the network is not to be used (offline)")

func canonicalHost(host string) string {
	if host == images.DockerIndex {
		return images.DockerRegistry
	}
	return host
}

// remote returns the host of [scheme://]host[:port][/prefix].
func (c *Client) remote(ctx context.Context, url string, insecure bool) (*remote, error) {
	c.remotes.mu.Lock()
	defer c.remotes.mu.Unlock()
	key := remoteKey{url, insecure}
	if h, ok := c.remotes.known[key]; ok {
		return h, nil
	}
	scheme, rest, ok := strings.Cut(url, "://")
	if !ok {
		scheme, rest = "", url
	}
	name, prefix, _ := strings.Cut(strings.TrimSuffix(rest, "/"), "/")
	name = canonicalHost(name)
	if err := images.CheckHost(name); err != nil {
		return nil, err
	}
	if prefix != "" {
		if err := images.CheckPath(prefix); err != nil {
			return nil, fmt.Errorf("mirror %s: %w", url, err)
		}
	}
	security, err := securityOf(ctx, scheme, name, insecure || c.insecure(name))
	if err != nil {
		return nil, fmt.Errorf("mirror %s: %w", url, err)
	}
	client, err := c.newRegclient(name, security)
	if err != nil {
		return nil, err
	}
	h := &remote{name: name, prefix: prefix, client: client}
	if c.remotes.known == nil {
		c.remotes.known = make(map[remoteKey]*remote)
	}
	c.remotes.known[key] = h
	return h, nil
}

func securityOf(ctx context.Context, scheme, name string, insecure bool) (config.TLSConf, error) {
	switch {
	case scheme == "http":
		return config.TLSDisabled, nil
	case scheme != "" && scheme != "https":
		return 0, fmt.Errorf("unknown scheme %q", scheme)
	case !insecure:
		return config.TLSEnabled, nil
	case scheme == "https" || speaksTLS(ctx, name):
		return config.TLSInsecure, nil
	case ctx.Err() != nil:
		return 0, context.Cause(ctx) // and not an answer
	}
	return config.TLSDisabled, nil
}

func (c *Client) newRegclient(name string, security config.TLSConf) (*regclient.RegClient, error) {
	if c.remotes.logins == nil {
		c.remotes.logins = sync.OnceValues(config.DockerLoad)
	}
	logins, err := c.remotes.logins()
	if err != nil {
		return nil, fmt.Errorf("read Docker's configuration: %w", err)
	}
	host := config.HostNewName(name)
	host.TLS = security
	// How much is fetched at once is decided here: a request that waits in
	// regclient for its turn would look like a silent host.
	host.ReqConcurrent = 64
	return regclient.New(
		regclient.WithConfigHost(logins...),
		regclient.WithConfigHost(*host),
		regclient.WithUserAgent("raptor-make"),
		regclient.WithDockerCerts(),
		regclient.WithRegOpts(reg.WithTransport(transport()), reg.WithRetryLimit(tries)),
	), nil
}

func transport() *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.DialContext = (&net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}).DialContext
	t.ResponseHeaderTimeout = headerTimeout
	return t
}

func (c *Client) insecure(host string) bool {
	for name, yes := range c.Insecure {
		if yes && canonicalHost(name) == host {
			return true
		}
	}
	return isLoopback(host)
}

func isLoopback(host string) bool {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = strings.Trim(host, "[]")
	}
	ip, err := netip.ParseAddr(name)
	return name == "localhost" || err == nil && ip.Unmap().IsLoopback()
}

// speaksTLS finds out whether an insecure registry has TLS all the same, as
// Docker does: a bad certificate is better than none.
func speaksTLS(ctx context.Context, host string) bool {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	t := transport()
	t.TLSClientConfig = &tls.Config{InsecureSkipVerify: true} //nolint:gosec // that is what insecure means
	defer t.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+host+"/v2/", nil)
	if err != nil {
		return false
	}
	response, err := t.RoundTrip(request)
	if err != nil {
		return false
	}
	response.Body.Close()
	return true
}

// repository is where the host keeps an image.
func (h *remote) repository(image images.Reference) ref.Ref {
	path := image.Path
	if h.prefix != "" {
		path = h.prefix + "/" + path
	}
	return ref.Ref{Scheme: "reg", Registry: h.name, Repository: path}
}

// explain says in a user's terms why the host did not give something.
func (h *remote) explain(what string, err error) error {
	switch {
	case errors.Is(err, errs.ErrNotFound):
		return &refusal{fmt.Sprintf("%s has no %s", h.name, what), err}
	case errors.Is(err, errs.ErrHTTPUnauthorized):
		return &refusal{fmt.Sprintf("%s refuses access to %s; it may not exist, or need a \"docker login %s\"", h.name, what, h.name), err}
	case errors.Is(err, errs.ErrHTTPRateLimit):
		return &refusal{fmt.Sprintf("%s refuses to give %s: too many requests; a login or a mirror may help", h.name, what), err}
	}
	var network *net.OpError
	if errors.As(err, &network) {
		h.silent.Store(true)
		return &refusal{fmt.Sprintf("cannot reach %s for %s: %v", h.name, what, network), err}
	}
	return &refusal{fmt.Sprintf("%s did not give %s: %s", h.name, what, brief(err)), err}
}

// A refusal is an error in other words.
type refusal struct {
	text string
	err  error
}

func (r *refusal) Error() string { return r.text }
func (r *refusal) Unwrap() error { return r.err }

// maxBrief bounds what is shown of an error: some hold a whole web page.
const maxBrief = 300

func brief(err error) string {
	s := strings.Join(strings.Fields(err.Error()), " ")
	if len(s) > maxBrief {
		s = strings.ToValidUTF8(s[:maxBrief], "") + "…"
	}
	return s
}

// failures is what several hosts said, if it is more than one.
func failures(list []error) error {
	if len(list) == 1 {
		return list[0]
	}
	return errors.Join(list...)
}
