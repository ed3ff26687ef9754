// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/shared/apis/cluster"
	"github.com/drover-io/drover/shared/apis/fleet"
)

const resourceNamespaces = "namespaces"

// createdByUpdate are the resources of which a PUT also creates, as the design of
// the cluster registry says.
var createdByUpdate = map[string]bool{"clusters.clusterregistry.k8s.io": true}

// present reads from the cache, and from the leader what the cache does not have.
func (c *call) present(key store.Key) (store.Entry, bool, error) {
	if e, ok := c.store.Cached(key); ok {
		return e, true, nil
	}
	e, err := c.store.Get(c.r.Context(), key)
	if errors.Is(err, store.ErrNotFound) {
		return e, false, nil
	}
	return e, err == nil, err
}

// checkNamespace refuses to create in a namespace that is not there or goes. The
// namespace of a managed cluster counts from the moment the cluster exists.
func (c *call) checkNamespace(name string) error {
	if !c.lifecycle || !c.res.Namespaced {
		return nil
	}
	ns := c.info.Namespace
	e, ok, err := c.present(store.Key{Resource: resourceNamespaces, Name: ns})
	if err != nil {
		return err
	}
	if !ok {
		_, ok, err := c.present(store.Key{Resource: cluster.Resource, Name: ns})
		if err != nil || ok {
			return err
		}
		return apierrors.NewNotFound(schema.GroupResource{Resource: resourceNamespaces}, ns)
	}
	if e.Header.DeletionTimestamp.IsZero() {
		return nil
	}
	refusal := apierrors.NewForbidden(c.groupResource(), name, fmt.Errorf("unable to create new content in namespace %s because it is being terminated", ns))
	refusal.ErrStatus.Details.Causes = append(refusal.ErrStatus.Details.Causes, metav1.StatusCause{
		Type: corev1.NamespaceTerminatingCause, Message: fmt.Sprintf("namespace %s is being terminated", ns), Field: "metadata.namespace",
	})
	return refusal
}

// nameNamespace gives a new namespace the label that selects it by name.
func (c *call) nameNamespace(obj map[string]any) {
	if !c.lifecycle || c.res.StoreResource() != resourceNamespaces {
		return
	}
	if _, ok := meta(obj)["labels"].(map[string]any); !ok {
		meta(obj)["labels"] = map[string]any{}
	}
	meta(obj)["labels"].(map[string]any)[corev1.LabelMetadataName] = metaString(obj, "name")
}

// order gives an object that is about to be deleted the finalizers of the order
// in which it and its dependents are to go, and reports whether that changed any.
func (c *call) order(obj map[string]any, opts *metav1.DeleteOptions) (changed bool, err error) {
	if !c.lifecycle {
		return false, nil
	}
	old := finalizers(obj)
	fresh := slices.DeleteFunc(slices.Clone(old), func(f any) bool {
		return f == metav1.FinalizerOrphanDependents || f == metav1.FinalizerDeleteDependents
	})
	orphan, foreground := slices.Contains(old, any(metav1.FinalizerOrphanDependents)), slices.Contains(old, any(metav1.FinalizerDeleteDependents))
	switch {
	//lint:ignore SA1019 clients may still send it
	case opts.OrphanDependents != nil:
		//lint:ignore SA1019 clients may still send it
		orphan, foreground = *opts.OrphanDependents, false
	case opts.PropagationPolicy != nil:
		orphan = *opts.PropagationPolicy == metav1.DeletePropagationOrphan
		foreground = *opts.PropagationPolicy == metav1.DeletePropagationForeground
	}
	if orphan {
		fresh = append(fresh, metav1.FinalizerOrphanDependents)
	} else if foreground {
		fresh = append(fresh, metav1.FinalizerDeleteDependents)
	}
	if c.res.StoreResource() == resourceNamespaces {
		if fresh, err = c.endNamespace(obj, fresh); err != nil {
			return false, err
		}
	}
	if slices.Equal(fresh, old) {
		return false, nil
	}
	if len(fresh) == 0 {
		delete(meta(obj), "finalizers")
	} else {
		meta(obj)["finalizers"] = fresh
	}
	return true, nil
}

// endNamespace holds a namespace until it is empty, and refuses to delete those
// that must stay.
func (c *call) endNamespace(obj map[string]any, held []any) ([]any, error) {
	name := metaString(obj, "name")
	if name == metav1.NamespaceDefault {
		return nil, apierrors.NewForbidden(c.groupResource(), name, errors.New("this namespace may not be deleted"))
	}
	_, ok, err := c.present(store.Key{Resource: cluster.Resource, Name: name})
	if err != nil {
		return nil, err
	}
	if ok {
		return nil, apierrors.NewConflict(c.groupResource(), name, fmt.Errorf(
			"it is the namespace of ManagedCluster %q, and all works of the cluster would go with it: delete the ManagedCluster first", name))
	}
	setPath(obj, []string{"status", "phase"}, string(corev1.NamespaceTerminating))
	if slices.Contains(held, any(fleet.FinalizerNamespace)) || deleting(obj) {
		return held, nil
	}
	return append(held, fleet.FinalizerNamespace), nil
}
