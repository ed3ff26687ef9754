// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package depend

import (
	"encoding/json"
	"sync"

	"github.com/drover-io/drover/shared/apis/fleet"
)

// Stored is an AddOnVersion as it is stored.
type Stored struct {
	Name     string
	Revision uint64 // another one for every content
	Data     []byte
}

// Memo makes catalogs of stored versions, and reads again only what changed since the
// last one. The zero Memo is ready to use, by several at the same time.
type Memo struct {
	mu    sync.Mutex
	known map[string]remembered
	last  *Catalog
}

type remembered struct {
	revision uint64
	version  Version
	usable   bool // what cannot be read is in no catalog
}

// Catalog is the catalog of exactly these versions.
func (m *Memo) Catalog(all []Stored) *Catalog {
	m.mu.Lock()
	defer m.mu.Unlock()
	same := m.last != nil && len(all) == len(m.known)
	now := make(map[string]remembered, len(all))
	for _, s := range all {
		r, ok := m.known[s.Name]
		if !ok || r.revision != s.Revision {
			same = false
			r = read(s)
		}
		now[s.Name] = r
	}
	if same {
		return m.last
	}
	list := make([]Version, 0, len(now))
	for _, r := range now {
		if r.usable {
			list = append(list, r.version)
		}
	}
	m.known, m.last = now, NewCatalog(list)
	return m.last
}

func read(s Stored) remembered {
	var v fleet.AddOnVersion
	if err := json.Unmarshal(s.Data, &v); err != nil {
		return remembered{revision: s.Revision}
	}
	parsed, err := Parse(&v.Spec)
	return remembered{s.Revision, parsed, err == nil}
}
