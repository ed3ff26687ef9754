// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"fmt"
	"net/http"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"github.com/drover-io/drover/hub/metrics"
	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/shared/apis/cluster"
	"github.com/drover-io/drover/shared/apis/fleet"
)

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
