package fetch

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"raptor-make/internal/images"
)

// A source is a line of a sources.list.
type source struct {
	uri, suite string
	components []string
}

// packageLists returns, labelled, the digests of the lists of packages that the
// bootstrap takes its packages from, as the mirror's Release files give them
// now: they change when a package does, and not whenever a Release is signed.
func (b *bootstrap) packageLists(ctx context.Context, c *Client, r *images.Ref) ([][2]string, error) {
	architecture, err := c.DebianArchitecture()
	if err != nil {
		return nil, err
	}
	sources := []source{{b.Mirror, b.Suite, b.Components}}
	if b.Mirror == "" {
		if sources, err = b.defaultSources(ctx, c, r); err != nil {
			return nil, err
		}
	}
	t := transport()
	defer t.CloseIdleConnections()
	client := &http.Client{Transport: t}
	var labels [][2]string
	for i, s := range sources {
		release, err := fetchRelease(ctx, client, s)
		if err != nil {
			return nil, err
		}
		for _, component := range s.components {
			sum, err := release.packages(component, architecture)
			// Updates and security updates may lack what the suite has.
			if err != nil && i > 0 {
				sum, err = "none", nil
			}
			if err != nil {
				return nil, fmt.Errorf("%s: %w", s.uri, err)
			}
			labels = append(labels, [2]string{"packages of " + s.suite + " " + component, sum})
		}
	}
	return labels, nil
}

// A release is what is used of a Release file.
type release struct {
	suite  string
	fields map[string]string
	sha256 map[string]string // by path
}

// maxRelease bounds a Release file; Debian's have some 200 KB.
const maxRelease = 32 << 20

// fetchRelease gets a suite's InRelease, or the Release of mirrors without. Its
// signature is not looked at: apt does that, when it installs from it.
func fetchRelease(ctx context.Context, client *http.Client, s source) (*release, error) {
	for _, name := range []string{"InRelease", "Release"} {
		u := s.uri + "/dists/" + s.suite + "/" + name
		raw, status, err := fetchPatiently(ctx, client, u)
		switch {
		case err != nil:
			return nil, fmt.Errorf("cannot reach the mirror: %w", err)
		case status == http.StatusOK:
			return parseRelease(s.suite, raw)
		case status != http.StatusNotFound:
			return nil, fmt.Errorf("the mirror did not give %s: %d %s", u, status, http.StatusText(status))
		}
	}
	return nil, fmt.Errorf("mirror %s has no suite %q", s.uri, s.suite)
}

// fetchPatiently repeats what failed for a reason that may pass.
func fetchPatiently(ctx context.Context, client *http.Client, u string) (raw []byte, status int, err error) {
	wait := 200 * time.Millisecond
	for try := 1; ; try++ {
		raw, status, err = fetchOnce(ctx, client, u)
		if err == nil && status < 500 && status != http.StatusTooManyRequests || try == tries {
			return raw, status, err
		}
		select {
		case <-ctx.Done():
			return nil, 0, context.Cause(ctx)
		case <-time.After(wait):
			wait *= 2
		}
	}
}

func fetchOnce(ctx context.Context, client *http.Client, u string) ([]byte, int, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errPatience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
	if err != nil {
		return nil, 0, err
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, 0, unwrapURL(cause(ctx, err), u)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, response.StatusCode, nil
	}
	raw, err := io.ReadAll(io.LimitReader(response.Body, maxRelease+1))
	if err == nil && len(raw) > maxRelease {
		err = fmt.Errorf("it is longer than %d MiB", maxRelease>>20)
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", u, err)
	}
	return raw, response.StatusCode, err
}

// unwrapURL gives an error of net/http the form of the others.
func unwrapURL(err error, u string) error {
	var of *url.Error
	if errors.As(err, &of) {
		err = of.Err
	}
	return fmt.Errorf("%s: %w", u, err)
}

// parseRelease reads a Release file, signed within or not:
//
//	Suite: stable
//	Components: main contrib
//	SHA256:
//	 7afb…c0 1484433 main/binary-amd64/Packages
func parseRelease(suite string, raw []byte) (*release, error) {
	r := &release{suite, make(map[string]string), make(map[string]string)}
	lines := bufio.NewScanner(bytes.NewReader(raw))
	lines.Buffer(nil, maxRelease)
	section := ""
	for lines.Scan() {
		line := lines.Text()
		if strings.HasPrefix(line, " ") {
			if f := strings.Fields(line); section == "SHA256" && len(f) == 3 {
				r.sha256[f[2]] = f[0]
			}
			continue
		}
		key, value, ok := strings.Cut(line, ":")
		if section = key; ok {
			r.fields[key] = strings.TrimSpace(value)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if len(r.sha256) == 0 {
		return nil, fmt.Errorf("the mirror's Release file of %q lists no SHA256 digests", suite)
	}
	return r, nil
}

// packages returns the digest of a list of packages.
func (r *release) packages(component, architecture string) (string, error) {
	for _, suffix := range []string{"", ".xz", ".gz"} {
		if sum, ok := r.sha256[component+"/binary-"+architecture+"/Packages"+suffix]; ok {
			return sum + suffix, nil
		}
	}
	if known := strings.Fields(r.fields["Components"]); !slices.Contains(known, component) {
		return "", fmt.Errorf("suite %q has no component %q, but %s", r.suite, component, listOr(known, "none"))
	}
	return "", fmt.Errorf("suite %q has no architecture %q, but %s", r.suite, architecture,
		listOr(strings.Fields(r.fields["Architectures"]), "none"))
}
