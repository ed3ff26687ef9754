// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/drover-io/drover/hub/api"
	"github.com/drover-io/drover/hub/store"
)

// storeSeries are the figures of the object store and its watch cache.
func storeSeries(e *exposition, s store.Stats) {
	e.one("drover_hub_store_revision", "gauge", "Newest revision of the objects.", float64(s.Revision))
	e.one("drover_hub_store_objects", "gauge", "Objects of all kinds.", float64(s.Objects))
	e.one("drover_hub_store_objects_bytes", "gauge", "Size of all objects as stored.", float64(s.Bytes))
	e.family("drover_hub_store_commit_duration_seconds", "histogram", "Time until a write, or a batch of writes, was on the disk.")
	e.histogram("", s.Commits)
	e.family("drover_hub_store_commit_writes", "histogram", "Writes that went to the disk together.")
	e.histogram("", s.Batches)
	e.one("drover_hub_store_refused_commits_total", "counter", "Commits refused because an object was changed by somebody else.", float64(s.Refused))
	e.one("drover_hub_watch_cache_changes", "gauge", "Past changes kept to resume watches from.", float64(s.Kept))
	e.one("drover_hub_watch_cache_changes_bytes", "gauge", "Size of the past changes kept.", float64(s.KeptBytes))
	e.one("drover_hub_watch_cache_snapshots", "gauge", "Past states kept for lists in pages.", float64(s.Snapshots))
	e.one("drover_hub_watch_cache_loads_total", "counter", "Times that all objects were read again, which ends all watches.", float64(s.Loads))
	e.one("drover_hub_watch_cache_feeds_total", "counter", "Times that the reading of changes was begun anew.", float64(s.Feeds))
	e.one("drover_hub_watch_cache_watchers", "gauge", "Watches under way, those of the hub's own controllers too.", float64(s.Watchers))
	e.one("drover_hub_watch_cache_sent_changes_total", "counter", "Changes handed to watches.", float64(s.Sent))
	e.one("drover_hub_watch_cache_slow_watchers_total", "counter", "Watches ended because their readers did not keep up.", float64(s.Slow))
}

// apiSeries are the figures of the API itself.
func apiSeries(e *exposition, s api.Stats) {
	e.family("drover_hub_api_requests_in_flight", "gauge", "Requests to the API under way.")
	e.series("kind", "write", float64(s.Writes))
	e.series("kind", "read", float64(s.Reads))
	e.series("kind", "watch", float64(s.Watches))
	e.one("drover_hub_api_sent_events_total", "counter", "Changes written to watching clients.", float64(s.Sent))
	e.family("drover_hub_api_request_duration_seconds", "histogram", "Time to answer requests about objects, watches left out.")
	for _, r := range slices.SortedFunc(maps.Keys(s.Requests), func(a, b api.Request) int {
		return cmp.Or(cmp.Compare(a.Resource, b.Resource), cmp.Compare(a.Verb, b.Verb), cmp.Compare(a.Code, b.Code))
	}) {
		e.histogram(fmt.Sprintf("verb=%q,resource=%q,code=\"%d\"", r.Verb, r.Resource, r.Code), s.Requests[r])
	}
}
