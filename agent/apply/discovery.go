// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package apply

import (
	"context"
	"encoding/json"
	"fmt"
	"path"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/drover-io/drover/agent/apply/manifest"
)

type noMatchError struct{ gvk schema.GroupVersionKind }

func (e *noMatchError) Error() string {
	return fmt.Sprintf("no matches for kind %q in version %q; is its CRD installed?", e.gvk.Kind, e.gvk.GroupVersion())
}

// resolve finds how a kind is served, asking the cluster when it is not known
// yet. The error is a *noMatchError when the cluster does not serve it.
func (c *cluster) resolve(ctx context.Context, gvk schema.GroupVersionKind) (manifest.Kind, error) {
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
		return manifest.Kind{}, &noMatchError{gvk}
	case err != nil:
		return manifest.Kind{}, fmt.Errorf("discover %s: %w", gv, err)
	}
	kinds, err := parseResources(raw)
	if err != nil {
		return manifest.Kind{}, fmt.Errorf("discover %s: %w", gv, err)
	}
	c.mu.Lock()
	c.kinds[gv] = kinds
	c.mu.Unlock()
	if k, known = kinds[gvk.Kind]; !known {
		return manifest.Kind{}, &noMatchError{gvk}
	}
	return k, nil
}

// forgetKinds makes the next resolve of a group version ask the cluster again.
func (c *cluster) forgetKinds(gv schema.GroupVersion) {
	c.mu.Lock()
	delete(c.kinds, gv)
	c.mu.Unlock()
}

func (c *cluster) noteKindGone(o object, err error) {
	if kindGone(err) {
		c.forgetKinds(schema.GroupVersion{Group: o.Group, Version: o.Version})
	}
}

// parseResources reads an APIResourceList; subresources are left out.
func parseResources(raw []byte) (map[string]manifest.Kind, error) {
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
	kinds := make(map[string]manifest.Kind)
	for _, r := range list.Resources {
		if path.Base(r.Name) == r.Name && r.Kind != "" {
			kinds[r.Kind] = manifest.Kind{Resource: r.Name, Namespaced: r.Namespaced}
		}
	}
	return kinds, nil
}

func versionPath(gv schema.GroupVersion) []string {
	if gv.Group == "" {
		return []string{"api", gv.Version}
	}
	return []string{"apis", gv.Group, gv.Version}
}

// collectionPath is the path of all objects of o's kind in its namespace.
func collectionPath(o object) []string {
	segments := versionPath(schema.GroupVersion{Group: o.Group, Version: o.Version})
	if o.Namespace != "" {
		segments = append(segments, "namespaces", o.Namespace)
	}
	return append(segments, o.Resource)
}

func objectPath(o object) []string { return append(collectionPath(o), o.Name) }
