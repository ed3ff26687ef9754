// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import "github.com/drover-io/drover/hub/api/kind"

// Stored returns the kinds whose objects are in the store now, in no order. Of a
// kind with several versions it returns one.
func (a *API) Stored() []*kind.Kind {
	var out []*kind.Kind
	seen := map[string]bool{}
	for _, r := range a.current.Load().resources {
		if r.provider == nil && !seen[r.StoreResource()] {
			seen[r.StoreResource()] = true
			out = append(out, r.Kind)
		}
	}
	return out
}
