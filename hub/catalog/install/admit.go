// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package install

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/drover-io/drover/hub/catalog/config"
	"github.com/drover-io/drover/hub/catalog/depend"
	"github.com/drover-io/drover/hub/catalog/versions"
	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/shared/apis/addon"
	"github.com/drover-io/drover/shared/apis/cluster"
	"github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/shared/daemon"
)

// admission is one ManagedClusterAddOn on its way into the store.
type admission struct {
	*Resolver
	ctx      context.Context
	old, obj *addon.ManagedClusterAddOn // old is nil for a new one
	cma      *addon.ClusterManagementAddOn
	place    *addon.PlacementStrategy
	warn     func(string)
}

func dishResource() schema.GroupResource {
	return schema.GroupResource{Group: addon.Group, Resource: "managedclusteraddons"}
}

func annotationPath(key string) *field.Path { return field.NewPath("metadata", "annotations").Key(key) }

// Admit checks a ManagedClusterAddOn that somebody creates or changes, and completes
// it: the default version is written into it, and who changes the version does not
// keep the revision of another. It has no effects besides; warn may not be nil.
func (r *Resolver) Admit(ctx context.Context, old, obj *addon.ManagedClusterAddOn, warn func(string)) error {
	a := &admission{Resolver: r, ctx: ctx, old: old, obj: obj, warn: warn}
	if host := obj.Annotations[addon.AnnotationHostingCluster]; host != "" {
		return field.Invalid(annotationPath(addon.AnnotationHostingCluster), host,
			"hosted mode is not supported: the agent of each cluster applies its addons there; remove the annotation")
	}
	if obj.DeletionTimestamp != nil || old != nil && equality.Semantic.DeepEqual(old.Spec, obj.Spec) && maps.Equal(relevant(old), relevant(obj)) {
		return nil
	}
	if problems := validation.IsValidLabelValue(obj.Name); len(problems) > 0 {
		return field.Invalid(field.NewPath("metadata", "name"), obj.Name, strings.Join(problems, "; "))
	}
	if err := r.catchUp(ctx, obj.Namespace); err != nil {
		return err
	}
	cma, err := r.recipes.Cached("", obj.Name)
	if err != nil {
		if old != nil {
			return nil
		}
		names, err := r.AddOns(ctx)
		if err != nil {
			return err
		}
		return field.Invalid(field.NewPath("metadata", "name"), obj.Name,
			"there is no ClusterManagementAddOn of this name; there are: "+firstOf(strings.Join(names, ", "), "none"))
	}
	a.cma = cma
	chosen, err := r.chosen(ctx, cma)
	if err != nil {
		return err
	}
	a.place = placementOf(cma, chosen, obj.Namespace)
	return a.admit()
}

// relevant are the annotations that decide what an addon is made of.
func relevant(o *addon.ManagedClusterAddOn) map[string]string {
	out := map[string]string{}
	for _, key := range []string{fleet.AnnotationAddOnRevision, addon.AnnotationResourceQuota, addon.AnnotationInstallNamespace} {
		if v, ok := o.Annotations[key]; ok {
			out[key] = v
		}
	}
	return out
}

func (a *admission) admit() error {
	if a.old == nil {
		if _, ok := a.cfg.Store.Cached(store.Key{Resource: cluster.Resource, Name: a.obj.Namespace}); !ok {
			a.warn(fmt.Sprintf("there is no ManagedCluster %q: nothing is installed until one of that name joins", a.obj.Namespace))
		}
	}
	pin, err := a.Pin(a.cma, a.place, a.obj)
	if err != nil {
		return field.Required(field.NewPath("spec", "configs"), err.Error())
	}
	if pin != nil && a.old != nil && contentOf(a.old) != nil && a.old.Status.Content.AddOnVersion != "" {
		pin.Name = a.old.Status.Content.AddOnVersion // what is there stays
	}
	if pin != nil {
		a.obj.Spec.Configs = append(a.obj.Spec.Configs, *pin)
		a.warn(fmt.Sprintf("no version is named: spec.configs is set to AddOnVersion %s, and does not follow the default when that moves", pin.Name))
	}
	ref, versioned := config.Last(config.References(a.cma, a.place, a.obj), config.VersionKind())
	if !versioned {
		if _, ok := config.Last(config.References(a.cma, a.place, a.obj), config.TemplateKind()); !ok {
			a.warn(fmt.Sprintf("the addon %s has no version and no template: nothing is installed unless a controller of its own does it", a.obj.Name))
		}
		return nil
	}
	if err := a.version(ref.Name); err != nil {
		return err
	}
	return a.preview(ref.Name)
}

// version checks the choice of a version.
func (a *admission) version(name string) error {
	path := field.NewPath("spec", "configs")
	var before *fleet.AddOnVersion
	if a.old != nil {
		before = a.versionOf(a.old, a.place)
	}
	changed := before == nil || before.Name != name
	v, err := a.versions.Cached("", name)
	switch {
	case err != nil && changed:
		return field.Invalid(path, name, fmt.Sprintf("there is no such AddOnVersion; of the addon %s there are: %s", a.obj.Name, a.listed(a.obj.Name)))
	case err != nil:
		return nil
	case v.Spec.AddOn != a.obj.Name:
		return field.Invalid(path, name, fmt.Sprintf("it is a version of the addon %s; of %s there are: %s", v.Spec.AddOn, a.obj.Name, a.listed(a.obj.Name)))
	case changed && v.Spec.Active != nil && !*v.Spec.Active:
		return field.Invalid(path, name, fmt.Sprintf("it is not active, so it cannot be newly installed; of the addon %s there are: %s", a.obj.Name, a.listed(a.obj.Name)))
	}
	a.dropRevision(changed)
	if a.obj.Annotations[fleet.AnnotationAddOnRevision] == RevisionNewest {
		if err := a.newest(v); err != nil {
			return err
		}
	}
	if text := a.obj.Annotations[fleet.AnnotationAddOnRevision]; text != "" {
		number, err := strconv.ParseInt(text, 10, 64)
		if err != nil || number < 1 {
			return field.Invalid(annotationPath(fleet.AnnotationAddOnRevision), text, "want the number of a revision of the AddOnVersion")
		}
		_, ok, err := a.cfg.Revisions.ByNumber(a.ctx, name, number)
		if err != nil {
			return err
		}
		if !ok {
			return field.Invalid(annotationPath(fleet.AnnotationAddOnRevision), text, fmt.Sprintf("AddOnVersion %s has no such revision", name))
		}
	}
	if !changed {
		return nil
	}
	to, err := depend.Parse(&v.Spec)
	if err != nil {
		return field.Invalid(path, name, err.Error())
	}
	if before != nil {
		from, err := depend.Parse(&before.Spec)
		if err == nil {
			err = versions.CheckChange(from.Version, from.Upgrade, to.Version, to.Upgrade)
		}
		if err != nil {
			return field.Invalid(path, name, err.Error())
		}
	}
	return a.neighbours(to)
}

// The newest revision is waited for so often, and so long each time.
const (
	keptTries = 20
	keptAfter = 100 * time.Millisecond
)

// RevisionNewest as the number of a revision becomes that of the newest.
const RevisionNewest = "newest"

func (a *admission) newest(v *fleet.AddOnVersion) error {
	hash, err := config.VersionHash(&v.Spec)
	if err != nil {
		return err
	}
	var kept Revision
	var ok bool
	for try := 0; ; try++ { // it is kept a moment after it is stored
		if kept, ok, err = a.cfg.Revisions.ByHash(a.ctx, v.Name, hash); err != nil {
			return err
		}
		if ok || try == keptTries || !daemon.Sleep(a.ctx, keptAfter) {
			break
		}
	}
	if !ok {
		return field.Invalid(annotationPath(fleet.AnnotationAddOnRevision), RevisionNewest, "the newest revision is not kept yet: try again")
	}
	a.obj.Annotations[fleet.AnnotationAddOnRevision] = strconv.FormatInt(kept.Number, 10)
	return nil
}

// dropRevision: a number is one of a version's revisions.
func (a *admission) dropRevision(changed bool) {
	if a.old == nil || !changed {
		return
	}
	was, is := a.old.Annotations[fleet.AnnotationAddOnRevision], a.obj.Annotations[fleet.AnnotationAddOnRevision]
	if was != "" && was == is {
		delete(a.obj.Annotations, fleet.AnnotationAddOnRevision)
		a.warn(fmt.Sprintf("annotation %s=%s was of the former version and is removed: the newest revision is installed", fleet.AnnotationAddOnRevision, is))
	}
}

// neighbours checks a version against the other addons of the cluster.
func (a *admission) neighbours(to depend.Version) error {
	installed, err := a.Installed(a.ctx, a.obj.Namespace)
	if err != nil {
		return err
	}
	conflict := func(texts []string) error {
		return apierrors.NewConflict(dishResource(), a.obj.Namespace+"/"+a.obj.Name, errors.New(strings.Join(texts, "; ")))
	}
	var texts []string
	for _, b := range depend.Breaks(installed, to) {
		texts = append(texts, b.String())
	}
	for _, x := range depend.Excluded(to, installed) {
		texts = append(texts, x.String())
	}
	if len(texts) > 0 {
		return conflict(texts)
	}
	var waits []string
	for _, m := range depend.Missing(to, installed) {
		waits = append(waits, m.AddOn+" "+m.Range.String())
	}
	if len(waits) > 0 {
		a.warn(fmt.Sprintf("it waits for %s on this cluster; `drover addon install --with-dependencies` installs what is missing", strings.Join(waits, ", ")))
	}
	return nil
}

// preview finds what would go wrong on the cluster.
func (a *admission) preview(name string) error {
	m := a.Resolve(a.ctx, &Query{AddOn: a.obj.Name, Cluster: a.obj.Namespace, CMA: a.cma, Placement: a.place, MCA: a.obj})
	path := field.NewPath("spec", "configs")
	switch {
	case m.problem != nil && m.lacks:
		a.warn(m.problem.Message + ": nothing changes on the cluster until there is")
		return nil
	case m.problem != nil:
		return field.Invalid(path, name, m.problem.Message)
	case m.requirement != nil && a.old == nil:
		return field.Invalid(path, name, m.requirement.Message)
	case m.rendered == nil:
		return nil
	}
	want := map[identity]bool{}
	for _, id := range identitiesOf(m.rendered) {
		want[id] = true
	}
	id, owner, err := a.Taken(a.ctx, a.obj.Namespace, a.obj.Name, want)
	if err != nil {
		return err
	}
	if owner != "" {
		return apierrors.NewConflict(dishResource(), a.obj.Namespace+"/"+a.obj.Name, errors.New(ownedBy(a.obj.Name, id, owner).Message))
	}
	return nil
}

// AdmitRemoval refuses to remove what other addons of the cluster need, unless they
// are being removed too.
func (r *Resolver) AdmitRemoval(ctx context.Context, old *addon.ManagedClusterAddOn) error {
	if old.DeletionTimestamp != nil {
		return nil
	}
	if err := r.catchUp(ctx, old.Namespace); err != nil {
		return err
	}
	names, err := r.dependents(ctx, old.Namespace, old.Name)
	if err != nil || len(names) == 0 {
		return err
	}
	return apierrors.NewConflict(dishResource(), old.Namespace+"/"+old.Name, fmt.Errorf(
		"%s on this cluster needs it: remove that first, or `drover addon remove %s --with-dependents`", strings.Join(names, ", "), old.Name))
}

// catchUp waits until the cache has all that was acknowledged before, such as the
// removal of what needed an addon that goes next. What is read of it then is not
// older than the request.
func (r *Resolver) catchUp(ctx context.Context, cluster string) error {
	_, err := r.cfg.Store.List(ctx, store.Selection{Resource: addon.ResourceManagedClusterAddOns, Namespace: cluster})
	if err != nil {
		return fmt.Errorf("read installed addons: %w", err)
	}
	return nil
}

// dependents are the addons of a cluster that need another, those aside that are
// being removed.
func (r *Resolver) dependents(ctx context.Context, cluster, addOn string) ([]string, error) {
	installed, err := r.Installed(ctx, cluster)
	if err != nil {
		return nil, err
	}
	var names []string
	for name, v := range installed {
		if name != addOn && slices.ContainsFunc(v.Requires, func(q depend.Range) bool { return q.AddOn == addOn }) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// AdmitAddOnRemoval refuses to remove an addon from all clusters while others need
// it on some.
func (r *Resolver) AdmitAddOnRemoval(ctx context.Context, addOn string) error {
	list, _, err := store.Of[addon.ManagedClusterAddOn](r.cfg.Store, addon.ResourceManagedClusterAddOns).List(ctx, store.Selection{})
	if err != nil {
		return err
	}
	var users []string
	for _, o := range list {
		if o.Name == addOn || o.DeletionTimestamp != nil {
			continue
		}
		v := r.versionOf(o, nil)
		if v != nil && slices.ContainsFunc(v.Spec.Dependencies, func(d fleet.AddOnRange) bool { return d.AddOn == addOn }) {
			users = append(users, o.Name+" on "+o.Namespace)
		}
	}
	if len(users) == 0 {
		return nil
	}
	slices.Sort(users)
	return apierrors.NewConflict(schema.GroupResource{Group: addon.Group, Resource: "clustermanagementaddons"}, addOn,
		fmt.Errorf("it is needed by %s: remove that first", some(users)))
}

// CheckMaxInFlight says what is wrong with the annotation of that name.
func CheckMaxInFlight(text string) error {
	if n, err := strconv.Atoi(text); text != "" && (err != nil || n < 1) {
		return field.Invalid(annotationPath(addon.AnnotationMaxInFlight), text, "want a number of clusters, at least 1")
	}
	return nil
}
