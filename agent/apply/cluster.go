// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package apply

import (
	"context"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
)

const (
	// requestTimeout bounds every single read and delete.
	requestTimeout = 30 * time.Second
	// applyTimeout is longer than an API server gives a write and its webhooks, so
	// that one slow webhook is an answer and not an API server that is away.
	applyTimeout = 45 * time.Second
)

// cluster is the part of the Kubernetes API that applying needs. It discovers
// one group version at a time, and only those that manifests name: client-go's
// discovery links every built-in kind, which costs an edge machine megabytes.
type cluster struct {
	rest    rest.Interface
	dynamic *dynamic.DynamicClient
	manager string

	mu    sync.Mutex
	kinds map[schema.GroupVersion]map[string]kind // by kind
}

// kind is how the cluster serves a kind.
type kind struct {
	resource   string
	namespaced bool
}

// observation is what the metadata of a live object says.
type observation struct {
	uid         string
	ours        bool // our field manager has applied it
	terminating bool
	finalizers  []string
}

type noMatchError struct{ gvk schema.GroupVersionKind }

func (e *noMatchError) Error() string {
	return fmt.Sprintf("no matches for kind %q in version %q; is its CRD installed?", e.gvk.Kind, e.gvk.GroupVersion())
}

func newCluster(cfg *rest.Config, manager string) (*cluster, error) {
	cfg = dynamic.ConfigFor(cfg)
	if cfg.QPS == 0 {
		cfg.QPS = 200
	}
	if cfg.Burst == 0 {
		cfg.Burst = 400
	}
	client, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return nil, fmt.Errorf("make client of the cluster: %w", err)
	}
	cfg.GroupVersion, cfg.APIPath = nil, "/"
	rc, err := rest.UnversionedRESTClientForConfigAndClient(cfg, client)
	if err != nil {
		return nil, fmt.Errorf("make client of the cluster: %w", err)
	}
	return &cluster{
		rest: rc, dynamic: dynamic.New(rc), manager: manager,
		kinds: make(map[schema.GroupVersion]map[string]kind),
	}, nil
}

// resolve finds how a kind is served, asking the cluster when it is not known
// yet. The error is a *noMatchError when the cluster does not serve it.
func (c *cluster) resolve(ctx context.Context, gvk schema.GroupVersionKind) (kind, error) {
	gv := gvk.GroupVersion()
	c.mu.Lock()
	k, known := c.kinds[gv][gvk.Kind]
	c.mu.Unlock()
	if known {
		return k, nil
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	raw, err := c.rest.Get().AbsPath(versionPath(gv)...).Do(ctx).Raw()
	switch {
	case apierrors.IsNotFound(err):
		return kind{}, &noMatchError{gvk}
	case err != nil:
		return kind{}, fmt.Errorf("discover %s: %w", gv, err)
	}
	kinds, err := parseResources(raw)
	if err != nil {
		return kind{}, fmt.Errorf("discover %s: %w", gv, err)
	}
	c.mu.Lock()
	c.kinds[gv] = kinds
	c.mu.Unlock()
	if k, known = kinds[gvk.Kind]; !known {
		return kind{}, &noMatchError{gvk}
	}
	return k, nil
}

// forgetKinds makes the next resolve of a group version ask the cluster again.
func (c *cluster) forgetKinds(gv schema.GroupVersion) {
	c.mu.Lock()
	delete(c.kinds, gv)
	c.mu.Unlock()
}

// parseResources reads an APIResourceList; subresources are left out.
func parseResources(raw []byte) (map[string]kind, error) {
	var list struct {
		Resources []struct {
			Name       string `json:"name"`
			Namespaced bool   `json:"namespaced"`
			Kind       string `json:"kind"`
		} `json:"resources"`
	}
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, err
	}
	kinds := make(map[string]kind)
	for _, r := range list.Resources {
		if path.Base(r.Name) == r.Name && r.Kind != "" {
			kinds[r.Kind] = kind{resource: r.Name, namespaced: r.Namespaced}
		}
	}
	return kinds, nil
}

// apply sends a server-side apply and returns the object as it is now.
func (c *cluster) apply(ctx context.Context, o object, u *unstructured.Unstructured, force bool) (*unstructured.Unstructured, error) {
	ctx, cancel := context.WithTimeout(ctx, applyTimeout)
	defer cancel()
	got, err := c.resource(o).Apply(ctx, o.Name, u, metav1.ApplyOptions{FieldManager: c.manager, Force: force})
	c.noteKindGone(o, err)
	return got, err
}

// get reads an object whole.
func (c *cluster) get(ctx context.Context, o object) (*unstructured.Unstructured, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	got, err := c.resource(o).Get(ctx, o.Name, metav1.GetOptions{})
	c.noteKindGone(o, err)
	return got, err
}

// observe reads only the metadata of an object; nil when it does not exist.
func (c *cluster) observe(ctx context.Context, o object) (*observation, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	raw, err := c.rest.Get().AbsPath(objectPath(o)...).
		SetHeader("Accept", "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1").
		Do(ctx).Raw()
	if gone(err) {
		c.noteKindGone(o, err)
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var partial metav1.PartialObjectMetadata
	if err := json.Unmarshal(raw, &partial); err != nil {
		return nil, fmt.Errorf("decode metadata of %s: %w", o.identity(), err)
	}
	ours := slices.ContainsFunc(partial.ManagedFields, func(f metav1.ManagedFieldsEntry) bool {
		return f.Manager == c.manager && f.Operation == metav1.ManagedFieldsOperationApply
	})
	return &observation{
		uid: string(partial.UID), ours: ours,
		terminating: partial.DeletionTimestamp != nil, finalizers: partial.Finalizers,
	}, nil
}

// delete asks for the deletion of the object with exactly this UID.
func (c *cluster) delete(ctx context.Context, o object, uid string) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	policy, id := metav1.DeletePropagationForeground, types.UID(uid)
	return c.resource(o).Delete(ctx, o.Name, metav1.DeleteOptions{
		PropagationPolicy: &policy, Preconditions: &metav1.Preconditions{UID: &id},
	})
}

func (c *cluster) resource(o object) dynamic.ResourceInterface {
	r := c.dynamic.Resource(schema.GroupVersionResource{Group: o.Group, Version: o.Version, Resource: o.Resource})
	if o.Namespace == "" {
		return r
	}
	return r.Namespace(o.Namespace)
}

func (c *cluster) noteKindGone(o object, err error) {
	if kindGone(err) {
		c.forgetKinds(schema.GroupVersion{Group: o.Group, Version: o.Version})
	}
}

func versionPath(gv schema.GroupVersion) []string {
	if gv.Group == "" {
		return []string{"api", gv.Version}
	}
	return []string{"apis", gv.Group, gv.Version}
}

func objectPath(o object) []string {
	segments := versionPath(schema.GroupVersion{Group: o.Group, Version: o.Version})
	if o.Namespace != "" {
		segments = append(segments, "namespaces", o.Namespace)
	}
	return append(segments, o.Resource, o.Name)
}
