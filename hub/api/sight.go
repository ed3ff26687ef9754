// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authentication/user"

	"github.com/drover-io/drover/hub/auth"
	"github.com/drover-io/drover/hub/store"
)

// Sight says which objects somebody may see in lists, and when that may have
// changed. auth.RBAC is one.
type Sight interface {
	// Visible returns what of a resource u may see with list or watch. It agrees
	// with the Authorizer.
	Visible(u user.Info, verb string, resource schema.GroupResource) auth.Filter
	// Changed returns a context that ends when the answers of Visible and of the
	// Authorizer, asked after Changed, may have changed.
	Changed() context.Context
	// Since is the revision up to which lists may have shown u something else than
	// they do now.
	Since(u user.Info) uint64
}

// view is what of the objects a request is about its caller may see.
type view struct {
	filter auth.Filter
	// all is set when nothing is hidden.
	all bool
	// changed ends when this may be something else.
	changed context.Context
}

// lists reports whether the request reads many objects, and so can be answered
// in part.
func (c *call) lists() bool {
	return c.sight != nil && c.res != nil && c.info.IsResourceRequest && c.info.Subresource == "" &&
		slices.Contains([]string{"list", "watch"}, c.info.Verb)
}

// look finds out what the caller may see with a verb that reads many: all of the
// request's scope with that permission, else what they may see of it. Who may see
// nothing, whatever there is, is refused as Kubernetes refuses.
func (c *call) look(verb string) (view, error) {
	if c.sight == nil {
		return view{all: true, changed: context.Background()}, nil
	}
	// What changes from here on is noticed.
	v := view{changed: c.sight.Changed()}
	refusal := c.allowed(verb, "")
	if refusal == nil {
		v.all = true
		return v, nil
	}
	if !apierrors.IsForbidden(refusal) {
		return v, refusal
	}
	v.filter = c.sight.Visible(c.user(), verb, c.groupResource())
	hidden, namespace := v.filter.None(), ""
	if c.res.Namespaced {
		namespace = c.info.Namespace
	}
	if !c.res.Namespaced || namespace != "" {
		hidden, v.all = v.filter.NoneIn(namespace), v.filter.AllIn(namespace)
	} else {
		v.all = v.filter.All()
	}
	if hidden {
		return v, refusal
	}
	return v, nil
}

// resumable refuses a watch that goes on from a list which may have shown the
// caller something else than the watch will.
func (c *call) resumable(sel *selection) error {
	if c.sight == nil || sel.revision == 0 || sel.SendInitialEvents != nil && *sel.SendInitialEvents || sel.revision >= c.sight.Since(c.user()) {
		return nil
	}
	return errRights
}

// same reports whether both show the same.
func (v view) same(w view) bool { return v.all && w.all || v.all == w.all && v.filter.Equal(w.filter) }

// restrict adds what the caller may see to a condition, which may be nil.
func (v view) restrict(match func(store.Entry) bool) func(store.Entry) bool {
	if v.all {
		return match
	}
	return func(e store.Entry) bool {
		return v.filter.Match(e.Key.Namespace, e.Key.Name, e.Header.Labels) && (match == nil || match(e))
	}
}
