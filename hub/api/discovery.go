// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"cmp"
	"encoding/json"
	"net/http"
	"slices"

	discoveryv2 "k8s.io/api/apidiscovery/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/version"

	"github.com/drover-io/drover/hub/api/kind"
)

// discovery holds the answers of discovery, encoded.
type discovery struct {
	aggregated map[string][]byte // by "/api" and "/apis"
	paths      map[string][]byte // plain answers, by path
}

// contentAggregated is exactly what kubectl looks for.
const contentAggregated = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"

// discovered is one line of discovery.
type discovered struct {
	gvk        schema.GroupVersionKind
	resource   string
	singular   string
	namespaced bool
	verbs      []string
	shortNames []string
	categories []string
	status     bool
	scale      bool
}

func newDiscovery(kinds []*kind.Kind, verbs func(*kind.Kind) []string) discovery {
	var all []discovered
	for _, k := range kinds {
		all = append(all, discovered{
			gvk: k.GVK, resource: k.Resource, singular: k.Singular, namespaced: k.Namespaced, verbs: verbs(k),
			shortNames: k.ShortNames, categories: k.Categories, status: k.Status, scale: k.Scale != nil,
		})
	}
	for gvr := range reviews {
		all = append(all, discovered{
			gvk: gvr.GroupVersion().WithKind(reviewKinds[gvr.Resource]), resource: gvr.Resource,
			singular: singularOf(gvr.Resource), namespaced: gvr.Resource == localReview, verbs: []string{"create"},
		})
	}
	slices.SortFunc(all, func(a, b discovered) int {
		return cmp.Or(compareVersions(a.gvk, b.gvk), cmp.Compare(a.resource, b.resource))
	})
	d := discovery{aggregated: map[string][]byte{}, paths: map[string][]byte{}}
	d.aggregate("/api", all, func(g string) bool { return g == "" })
	d.aggregate("/apis", all, func(g string) bool { return g != "" })
	d.plain(all)
	return d
}

// compareVersions orders by group, then the version to prefer first.
func compareVersions(a, b schema.GroupVersionKind) int {
	return cmp.Or(cmp.Compare(a.Group, b.Group), -version.CompareKubeAwareVersionStrings(a.Version, b.Version))
}

func compareKinds(a, b schema.GroupVersionKind) int {
	return cmp.Or(compareVersions(a, b), cmp.Compare(a.Kind, b.Kind))
}

func (d discovery) aggregate(path string, all []discovered, member func(group string) bool) {
	list := discoveryv2.APIGroupDiscoveryList{
		TypeMeta: metav1.TypeMeta{Kind: "APIGroupDiscoveryList", APIVersion: "apidiscovery.k8s.io/v2"},
		Items:    []discoveryv2.APIGroupDiscovery{},
	}
	for _, r := range all {
		if !member(r.gvk.Group) {
			continue
		}
		n := len(list.Items)
		if n == 0 || list.Items[n-1].Name != r.gvk.Group {
			list.Items = append(list.Items, discoveryv2.APIGroupDiscovery{ObjectMeta: metav1.ObjectMeta{Name: r.gvk.Group}})
			n++
		}
		group := &list.Items[n-1]
		v := len(group.Versions)
		if v == 0 || group.Versions[v-1].Version != r.gvk.Version {
			group.Versions = append(group.Versions, discoveryv2.APIVersionDiscovery{Version: r.gvk.Version, Freshness: discoveryv2.DiscoveryFreshnessCurrent})
			v++
		}
		gvk := metav1.GroupVersionKind(r.gvk)
		entry := discoveryv2.APIResourceDiscovery{
			Resource: r.resource, SingularResource: r.singular, ResponseKind: &gvk, Verbs: r.verbs,
			ShortNames: r.shortNames, Categories: r.categories, Scope: discoveryv2.ScopeCluster,
		}
		if r.namespaced {
			entry.Scope = discoveryv2.ScopeNamespace
		}
		if r.scale {
			scale := metav1.GroupVersionKind(gvkScale)
			entry.Subresources = append(entry.Subresources, discoveryv2.APISubresourceDiscovery{Subresource: "scale", ResponseKind: &scale, Verbs: statusVerbs()})
		}
		if r.status {
			entry.Subresources = append(entry.Subresources, discoveryv2.APISubresourceDiscovery{Subresource: "status", ResponseKind: &gvk, Verbs: statusVerbs()})
		}
		group.Versions[v-1].Resources = append(group.Versions[v-1].Resources, entry)
	}
	d.aggregated[path] = mustJSON(list)
}

func (d discovery) plain(all []discovered) {
	groups := metav1.APIGroupList{TypeMeta: metav1.TypeMeta{Kind: "APIGroupList", APIVersion: "v1"}, Groups: []metav1.APIGroup{}}
	lists := map[schema.GroupVersion]*metav1.APIResourceList{}
	for _, r := range all {
		gv := r.gvk.GroupVersion()
		list := lists[gv]
		if list == nil {
			list = &metav1.APIResourceList{TypeMeta: metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"}, GroupVersion: gv.String()}
			lists[gv] = list
			version := metav1.GroupVersionForDiscovery{GroupVersion: gv.String(), Version: gv.Version}
			n := len(groups.Groups)
			if gv.Group != "" && (n == 0 || groups.Groups[n-1].Name != gv.Group) {
				groups.Groups = append(groups.Groups, metav1.APIGroup{Name: gv.Group, PreferredVersion: version})
				n++
			}
			if gv.Group != "" {
				groups.Groups[n-1].Versions = append(groups.Groups[n-1].Versions, version)
			}
		}
		list.APIResources = append(list.APIResources, metav1.APIResource{
			Name: r.resource, SingularName: r.singular, Namespaced: r.namespaced, Kind: r.gvk.Kind,
			Verbs: r.verbs, ShortNames: r.shortNames, Categories: r.categories,
		})
		if r.scale {
			list.APIResources = append(list.APIResources, metav1.APIResource{
				Name: r.resource + "/scale", Namespaced: r.namespaced, Group: gvkScale.Group, Version: gvkScale.Version, Kind: gvkScale.Kind, Verbs: statusVerbs(),
			})
		}
		if r.status {
			list.APIResources = append(list.APIResources, metav1.APIResource{
				Name: r.resource + "/status", Namespaced: r.namespaced, Kind: r.gvk.Kind, Verbs: statusVerbs(),
			})
		}
	}
	d.paths["/api"] = mustJSON(metav1.APIVersions{
		TypeMeta: metav1.TypeMeta{Kind: "APIVersions", APIVersion: "v1"}, Versions: []string{"v1"},
		ServerAddressByClientCIDRs: []metav1.ServerAddressByClientCIDR{},
	})
	d.paths["/apis"] = mustJSON(groups)
	for i := range groups.Groups {
		g := groups.Groups[i]
		g.TypeMeta = metav1.TypeMeta{Kind: "APIGroup", APIVersion: "v1"}
		d.paths["/apis/"+g.Name] = mustJSON(g)
	}
	for gv, list := range lists {
		if gv.Group == "" {
			d.paths["/api/"+gv.Version] = mustJSON(list)
		} else {
			d.paths["/apis/"+gv.String()] = mustJSON(list)
		}
	}
}

func statusVerbs() []string { return []string{"get", "patch", "update"} }

// mustJSON encodes the API's own structs, which cannot fail.
func mustJSON(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return append(data, '\n')
}

// serveDiscovery answers /api and /apis, aggregated to those who ask for it.
func (c *call) serveDiscovery(path string) error {
	for _, cl := range clauses(c.r) {
		switch cl.media {
		case mediaJSON:
			if cl.params["as"] == "" {
				return c.writeData(http.StatusOK, c.discovery.paths[path])
			}
			if cl.params["as"] == "APIGroupDiscoveryList" && cl.params["g"] == "apidiscovery.k8s.io" && cl.params["v"] == "v2" {
				data := c.discovery.aggregated[path]
				c.w.Header().Set("Content-Type", contentAggregated)
				_, err := c.w.Write(data)
				return err
			}
		case mediaYAML:
			c.accept.yaml = true
			return c.writeData(http.StatusOK, c.discovery.paths[path])
		case "*/*", "application/*":
			return c.writeData(http.StatusOK, c.discovery.paths[path])
		}
	}
	return notAcceptable(mediaJSON, mediaYAML)
}
