// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package install

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	kjson "k8s.io/apimachinery/pkg/util/json"

	"github.com/drover-io/drover/hub/catalog/depend"
	"github.com/drover-io/drover/hub/catalog/versions"
	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/shared/apis/addon"
	"github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/shared/apis/work"
)

// Unknown is an addon or a version that is asked for and not there; its text says
// what there is.
type Unknown struct{ Text string }

func (u *Unknown) Error() string { return u.Text }

// Preview says what clusters would get of an addon. It asks no agent: objects are
// compared with what the hub gave a cluster last. The error is an *Unknown when the
// request names what is not there.
func (r *Resolver) Preview(ctx context.Context, req *fleet.PreviewRequest, clusters []string) (*fleet.Preview, error) {
	p, err := r.previewing(ctx, req)
	if err != nil {
		return nil, err
	}
	found := make([]outcome, len(clusters))
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i, name := range clusters {
		g.Go(func() error { found[i] = p.cluster(ctx, name); return ctx.Err() })
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	// Those of the same outcome are compared, and shown, once.
	groups := map[string]*outcome{}
	var order []*outcome
	for i := range found {
		o := &found[i]
		key := digestJSON([]any{o.out.Error, o.out.Version, o.out.Digest, o.out.Values, o.out.Requires, o.before, o.out.Objects})
		same := groups[key]
		if same == nil {
			groups[key], same = o, o
			order = append(order, o)
		}
		same.clusters = append(same.clusters, clusters[i])
	}
	out := &fleet.Preview{Outcomes: []fleet.PreviewOutcome{}}
	for _, o := range order {
		if err := p.finish(ctx, o); err != nil {
			return nil, err
		}
		slices.Sort(o.clusters)
		o.out.Clusters = o.clusters
		out.Outcomes = append(out.Outcomes, o.out)
	}
	slices.SortFunc(out.Outcomes, func(a, b fleet.PreviewOutcome) int {
		return cmp.Or(cmp.Compare(len(b.Clusters), len(a.Clusters)), cmp.Compare(a.Clusters[0], b.Clusters[0]))
	})
	return out, nil
}

type previewing struct {
	*Resolver
	req     *fleet.PreviewRequest
	cma     *addon.ClusterManagementAddOn
	chosen  map[string]int
	version string // name of the AddOnVersion that is asked for, if any
	catalog *depend.Catalog
}

type outcome struct {
	clusters []string
	out      fleet.PreviewOutcome
	m        *material
	work     *work.ManifestWork
	before   string // names what the cluster was given last
}

func (r *Resolver) previewing(ctx context.Context, req *fleet.PreviewRequest) (*previewing, error) {
	p := &previewing{Resolver: r, req: req}
	var err error
	if p.cma, err = r.recipes.Cached("", req.AddOn); err != nil {
		names, err := r.AddOns(ctx)
		if err != nil {
			return nil, err
		}
		return nil, &Unknown{fmt.Sprintf("there is no addon %q; there are: %s", req.AddOn, firstOf(strings.Join(names, ", "), "none"))}
	}
	if req.Version != "" {
		v, err := versions.Parse(req.Version)
		if err != nil {
			return nil, &Unknown{err.Error()}
		}
		p.version = versions.ObjectName(req.AddOn, v)
		if _, err := r.versions.Cached("", p.version); err != nil {
			return nil, &Unknown{fmt.Sprintf("the addon %s has no version %s; there are: %s", req.AddOn, v, r.listed(req.AddOn))}
		}
	}
	if p.chosen, err = r.chosen(ctx, p.cma); err != nil {
		return nil, err
	}
	p.catalog, err = r.catalogOf(ctx)
	return p, err
}

func (p *previewing) cluster(ctx context.Context, name string) (o outcome) {
	w, err := store.Of[work.ManifestWork](p.cfg.Store, work.Resource).Cached(name, deployName(p.req.AddOn))
	if err == nil && w.DeletionTimestamp == nil && w.Labels[addon.LabelAddonName] == p.req.AddOn {
		o.work = w
		o.before = digestJSON([]any{w.Spec, w.Annotations[work.AnnotationBundle]})
	}
	mca, err := store.Of[addon.ManagedClusterAddOn](p.cfg.Store, addon.ResourceManagedClusterAddOns).Cached(name, p.req.AddOn)
	if err != nil {
		mca = nil
	}
	if p.req.Remove {
		err = p.removal(ctx, &o, mca, name)
	} else {
		err = p.change(ctx, &o, mca, name)
	}
	if err != nil {
		o = outcome{out: fleet.PreviewOutcome{Error: err.Error()}}
	}
	return o
}

func (p *previewing) removal(ctx context.Context, o *outcome, mca *addon.ManagedClusterAddOn, name string) error {
	if mca == nil {
		return fmt.Errorf("addon %s is not installed there", p.req.AddOn)
	}
	if c := mca.Status.Content; c != nil {
		o.out.Version = c.Version
	}
	names, err := p.dependents(ctx, name, p.req.AddOn)
	if err != nil {
		return err
	}
	installed, err := p.Installed(ctx, name)
	if err != nil {
		return err
	}
	for _, dependent := range names {
		o.out.Requires = append(o.out.Requires, installed[dependent].String())
	}
	return nil
}

func (p *previewing) change(ctx context.Context, o *outcome, mca *addon.ManagedClusterAddOn, name string) error {
	q := &Query{
		AddOn: p.req.AddOn, Cluster: name, CMA: p.cma, Placement: placementOf(p.cma, p.chosen, name),
		MCA: mca, Version: p.version, Values: p.req.Values,
	}
	if q.MCA == nil {
		q.MCA = &addon.ManagedClusterAddOn{}
		q.MCA.Namespace, q.MCA.Name = name, p.req.AddOn
	}
	if p.req.Namespace != "" {
		moved := *q.MCA
		moved.Annotations = maps.Clone(moved.Annotations)
		metav1.SetMetaDataAnnotation(&moved.ObjectMeta, addon.AnnotationInstallNamespace, p.req.Namespace)
		q.MCA = &moved
	}
	m := p.Resolve(ctx, q)
	switch {
	case m.problem != nil:
		return errors.New(m.problem.Message)
	case m.foreign:
		return fmt.Errorf("the addon %s has no version and no template", p.req.AddOn)
	case m.requirement != nil:
		return errors.New(m.requirement.Message)
	}
	o.m = m
	o.out.Version, o.out.Digest, o.out.Values = m.version, "sha256:"+m.made, m.values
	want := map[identity]bool{}
	for _, id := range identitiesOf(m.rendered) {
		want[id] = true
	}
	id, owner, err := p.Taken(ctx, name, p.req.AddOn, want)
	if err != nil {
		return err
	}
	if owner != "" {
		return errors.New(ownedBy(p.req.AddOn, id, owner).Message)
	}
	if m.version == "" {
		return nil
	}
	return p.requires(ctx, o, name)
}

// requires finds what would have to be installed or upgraded first.
func (p *previewing) requires(ctx context.Context, o *outcome, name string) error {
	installed, err := p.Installed(ctx, name)
	if err != nil {
		return err
	}
	version, err := versions.Parse(o.m.version)
	if err != nil {
		return err
	}
	steps, err := p.catalog.Resolve([]depend.Want{{AddOn: p.req.AddOn, Version: version}}, installed)
	if err != nil {
		return err
	}
	for _, s := range steps {
		if s.AddOn != p.req.AddOn {
			o.out.Requires = append(o.out.Requires, s.To.String())
		}
	}
	return nil
}

// finish compares the objects, and shows the manifests.
func (p *previewing) finish(ctx context.Context, o *outcome) error {
	if o.out.Error != "" {
		return nil
	}
	before := map[identity]map[string]any{}
	if o.work != nil {
		var err error
		if before, err = given(ctx, p.cfg.Bundles, o.work); err != nil {
			return err
		}
	}
	after := map[identity]map[string]any{}
	if o.m != nil {
		for _, list := range [][]*unstructured.Unstructured{o.m.rendered.Objects, o.m.rendered.PostInstall, o.m.rendered.PreDelete} {
			for _, u := range list {
				text, err := json.Marshal(masked(u.Object))
				if err != nil {
					return fmt.Errorf("encode %s: %w", u.GetName(), err)
				}
				o.out.Manifests = append(o.out.Manifests, text)
			}
		}
		for _, u := range o.m.rendered.Objects {
			text, err := json.Marshal(u.Object)
			if err != nil {
				return fmt.Errorf("encode %s: %w", u.GetName(), err)
			}
			var obj map[string]any // of the types that what the cluster was given has
			if err := kjson.Unmarshal(text, &obj); err != nil {
				return fmt.Errorf("encode %s: %w", u.GetName(), err)
			}
			gvk := u.GroupVersionKind()
			after[identity{gvk.Group, gvk.Kind, u.GetNamespace(), u.GetName()}] = obj
		}
		// Addons share the Namespaces that only have to exist.
		for _, ns := range o.m.namespaces {
			id := identity{Kind: "Namespace", Name: ns}
			if _, ok := after[id]; !ok {
				after[id] = namespaceObject(ns).Object
				if o.work != nil && before[id] == nil {
					before[id] = after[id]
				}
			}
		}
	}
	o.out.Objects = compare(before, after)
	return nil
}
