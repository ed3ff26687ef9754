// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"cmp"
	"context"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/drover-io/drover/shared/wire"
)

const (
	maxEvents       = 5
	maxEventMessage = 256
)

// event is what is read of a core/v1 Event, which those of events.k8s.io are too.
type event struct {
	Metadata struct {
		CreationTimestamp time.Time `json:"creationTimestamp"`
	} `json:"metadata"`
	Reason        string     `json:"reason"`
	Message       string     `json:"message"`
	Count         int        `json:"count"`
	LastTimestamp *time.Time `json:"lastTimestamp"`
	EventTime     *time.Time `json:"eventTime"`
	Series        *struct {
		Count            int       `json:"count"`
		LastObservedTime time.Time `json:"lastObservedTime"`
	} `json:"series"`
}

func (e *event) last() time.Time {
	newest := e.Metadata.CreationTimestamp
	for _, t := range []*time.Time{e.LastTimestamp, e.EventTime} {
		if t != nil && t.After(newest) {
			newest = *t
		}
	}
	if e.Series != nil && e.Series.LastObservedTime.After(newest) {
		newest = e.Series.LastObservedTime
	}
	return newest
}

func (e *event) count() int {
	n := max(e.Count, 1)
	if e.Series != nil {
		n = max(n, e.Series.Count)
	}
	return n
}

// warnings returns the newest warning events about the subjects.
func (o *Observer) warnings(ctx context.Context, namespace string, subjects []subject) ([]wire.EventNote, error) {
	// Events about cluster-scoped objects live in the namespace default.
	namespace = cmp.Or(namespace, metav1.NamespaceDefault)
	resource := schema.GroupVersionResource{Version: "v1", Resource: "events"}
	var notes []wire.EventNote
	for _, s := range subjects {
		if s.uid == "" {
			continue
		}
		var list struct {
			Items []event `json:"items"`
		}
		if err := o.selected(ctx, resource, namespace, "", "involvedObject.uid="+s.uid+",type=Warning", &list); err != nil {
			return newest(notes), err
		}
		for i := range list.Items {
			e := &list.Items[i]
			notes = append(notes, wire.EventNote{
				Object: s.String(), Reason: e.Reason, Message: cut(e.Message, maxEventMessage), Count: e.count(), Last: e.last(),
			})
		}
	}
	return newest(notes), nil
}

// newest merges notes that say the same and returns the maxEvents newest.
func newest(notes []wire.EventNote) []wire.EventNote {
	type key struct{ object, reason, message string }
	merged := make(map[key]wire.EventNote, len(notes))
	for _, n := range notes {
		k := key{n.Object, n.Reason, n.Message}
		if before, ok := merged[k]; ok {
			n.Count += before.Count
			if before.Last.After(n.Last) {
				n.Last = before.Last
			}
		}
		merged[k] = n
	}
	var out []wire.EventNote
	for _, n := range merged {
		out = append(out, n)
	}
	slices.SortFunc(out, func(a, b wire.EventNote) int {
		return cmp.Or(b.Last.Compare(a.Last), cmp.Compare(a.Object, b.Object), cmp.Compare(a.Reason, b.Reason), cmp.Compare(a.Message, b.Message))
	})
	return out[:min(len(out), maxEvents)]
}
