// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"github.com/drover-io/drover/hub/api"
	"github.com/drover-io/drover/hub/gc"
)

// storedKinds tells the collector which kinds of objects there are.
func storedKinds(a *api.API) func() []gc.Kind {
	return func() []gc.Kind {
		var out []gc.Kind
		for _, k := range a.Stored() {
			out = append(out, gc.Kind{GroupKind: k.GVK.GroupKind(), Resource: k.StoreResource(), Namespaced: k.Namespaced})
		}
		return out
	}
}
