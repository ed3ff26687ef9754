// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Package placement decides which clusters. Schedule is the pure part: it
// chooses clusters for one Placement as Open Cluster Management does. Controller
// keeps the decisions, the sets of clusters and their bindings up to date.
//
// Three things differ from Open Cluster Management. A Placement that is
// misconfigured keeps its decisions, so that a typing error takes nothing away.
// Spread constraints are honoured. And a decision tells its score only with
// sortBy Score, so that it is not rewritten whenever a score moves.
package placement

import (
	"math"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/labels"
	kjson "sigs.k8s.io/json"

	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/shared/apis/cluster"
)

// Cluster is what Schedule knows of a ManagedCluster. It must not be changed.
type Cluster struct {
	Name     string
	Labels   labels.Set
	Claims   labels.Set
	Taints   []cluster.Taint
	Deleting bool
	// CPU in cores and Memory in bytes are allocatable; NaN when not known.
	CPU, Memory float64

	data   []byte // the encoded object, for expressions
	object func() map[string]any
}

// NewCluster reads a stored ManagedCluster.
func NewCluster(e store.Entry) (*Cluster, error) {
	var obj struct {
		Spec struct {
			Taints []cluster.Taint `json:"taints"`
		} `json:"spec"`
		Status struct {
			Capacity      map[string]string `json:"capacity"`
			Allocatable   map[string]string `json:"allocatable"`
			ClusterClaims []cluster.Claim   `json:"clusterClaims"`
		} `json:"status"`
	}
	if err := kjson.UnmarshalCaseSensitivePreserveInts(e.Data, &obj); err != nil {
		return nil, err
	}
	c := &Cluster{
		Name: e.Key.Name, Labels: e.Header.Labels, Taints: obj.Spec.Taints,
		Deleting: !e.Header.DeletionTimestamp.IsZero(), data: e.Data, Claims: labels.Set{},
	}
	for _, claim := range obj.Status.ClusterClaims {
		c.Claims[claim.Name] = claim.Value
	}
	amount := func(name string) float64 {
		// As in Open Cluster Management, a cluster must tell both to be compared.
		if _, err := resource.ParseQuantity(obj.Status.Capacity[name]); err != nil {
			return math.NaN()
		}
		q, err := resource.ParseQuantity(obj.Status.Allocatable[name])
		if err != nil {
			return math.NaN()
		}
		return q.AsApproximateFloat64()
	}
	c.CPU, c.Memory = amount("cpu"), amount("memory")
	c.object = sync.OnceValue(func() map[string]any {
		var m map[string]any
		if err := kjson.UnmarshalCaseSensitivePreserveInts(c.data, &m); err != nil {
			return map[string]any{} // it was read above, so it can be
		}
		return m
	})
	return c, nil
}

// Scores are those of one AddOnPlacementScore.
type Scores struct {
	Values     map[string]int32
	ValidUntil time.Time // zero: for ever
}

// ScoreKey names an AddOnPlacementScore.
type ScoreKey struct{ Cluster, Name string }

func (c *Cluster) topology(kind, key string) (string, bool) {
	if kind == topologyClaim {
		v, ok := c.Claims[key]
		return v, ok
	}
	v, ok := c.Labels[key]
	return v, ok
}
