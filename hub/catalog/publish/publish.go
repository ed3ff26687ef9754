// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Package publish takes versions of addons into the catalog: it checks all of a
// version before anything is stored, stores it in one step together with what it
// changes besides, and keeps its status.
package publish

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/drover-io/drover/hub/catalog"
	"github.com/drover-io/drover/hub/catalog/depend"
	"github.com/drover-io/drover/hub/catalog/render"
	"github.com/drover-io/drover/hub/catalog/source"
	"github.com/drover-io/drover/hub/catalog/versions"
	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/shared/apis/addon"
	"github.com/drover-io/drover/shared/apis/fleet"
)

// Bundles is where content is stored. An error is fs.ErrNotExist when there is no
// such bundle.
type Bundles interface {
	Bundle(ctx context.Context, digest string) ([]byte, error)
	Size(ctx context.Context, digest string) (int64, error)
}

// Registry brings what an OCI reference names into the bundles.
type Registry interface {
	Pull(ctx context.Context, reference string) error
}

// Config of a Publisher.
type Config struct {
	Store    *store.Store
	Bundles  Bundles
	Registry Registry // nil: OCI references are refused
	Renderer *render.Renderer
	Log      *zap.Logger
}

// Publisher takes versions in. Its methods may be called at the same time.
type Publisher struct {
	cfg Config

	mu    sync.Mutex
	moves sync.Mutex // held while default pointers move
	last  *checked   // the content that was checked last

	parsed depend.Memo
}

// checked is content with what it renders to.
type checked struct {
	key      string
	manager  string
	status   fleet.AddOnVersionStatus
	warnings []string
}

// New makes a publisher.
func New(cfg Config) *Publisher {
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	return &Publisher{cfg: cfg}
}

func resource() schema.GroupResource {
	return schema.GroupResource{Group: fleet.Group, Resource: "addonversions"}
}

// Name is what the AddOnVersion of a version is called; empty when it is no version.
func Name(addOn, version string) string {
	v, err := versions.Parse(version)
	if err != nil {
		return ""
	}
	return versions.ObjectName(addOn, v)
}

// Admit checks a version that is about to be stored and fills in its manager and
// status. old is nil for a new one. What is only to be known, it says with warn.
func (p *Publisher) Admit(ctx context.Context, obj, old map[string]any, warn func(string)) error {
	var v, before fleet.AddOnVersion
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(obj, &v); err != nil {
		return err
	}
	if old != nil {
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(old, &before); err != nil {
			return err
		}
		v.Status = before.Status
	}
	if errs := checkSpec(ctx, &v); len(errs) > 0 {
		return errs.ToAggregate()
	}
	if old == nil || !sameContent(&v.Spec, &before.Spec) || v.Status.Digest == "" && v.Spec.Image != "" {
		if err := p.admitContent(ctx, &v, warn); err != nil {
			return err
		}
	}
	now := metav1.NewTime(time.Now().UTC().Truncate(time.Second))
	setCondition(&v, now)
	spec, _ := obj["spec"].(map[string]any)
	spec["manager"] = v.Spec.Manager
	status, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&v.Status)
	if err != nil {
		return err
	}
	obj["status"] = status
	return nil
}

// ConditionValid says that the content was read and rendered.
const ConditionValid = "Valid"

func setCondition(v *fleet.AddOnVersion, now metav1.Time) {
	c := metav1.Condition{
		Type: ConditionValid, Status: metav1.ConditionTrue, Reason: "Rendered", LastTransitionTime: now,
		Message: fmt.Sprintf("%d objects of %d kinds", v.Status.Objects, len(v.Status.Kinds)),
	}
	if v.Status.Objects == 0 {
		c.Reason, c.Message = "Checked", "it renders only with values or facts that clusters add"
	}
	for i := range v.Status.Conditions {
		if old := &v.Status.Conditions[i]; old.Type == c.Type {
			if old.Status == c.Status {
				c.LastTransitionTime = old.LastTransitionTime
			}
			*old = c
			return
		}
	}
	v.Status.Conditions = append(v.Status.Conditions, c)
}

// sameContent compares what admitContent looks at.
func sameContent(a, b *fleet.AddOnVersionSpec) bool {
	x, err := contentKey(a)
	y, err2 := contentKey(b)
	return err == nil && err2 == nil && x == y
}

func contentKey(s *fleet.AddOnVersionSpec) (string, error) {
	c := *s
	c.Active, c.Default, c.Channel, c.Description, c.Packages = nil, false, "", "", nil
	data, err := json.Marshal(&c)
	return string(data), err
}

// admitContent reads and renders the content.
func (p *Publisher) admitContent(ctx context.Context, v *fleet.AddOnVersion, warn func(string)) error {
	if err := p.checkDependencies(ctx, &v.Spec); err != nil {
		return err
	}
	key, err := contentKey(&v.Spec)
	if err != nil {
		return err
	}
	// Admission runs again when somebody else was faster.
	p.mu.Lock()
	last := p.last
	p.mu.Unlock()
	if last == nil || last.key != key {
		if last, err = p.check(ctx, v); err != nil {
			return err
		}
		last.key = key
		p.mu.Lock()
		p.last = last
		p.mu.Unlock()
	}
	if v.Spec.Manager == "" {
		v.Spec.Manager = last.manager
	}
	for _, w := range last.warnings {
		warn(w)
	}
	clusters, conditions := v.Status.Clusters, v.Status.Conditions
	v.Status = last.status
	v.Status.Clusters, v.Status.Conditions = clusters, slices.Clone(conditions)
	return nil
}

// check reads and renders the content of a version.
func (p *Publisher) check(ctx context.Context, v *fleet.AddOnVersion) (*checked, error) {
	spec, image := &v.Spec, field.NewPath("spec", "image")
	if strings.Contains(spec.Image, "@") {
		if p.cfg.Registry == nil {
			return nil, field.Invalid(image, spec.Image, "this hub pulls no OCI artifacts: push the content with `drover addon push`")
		}
		if err := p.cfg.Registry.Pull(ctx, spec.Image); err != nil {
			return nil, field.Invalid(image, spec.Image, err.Error())
		}
	}
	content, err := p.Content(ctx, spec)
	if err != nil {
		return nil, err
	}
	out := &checked{}
	spec.Manager = content.Manager
	out.manager = content.Manager
	if digest := source.Digest(spec); digest != "" {
		out.status.Digest = digest
		if out.status.Size, err = p.cfg.Bundles.Size(ctx, digest); err != nil {
			return nil, fmt.Errorf("size of bundle: %w", err)
		}
	}
	values, missing, err := defaultValues(ctx, spec)
	if err != nil {
		return nil, err
	}
	if len(missing) > 0 {
		out.warnings = append(out.warnings, fmt.Sprintf("spec.configSchema requires %s, so the content is rendered only when an installation sets it", strings.Join(missing, ", ")))
		return out, nil
	}
	rendered, needsCluster, err := p.cfg.Renderer.Check(ctx, Rendering(v, content, values))
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil && needsCluster:
		out.warnings = append(out.warnings, fmt.Sprintf("the content needs a cluster to be rendered, and was not: %v", err))
		return out, nil
	case err != nil:
		at, value := field.NewPath("spec", "values"), ""
		if len(spec.Manifests) > 0 {
			at = field.NewPath("spec", "manifests")
		} else if spec.Image != "" {
			at, value = image, spec.Image
		}
		return nil, field.Invalid(at, value, "rendering with the default values: "+err.Error())
	}
	found := inspect(rendered)
	out.status.Objects, out.status.Kinds, out.status.Images = found.Objects, found.Kinds, found.Images
	return out, nil
}

// Rendering is what a version renders to with values, for no cluster in particular.
func Rendering(v *fleet.AddOnVersion, content *catalog.Content, values map[string]any) *catalog.Rendering {
	return &catalog.Rendering{
		AddOn: v.Spec.AddOn, Version: strings.TrimPrefix(v.Spec.Version, "v"), Namespace: addon.DefaultInstallNamespace,
		Content: content, Values: values,
	}
}

// Content reads the content of a version. An error of who wrote it is a field.Error.
func (p *Publisher) Content(ctx context.Context, spec *fleet.AddOnVersionSpec) (*catalog.Content, error) {
	c, err := source.Load(ctx, p.cfg.Bundles, spec)
	at, value := field.NewPath("spec", "manifests"), ""
	if spec.Image != "" {
		at, value = field.NewPath("spec", "image"), spec.Image
	}
	switch {
	case err == nil:
		return c, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case isMissing(err):
		return nil, field.Invalid(at, value, "this hub has no such bundle: push the content with `drover addon push`")
	case errors.Is(err, source.ErrStore):
		return nil, err
	}
	return nil, field.Invalid(at, value, err.Error())
}

// AdmitDelete refuses to remove a version that is in use.
func (p *Publisher) AdmitDelete(ctx context.Context, name string) error {
	users, err := p.users(ctx, name)
	if err != nil {
		return err
	}
	if len(users) == 0 {
		return nil
	}
	shown := users
	if len(shown) > 8 {
		shown = append(slices.Clone(users[:8]), fmt.Sprintf("%d more", len(users)-8))
	}
	return apierrors.NewConflict(resource(), name, fmt.Errorf("in use by %s", strings.Join(shown, ", ")))
}

// users are the objects that name a version.
func (p *Publisher) users(ctx context.Context, name string) ([]string, error) {
	var users []string
	installed, _, err := store.Of[addon.ManagedClusterAddOn](p.cfg.Store, addon.ResourceManagedClusterAddOns).List(ctx, store.Selection{})
	if err != nil {
		return nil, fmt.Errorf("list installed addons: %w", err)
	}
	for _, a := range installed {
		if slices.Contains(named(a), name) {
			users = append(users, fmt.Sprintf("ManagedClusterAddOn %s/%s", a.Namespace, a.Name))
		}
	}
	addons, _, err := store.Of[addon.ClusterManagementAddOn](p.cfg.Store, addon.ResourceClusterManagementAddOns).List(ctx, store.Selection{})
	if err != nil {
		return nil, fmt.Errorf("list addons: %w", err)
	}
	for _, a := range addons {
		configs := slices.Clone(a.Spec.DefaultConfigs)
		for _, s := range a.Spec.InstallStrategy.Placements {
			configs = append(configs, s.Configs...)
		}
		if slices.ContainsFunc(configs, func(c addon.Config) bool { return isVersion(c.ConfigGroupResource) && c.Name == name }) {
			users = append(users, "ClusterManagementAddOn "+a.Name)
		}
	}
	slices.Sort(users)
	return users, nil
}

func isVersion(c addon.ConfigGroupResource) bool {
	return c.Group == fleet.Group && c.Resource == "addonversions"
}

// named are the versions that an installed addon names.
func named(a *addon.ManagedClusterAddOn) []string {
	var out []string
	for _, c := range a.Spec.Configs {
		if isVersion(c.ConfigGroupResource) {
			out = append(out, c.Name)
		}
	}
	for _, r := range a.Status.ConfigReferences {
		if !isVersion(r.ConfigGroupResource) {
			continue
		}
		for _, c := range []*addon.ConfigSpecHash{r.DesiredConfig, r.LastAppliedConfig} {
			if c != nil {
				out = append(out, c.Name)
			}
		}
	}
	slices.SortFunc(out, cmp.Compare)
	return slices.Compact(out)
}
