// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Package observe sees what happens to chosen objects of a Kubernetes cluster,
// and finds out why one of them is not well.
//
// It keeps no objects: of each one it follows it remembers the resource version
// it handed over last. It opens few watches: one an object while few objects of
// a kind in a namespace are followed, one for the namespace when they are more,
// one for all namespaces when those are many. What such a watch brings of
// other objects is dropped before it is decoded.
package observe

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
)

const (
	// namedWatches is how many objects of a kind in a namespace are watched one
	// by one, and namespaceWatches how many namespaces of a kind.
	namedWatches     = 3
	namespaceWatches = 20
	// settle is how long a change of what is followed waits for the next one.
	settle = 50 * time.Millisecond
	// explainQPS bounds the questions about objects that are not well.
	explainQPS   = 10
	explainBurst = 20
)

// Config is what an Observer needs. All fields are required.
type Config struct {
	// Kubernetes is the cluster. Unset QPS and Burst become 100 and 200.
	Kubernetes *rest.Config
	// Changed is called with each followed object when it is first seen and
	// whenever it changed, and with nil when it does not exist, or not any more.
	// Versions in between may be left out. Calls for one object come one after
	// the other, from different objects possibly at once. It must not block, and
	// must not keep live.
	Changed func(resource schema.GroupVersionResource, name types.NamespacedName, live *unstructured.Unstructured)
	Log     *zap.Logger
}

// Observer follows objects while its Run runs.
type Observer struct {
	cfg     Config
	cluster rest.Interface // for watching
	ask     rest.Interface // for Explain, with a limit of its own
	wake    chan struct{}  // capacity 1: owners changed

	mu     sync.Mutex
	owners map[string]Objects
	stats  Stats
}

// Objects are objects by resource. For cluster-scoped ones the namespace is empty.
type Objects = map[schema.GroupVersionResource][]types.NamespacedName

// Stats counts what an Observer does now, and has done.
type Stats struct {
	Objects int // followed
	Watches int // open or being opened
	Lists   int // made, since the start
}

// New returns an observer that follows nothing yet. It contacts nothing.
func New(cfg Config) (*Observer, error) {
	if cfg.Kubernetes == nil || cfg.Changed == nil || cfg.Log == nil {
		return nil, errors.New("observe: Kubernetes, Changed and Log are required")
	}
	watching := rest.CopyConfig(cfg.Kubernetes)
	if watching.QPS == 0 {
		watching.QPS, watching.Burst = 100, 200
	}
	asking := rest.CopyConfig(cfg.Kubernetes)
	asking.QPS, asking.Burst = explainQPS, explainBurst
	o := &Observer{cfg: cfg, wake: make(chan struct{}, 1), owners: make(map[string]Objects)}
	var err error
	if o.cluster, err = client(watching); err != nil {
		return nil, err
	}
	if o.ask, err = client(asking); err != nil {
		return nil, err
	}
	return o, nil
}

// Follow replaces the objects that are followed for an owner; none ends it. An
// object that several owners follow is handed over once.
func (o *Observer) Follow(owner string, objects Objects) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(objects) == 0 {
		delete(o.owners, owner)
	} else {
		o.owners[owner] = maps.Clone(objects)
	}
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// Stats returns the counters.
func (o *Observer) Stats() Stats {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.stats
}

// Run watches until ctx ends and returns nil when all watches have ended.
func (o *Observer) Run(ctx context.Context) error {
	var running sync.WaitGroup
	watches := make(map[scope]*watch)
	defer running.Wait()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-o.wake:
		}
		timer := time.NewTimer(settle)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
		wanted := o.plan()
		for s, w := range watches {
			if wanted[s] == nil {
				w.end()
				delete(watches, s)
			}
		}
		for s, names := range wanted {
			w := watches[s]
			if w == nil {
				w = newWatch(o, s)
				watches[s] = w
				wctx, cancel := context.WithCancel(ctx)
				w.end = cancel
				w.follow(names)
				running.Go(func() { w.run(wctx) })
				continue
			}
			w.follow(names)
		}
		o.mu.Lock()
		o.stats.Watches = len(watches)
		o.mu.Unlock()
	}
}

// scope is what one watch asks the API server for.
type scope struct {
	resource  schema.GroupVersionResource
	namespace string // empty for all of them, and for cluster-scoped kinds
	name      string // empty for all objects
}

type names map[types.NamespacedName]bool

// plan decides which watches serve what all owners follow.
func (o *Observer) plan() map[scope]names {
	o.mu.Lock()
	defer o.mu.Unlock()
	byResource := make(map[schema.GroupVersionResource]map[string]names)
	o.stats.Objects = 0
	for _, objects := range o.owners {
		for resource, list := range objects {
			spaces := byResource[resource]
			if spaces == nil {
				spaces = make(map[string]names)
				byResource[resource] = spaces
			}
			for _, name := range list {
				if spaces[name.Namespace] == nil {
					spaces[name.Namespace] = make(names)
				}
				if !spaces[name.Namespace][name] {
					o.stats.Objects++
				}
				spaces[name.Namespace][name] = true
			}
		}
	}
	wanted := make(map[scope]names)
	for resource, spaces := range byResource {
		if len(spaces) > namespaceWatches {
			all := make(names)
			for _, n := range spaces {
				maps.Copy(all, n)
			}
			wanted[scope{resource: resource}] = all
			continue
		}
		for namespace, n := range spaces {
			if len(n) > namedWatches {
				wanted[scope{resource, namespace, ""}] = n
				continue
			}
			for name := range n {
				wanted[scope{resource, namespace, name.Name}] = names{name: true}
			}
		}
	}
	return wanted
}

func client(cfg *rest.Config) (rest.Interface, error) {
	cfg = dynamic.ConfigFor(cfg)
	cfg.GroupVersion, cfg.APIPath = nil, "/"
	http, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return nil, fmt.Errorf("make client of the cluster: %w", err)
	}
	c, err := rest.UnversionedRESTClientForConfigAndClient(cfg, http)
	if err != nil {
		return nil, fmt.Errorf("make client of the cluster: %w", err)
	}
	return c, nil
}
