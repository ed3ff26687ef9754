// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package live

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"github.com/drover-io/drover/hub/auth"
	"github.com/drover-io/drover/hub/store"
)

// view is what somebody may see of the objects of a resource, in a namespace or in
// all: what LIST and WATCH of the API would show.
type view struct {
	all       bool // nothing is hidden
	filter    auth.Filter
	forbidden string // why nothing can be seen; empty otherwise
}

// scope is what a view is about.
type scope struct {
	resource  schema.GroupResource
	namespace string // empty: all, or none
	// cluster scoped objects are in no namespace
	clusterScoped bool
}

// look finds out what somebody may see with a verb that reads many.
func (l *Live) look(ctx context.Context, who user.Info, verb string, s scope) (view, error) {
	decision, _, err := l.cfg.Authorizer.Authorize(ctx, authorizer.AttributesRecord{
		User: who, Verb: verb, APIGroup: s.resource.Group, APIVersion: "*", Resource: s.resource.Resource,
		Namespace: s.namespace, ResourceRequest: true,
	})
	if err != nil {
		return view{}, fmt.Errorf("authorize %s %s: %w", verb, s.resource, err)
	}
	if decision == authorizer.DecisionAllow {
		return view{all: true}, nil
	}
	v := view{filter: l.cfg.Sight.Visible(who, verb, s.resource)}
	hidden := v.filter.None()
	switch {
	case s.namespace != "" || s.clusterScoped:
		hidden, v.all = v.filter.NoneIn(s.namespace), v.filter.AllIn(s.namespace)
	default:
		v.all = v.filter.All()
	}
	if hidden {
		where := ""
		if s.namespace != "" {
			where = fmt.Sprintf(" in the namespace %q", s.namespace)
		}
		v.forbidden = fmt.Sprintf("User %q cannot %s %s%s", who.GetName(), verb, s.resource, where)
	}
	return v, nil
}

// same reports whether both show the same, whatever there is.
func (v view) same(w view) bool {
	if v.forbidden != "" || w.forbidden != "" {
		return (v.forbidden == "") == (w.forbidden == "")
	}
	return v.all && w.all || v.all == w.all && v.filter.Equal(w.filter)
}

// shows reports whether an object may be seen.
func (v view) shows(namespace, name string, labels map[string]string) bool {
	return v.forbidden == "" && (v.all || v.filter.Match(namespace, name, labels))
}

// showsAll reports whether nothing of a namespace is hidden.
func (v view) showsAll(namespace string) bool {
	return v.forbidden == "" && (v.all || v.filter.AllIn(namespace))
}

// match is the view as a selection of the store; nil: all.
func (v view) match() func(store.Entry) bool {
	if v.all {
		return nil
	}
	return func(e store.Entry) bool { return v.shows(e.Key.Namespace, e.Key.Name, e.Header.Labels) }
}
