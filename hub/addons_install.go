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
	"time"

	"go.uber.org/zap"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"github.com/drover-io/drover/hub/api"
	"github.com/drover-io/drover/hub/catalog"
	"github.com/drover-io/drover/hub/catalog/config"
	"github.com/drover-io/drover/hub/catalog/install"
	"github.com/drover-io/drover/hub/catalog/render"
	"github.com/drover-io/drover/hub/catalog/revision"
	"github.com/drover-io/drover/hub/catalog/source"
	"github.com/drover-io/drover/hub/content"
	"github.com/drover-io/drover/hub/delivery"
	"github.com/drover-io/drover/hub/explain"
	inventory "github.com/drover-io/drover/hub/fleet"
	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/shared/apis/addon"
	"github.com/drover-io/drover/shared/apis/cluster"
	"github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/shared/apis/work"
)

const (
	// renderedBytes is how much of what was rendered is kept in memory.
	renderedBytes  = 64 << 20
	maxPreviewBody = 4 << 20
	// maxPreviews run at the same time.
	maxPreviews = 4
)

// installer connects the installation of addons with the other parts.
func installer(p *parts, log *zap.Logger) (*install.Controller, *install.Resolver) {
	bundles := addOnBundles{p.content}
	resolver := install.NewResolver(install.ResolverConfig{
		Store: p.store, Bundles: bundles, Contents: addOnContents{p.content},
		Renderer:  addOnRenderer{render.NewCache(render.New(render.Limits{}), renderedBytes)},
		Revisions: addOnRevisions{p.history},
		Facts:     func(name string) (catalog.Facts, error) { return clusterFacts{p.fleet}.Facts(name) },
	})
	return install.New(install.Config{
		Store: p.store, Resolver: resolver, Bundles: bundles, Log: log,
		HasAgent: func(cluster string) bool { return delivery.HasAgent(p.store, cluster) },
	}), resolver
}

// addOnBundles keeps manifests that are too many for a work.
type addOnBundles struct{ store *content.Store }

// Put stores manifests.
func (b addOnBundles) Put(ctx context.Context, data []byte) (string, error) {
	info, err := b.store.Put(ctx, data)
	return info.Digest, err
}

// Get returns them.
func (b addOnBundles) Get(ctx context.Context, digest string) ([]byte, error) {
	return b.store.Bundle(ctx, digest)
}

type addOnContents struct{ store *content.Store }

// Load returns what a version is made of.
func (c addOnContents) Load(ctx context.Context, spec *fleet.AddOnVersionSpec) (*catalog.Content, error) {
	return source.Load(ctx, c.store, spec)
}

type addOnRenderer struct{ cache *render.Cache }

// Render makes manifests, or returns those of before.
func (r addOnRenderer) Render(ctx context.Context, in *catalog.Rendering) (*catalog.Rendered, error) {
	out, _, err := r.cache.Render(ctx, in)
	return out, err
}

type addOnRevisions struct{ history *revision.History }

// ByHash is a state of an AddOnVersion.
func (r addOnRevisions) ByHash(ctx context.Context, version, hash string) (install.Revision, bool, error) {
	return r.read(r.history.ByHash(ctx, r.reference(version), hash))
}

// ByNumber is a state of an AddOnVersion.
func (r addOnRevisions) ByNumber(ctx context.Context, version string, number int64) (install.Revision, bool, error) {
	return r.read(r.history.ByNumber(ctx, r.reference(version), number))
}

func (addOnRevisions) reference(version string) addon.Config {
	return addon.Config{ConfigGroupResource: config.VersionKind(), ConfigReferent: addon.ConfigReferent{Name: version}}
}

func (addOnRevisions) read(r *fleet.ConfigRevision, err error) (install.Revision, bool, error) {
	if errors.Is(err, revision.ErrNotFound) {
		return install.Revision{}, false, nil
	}
	if err != nil {
		return install.Revision{}, false, err
	}
	var v fleet.AddOnVersion
	if err := revision.Read(r, &v); err != nil {
		return install.Revision{}, false, err
	}
	return install.Revision{Number: r.Spec.Revision, Hash: r.Spec.Hash, Spec: &v.Spec}, true, nil
}

// installedRules are what a write to a ManagedClusterAddOn is held to.
type installedRules struct{ p *parts }

func (i installedRules) admit(ctx context.Context, r *api.Admission) error {
	if r.Operation == api.UpdateStatus {
		return nil
	}
	var old *addon.ManagedClusterAddOn
	if r.Old != nil {
		old = &addon.ManagedClusterAddOn{}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(r.Old, old); err != nil {
			return err
		}
	}
	if r.Operation == api.Delete {
		return i.p.resolver.AdmitRemoval(ctx, old)
	}
	obj := &addon.ManagedClusterAddOn{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(r.Object, obj); err != nil {
		return err
	}
	configs, revision := len(obj.Spec.Configs), obj.Annotations[fleet.AnnotationAddOnRevision]
	if err := i.p.resolver.Admit(ctx, old, obj, r.Warn); err != nil {
		return err
	}
	if len(obj.Spec.Configs) != configs {
		written := map[string]any{}
		last := obj.Spec.Configs[len(obj.Spec.Configs)-1]
		written["group"], written["resource"], written["name"] = last.Group, last.Resource, last.Name
		spec, _ := r.Object["spec"].(map[string]any)
		if spec == nil {
			spec = map[string]any{}
			r.Object["spec"] = spec
		}
		list, _ := spec["configs"].([]any)
		spec["configs"] = append(slices.Clone(list), written)
	}
	if text, ok := obj.Annotations[fleet.AnnotationAddOnRevision]; text != revision {
		all, _ := at(r.Object, "metadata", "annotations").(map[string]any)
		if all[fleet.AnnotationAddOnRevision] = text; !ok {
			delete(all, fleet.AnnotationAddOnRevision)
		}
	}
	if r.Operation == api.Create {
		i.complete(r, obj)
	}
	return nil
}

// complete gives a new ManagedClusterAddOn its owner, as Open Cluster Management does.
func (i installedRules) complete(r *api.Admission, obj *addon.ManagedClusterAddOn) {
	meta, _ := r.Object["metadata"].(map[string]any)
	cma, err := store.Of[addon.ClusterManagementAddOn](i.p.store, addon.ResourceClusterManagementAddOns).Cached("", obj.Name)
	if meta == nil || err != nil {
		return
	}
	if len(obj.OwnerReferences) == 0 {
		owner, err := runtime.DefaultUnstructuredConverter.ToUnstructured(new(install.OwnerOf(cma)))
		if err == nil {
			meta["ownerReferences"] = []any{owner}
		}
	}
}

// previewer answers what clusters would get of an addon.
type previewer struct {
	*inspector
	running chan struct{}
}

func addInstalls(mux *http.ServeMux, i *inspector) {
	pv := &previewer{inspector: i, running: make(chan struct{}, maxPreviews)}
	mux.Handle("POST "+fleet.PathAddOnPreview, i.serve(pv.preview))
}

func (v *previewer) preview(r *http.Request, who user.Info) (any, error) {
	req, err := readPreview(r.Body)
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	if ok, err := v.can(r.Context(), who, "get", addon.Group, "clustermanagementaddons", "", req.AddOn); err != nil || !ok {
		return nil, firstError(err, apierrors.NewForbidden(schema.GroupResource{Group: addon.Group, Resource: "clustermanagementaddons"}, req.AddOn,
			fmt.Errorf("user %q cannot get this addon", who.GetName())))
	}
	if ok, err := v.can(r.Context(), who, "list", fleet.Group, "addonversions", "", ""); err != nil || !ok {
		return nil, firstError(err, apierrors.NewForbidden(fleetResource("addonversions"), "", fmt.Errorf("user %q cannot list versions of addons", who.GetName())))
	}
	clusters, err := v.chosen(r.Context(), who, req)
	if err != nil {
		return nil, err
	}
	select {
	case v.running <- struct{}{}:
		defer func() { <-v.running }()
	default:
		return nil, apierrors.NewTooManyRequests("the hub makes previews for others at the moment", 5)
	}
	out, err := v.p.resolver.Preview(r.Context(), req, clusters)
	var unknown *install.Unknown
	if errors.As(err, &unknown) {
		return nil, apierrors.NewBadRequest(unknown.Text)
	}
	return out, err
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func readPreview(body io.Reader) (*fleet.PreviewRequest, error) {
	data, err := io.ReadAll(io.LimitReader(body, maxPreviewBody+1))
	if err != nil {
		return nil, fmt.Errorf("read the request: %w", err)
	}
	if len(data) > maxPreviewBody {
		return nil, fmt.Errorf("the request has more than %d bytes", maxPreviewBody)
	}
	var req fleet.PreviewRequest
	if err := json.Unmarshal(data, &req); err != nil {
		return nil, fmt.Errorf("the request is not a PreviewRequest: %w", err)
	}
	switch {
	case req.AddOn == "":
		return nil, errors.New("addOn: missing")
	case len(req.Clusters) > 0 && req.Selector != "":
		return nil, errors.New("clusters, selector: give one of them")
	case len(req.Clusters) > fleet.MaxDiffClusters:
		return nil, fmt.Errorf("clusters: %d, at most %d", len(req.Clusters), fleet.MaxDiffClusters)
	case req.Remove && (req.Version != "" || len(req.Values) > 0 || req.Namespace != ""):
		return nil, errors.New("remove: goes without version, values and namespace")
	case req.Namespace != "" && len(validation.IsDNS1123Label(req.Namespace)) > 0:
		return nil, fmt.Errorf("namespace %.80q: %s", req.Namespace, validation.IsDNS1123Label(req.Namespace)[0])
	}
	return &req, nil
}

// can says whether a user has a verb on an object.
func (v *previewer) can(ctx context.Context, who user.Info, verb, group, resource, ns, name string) (bool, error) {
	decision, _, err := v.authz.Authorize(ctx, authorizer.AttributesRecord{
		User: who, Verb: verb, APIGroup: group, APIVersion: "*", Resource: resource, Namespace: ns, Name: name, ResourceRequest: true,
	})
	if err != nil {
		return false, fmt.Errorf("authorize %s %s: %w", verb, resource, err)
	}
	return decision == authorizer.DecisionAllow, nil
}

// chosen are the clusters of a request that the caller may see. Naming one that they
// may not see is as naming one that is not there.
func (v *previewer) chosen(ctx context.Context, who user.Info, req *fleet.PreviewRequest) ([]string, error) {
	visible := func(name string) (bool, error) {
		return v.can(ctx, who, "get", cluster.Group, "managedclusters", "", name)
	}
	if len(req.Clusters) > 0 {
		list := slices.Clone(req.Clusters)
		slices.Sort(list)
		list = slices.Compact(list)
		for _, name := range list {
			ok, err := visible(name)
			if err != nil {
				return nil, err
			}
			if _, known := v.p.store.Cached(store.Key{Resource: cluster.Resource, Name: name}); !known || !ok {
				return nil, apierrors.NewNotFound(schema.GroupResource{Group: cluster.Group, Resource: "managedclusters"}, name)
			}
		}
		return list, nil
	}
	sel := store.Selection{Resource: cluster.Resource, MinRevision: store.Any}
	if req.Selector != "" {
		parsed, err := labels.Parse(req.Selector)
		if err != nil {
			return nil, apierrors.NewBadRequest(fmt.Sprintf("selector: %v", err))
		}
		sel.Labels = parsed
	}
	page, err := v.p.store.List(ctx, sel)
	if err != nil {
		return nil, err
	}
	var list []string
	for _, e := range page.Entries {
		name := e.Key.Name
		if req.Selector == "" {
			if _, there := v.p.store.Cached(store.Key{Resource: addon.ResourceManagedClusterAddOns, Namespace: name, Name: req.AddOn}); !there {
				continue
			}
		}
		ok, err := visible(name)
		if err != nil {
			return nil, err
		}
		if ok {
			list = append(list, name)
		}
	}
	if len(list) == 0 && req.Selector != "" {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("selector %q matches no cluster that you may see", req.Selector))
	}
	return list, nil
}

// explainAddOn answers why an addon is as it is on a cluster, to who may read it.
func (i *inspector) explainAddOn(ctx context.Context, who user.Info, ns, name string) (any, error) {
	resource := schema.GroupResource{Group: addon.Group, Resource: "managedclusteraddons"}
	v := &previewer{inspector: i}
	if ok, err := v.can(ctx, who, "get", addon.Group, resource.Resource, ns, name); err != nil || !ok {
		return nil, firstError(err, apierrors.NewForbidden(resource, name, fmt.Errorf("user %q cannot get managedclusteraddons in namespace %q", who.GetName(), ns)))
	}
	mca, err := store.Of[addon.ManagedClusterAddOn](i.p.store, addon.ResourceManagedClusterAddOns).Get(ctx, ns, name)
	if errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrInvalid) {
		return nil, apierrors.NewNotFound(resource, name)
	}
	if err != nil {
		return nil, err
	}
	found, err := i.p.resolver.Evidence(ctx, mca)
	if err != nil {
		return nil, err
	}
	facts := &explain.AddOnFacts{AddOn: mca, Agent: delivery.HasAgent(i.p.store, ns), Should: explain.Should(*found)}
	if mc, err := store.Of[cluster.ManagedCluster](i.p.store, cluster.Resource).Cached("", ns); err == nil {
		facts.Cluster = mc
	}
	page, err := i.p.store.List(ctx, store.Selection{
		Resource: work.Resource, Namespace: ns, MinRevision: store.Any, Labels: labels.SelectorFromSet(labels.Set{addon.LabelAddonName: name}),
	})
	if err != nil {
		return nil, err
	}
	for _, e := range page.Entries {
		facts.Works = append(facts.Works, e.Key.Name)
	}
	return fleet.Explanation{Cluster: ns, Name: name, Lines: explain.AddOn(facts, time.Now())}, nil
}

// recipeRules are what a write to a ClusterManagementAddOn is held to here.
type recipeRules struct{ p *parts }

func (c recipeRules) admit(ctx context.Context, r *api.Admission) error {
	switch r.Operation {
	case api.Delete:
		if at(r.Old, "metadata", "deletionTimestamp") == nil {
			return c.p.resolver.AdmitAddOnRemoval(ctx, nameIn(r.Old))
		}
	case api.Create, api.Update:
		annotations, _ := at(r.Object, "metadata", "annotations").(map[string]any)
		text, _ := annotations[addon.AnnotationMaxInFlight].(string)
		return install.CheckMaxInFlight(text)
	}
	return nil
}

// clusterFacts gives the catalog what the hub knows of its clusters.
type clusterFacts struct {
	fleet interface {
		Facts(cluster string) (inventory.Facts, error)
	}
}

// Facts returns what is known of a cluster; store.ErrNotFound.
func (c clusterFacts) Facts(name string) (catalog.Facts, error) {
	f, err := c.fleet.Facts(name)
	if err != nil {
		return catalog.Facts{}, err
	}
	return catalog.Facts{
		Name: f.Name, Labels: f.Labels, Claims: f.Claims, Kubernetes: f.Kubernetes, APIs: f.APIs,
		Nodes: f.Nodes, Architectures: f.Architectures, Allocatable: f.Allocatable,
	}, nil
}

// admitAPIList refuses to change what only the hub knows.
func admitAPIList(context.Context, *api.Admission) error {
	return hubsOwn("apilists", "an APIList")
}
