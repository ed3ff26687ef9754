// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"github.com/drover-io/drover/hub/auth"
	"github.com/drover-io/drover/hub/live"
	"github.com/drover-io/drover/hub/metrics"
	"github.com/drover-io/drover/hub/web"
	"github.com/drover-io/drover/pki/identity"
	liveapi "github.com/drover-io/drover/shared/apis/live"
	"github.com/drover-io/drover/shared/daemon"
)

// pages are the dashboard: as it was built into the program, or from a directory
// in which somebody works on it.
func (h *Hub) pages() (http.Handler, error) {
	if h.cfg.UIDir != "" {
		return web.Handler(os.DirFS(h.cfg.UIDir), true)
	}
	built, err := web.Built()
	if err != nil {
		return nil, err
	}
	return web.Handler(built, false)
}

func newLive(p *parts, authn authenticator.Request, authz auth.RBAC) *live.Live {
	return live.New(live.Config{
		Store: p.store, Authenticator: authn, Authorizer: authz, Sight: authz, Log: p.log.Named("live"),
		Valid: func(r *http.Request, who user.Info) error {
			if names := who.GetExtra()[auth.ExtraSession]; len(names) == 1 {
				return p.people.sessions.Good(names[0])
			}
			_, _, err := authn.AuthenticateRequest(r)
			return err
		},
		Load: func(cluster string) (live.Load, bool) {
			s, ok := p.metrics.Last(cluster)
			if !ok {
				return live.Load{}, false
			}
			return loadOf(s)
		},
	})
}

// loadOf is a sample in per cent: what a cluster uses of what it can allocate, or
// what its pods request where that is not measured; of a machine without a cluster,
// the machine's.
func loadOf(s metrics.Sample) (live.Load, bool) {
	if k := s.Kubernetes; k != nil {
		used := k.Usage
		if used == nil {
			used = k.Requests
		}
		cpu, ok := share(used["cpu"], k.Allocatable["cpu"])
		memory, also := share(used["memory"], k.Allocatable["memory"])
		return live.Load{CPU: cpu, Memory: memory}, ok && also
	}
	if h := s.Host; h != nil && h.Cores > 0 && h.MemoryTotal > 0 {
		return live.Load{CPU: 100 * h.CPU / float64(h.Cores), Memory: 100 * float64(h.MemoryUsed) / float64(h.MemoryTotal)}, true
	}
	return live.Load{}, false
}

func share(used, total string) (float64, bool) {
	t, err := resource.ParseQuantity(total)
	if err != nil || t.IsZero() {
		return 0, false
	}
	u := resource.Quantity{}
	if used != "" {
		if u, err = resource.ParseQuantity(used); err != nil {
			return 0, false
		}
	}
	return 100 * u.AsApproximateFloat64() / t.AsApproximateFloat64(), true
}

// addDashboard adds what the dashboard reads beside the API.
func addDashboard(ctx context.Context, mux *http.ServeMux, p *parts) {
	tables := p.live.Handler(ctx)
	mux.Handle("GET "+liveapi.PathTable+"/", tables)
	mux.Handle("GET "+liveapi.PathLive, tables)
	mux.Handle("GET "+liveapi.PathHub, p.overview)
}

// overview answers how the hub itself is, to who may get the path.
type overview struct {
	p       *parts
	cfg     *Config
	own     func(*tls.ClientHelloInfo) (*tls.Certificate, error) // for browsers; nil: the hub's
	started time.Time
}

// onlyWhoMayGet wraps a function that returns its answer in the permission to get
// the path.
func onlyWhoMayGet(authz authorizer.UnconditionalAuthorizer, f func(ctx context.Context) (any, error)) func(*http.Request, user.Info) (any, error) {
	return func(r *http.Request, who user.Info) (any, error) {
		decision, _, err := authz.Authorize(r.Context(), authorizer.AttributesRecord{User: who, Verb: "get", Path: r.URL.Path})
		if err != nil {
			return nil, fmt.Errorf("authorize get %s: %w", r.URL.Path, err)
		}
		if decision != authorizer.DecisionAllow {
			return nil, apierrors.NewForbidden(schema.GroupResource{}, "", fmt.Errorf("user %q cannot get path %q", who.GetName(), r.URL.Path))
		}
		return f(r.Context())
	}
}

func (o *overview) answer(ctx context.Context) (any, error) {
	certs, err := o.certificates()
	if err != nil {
		return nil, err
	}
	streams, err := o.streams(ctx)
	if err != nil {
		return nil, err
	}
	stats := o.p.gateway.Stats()
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	out := liveapi.Hub{
		Version: daemon.Version(), Started: o.started, Time: time.Now(), TrustDomain: o.p.ca.TrustDomain(), URLs: o.p.urls,
		Revision: o.p.store.Revision(), Objects: o.p.store.Objects(), Certificates: certs, Streams: streams,
		Sessions: liveapi.HubSessions{Live: stats.Sessions, Opened: stats.Connects}, Watches: o.p.store.Stats().Watchers,
		Dashboards: o.p.live.Streams(), MemoryBytes: memory.Sys - memory.HeapReleased,
	}
	for _, n := range stats.Refusals {
		out.Sessions.Refused += n
	}
	var disk syscall.Statfs_t
	if err := syscall.Statfs(o.cfg.DataDir, &disk); err == nil {
		size := uint64(disk.Bsize) //nolint:gosec // is positive
		out.DiskTotal, out.DiskBytes = disk.Blocks*size, (disk.Blocks-disk.Bavail)*size
	}
	return out, nil
}

// certificates of the hub: the roots need a person in time, the others are made
// anew by the hub, but for what somebody gave it for browsers.
func (o *overview) certificates() ([]liveapi.Certificate, error) {
	out := []liveapi.Certificate{}
	add := func(name string, c *x509.Certificate, renewed bool) {
		out = append(out, liveapi.Certificate{Name: name, NotAfter: c.NotAfter, Renewed: renewed, Fingerprint: identity.CertFingerprint(c)})
	}
	roots := o.p.ca.Roots()
	for i, c := range roots {
		name := "root"
		if len(roots) > 1 {
			name = fmt.Sprintf("root %d", i+1)
		}
		add(name, c, false)
	}
	add("intermediate", o.p.ca.Issuer(), true)
	for _, s := range []struct {
		name    string
		get     func(*tls.ClientHelloInfo) (*tls.Certificate, error)
		renewed bool
	}{
		{"for agents", o.p.ca.GetHubCertificate, true},
		{"for the API", o.p.ca.GetAPICertificate, true},
		{"for browsers", o.own, false},
	} {
		if s.get == nil {
			continue
		}
		c, err := s.get(&tls.ClientHelloInfo{})
		if err != nil {
			return nil, fmt.Errorf("certificate %s: %w", s.name, err)
		}
		leaf, err := x509.ParseCertificate(c.Certificate[0])
		if err != nil {
			return nil, fmt.Errorf("certificate %s: %w", s.name, err)
		}
		add(s.name, leaf, s.renewed)
	}
	if at := o.p.ca.SignerNotAfter(); !at.IsZero() {
		out = append(out, liveapi.Certificate{Name: "signer of desired state", NotAfter: at, Renewed: true})
	}
	return out, nil
}

func (o *overview) streams(ctx context.Context) ([]liveapi.Stream, error) {
	out := []liveapi.Stream{}
	list := o.p.broker.JetStream().ListStreams(ctx)
	for info := range list.Info() {
		s := liveapi.Stream{Name: info.Config.Name, Messages: info.State.Msgs, Bytes: info.State.Bytes}
		if info.State.Msgs > 0 {
			s.Oldest = info.State.FirstTime
		}
		out = append(out, s)
	}
	if err := list.Err(); err != nil {
		return nil, fmt.Errorf("list streams: %w", err)
	}
	slices.SortFunc(out, func(a, b liveapi.Stream) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

func (h *Hub) overview(p *parts, authn authenticator.Request, authz authorizer.UnconditionalAuthorizer, own func(*tls.ClientHelloInfo) (*tls.Certificate, error)) http.Handler {
	o := &overview{p: p, cfg: &h.cfg, own: own, started: time.Now()}
	i := &inspector{p: p, authn: authn, authz: authz, log: p.log}
	return i.serve(onlyWhoMayGet(authz, o.answer))
}
