// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package install

import (
	"slices"

	"github.com/drover-io/drover/hub/catalog"
	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/shared/apis/addon"
	"github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/shared/apis/work"
)

// Problem is why an addon cannot become what it should.
type Problem struct {
	// Condition is the type that says so: Configured or Progressing.
	Condition, Reason, Message string
}

// target is what an addon should be on a cluster, in short. The loop holds one for
// every ManagedClusterAddOn.
type target struct {
	addOn  string
	inputs []store.Key // objects it was made from, and some that are missing
	// foreign: neither the catalog nor a template says what the addon is made of, so
	// a controller of its own is to take care of it.
	foreign bool
	// problem is why there is nothing to move to; digest is then empty.
	problem *Problem
	// lacks: the problem is an object that is not there.
	lacks bool
	// requirement is what the cluster lacks for a new installation or a change.
	requirement *Problem

	refs      []addon.ConfigReference // the desired ones
	supported []addon.ConfigGroupResource
	object    string // name of the AddOnVersion
	version   string
	revision  int64
	hash      string // of the AddOnVersion
	requires  []fleet.AddOnRange
	excludes  []fleet.AddOnRange
	// namespace is where the addon is installed, and namespaces are those that have
	// to exist for it, sorted.
	namespace  string
	namespaces []string
	digest     string
	objects    int
	hook       string // names the post-install hooks; empty: none
	// registers: its agent wants access to the API of the hub.
	registers bool
}

// material is all that a target is made of.
type material struct {
	target
	rendered  *catalog.Rendered
	health    []fleet.HealthRule
	protected []fleet.ObjectPattern
	template  *work.ManifestWorkSpec // of an AddOnTemplate
	values    []fleet.LayeredValue
	made      string // names the manifests alone
}

// hashes are the hashes of the references, as annotations of works have them.
func (t *target) hashes() map[string]string {
	out := map[string]string{}
	for _, r := range t.refs {
		if r.DesiredConfig != nil {
			out[refKey(&r)] = r.DesiredConfig.SpecHash
		}
	}
	return out
}

func refKey(r *addon.ConfigReference) string {
	return r.Group + "/" + r.Resource + "/" + r.DesiredConfig.Namespace + "/" + r.DesiredConfig.Name
}

// needs says whether it depends on another addon.
func (t *target) needs(addOn string) bool {
	return t != nil && slices.ContainsFunc(t.requires, func(r fleet.AddOnRange) bool { return r.AddOn == addOn })
}
