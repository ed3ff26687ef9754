// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package apply

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/drover-io/drover/agent/apply/fields"
	"github.com/drover-io/drover/agent/apply/manifest"
)

const (
	// requestTimeout bounds every single read and delete.
	requestTimeout = 30 * time.Second
	// applyTimeout is longer than an API server gives a write and its webhooks, so
	// that one slow webhook is an answer and not an API server that is away.
	applyTimeout = 45 * time.Second

	// The API server's own fairness is the limit: these only keep an error of ours
	// from becoming a flood.
	defaultQPS, defaultBurst = 400, 800

	maxExecutors = 64 // clients kept, one an executor
)

// cluster is the part of the Kubernetes API that applying needs. It discovers
// one group version at a time, and only those that manifests name: client-go's
// discovery links every built-in kind, which costs an edge machine megabytes.
type cluster struct {
	cfg     *rest.Config
	rest    rest.Interface
	dynamic *dynamic.DynamicClient
	manager string

	mu        sync.Mutex
	kinds     map[schema.GroupVersion]map[string]manifest.Kind // by kind
	executors map[string]*dynamic.DynamicClient                // by user
}

// observation is what the metadata of a live object says.
type observation struct {
	uid         string
	version     string // resourceVersion
	ours        bool   // our field manager has applied it
	terminating time.Time
	finalizers  []string
}

func newCluster(cfg *rest.Config, manager string) (*cluster, error) {
	cfg = dynamic.ConfigFor(cfg)
	cfg.Wrap(noteCreation)
	if cfg.QPS == 0 {
		cfg.QPS = defaultQPS
	}
	if cfg.Burst == 0 {
		cfg.Burst = defaultBurst
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
		cfg: cfg, rest: rc, dynamic: dynamic.New(rc), manager: manager,
		kinds:     make(map[schema.GroupVersion]map[string]manifest.Kind),
		executors: make(map[string]*dynamic.DynamicClient),
	}, nil
}

// as returns a client that acts for user, the agent itself when empty. The API
// server decides what the user may do.
func (c *cluster) as(user string) (*dynamic.DynamicClient, error) {
	if user == "" {
		return c.dynamic, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if client := c.executors[user]; client != nil {
		return client, nil
	}
	cfg := rest.CopyConfig(c.cfg)
	cfg.Impersonate = rest.ImpersonationConfig{UserName: user}
	client, err := dynamic.NewForConfig(cfg)
	if err != nil {
		return nil, &manifest.Error{Message: fmt.Sprintf("make client for executor %s: %v", user, err)}
	}
	if len(c.executors) >= maxExecutors {
		clear(c.executors)
	}
	c.executors[user] = client
	return client, nil
}

// creation is the key of a *bool in the context of a request: the answer 201 sets it.
type creation struct{}

// noteCreation tells a request that created an object from one that changed it:
// a server-side apply does either, and only the status code says which.
func noteCreation(next http.RoundTripper) http.RoundTripper { return creations{next} }

type creations struct{ next http.RoundTripper }

func (c creations) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := c.next.RoundTrip(r)
	if created, ok := r.Context().Value(creation{}).(*bool); ok && err == nil {
		*created = resp.StatusCode == http.StatusCreated
	}
	return resp, err
}

// applyOptions is in whose name and how an object is applied.
type applyOptions struct {
	created *bool  // set when the object was made by this request; may be nil
	user    string // to impersonate
	manager string // field manager
	force   bool
	dryRun  bool
	// The object must be the one with this UID, and in this version unless that is
	// empty, or must not exist. Else the error is an *overtakenError, and nothing was
	// written.
	uid, version string
	absent       bool
}

// noVersion is a resource version that no object has. An API server checks the
// version against that of an object which exists, and ignores it where it creates
// one (the generic registry, from Kubernetes 1.24 for every built-in kind): the
// only way to say "create" with a server-side apply.
const noVersion = "9223372036854775807"

// overtakenError says that an object is not what was seen: somebody made,
// deleted or replaced it since.
type overtakenError struct {
	id  manifest.Identity
	err error // the API server's answer; may be nil
}

func (e *overtakenError) Error() string {
	text := fmt.Sprintf("%s was made, deleted or replaced by somebody else while it was applied", e.id)
	if e.err != nil {
		text += ": " + e.err.Error()
	}
	return text
}

// apply sends a server-side apply and returns the object as it is then.
func (c *cluster) apply(ctx context.Context, o object, u *unstructured.Unstructured, opts applyOptions) (*unstructured.Unstructured, error) {
	pinned := u.GetResourceVersion() != "" && opts.version == "" // by who called, who tries again
	switch {
	case opts.absent:
		u.SetResourceVersion(noVersion)
	case opts.uid != "":
		u.SetUID(types.UID(opts.uid))
		if opts.version != "" {
			u.SetResourceVersion(opts.version)
		}
	}
	got, err := c.send(ctx, o, u, opts)
	if opts.absent && refusesVersion(err) {
		u.SetResourceVersion("")
		got, err = c.send(ctx, o, u, opts)
	}
	changed := apierrors.IsConflict(err) && !conflicting(err)
	switch {
	case opts.absent && apierrors.IsConflict(err), opts.uid != "" && (otherUID(err) || (changed && !pinned)):
		return nil, &overtakenError{o.identity(), err}
	}
	return got, err
}

func (c *cluster) send(ctx context.Context, o object, u *unstructured.Unstructured, opts applyOptions) (*unstructured.Unstructured, error) {
	client, err := c.as(opts.user)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, applyTimeout)
	defer cancel()
	if opts.created != nil {
		ctx = context.WithValue(ctx, creation{}, opts.created)
	}
	options := metav1.ApplyOptions{FieldManager: opts.manager, Force: opts.force}
	if opts.dryRun {
		options.DryRun = []string{metav1.DryRunAll}
	}
	got, err := resource(client, o).Apply(ctx, o.Name, u, options)
	c.noteKindGone(o, err)
	return got, err
}

// managerOf is the field manager with which an object is applied.
func (c *cluster) managerOf(o object) string {
	if o.Manager != "" {
		return o.Manager
	}
	return c.manager
}

// get reads an object whole.
func (c *cluster) get(ctx context.Context, o object) (*unstructured.Unstructured, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	got, err := resource(c.dynamic, o).Get(ctx, o.Name, metav1.GetOptions{})
	c.noteKindGone(o, err)
	return got, err
}

const (
	acceptMetadata     = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
	acceptMetadataList = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
)

// observe reads only the metadata of an object; nil when it does not exist.
func (c *cluster) observe(ctx context.Context, o object) (*observation, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	raw, err := c.rest.Get().AbsPath(objectPath(o)...).SetHeader("Accept", acceptMetadata).Do(ctx).Raw()
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
	return c.observed(o, &partial), nil
}

func (c *cluster) observed(o object, meta metav1.Object) *observation {
	entries := meta.GetManagedFields()
	seen := &observation{
		uid: string(meta.GetUID()), version: meta.GetResourceVersion(), finalizers: meta.GetFinalizers(),
		ours: fields.Applied(entries, c.managerOf(o)) || fields.Applied(entries, c.manager),
	}
	if at := meta.GetDeletionTimestamp(); at != nil {
		seen.terminating = at.Time
	}
	return seen
}

// delete asks for the deletion of the object with exactly this UID.
func (c *cluster) delete(ctx context.Context, o object, uid string) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	policy, id := metav1.DeletePropagationForeground, types.UID(uid)
	if o.identity().ExistenceOnly() {
		// Nothing depends on it that it would have to wait for.
		policy = metav1.DeletePropagationBackground
	}
	return resource(c.dynamic, o).Delete(ctx, o.Name, metav1.DeleteOptions{
		PropagationPolicy: &policy, Preconditions: &metav1.Preconditions{UID: &id},
	})
}

func resource(client *dynamic.DynamicClient, o object) dynamic.ResourceInterface {
	r := client.Resource(schema.GroupVersionResource{Group: o.Group, Version: o.Version, Resource: o.Resource})
	if o.Namespace == "" {
		return r
	}
	return r.Namespace(o.Namespace)
}
