// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package apply

import "github.com/drover-io/drover/agent/apply/manifest"

// WorkOf names the work that an object belongs to; empty for none.
func (e *Engine) WorkOf(group, kind, namespace, name string) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	it := e.items[e.owners[manifest.Identity{Group: group, Kind: kind, Namespace: namespace, Name: name}]]
	if it == nil {
		return ""
	}
	return it.want.Name
}
