// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/drover-io/drover/agent/link"
	"github.com/drover-io/drover/pki/identity"
	"github.com/drover-io/drover/shared/daemon"
	"github.com/drover-io/drover/shared/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestNameOf(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]string{
		"shop-1":                             "shop-1",
		"Shop-1.Example.COM":                 "shop-1",
		"a_b":                                "a-b",
		"--a--":                              "a",
		"":                                   "",
		"...":                                "",
		"bücher":                             "b-cher",
		"店":                                  "",
		strings.Repeat("a", 70):              strings.Repeat("a", 63),
		strings.Repeat("a", 62) + "-b":       strings.Repeat("a", 62),
		"ip-10-0-0-1.eu-central-1.internal.": "ip-10-0-0-1",
	} {
		if got := nameOf(host); got != want {
			t.Errorf("%q: %q, want %q", host, got, want)
		}
	}
}

func FuzzNameOf(f *testing.F) {
	f.Add("Shop_1.example")
	f.Fuzz(func(t *testing.T, host string) {
		if got := nameOf(host); got != "" && identity.ValidName(got) != nil {
			t.Errorf("%q gives %q: %v", host, got, identity.ValidName(got))
		}
	})
}

func TestClusterName(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, token, want, fails string }{
		{name: "a", want: "a"},
		{token: "b", want: "b"},
		{name: "a", token: "a", want: "a"},
		{name: "a", token: "b", fails: `the token is for cluster "b", not "a"`},
		{name: "Shop", fails: "name: "},
		{name: "a/b", fails: "name: "},
		{token: "..", fails: "name: "},
	} {
		got, err := Config{Name: tt.name}.clusterName(tt.token)
		if got != tt.want || (err == nil) != (tt.fails == "") || err != nil && !strings.Contains(err.Error(), tt.fails) {
			t.Errorf("%+v: %q, %v", tt, got, err)
		}
		var de *daemon.Error
		if err != nil && (!errors.As(err, &de) || de.Code != daemon.ExitUsage || de.Hint == "") {
			t.Errorf("%v: want an error of usage with a hint", err)
		}
	}
}

func TestPrepare(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "a", "b")
	c := Config{StateDir: dir}
	if err := c.prepare(); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{dir, c.identityDir()} {
		if st, err := os.Stat(d); err != nil || st.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v, %v", d, st.Mode(), err)
		}
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"", file} {
		if err := (Config{StateDir: bad}).prepare(); err == nil || !strings.Contains(err.Error(), "state") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestHome(t *testing.T) {
	t.Parallel()
	c := Config{StateDir: t.TempDir()}
	if _, err := c.loadHome(); !os.IsNotExist(err) {
		t.Errorf("%v", err)
	}
	if err := c.prepare(); err != nil {
		t.Fatal(err)
	}
	want := home{URLs: []string{"https://a"}, TrustDomain: "td", Cluster: "c"}
	if err := c.saveHome(want); err != nil {
		t.Fatal(err)
	}
	if got, err := c.loadHome(); err != nil || got.Cluster != "c" || got.URLs[0] != "https://a" {
		t.Errorf("%+v, %v", got, err)
	}
	if err := os.WriteFile(c.homeFile(), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := c.loadHome(); err == nil || !strings.Contains(err.Error(), c.homeFile()) {
		t.Errorf("garbage: %v", err)
	}
}

// TestFlush: while the hub is away the newest samples are kept, oldest first.
func TestFlush(t *testing.T) {
	t.Parallel()
	l, err := link.New(link.Config{
		URLs: []string{"https://127.0.0.1:1"}, Cluster: "c", TrustDomain: "fleet.test", Log: zap.NewNop(),
		TLS: func() *tls.Config { return nil }, Hello: func() wire.Hello { return wire.Hello{} },
	})
	if err != nil {
		t.Fatal(err)
	}
	s := &session{link: l, log: zap.NewNop()}
	var ring []sample
	for i := range 3 * ringSize {
		ring = s.flush(append(ring, sample{"host", fmt.Append(nil, i)}))
	}
	if len(ring) != 2*ringSize || string(ring[0].data) != fmt.Sprint(ringSize) || string(ring[len(ring)-1].data) != fmt.Sprint(3*ringSize-1) {
		t.Errorf("%d samples, from %s to %s", len(ring), ring[0].data, ring[len(ring)-1].data)
	}
}

func TestSameStatus(t *testing.T) {
	t.Parallel()
	status := func(edit func(*wire.Status)) wire.Status {
		s := wire.Status{
			ObservedAt: time.Unix(1, 0), Epoch: "e", Generation: 1,
			Kubernetes: &wire.KubernetesStatus{Healthy: true, Capacity: map[string]string{"cpu": "1"}},
		}
		edit(&s)
		return s
	}
	base := status(func(*wire.Status) {})
	for _, tt := range []struct {
		name string
		edit func(*wire.Status)
		same bool
	}{
		{"nothing", func(*wire.Status) {}, true},
		{"time", func(s *wire.Status) { s.ObservedAt = time.Unix(9, 0) }, true},
		{"desired state", func(s *wire.Status) { s.Epoch, s.Generation = "x", 9 }, true},
		{"health", func(s *wire.Status) { s.Kubernetes.Healthy = false }, false},
		{"message", func(s *wire.Status) { s.Kubernetes.HealthMessage = "x" }, false},
		{"capacity", func(s *wire.Status) { s.Kubernetes.Capacity["cpu"] = "2" }, false},
		{"no Kubernetes", func(s *wire.Status) { s.Kubernetes = nil }, false},
		{"certificate", func(s *wire.Status) { s.CertificateNotAfter = time.Unix(5, 0) }, false},
	} {
		if got := sameStatus(base, status(tt.edit)); got != tt.same {
			t.Errorf("%s: same %v, want %v", tt.name, got, tt.same)
		}
	}
	if sameStatus(wire.Status{}, base) {
		t.Error("the first status is like none")
	}
}

// TestRetry: what may heal is tried again; what cannot, is not.
func TestRetry(t *testing.T) {
	t.Parallel()
	busy := func(after time.Duration) error {
		return &refusedError{status: http.StatusTooManyRequests, retryAfter: after}
	}
	for _, tt := range []struct {
		name  string
		errs  []error // one an attempt, the last for all further ones
		tries int
		took  time.Duration
		ok    bool
	}{
		{"at once", []error{nil}, 1, 0, true},
		{"refused", []error{&refusedError{status: http.StatusForbidden}}, 1, 0, false},
		{"not the hub", []error{&identity.HubError{Reason: identity.HubOtherRoot}}, 1, 0, false},
		{"hub not there", []error{errors.New("refused")}, joinAttempts, 15 * time.Second, false},
		{"hub fails, then not", []error{&refusedError{status: http.StatusServiceUnavailable}, nil}, 2, time.Second, true},
		{"busy for a minute", []error{busy(time.Minute), nil}, 2, time.Minute, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				begin, tries := time.Now(), 0
				err := (&hubClient{}).retry(t.Context(), zap.NewNop(), func() error {
					tries++
					return tt.errs[min(tries, len(tt.errs))-1]
				})
				if (err == nil) != tt.ok || tries != tt.tries || time.Since(begin) != tt.took {
					t.Errorf("%v after %d attempts and %s, want %d and %s", err, tries, time.Since(begin), tt.tries, tt.took)
				}
			})
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := (&hubClient{}).retry(ctx, zap.NewNop(), func() error { return errors.New("x") }); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestHintFor(t *testing.T) {
	t.Parallel()
	for reason, want := range map[string]string{
		wire.ReasonExpired: "new token", wire.ReasonRemoved: "new token", wire.ReasonRevoked: "operator",
		wire.ReasonSuperseded: "another agent", wire.ReasonNotAccepted: "tries again", "": "tries again",
	} {
		if got := hintFor(reason); !strings.Contains(got, want) {
			t.Errorf("%s: %q", reason, got)
		}
	}
}

func TestSpendToken(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "token")
	a := &Agent{cfg: Config{TokenFile: file}, log: zap.NewNop()}
	if _, err := a.cfg.readToken(); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("missing: %v", err)
	}
	if err := os.WriteFile(file, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := &session{agent: a}
	if !s.haveToken() {
		t.Error("a token is not seen")
	}
	if err := a.spendToken(); err != nil {
		t.Error(err)
	}
	if s.haveToken() {
		t.Error("the token stays after its use")
	}
	a.cfg.TokenFile = filepath.Join(file, "none")
	if err := a.spendToken(); err != nil {
		t.Errorf("a token file that cannot be written: %v", err)
	}
}

// TestNoSecretToStrangers: a server that is not the hub gets no byte.
func TestNoSecretToStrangers(t *testing.T) {
	t.Parallel()
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a request arrived") }))
	srv.Config.ErrorLog = zap.NewStdLog(zap.NewNop())
	srv.StartTLS()
	defer srv.Close()
	key, err := identity.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := identity.Carrier(key)
	if err != nil {
		t.Fatal(err)
	}
	c := &hubClient{urls: []string{srv.URL}, cert: cert, trust: identity.Trust{TrustDomain: "fleet.test", Pins: []string{strings.Repeat("0", 64)}}}
	err = c.do(t.Context(), http.MethodPost, wire.PathJoin, wire.JoinRequest{Secret: "s"}, &wire.JoinState{})
	var hub *identity.HubError
	if !errors.As(err, &hub) {
		t.Errorf("%v, want a *HubError", err)
	}
	var de *daemon.Error
	if !errors.As(joinError(err), &de) || !strings.Contains(de.Hint, "nothing secret was sent") {
		t.Errorf("hint %+v", de)
	}
}
