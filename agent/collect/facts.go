// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package collect

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/drover-io/drover/shared/wire"
)

const (
	// discoverEvery is between looks at what the cluster serves. The API server
	// answers most of them with 304, from memory. One that knows no discovery of all
	// groups at once, before Kubernetes 1.26, is asked group by group, and seldom.
	discoverEvery      = 20 * time.Second
	discoverEveryGroup = 10 * time.Minute

	maxDiscovery = 16 << 20 // bytes of one answer

	// hiddenClaim is the label of a ClusterClaim that stays on its cluster.
	hiddenClaim = "open-cluster-management.io/spoke-only"
	claimKind   = "cluster.open-cluster-management.io/v1alpha1/ClusterClaim"
	claimPath   = "/apis/cluster.open-cluster-management.io/v1alpha1/clusterclaims"
	claimLimit  = 500

	acceptDiscovery = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList," +
		"application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json"
)

// served is what one path of discovery said last.
type served struct {
	tag  string // ETag of the answer
	apis []string
}

// discovery is what the cluster serves, as it was asked last.
type discovery struct {
	next   time.Time
	paths  map[string]served // by "/api" and "/apis"
	apis   []string          // group/version and group/version/Kind, sorted
	digest string
}

// APIs returns what the cluster serves, sorted, and its digest; empty while that is
// not known. The list is not to be changed.
func (k *Kubernetes) APIs() (digest string, apis []string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.served.digest, k.served.apis
}

// discover brings what is known of the cluster's APIs up to date, when it is time.
func (k *Kubernetes) discover(ctx context.Context, now time.Time) error {
	d := &k.served
	if now.Before(d.next) {
		return nil
	}
	d.next = now.Add(discoverEvery)
	if d.paths == nil {
		d.paths = make(map[string]served, 2)
	}
	changed := false
	for _, path := range []string{"/api", "/apis"} {
		got, err := k.ask(ctx, path, d.paths[path])
		if errors.Is(err, errNotAtOnce) {
			d.next = now.Add(discoverEveryGroup)
			got.apis, err = k.byGroup(ctx)
			d.paths = map[string]served{path: got}
			if err != nil {
				return err
			}
			changed = true
			break
		}
		if err != nil {
			return err
		}
		changed = changed || got.tag != d.paths[path].tag || got.tag == ""
		d.paths[path] = got
	}
	if !changed {
		return nil
	}
	var all []string
	for _, got := range d.paths {
		all = append(all, got.apis...)
	}
	slices.Sort(all)
	all = slices.Compact(all)
	if len(all) > wire.MaxAPIs {
		all = all[:wire.MaxAPIs]
	}
	if digest := wire.DigestAPIs(all); digest != d.digest {
		d.apis, d.digest = slices.Clip(all), digest
	}
	return nil
}

// errNotAtOnce: the API server does not list all groups in one answer.
var errNotAtOnce = errors.New("no aggregated discovery")

// ask asks for all groups below a path, and keeps what it had when nothing changed.
func (k *Kubernetes) ask(ctx context.Context, path string, last served) (served, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, k.client.Get().AbsPath(path).URL().String(), nil)
	if err != nil {
		return served{}, err
	}
	req.Header.Set("Accept", acceptDiscovery)
	if last.tag != "" {
		req.Header.Set("If-None-Match", last.tag)
	}
	resp, err := k.http.Do(req)
	if err != nil {
		return served{}, err
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusNotModified:
		return last, nil
	case resp.StatusCode != http.StatusOK:
		return served{}, fmt.Errorf("%s: %s", path, resp.Status)
	case !strings.Contains(resp.Header.Get("Content-Type"), "as=APIGroupDiscoveryList"):
		return served{}, errNotAtOnce
	}
	apis, err := readGroups(io.LimitReader(resp.Body, maxDiscovery), last.apis)
	if err != nil {
		return served{}, fmt.Errorf("decode answer of %s: %w", path, err)
	}
	return served{tag: resp.Header.Get("Etag"), apis: apis}, nil
}

// groupDiscovery is an item of an APIGroupDiscoveryList.
type groupDiscovery struct {
	Metadata struct {
		Name string `json:"name"`
	} `json:"metadata"`
	Versions []struct {
		Version   string `json:"version"`
		Freshness string `json:"freshness"`
		Resources []struct {
			ResponseKind *struct {
				Group   string `json:"group"`
				Version string `json:"version"`
				Kind    string `json:"kind"`
			} `json:"responseKind"`
		} `json:"resources"`
	} `json:"versions"`
}

// readGroups reads an APIGroupDiscoveryList group by group: that of a cluster with
// many CRDs takes megabytes. Of a version whose server does not answer it keeps
// what was known before.
func readGroups(r io.Reader, before []string) ([]string, error) {
	var apis []string
	dec := json.NewDecoder(r)
	if err := enterItems(dec); err != nil {
		return nil, err
	}
	for dec.More() {
		var g groupDiscovery
		if err := dec.Decode(&g); err != nil {
			return nil, err
		}
		for _, v := range g.Versions {
			gv := groupVersion(g.Metadata.Name, v.Version)
			apis = append(apis, gv)
			if v.Freshness == "Stale" {
				for _, known := range before {
					if strings.HasPrefix(known, gv+"/") && strings.Count(known, "/") == strings.Count(gv, "/")+1 {
						apis = append(apis, known)
					}
				}
			}
			for _, r := range v.Resources {
				if kind := r.ResponseKind; kind != nil && kind.Kind != "" {
					// An empty group of another group's resource is its own.
					apis = append(apis, groupVersion(g.Metadata.Name, v.Version)+"/"+kind.Kind)
				}
			}
		}
	}
	return apis, nil
}

// enterItems reads up to the first element of the field items.
func enterItems(dec *json.Decoder) error {
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return cmp.Or(err, errors.New("not an object"))
	}
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return err
		}
		if name == "items" {
			t, err := dec.Token()
			if err != nil || t != json.Delim('[') {
				return cmp.Or(err, errors.New("items is not a list"))
			}
			return nil
		}
		var skipped json.RawMessage
		if err := dec.Decode(&skipped); err != nil {
			return err
		}
	}
	return errors.New("no items")
}

func groupVersion(group, version string) string {
	if group == "" {
		return version
	}
	return group + "/" + version
}

// byGroup asks for every group version by itself. One that does not answer is
// there without its kinds.
func (k *Kubernetes) byGroup(ctx context.Context) ([]string, error) {
	var groups struct {
		Groups []struct {
			Versions []struct {
				GroupVersion string `json:"groupVersion"`
			} `json:"versions"`
		} `json:"groups"`
	}
	if err := k.readJSON(ctx, "/apis", &groups); err != nil {
		return nil, err
	}
	paths := map[string]string{"v1": "/api/v1"}
	for _, g := range groups.Groups {
		for _, v := range g.Versions {
			paths[v.GroupVersion] = "/apis/" + v.GroupVersion
		}
	}
	var apis []string
	for gv, path := range paths {
		apis = append(apis, gv)
		var list struct {
			Resources []struct {
				Name string `json:"name"`
				Kind string `json:"kind"`
			} `json:"resources"`
		}
		if err := k.readJSON(ctx, path, &list); err != nil {
			if ctx.Err() != nil {
				return nil, err
			}
			continue
		}
		for _, r := range list.Resources {
			if !strings.Contains(r.Name, "/") {
				apis = append(apis, gv+"/"+r.Kind)
			}
		}
	}
	return apis, nil
}

// claims are the ClusterClaims of the cluster, nil when it has no such kind.
func (k *Kubernetes) claims(ctx context.Context) (map[string]string, error) {
	if _, found := slices.BinarySearch(k.served.apis, claimKind); !found {
		return nil, nil
	}
	var list struct {
		Items []struct {
			Metadata struct {
				Name   string            `json:"name"`
				Labels map[string]string `json:"labels"`
			} `json:"metadata"`
			Spec struct {
				Value string `json:"value"`
			} `json:"spec"`
		} `json:"items"`
	}
	err := k.readList(ctx, claimPath, claimLimit, &list)
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, err
	}
	claims := make(map[string]string, len(list.Items))
	for _, c := range list.Items {
		if _, hidden := c.Metadata.Labels[hiddenClaim]; !hidden && c.Spec.Value != "" {
			claims[c.Metadata.Name] = c.Spec.Value
		}
	}
	if len(claims) <= wire.MaxClaims {
		return claims, nil
	}
	kept := make(map[string]string, wire.MaxClaims)
	for _, name := range slices.Sorted(maps.Keys(claims)) {
		if len(kept) < wire.MaxClaims {
			kept[name] = claims[name]
		}
	}
	return kept, nil
}

// product is which Kubernetes it is, empty when nothing tells: the words are those
// of the claims of Open Cluster Management.
func product(version string, apis []string) string {
	served := func(gv string) bool { _, found := slices.BinarySearch(apis, gv); return found }
	switch {
	case served("config.openshift.io/v1"):
		return "OpenShift"
	case strings.Contains(version, "-eks-"):
		return "EKS"
	case strings.Contains(version, "-gke."):
		return "GKE"
	case strings.Contains(version, "+IKS"):
		return "IKS"
	case strings.Contains(version, "+k3s"):
		return "K3S"
	case strings.Contains(version, "+rke2"):
		return "RKE2"
	case strings.Contains(version, "+k0s"):
		return "K0S"
	}
	return ""
}

// platform is where nodes run, by their provider ID; empty when that does not tell.
func platform(providerID string) string {
	scheme, _, found := strings.Cut(providerID, "://")
	if !found {
		return ""
	}
	return map[string]string{
		"aws": "AWS", "azure": "Azure", "gce": "GCP", "ibm": "IBM", "openstack": "OpenStack", "vsphere": "VSphere",
	}[scheme]
}
