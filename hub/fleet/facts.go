// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/drover-io/drover/hub/broker"
	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/shared/apis/cluster"
	fleetapi "github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/shared/daemon"
	"github.com/drover-io/drover/shared/wire"
)

const (
	// Lists of APIs that no cluster names are removed by and by.
	sweepEvery = time.Hour
	sweepAge   = time.Hour
	// maxNewLists is how many lists one cluster may add between two sweeps.
	maxNewLists = 30

	maxClaimName  = 253
	maxClaimValue = 1024
	// maxLists is how many lists of APIs are kept decoded.
	maxLists = 256
)

// Facts are what the hub knows of a cluster, of its last session if it has none now.
type Facts struct {
	Name       string
	Labels     map[string]string // of the ManagedCluster
	Claims     map[string]string
	Kubernetes string // version, empty when it is not known
	// APIs are group/version and group/version/Kind, sorted; nil when they are not
	// known. The list is shared, not to be changed.
	APIs          []string
	Nodes         int
	Architectures []string          // of the nodes, sorted
	Allocatable   map[string]string // sums over nodes
}

// Facts returns what is known of a cluster; store.ErrNotFound.
func (f *Fleet) Facts(name string) (Facts, error) {
	mc, err := f.clusters.Cached("", name)
	if err != nil {
		return Facts{}, err
	}
	facts := Facts{
		Name: name, Labels: mc.Labels, Claims: make(map[string]string, len(mc.Status.ClusterClaims)),
		Kubernetes: mc.Status.Version.Kubernetes, Allocatable: mc.Status.Allocatable,
	}
	for _, c := range mc.Status.ClusterClaims {
		facts.Claims[c.Name] = c.Value
	}
	if a := mc.Status.Agent; a != nil {
		facts.Nodes, facts.Architectures = int(a.Nodes), a.Architectures
		facts.APIs = f.list(a.APIs)
	}
	return facts, nil
}

// list returns the APIs of a digest, nil when it is not known.
func (f *Fleet) list(digest string) []string {
	if digest == "" {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if apis, ok := f.decoded[digest]; ok {
		return apis
	}
	l, err := f.lists.Cached("", fleetapi.APIListName(digest))
	if err != nil || l.Spec.Digest != digest {
		return nil
	}
	if len(f.decoded) >= maxLists {
		clear(f.decoded)
	}
	f.decoded[digest] = l.Spec.APIs
	return l.Spec.APIs
}

// known says whether the list of a digest is stored.
func (f *Fleet) known(digest string) bool {
	_, ok := f.cfg.Store.Cached(store.Key{Resource: fleetapi.ResourceAPILists, Name: fleetapi.APIListName(digest)})
	return ok
}

// takeAPIs stores what a cluster serves. What is stored is never written again.
func (f *Fleet) takeAPIs(ctx context.Context, name string, request []byte) *nats.Msg {
	var a wire.APIs
	if err := json.Unmarshal(request, &a); err != nil {
		return broker.JSON(wire.Ack{Error: "apis: " + err.Error()})
	}
	if wrong := wire.CheckAPIs(a); wrong != "" {
		return broker.JSON(wire.Ack{Error: "apis: " + wrong})
	}
	f.mu.Lock()
	v := f.view(name)
	asked := v.status != nil && v.status.Kubernetes != nil && v.status.Kubernetes.APIs == a.Digest
	f.mu.Unlock()
	if !asked {
		return broker.JSON(wire.Ack{Error: "apis: the status names another list", Retry: true})
	}
	if !f.known(a.Digest) && !f.mayAdd(name) {
		return broker.JSON(wire.Ack{Error: "apis: the APIs of the cluster change too often", Retry: true})
	}
	_, err := f.lists.Create(ctx, &fleetapi.APIList{
		TypeMeta:   metav1.TypeMeta{APIVersion: fleetapi.Group + "/" + fleetapi.Version, Kind: fleetapi.KindAPIList},
		ObjectMeta: metav1.ObjectMeta{Name: fleetapi.APIListName(a.Digest)},
		Spec:       fleetapi.APIListSpec{Digest: a.Digest, APIs: a.APIs},
	})
	if err != nil && !errors.Is(err, store.ErrExists) {
		f.cfg.Log.Warn("storing a list of APIs failed, the agent sends it again", zap.String("cluster", name), zap.Error(err))
		return broker.JSON(wire.Ack{Error: "apis: cannot be stored now", Retry: true})
	}
	f.mu.Lock()
	f.view(name).apis = a.Digest
	f.mu.Unlock()
	f.mark(name)
	return broker.JSON(wire.Ack{})
}

// mayAdd counts the lists that a cluster adds.
func (f *Fleet) mayAdd(name string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.added[name]++
	return f.added[name] <= maxNewLists
}

// sweep removes lists that no cluster names, now and then.
func (f *Fleet) sweep(ctx context.Context) error {
	for daemon.Sleep(ctx, sweepEvery) {
		if err := f.sweepOnce(ctx, time.Now()); err != nil && ctx.Err() == nil {
			f.cfg.Log.Warn("removing unused lists of APIs failed, will try again", zap.Error(err))
		}
	}
	return ctx.Err()
}

func (f *Fleet) sweepOnce(ctx context.Context, now time.Time) error {
	lists, _, err := f.lists.List(ctx, store.Selection{MinRevision: store.Any})
	if err != nil {
		return err
	}
	clusters, _, err := f.clusters.List(ctx, store.Selection{MinRevision: store.Any})
	if err != nil {
		return err
	}
	used := map[string]bool{}
	for _, mc := range clusters {
		if mc.Status.Agent != nil {
			used[mc.Status.Agent.APIs] = true
		}
	}
	f.mu.Lock()
	clear(f.added)
	for _, v := range f.views {
		used[v.apis] = true
		if v.status != nil && v.status.Kubernetes != nil {
			used[v.status.Kubernetes.APIs] = true
		}
	}
	f.mu.Unlock()
	for _, l := range lists {
		if used[l.Spec.Digest] || now.Sub(l.CreationTimestamp.Time) < sweepAge {
			continue
		}
		if err := f.lists.Delete(ctx, "", l.Name); err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
	}
	return nil
}

// applyNodes takes over what the nodes are.
func applyNodes(a *cluster.AgentStatus, k *wire.KubernetesStatus) {
	for _, fact := range []struct {
		into *[]string
		said []string
	}{{&a.Architectures, k.Architectures}, {&a.OperatingSystems, k.OperatingSystems}, {&a.ContainerRuntimes, k.ContainerRuntimes}} {
		if len(fact.said) > 0 {
			*fact.into = words(fact.said)
		}
	}
}

// words are the first of few short strings, sorted, each once.
func words(said []string) []string {
	out := slices.Clone(said[:min(len(said), wire.MaxWords)])
	for i := range out {
		out[i] = clip(out[i], maxText)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// applyClaims sets the reserved claims and, when the cluster has ClusterClaims, in
// the place of all others those: at most MaxClaims, by name. A ClusterClaim of a
// reserved name wins where the agent only guesses.
func applyClaims(s *cluster.ManagedClusterStatus, k *wire.KubernetesStatus) {
	reserved := []cluster.Claim{
		{Name: cluster.ClaimKubeVersion, Value: clip(k.Version, maxText)},
		{Name: cluster.ClaimID, Value: clip(k.ClusterUID, maxText)},
		{Name: cluster.ClaimPlatform, Value: clip(k.Platform, maxText)},
		{Name: cluster.ClaimProduct, Value: clip(k.Product, maxText)},
	}
	for i, c := range reserved {
		if said := k.Claims[c.Name]; i >= 2 && said != "" {
			reserved[i].Value = clip(said, maxClaimValue)
		}
	}
	if k.Claims != nil {
		isReserved := func(name string) bool {
			return slices.ContainsFunc(reserved, func(r cluster.Claim) bool { return r.Name == name })
		}
		s.ClusterClaims = slices.DeleteFunc(s.ClusterClaims, func(c cluster.Claim) bool { return !isReserved(c.Name) })
		custom := 0
		for _, name := range slices.Sorted(maps.Keys(k.Claims)) {
			value := k.Claims[name]
			if isReserved(name) || name == "" || len(name) > maxClaimName || value == "" || len(value) > maxClaimValue || custom == wire.MaxClaims {
				continue
			}
			custom++
			s.ClusterClaims = append(s.ClusterClaims, cluster.Claim{Name: name, Value: value})
		}
	}
	for _, c := range reserved {
		if c.Value != "" {
			setClaim(s, c.Name, c.Value)
		}
	}
}
