// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package install

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/drover-io/drover/hub/catalog"
	"github.com/drover-io/drover/hub/catalog/config"
	"github.com/drover-io/drover/hub/catalog/depend"
	"github.com/drover-io/drover/hub/catalog/versions"
	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/shared/apis/addon"
	"github.com/drover-io/drover/shared/apis/fleet"
)

// Renderer makes manifests.
type Renderer interface {
	Render(ctx context.Context, in *catalog.Rendering) (*catalog.Rendered, error)
}

// Contents loads what a version is made of.
type Contents interface {
	Load(ctx context.Context, spec *fleet.AddOnVersionSpec) (*catalog.Content, error)
}

// Revision is one state of an AddOnVersion.
type Revision struct {
	Number int64
	Hash   string
	Spec   *fleet.AddOnVersionSpec
}

// Revisions are the states of AddOnVersions that are kept. ok is false when there is
// no such state.
type Revisions interface {
	ByHash(ctx context.Context, version, hash string) (r Revision, ok bool, err error)
	ByNumber(ctx context.Context, version string, number int64) (r Revision, ok bool, err error)
}

// ResolverConfig is what NewResolver needs.
type ResolverConfig struct {
	Store     *store.Store
	Bundles   Bundles
	Contents  Contents
	Renderer  Renderer
	Revisions Revisions
	// Facts are what is known of a cluster; an error if there is none of that name.
	Facts func(cluster string) (catalog.Facts, error)
}

// Resolver finds out what a cluster should get of an addon. It writes nothing, and
// its methods may be called at the same time.
type Resolver struct {
	cfg       ResolverConfig
	recipes   store.Objects[addon.ClusterManagementAddOn, *addon.ClusterManagementAddOn]
	versions  store.Objects[fleet.AddOnVersion, *fleet.AddOnVersion]
	configs   store.Objects[fleet.AddOnConfig, *fleet.AddOnConfig]
	settings  store.Objects[addon.AddOnDeploymentConfig, *addon.AddOnDeploymentConfig]
	templates store.Objects[addon.AddOnTemplate, *addon.AddOnTemplate]
	names     names
	contents  bounded[*catalog.Content]
	schemas   bounded[*config.Schema]
	hashed    bounded[string]
	parsed    depend.Memo
}

// NewResolver makes a Resolver.
func NewResolver(cfg ResolverConfig) *Resolver {
	return &Resolver{
		cfg:       cfg,
		recipes:   store.Of[addon.ClusterManagementAddOn](cfg.Store, addon.ResourceClusterManagementAddOns),
		versions:  store.Of[fleet.AddOnVersion](cfg.Store, fleet.ResourceAddOnVersions),
		configs:   store.Of[fleet.AddOnConfig](cfg.Store, fleet.ResourceAddOnConfigs),
		settings:  store.Of[addon.AddOnDeploymentConfig](cfg.Store, addon.ResourceDeploymentConfigs),
		templates: store.Of[addon.AddOnTemplate](cfg.Store, addon.ResourceTemplates),
		contents:  bounded[*catalog.Content]{most: 64},
		schemas:   bounded[*config.Schema]{most: 256},
		hashed:    bounded[string]{most: 50_000},
	}
}

// Query asks what a cluster should get of an addon. All but AddOn and Cluster may be
// nil.
type Query struct {
	AddOn, Cluster string
	CMA            *addon.ClusterManagementAddOn
	Placement      *addon.PlacementStrategy
	MCA            *addon.ManagedClusterAddOn
	// Version is the name of an AddOnVersion to take instead of what the rest says,
	// in its newest revision.
	Version string
	// Values go over all others.
	Values map[string]any
}

// resolving is one answer on its way.
type resolving struct {
	*Resolver
	ctx context.Context
	q   *Query
	m   *material
	// facts of the cluster, nil if there is none.
	facts *catalog.Facts
	refs  []config.Reference

	spec      *fleet.AddOnVersionSpec
	parsed    versions.Version
	template  *addon.AddOnTemplate
	deploy    *addon.AddOnDeploymentConfigSpec
	layers    []config.Layer
	quota     map[string]string
	installed map[string]string // annotations of the AddOnVersion
}

// failure is a Problem as an error.
type failure struct{ Problem }

func (f *failure) Error() string { return f.Message }

func notConfigured(format string, args ...any) error {
	return &failure{Problem{addon.ConditionConfigured, addon.ReasonNotConfigured, fmt.Sprintf(format, args...)}}
}

// Resolve always answers; what went wrong is a problem of the answer.
func (r *Resolver) Resolve(ctx context.Context, q *Query) *material {
	x := &resolving{Resolver: r, ctx: ctx, q: q, facts: r.facts(q.Cluster), m: &material{target: target{addOn: q.AddOn}}}
	err := x.resolve()
	var f *failure
	switch {
	case err == nil:
	case errors.As(err, &f):
		x.m.problem = &f.Problem
	default:
		x.m.problem = &Problem{addon.ConditionConfigured, addon.ReasonNotConfigured, err.Error()}
	}
	if err != nil {
		x.m.digest, x.m.rendered = "", nil
	}
	return x.m
}

func (x *resolving) resolve() error {
	m, q := x.m, x.q
	x.uses(addon.ResourceClusterManagementAddOns, "", q.AddOn)
	if q.CMA == nil {
		m.foreign = true
		return nil
	}
	if problems := validation.IsValidLabelValue(q.AddOn); len(problems) > 0 {
		return notConfigured("name of the addon: %s", strings.Join(problems, "; "))
	}
	x.refs = config.References(q.CMA, q.Placement, q.MCA)
	m.supported = []addon.ConfigGroupResource{config.VersionKind(), config.ValuesKind(), config.DeploymentKind(), config.TemplateKind()}
	for _, ref := range x.refs {
		if !slices.Contains(m.supported, ref.ConfigGroupResource) {
			m.supported = append(m.supported, ref.ConfigGroupResource)
		}
	}
	if err := x.origin(); err != nil || m.foreign {
		return err
	}
	if err := x.configure(); err != nil {
		return err
	}
	return x.render()
}

func (x *resolving) uses(resource, namespace, name string) {
	x.m.inputs = append(x.m.inputs, store.Key{Resource: resource, Namespace: namespace, Name: name})
}

// origin finds the version or the template that the addon is made of.
func (x *resolving) origin() error {
	q, m := x.q, x.m
	ref, versioned := config.Last(x.refs, config.VersionKind())
	name := ref.Name
	if q.Version != "" {
		versioned, name = true, q.Version
	}
	if t, ok := config.Last(x.refs, config.TemplateKind()); ok && !versioned {
		return x.fromTemplate(t)
	}
	if !versioned {
		// Nobody names one: what is there stays, and otherwise it is the default.
		if c := contentOf(q.MCA); c != nil && c.AddOnVersion != "" {
			name = c.AddOnVersion
		} else {
			pin, err := x.Pin(q.CMA, q.Placement, q.MCA)
			if err != nil {
				return notConfigured("%s", err)
			}
			if pin == nil {
				m.foreign = true
				return nil
			}
			name = pin.Name
		}
		x.refs = append(x.refs, config.Reference{Config: versionConfig(name), Layer: fleet.LayerInstalled})
	}
	return x.fromVersion(name)
}

func contentOf(mca *addon.ManagedClusterAddOn) *addon.Content {
	if mca == nil {
		return nil
	}
	return mca.Status.Content
}

func versionConfig(name string) addon.Config {
	return addon.Config{ConfigGroupResource: config.VersionKind(), ConfigReferent: addon.ConfigReferent{Name: name}}
}

func (x *resolving) fromTemplate(ref config.Reference) error {
	x.uses(addon.ResourceTemplates, "", ref.Name)
	t, err := x.templates.Cached("", ref.Name)
	if err != nil {
		x.m.lacks = true
		return notConfigured("there is no AddOnTemplate %s, which the %s names", ref.Name, layerName(ref.Layer))
	}
	if t.Spec.AddonName != x.q.AddOn {
		return notConfigured("AddOnTemplate %s is for the addon %s: see spec.addonName", t.Name, t.Spec.AddonName)
	}
	x.template, x.m.template, x.m.registers = t, &t.Spec.AgentSpec, len(t.Spec.Registration) > 0
	return nil
}

// fromVersion takes the revision that is to run: the one that an annotation names,
// else the one that was let through last, else the newest.
func (x *resolving) fromVersion(name string) error {
	q, m := x.q, x.m
	x.uses(fleet.ResourceAddOnVersions, "", name)
	live, err := x.versions.Cached("", name)
	if err != nil {
		live = nil
	}
	rev, err := x.revision(name, live)
	if err != nil {
		return err
	}
	if rev.Spec.AddOn != q.AddOn {
		return notConfigured("AddOnVersion %s is of the addon %s, not of %s", name, rev.Spec.AddOn, q.AddOn)
	}
	x.spec = rev.Spec
	parsed, err := depend.Parse(rev.Spec)
	if err != nil {
		return notConfigured("AddOnVersion %s: %v", name, err)
	}
	x.parsed = parsed.Version
	m.object, m.version, m.revision, m.hash = name, parsed.Version.String(), rev.Number, rev.Hash
	m.requires, m.excludes = rev.Spec.Dependencies, rev.Spec.Conflicts
	m.health, m.protected = rev.Spec.Health, rev.Spec.Protected
	if live != nil {
		x.installed = live.Annotations
	}
	c := versionConfig(name)
	m.refs = append(m.refs, reference(c, rev.Hash))
	if rev.Spec.Requirements != nil && x.facts != nil {
		found, err := depend.Require(rev.Spec.Requirements, *x.facts)
		if err != nil {
			return notConfigured("AddOnVersion %s: %v", name, err)
		}
		if found.Verdict == depend.NotMet {
			m.requirement = &Problem{addon.ConditionConfigured, addon.ReasonRequirementNotMet, fmt.Sprintf("%s %s: %s", q.AddOn, m.version, found)}
		}
	}
	layer, err := config.VersionLayer(name, rev.Spec)
	if err != nil {
		return notConfigured("%s", err)
	}
	x.layers = append(x.layers, layer)
	return nil
}

func (x *resolving) revision(name string, live *fleet.AddOnVersion) (Revision, error) {
	newest := Revision{}
	if live != nil {
		hash, err := config.VersionHash(&live.Spec)
		if err != nil {
			return newest, notConfigured("AddOnVersion %s: %v", name, err)
		}
		newest = Revision{Hash: hash, Spec: &live.Spec}
		kept, ok, err := x.cfg.Revisions.ByHash(x.ctx, name, hash)
		if err != nil {
			return newest, err
		}
		if ok {
			newest.Number = kept.Number
		}
	}
	missing := func() (Revision, error) {
		return newest, notConfigured("there is no AddOnVersion %s; of the addon %s there are: %s", name, x.q.AddOn, x.listed(x.q.AddOn))
	}
	mca := x.q.MCA
	if x.q.Version != "" || mca == nil {
		if live == nil {
			return missing()
		}
		return newest, nil
	}
	if text := mca.Annotations[fleet.AnnotationAddOnRevision]; text != "" {
		number, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return newest, notConfigured("annotation %s: %q is not the number of a revision", fleet.AnnotationAddOnRevision, text)
		}
		if live != nil && newest.Number == number {
			return newest, nil
		}
		kept, ok, err := x.cfg.Revisions.ByNumber(x.ctx, name, number)
		if err != nil {
			return newest, err
		}
		if !ok {
			return newest, notConfigured("annotation %s: AddOnVersion %s has no revision %d", fleet.AnnotationAddOnRevision, name, number)
		}
		return kept, nil
	}
	for _, ref := range mca.Status.ConfigReferences {
		d := ref.DesiredConfig
		if ref.ConfigGroupResource != config.VersionKind() || d == nil || d.Name != name || d.SpecHash == newest.Hash {
			continue
		}
		if kept, ok, err := x.cfg.Revisions.ByHash(x.ctx, name, d.SpecHash); err != nil || ok {
			return kept, err
		}
	}
	if live == nil {
		return missing()
	}
	return newest, nil
}

func reference(c addon.Config, hash string) addon.ConfigReference {
	return addon.ConfigReference{
		ConfigGroupResource: c.ConfigGroupResource,
		DesiredConfig:       &addon.ConfigSpecHash{ConfigReferent: c.ConfigReferent, SpecHash: hash},
	}
}

// layerName is a layer for people.
func layerName(layer string) string {
	switch layer {
	case fleet.LayerAddOn:
		return "ClusterManagementAddOn"
	case fleet.LayerPlacement:
		return "install strategy of the placement"
	}
	return "ManagedClusterAddOn"
}

// configure reads the other references.
func (x *resolving) configure() error {
	for _, ref := range x.refs {
		if ref.ConfigGroupResource == config.VersionKind() {
			continue
		}
		resource := ref.Resource
		if ref.Group != "" {
			resource += "." + ref.Group
		}
		x.uses(resource, ref.Namespace, ref.Name)
		entry, ok := x.cfg.Store.Cached(store.Key{Resource: resource, Namespace: ref.Namespace, Name: ref.Name})
		if !ok {
			x.m.lacks = true
			return notConfigured("there is no %s %s, which the %s names", resource, strings.TrimPrefix(ref.Namespace+"/"+ref.Name, "/"), layerName(ref.Layer))
		}
		hash, err := x.hash(entry)
		if err != nil {
			return err
		}
		known := reference(ref.Config, hash)
		known.LastObservedGeneration = entry.Header.Generation
		x.m.refs = append(x.m.refs, known)
		switch ref.ConfigGroupResource {
		case config.ValuesKind():
			c, err := x.configs.Decode(entry)
			if err != nil {
				return err
			}
			layer, err := config.ConfigLayer(ref.Layer, c, x.q.AddOn, x.parsed)
			if err != nil {
				return notConfigured("%s", err)
			}
			x.layers = append(x.layers, layer)
		case config.DeploymentKind():
			c, err := x.settings.Decode(entry)
			if err != nil {
				return err
			}
			x.deploy = &c.Spec
		}
	}
	slices.SortStableFunc(x.m.refs, func(a, b addon.ConfigReference) int {
		return cmp.Or(cmp.Compare(a.Group, b.Group), cmp.Compare(a.Resource, b.Resource))
	})
	if len(x.q.Values) > 0 {
		x.layers = append(x.layers, config.Layer{Name: fleet.LayerInstalled, From: "the request", Values: x.q.Values})
	}
	return x.readQuota()
}

func (x *resolving) readQuota() error {
	text := x.installed[addon.AnnotationResourceQuota]
	if x.q.MCA != nil {
		text = cmp.Or(x.q.MCA.Annotations[addon.AnnotationResourceQuota], text)
	}
	if text == "" {
		return nil
	}
	if err := json.Unmarshal([]byte(text), &x.quota); err != nil || len(x.quota) == 0 {
		return notConfigured("annotation %s: want the JSON of spec.hard of a ResourceQuota, such as {\"limits.memory\":\"1Gi\"}", addon.AnnotationResourceQuota)
	}
	return nil
}

// hash names the content of an object; it is remembered by uid and revision.
func (r *Resolver) hash(e store.Entry) (string, error) {
	key := fmt.Sprintf("%s/%d", e.Header.UID, e.Revision)
	return r.hashed.get(key, func() (string, error) {
		u := &unstructured.Unstructured{}
		if err := u.UnmarshalJSON(e.Data); err != nil {
			return "", fmt.Errorf("read %s: %w", e.Key, err)
		}
		return config.Hash(u.Object)
	})
}

// Hashes are references with the hashes of the objects as they are; one that is not
// there has none.
func (r *Resolver) Hashes(configs []addon.Config) []addon.ConfigReference {
	var out []addon.ConfigReference
	for _, c := range configs {
		resource := c.Resource
		if c.Group != "" {
			resource += "." + c.Group
		}
		hash := ""
		if e, ok := r.cfg.Store.Cached(store.Key{Resource: resource, Namespace: c.Namespace, Name: c.Name}); ok {
			if h, err := r.hash(e); err == nil {
				hash = h
			}
		}
		out = append(out, reference(c, hash))
	}
	return out
}

// ConfigsOf are the configurations of a placement, over those of its addon.
func (r *Resolver) ConfigsOf(cma *addon.ClusterManagementAddOn, placement *addon.PlacementStrategy) []addon.Config {
	var out []addon.Config
	for _, ref := range config.References(cma, placement, nil) {
		out = append(out, ref.Config)
	}
	return out
}
