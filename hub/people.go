// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"cmp"
	"context"
	"io"
	"net/http"
	"sort"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"github.com/drover-io/drover/hub/audit"
	"github.com/drover-io/drover/hub/catalog/manage"
	"github.com/drover-io/drover/hub/login"
	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/shared/apis/cluster"
	"github.com/drover-io/drover/shared/apis/fleet"
)

// people routes everything that is not an agent's. Watches end with ctx, so that
// a hub that stops does not wait for them.
func people(ctx context.Context, p *parts, pages http.Handler, authn authenticator.Request, authz authorizer.UnconditionalAuthorizer) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := cmp.Or(p.broker.Healthy(), readyToAuthorize(p.roles)); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		io.WriteString(w, "ok")
	})
	stats := newStats(p, authn, authz)
	mux.Handle("GET /metrics", stats)
	for _, path := range []string{"/api", "/api/", "/apis", "/apis/", "/openapi/", "/version"} {
		mux.Handle(path, endWatches(ctx, stats.count(p.api)))
	}
	log := p.audit.Handler(authn, authz)
	mux.Handle(audit.Path, log)
	mux.Handle(audit.VerifyPath, log)
	for _, path := range []string{login.PathLogin, login.PathLogin + "/", login.PathSession, login.PathPage, login.PathPage + "/"} {
		mux.Handle(path, p.people.login)
	}
	addWorks(mux, p, authn, authz, p.log)
	mux.Handle(manage.Prefix, manage.New(stats.count(p.api)))
	addDashboard(ctx, mux, p)
	addCatalog(mux, p, authn, authz)
	mux.Handle("/", pages)
	return mux
}

// endWatches cancels requests for a watch when ctx ends. Other requests run to
// their end: cutting a write would leave its client in doubt.
func endWatches(ctx context.Context, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if watch, err := strconv.ParseBool(r.URL.Query().Get("watch")); err == nil && watch {
			request, cancel := context.WithCancel(r.Context())
			defer cancel()
			defer context.AfterFunc(ctx, cancel)()
			r = r.WithContext(request)
		}
		next.ServeHTTP(w, r)
	})
}

// metricsProvider serves ClusterMetrics from the last samples.
type metricsProvider struct{ p *parts }

func (m *metricsProvider) object(name string) (map[string]any, error) {
	s, known := m.p.metrics.Last(name)
	_, connected := m.p.gateway.Session(name)
	if !known && !connected {
		return nil, apierrors.NewNotFound(schema.GroupResource{Group: fleet.Group, Resource: "clustermetrics"}, name)
	}
	return runtime.DefaultUnstructuredConverter.ToUnstructured(&fleet.ClusterMetrics{
		TypeMeta:   metav1.TypeMeta{APIVersion: fleet.Group + "/" + fleet.Version, Kind: fleet.KindClusterMetrics},
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Connected:  connected, Host: s.Host, Kubernetes: s.Kubernetes, AddOns: m.p.metrics.AddOns(name),
	})
}

// Get returns the last sample of a managed cluster.
func (m *metricsProvider) Get(_ context.Context, _, name string) (map[string]any, error) {
	if _, ok := m.p.store.Cached(store.Key{Resource: cluster.Resource, Name: name}); !ok {
		return nil, apierrors.NewNotFound(schema.GroupResource{Group: fleet.Group, Resource: "clustermetrics"}, name)
	}
	return m.object(name)
}

// List returns the last sample of every managed cluster that sent one, by name.
func (m *metricsProvider) List(ctx context.Context, _ string) ([]map[string]any, error) {
	page, err := m.p.store.List(ctx, store.Selection{Resource: cluster.Resource, MinRevision: store.Any})
	if err != nil {
		return nil, err
	}
	var out []map[string]any
	for _, e := range page.Entries {
		obj, err := m.object(e.Key.Name)
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, obj)
	}
	sort.Slice(out, func(i, j int) bool { return strings.Compare(nameIn(out[i]), nameIn(out[j])) < 0 })
	return out, nil
}

func nameIn(obj map[string]any) string {
	meta, _ := obj["metadata"].(map[string]any)
	name, _ := meta["name"].(string)
	return name
}
