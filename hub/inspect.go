// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"

	"go.uber.org/zap"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"github.com/drover-io/drover/hub/delivery"
	"github.com/drover-io/drover/hub/explain"
	"github.com/drover-io/drover/hub/metrics"
	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/shared/apis/addon"
	"github.com/drover-io/drover/shared/apis/cluster"
	"github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/shared/apis/work"
)

const (
	maxDiffBody     = 8 << 20
	diffWait        = 30 * time.Second
	longestDiffWait = 5 * time.Minute
	// maxDiffs run at the same time: each holds its answers in memory.
	maxDiffs = 4
)

// inspector answers what people ask about works beside the API.
type inspector struct {
	p     *parts
	authn authenticator.Request
	authz authorizer.UnconditionalAuthorizer
	diffs chan struct{}
	log   *zap.Logger
}

// serve makes a handler of a function that returns its answer.
func (i *inspector) serve(f func(r *http.Request, who user.Info) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		who, ok, err := i.authn.AuthenticateRequest(r)
		if err != nil || !ok || who == nil || who.User == nil {
			refusePeople(w, apierrors.NewUnauthorized("Unauthorized: the request carries no credentials that the hub knows"))
			return
		}
		answer, err := f(r, who.User)
		if err != nil {
			var status apierrors.APIStatus
			if !errors.As(err, &status) && r.Context().Err() == nil {
				i.log.Error("request failed", zap.String("path", r.URL.Path), zap.Error(err))
			}
			refusePeople(w, err)
			return
		}
		writeJSON(w, http.StatusOK, answer)
	}
}

func worksResource() schema.GroupResource {
	return schema.GroupResource{Group: work.Group, Resource: "manifestworks"}
}

// may refuses with 403 unless the user has the verb on a work.
func (i *inspector) may(ctx context.Context, who user.Info, verb, cluster, name string) error {
	decision, _, err := i.authz.Authorize(ctx, authorizer.AttributesRecord{
		User: who, Verb: verb, APIGroup: work.Group, APIVersion: work.Version, Resource: "manifestworks",
		Namespace: cluster, Name: name, ResourceRequest: true,
	})
	if err != nil {
		return fmt.Errorf("authorize %s manifestworks: %w", verb, err)
	}
	if decision != authorizer.DecisionAllow {
		return apierrors.NewForbidden(worksResource(), name, fmt.Errorf("user %q cannot %s manifestworks in namespace %q", who.GetName(), verb, cluster))
	}
	return nil
}

// diff answers what works would change: with the permission to change them.
func (i *inspector) diff(r *http.Request, who user.Info) (any, error) {
	req, err := readDiff(r.Body)
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	chosen, err := i.targets(r.Context(), req)
	if err != nil {
		return nil, err
	}
	type job struct {
		change   delivery.Change
		clusters []string
	}
	var jobs []job
	for n, raw := range req.Works {
		change, ns, err := delivery.ParseChange(raw)
		if err != nil {
			return nil, apierrors.NewBadRequest(fmt.Sprintf("works[%d]: %v", n, err))
		}
		clusters := chosen
		if clusters == nil && ns == "" {
			return nil, apierrors.NewBadRequest(fmt.Sprintf("works[%d]: work %s names no namespace: say for which clusters", n, change.Name))
		}
		if clusters == nil {
			clusters = []string{ns}
		}
		for _, c := range clusters {
			if err := i.may(r.Context(), who, "update", c, change.Name); err != nil {
				return nil, err
			}
		}
		jobs = append(jobs, job{change, clusters})
	}
	select {
	case i.diffs <- struct{}{}:
		defer func() { <-i.diffs }()
	default:
		return nil, apierrors.NewTooManyRequests("the hub compares for others at the moment", 5)
	}
	wait := diffWait
	if s := req.TimeoutSeconds; s > 0 {
		wait = min(time.Duration(s)*time.Second, longestDiffWait)
	}
	answer := fleet.Diff{Works: []fleet.WorkDiff{}}
	for _, j := range jobs {
		answer.Works = append(answer.Works, i.p.delivery.Compare(r.Context(), j.change, j.clusters, wait))
	}
	return answer, r.Context().Err()
}

func readDiff(body io.Reader) (*fleet.DiffRequest, error) {
	data, err := io.ReadAll(io.LimitReader(body, maxDiffBody+1))
	if err != nil {
		return nil, fmt.Errorf("read the request: %w", err)
	}
	if len(data) > maxDiffBody {
		return nil, fmt.Errorf("the request has more than %d bytes", maxDiffBody)
	}
	var req fleet.DiffRequest
	if err := json.Unmarshal(data, &req); err != nil {
		return nil, fmt.Errorf("the request is not a DiffRequest: %w", err)
	}
	switch {
	case len(req.Works) == 0:
		return nil, errors.New("works: none given")
	case len(req.Works) > fleet.MaxDiffWorks:
		return nil, fmt.Errorf("works: %d, at most %d", len(req.Works), fleet.MaxDiffWorks)
	case len(req.Clusters) > 0 && req.Selector != "":
		return nil, errors.New("clusters, selector: give one of them")
	case len(req.Clusters) > fleet.MaxDiffClusters:
		return nil, fmt.Errorf("clusters: %d, at most %d", len(req.Clusters), fleet.MaxDiffClusters)
	case req.TimeoutSeconds < 0:
		return nil, errors.New("timeoutSeconds: must not be negative")
	}
	return &req, nil
}

// targets are the clusters that a request names; nil: each work names its own.
func (i *inspector) targets(ctx context.Context, req *fleet.DiffRequest) ([]string, error) {
	if len(req.Clusters) > 0 {
		list := slices.Clone(req.Clusters)
		slices.Sort(list)
		list = slices.Compact(list)
		for _, name := range list {
			if _, ok := i.p.store.Cached(store.Key{Resource: cluster.Resource, Name: name}); !ok {
				return nil, apierrors.NewNotFound(schema.GroupResource{Group: cluster.Group, Resource: "managedclusters"}, name)
			}
		}
		return list, nil
	}
	if req.Selector == "" {
		return nil, nil
	}
	selector, err := labels.Parse(req.Selector)
	if err != nil {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("selector: %v", err))
	}
	page, err := i.p.store.List(ctx, store.Selection{Resource: cluster.Resource, Labels: selector})
	if err != nil {
		return nil, err
	}
	list := []string{}
	for _, e := range page.Entries {
		list = append(list, e.Key.Name)
	}
	if len(list) == 0 {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("selector %q matches no cluster", req.Selector))
	}
	return list, nil
}

// explain answers why a work is as it is, to who may read it.
func (i *inspector) explain(r *http.Request, who user.Info) (any, error) {
	ns, name := r.PathValue("cluster"), r.PathValue("name")
	_, isWork := i.p.store.Cached(store.Key{Resource: work.Resource, Namespace: ns, Name: name})
	if _, isAddOn := i.p.store.Cached(store.Key{Resource: addon.ResourceManagedClusterAddOns, Namespace: ns, Name: name}); isAddOn && !isWork {
		return i.explainAddOn(r.Context(), who, ns, name)
	}
	if err := i.may(r.Context(), who, "get", ns, name); err != nil {
		return nil, err
	}
	w, err := store.Of[work.ManifestWork](i.p.store, work.Resource).Get(r.Context(), ns, name)
	if errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrInvalid) {
		return nil, apierrors.NewNotFound(worksResource(), name)
	}
	if err != nil {
		return nil, err
	}
	facts := &explain.Facts{Work: w, Agent: delivery.HasAgent(i.p.store, ns), Revisions: i.p.delivery.Revisions(r.Context(), ns, name)}
	if mc, err := store.Of[cluster.ManagedCluster](i.p.store, cluster.Resource).Cached("", ns); err == nil {
		facts.Cluster = mc
	}
	if s, ok := i.p.gateway.Session(ns); ok {
		facts.Session = &explain.Session{Since: s.Since, Address: s.RemoteAddr}
	}
	facts.Listed = explain.Listed(i.p.delivery.Evidence(ns, name))
	return fleet.Explanation{Cluster: ns, Name: name, Lines: explain.Explain(facts, time.Now())}, nil
}

// samples answers with the samples of one cluster over time: with the permission
// to get its ClusterMetrics.
func (i *inspector) samples(r *http.Request, who user.Info) (any, error) {
	name := r.PathValue("cluster")
	resource := schema.GroupResource{Group: fleet.Group, Resource: "clustermetrics"}
	decision, _, err := i.authz.Authorize(r.Context(), authorizer.AttributesRecord{
		User: who, Verb: "get", APIGroup: fleet.Group, APIVersion: fleet.Version, Resource: resource.Resource, Name: name, ResourceRequest: true,
	})
	switch {
	case err != nil:
		return nil, fmt.Errorf("authorize get clustermetrics: %w", err)
	case decision != authorizer.DecisionAllow:
		return nil, apierrors.NewForbidden(resource, name, fmt.Errorf("user %q cannot get clustermetrics %q", who.GetName(), name))
	}
	from, step, err := readSpan(r.URL.Query().Get("from"), r.URL.Query().Get("step"), time.Now())
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	if _, ok := i.p.store.Cached(store.Key{Resource: cluster.Resource, Name: name}); !ok {
		return nil, apierrors.NewNotFound(resource, name)
	}
	return i.p.metrics.Range(r.Context(), name, from, step)
}

// readSpan reads where a range begins, in Unix seconds, RFC 3339 or as a duration
// before now, the oldest sample by default; and its step, a duration or seconds, ten
// seconds by default.
func readSpan(from, step string, now time.Time) (time.Time, time.Duration, error) {
	since, every := now.Add(-metrics.Memory), 10*time.Second
	if from != "" {
		seconds, err := strconv.ParseInt(from, 10, 64)
		ago, derr := time.ParseDuration(from)
		at, terr := time.Parse(time.RFC3339, from)
		switch {
		case err == nil && seconds > 0:
			since = time.Unix(seconds, 0)
		case derr == nil && ago >= 0:
			since = now.Add(-ago)
		case derr == nil && ago < 0:
			since = now.Add(ago)
		case terr == nil:
			since = at
		default:
			return since, every, fmt.Errorf("from=%.60q: want Unix seconds, a time as in RFC 3339, or a duration before now such as 15m", from)
		}
	}
	if step != "" {
		d, err := time.ParseDuration(step)
		if n, serr := strconv.ParseInt(step, 10, 32); serr == nil {
			d, err = time.Duration(n)*time.Second, nil
		}
		if err != nil || d < time.Second || d > metrics.Memory {
			return since, every, fmt.Errorf("step=%.60q: want a duration from 1s to %s, or seconds", step, metrics.Memory)
		}
		every = d
	}
	return since, every, nil
}
