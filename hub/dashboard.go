// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"context"
	"net/http"
	"os"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"

	"github.com/drover-io/drover/hub/auth"
	"github.com/drover-io/drover/hub/live"
	"github.com/drover-io/drover/hub/metrics"
	"github.com/drover-io/drover/hub/web"
	liveapi "github.com/drover-io/drover/shared/apis/live"
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
}
