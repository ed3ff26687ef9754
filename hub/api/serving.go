// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"fmt"
	"slices"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/drover-io/drover/hub/api/kind"
	"github.com/drover-io/drover/hub/api/openapi"
	"github.com/drover-io/drover/shared/apis/addon"
	"github.com/drover-io/drover/shared/apis/schemas"
)

// resource is one kind in one version, and those who take part in it.
type resource struct {
	*kind.Kind
	hook     Hook     // may be nil
	provider Provider // nil unless virtual
	// terminating is set while the kind's definition is being deleted: nothing
	// new is made of it.
	terminating bool
	// definition is the zero value for Drover's own kinds.
	definition definitionID
	// gone ends when this version is served no longer, or in another form.
	gone context.Context
	end  context.CancelFunc
}

func newResource(k *kind.Kind) *resource {
	r := &resource{Kind: k}
	r.gone, r.end = context.WithCancel(context.Background())
	return r
}

// verbs that a kind allows, as discovery lists them.
func (r *resource) verbs() []string {
	if r.provider != nil {
		return []string{"get", "list"}
	}
	return []string{"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"}
}

// serving is all that is served at one moment. It never changes: when a user adds
// or removes a kind another one takes its place.
type serving struct {
	resources map[schema.GroupVersionResource]*resource
	discovery discovery
	openapi   *openapi.Service
}

// newServing makes the answers about a set of kinds; before, which may be nil,
// lends what did not change.
func newServing(all []*resource, version string, before *serving) *serving {
	s := &serving{resources: map[schema.GroupVersionResource]*resource{}}
	kinds := make([]*kind.Kind, 0, len(all))
	for _, r := range all {
		s.resources[r.GVR()] = r
		kinds = append(kinds, r.Kind)
	}
	verbs := func(k *kind.Kind) []string { return s.resources[k.GVR()].verbs() }
	var last *openapi.Service
	if before != nil {
		last = before.openapi
	}
	s.discovery = newDiscovery(kinds, verbs)
	s.openapi = openapi.New(kinds, verbs, version, last)
	return s
}

// conversions between the versions of Drover's own kinds, by resource.
func conversions() map[string]kind.Conversion {
	return map[string]kind.Conversion{
		addon.ResourceClusterManagementAddOns: addon.Convert,
		addon.ResourceManagedClusterAddOns:    addon.Convert,
	}
}

// builtin parses the documents of Drover's own kinds.
func builtin(cfg *Config) ([]*resource, error) {
	var all []*resource
	known, hooked := map[schema.GroupVersionResource]*resource{}, map[string]bool{}
	convert := conversions()
	for _, doc := range cfg.Kinds {
		versions, err := kind.Parse(doc, nil)
		if err != nil {
			return nil, err
		}
		if c := convert[versions[0].StoreResource()]; c != nil && len(versions) > 1 {
			if versions, err = kind.Parse(doc, c); err != nil {
				return nil, err
			}
		}
		for _, k := range versions {
			r := newResource(k)
			r.hook, r.provider = cfg.Hooks[k.StoreResource()], cfg.Virtual[k.GVR()]
			virtual := k.Annotations[schemas.AnnotationVirtual] == "true"
			switch {
			case !k.Served, virtual && r.provider == nil:
				continue
			case !virtual && r.provider != nil:
				return nil, fmt.Errorf("%s has a provider but is not marked as virtual", k.StoreResource())
			case known[k.GVR()] != nil:
				return nil, fmt.Errorf("two documents describe %s", k.StoreResource())
			}
			known[k.GVR()], hooked[k.StoreResource()] = r, true
			all = append(all, r)
		}
	}
	for name := range cfg.Hooks {
		if !hooked[name] {
			return nil, fmt.Errorf("there is a hook for %q but no such kind", name)
		}
	}
	for gvr := range cfg.Virtual {
		if known[gvr] == nil {
			return nil, fmt.Errorf("there is a provider for %s but no such kind", gvr)
		}
	}
	return all, nil
}

// resourceDefinitions is the resource of CustomResourceDefinitions.
var resourceDefinitions = apiextensionsv1.Resource("customresourcedefinitions").String()

// swap puts the kinds of users, by the name of their definition, beside Drover's
// own; a.mu is held.
func (a *API) swap() {
	all := slices.Clone(a.own)
	for _, rs := range a.users {
		all = append(all, rs...)
	}
	slices.SortFunc(all, func(x, y *resource) int { return compareKinds(x.GVK, y.GVK) })
	before := a.current.Load()
	a.current.Store(newServing(all, a.version, before))
	if before == nil {
		return
	}
	for gvr, r := range before.resources {
		if now := a.current.Load().resources[gvr]; now == nil || now.gone != r.gone {
			r.end()
		}
	}
}
