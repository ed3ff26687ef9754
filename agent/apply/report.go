// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package apply

import (
	"cmp"
	"encoding/json"
	"reflect"
	"strings"

	"github.com/drover-io/drover/shared/wire"
)

// result is the outcome of one manifest: what the report says, and what the
// engine needs beside it.
type result struct {
	report  wire.ManifestReport
	obj     object
	managed bool // written by the engine, so repaired when missing
	refused bool // another item owns the object
	lasting bool // the failure will hardly pass by itself
}

// buildReport says what became of want.
func buildReport(want wire.Item, itemErr string, results []result) wire.Report {
	r := wire.Report{Name: want.Name, UID: want.UID, Generation: want.Generation, Digest: want.Digest, Error: itemErr}
	for _, res := range results {
		r.Manifests = append(r.Manifests, res.report)
	}
	return fit(r)
}

// fit shortens messages until the report travels in one message. The facts stay.
func fit(r wire.Report) wire.Report {
	for _, limit := range []int{1024, 256, 64, 0} {
		r.Error = shorten(r.Error, max(limit, 256))
		for i := range r.Manifests {
			m := &r.Manifests[i]
			m.ApplyMessage = shorten(m.ApplyMessage, limit)
			m.AvailableMessage = shorten(m.AvailableMessage, limit)
			m.HealthMessage = shorten(m.HealthMessage, limit)
		}
		if encoded, err := json.Marshal(r); err == nil && len(encoded) <= wire.MaxContent {
			break
		}
	}
	return r
}

// shorten cuts s to limit bytes, at the border of a character.
func shorten(s string, limit int) string {
	const mark = "..."
	switch {
	case len(s) <= limit:
		return s
	case limit <= len(mark):
		return ""
	}
	return strings.ToValidUTF8(s[:limit-len(mark)], "") + mark
}

func equalReports(a, b wire.Report) bool { return reflect.DeepEqual(a, b) }

func compareStrings(a, b, a2, b2 string) int { return cmp.Or(cmp.Compare(a, b), cmp.Compare(a2, b2)) }
