// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/drover-io/drover/hub/broker"
	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/shared/apis/work"
	"github.com/drover-io/drover/shared/wire"
)

// stored is what of a work decides how it is delivered.
type stored struct {
	Metadata struct {
		Annotations map[string]string `json:"annotations"`
	} `json:"metadata"`
	Spec   json.RawMessage `json:"spec"`
	Status struct {
		Conditions []metav1.Condition `json:"conditions"`
	} `json:"status"`
}

// entryOf is the list entry of a work, if it has one. A work belongs into the
// list once the finalizer stands that keeps it there until it is cleaned up.
func (d *Delivery) entryOf(ctx context.Context, ev store.Event) (e entry, ok bool, err error) {
	h := ev.Entry.Header
	if ev.Type == store.Deleted || !hasFinalizer(h.Finalizers) {
		return entry{}, false, nil
	}
	var w stored
	if err := json.Unmarshal(ev.Entry.Data, &w); err != nil {
		return entry{}, false, fmt.Errorf("decode work: %w", err)
	}
	b, err := d.besideOf(ctx, w.Metadata.Annotations)
	if err != nil {
		return entry{}, false, err
	}
	content, err := contentOfSpec(w.Spec, b)
	if err != nil {
		return entry{}, false, err
	}
	done, since := complete(w.Status.Conditions)
	e = entry{
		item: wire.Item{
			Name: ev.Entry.Key.Name, UID: h.UID, Generation: h.Generation,
			Digest: digestOf(content), Deleting: !h.DeletionTimestamp.IsZero(), Complete: done,
			Policy: policyOf(w.Metadata.Annotations),
		},
		bundle: b.bundle.Digest, protected: len(b.protected) > 0, takeFrom: strings.Join(names(w.Metadata.Annotations[work.AnnotationTakeFrom]), ","),
	}
	if done && !e.item.Deleting {
		e.expires = expiry(w.Spec, since)
	}
	return e, true, nil
}

// complete says whether a work has finished, and when.
func complete(conditions []metav1.Condition) (bool, time.Time) {
	for _, c := range conditions {
		if c.Type == work.ConditionComplete {
			return c.Status == metav1.ConditionTrue, c.LastTransitionTime.Time
		}
	}
	return false, time.Time{}
}

// expiry is when a work that finished at since is deleted, in Unix seconds.
func expiry(spec []byte, since time.Time) int64 {
	var s struct {
		DeleteOption *struct {
			TTL *int64 `json:"ttlSecondsAfterFinished"`
		} `json:"deleteOption"`
	}
	if json.Unmarshal(spec, &s) != nil || s.DeleteOption == nil || s.DeleteOption.TTL == nil || *s.DeleteOption.TTL < 0 {
		return 0
	}
	return since.Add(time.Duration(min(*s.DeleteOption.TTL, 1<<32)) * time.Second).Unix()
}

func (d *Delivery) serveDesired(_ context.Context, cluster string, request []byte) *nats.Msg {
	var req wire.DesiredRequest
	if err := json.Unmarshal(request, &req); err != nil {
		return broker.JSON(wire.Desired{Error: "desired: " + err.Error()})
	}
	answer, items := d.desired(cluster, req)
	if items == nil {
		return broker.JSON(answer)
	}
	if req.Version < 2 || d.cfg.Signer == nil {
		return plainList(answer, items)
	}
	envelope, err := d.sign(cluster, answer, items, req.Page)
	if err != nil {
		d.cfg.Log.Error("list not signed", zapCluster(cluster), zapError(err))
		return broker.JSON(wire.Desired{Epoch: answer.Epoch, Generation: answer.Generation, Error: "the hub could not sign the list"})
	}
	answer.Envelope = envelope
	return broker.JSON(answer)
}

// desired is the answer to a request but for its list; items is the list by name,
// not nil unless there is none to send.
func (d *Delivery) desired(cluster string, req wire.DesiredRequest) (wire.Desired, []wire.Item) {
	// Generations are counted per cluster, and an agent may come back under
	// another name.
	epoch := d.cfg.Store.Identity() + "/" + cluster
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.ready {
		return wire.Desired{Error: "the hub is starting"}, nil
	}
	x := d.clusters[cluster]
	if x == nil {
		// Not the store's revision: a work below it may still be on its way here,
		// and its cluster's generation would fall.
		x = &desired{generation: d.seen, changed: time.Now(), items: map[string]entry{}}
		d.clusters[cluster] = x
	}
	x.asked, x.given, x.version = time.Now(), x.generation, max(req.Version, 1)
	if req.Page == 0 {
		x.held = 0
		if req.Epoch == epoch {
			x.held = req.Generation
		}
	}
	answer := wire.Desired{Epoch: epoch, Generation: x.generation}
	if req.Epoch == epoch && req.Generation == x.generation {
		answer.Unchanged = true
		return answer, nil
	}
	if len(x.withheld()) > 0 {
		d.noteOutdated(cluster)
	}
	return answer, x.list(req.Version)
}

// list is what an agent of a protocol version should run, by name. An agent that
// does not know bundles or restrictions would do other than the work says, so
// it does not get such works: what it has of them stays as it is.
func (x *desired) list(version int) []wire.Item {
	items := make([]wire.Item, 0, len(x.items))
	for _, name := range slices.Sorted(maps.Keys(x.items)) {
		e := x.items[name]
		item := e.item
		if least, _ := e.need(); max(version, 1) < least {
			continue
		}
		if version < 2 {
			item.Policy = wire.Policy{}
		}
		item.Policy.TakeFrom = ""
		if e.takeFrom != "" && version >= 2 {
			item.Policy.TakeFrom = x.uids(strings.Split(e.takeFrom, ","))
		}
		items = append(items, item)
	}
	return items
}

// uids are those of the named works of the cluster, separated by commas.
func (x *desired) uids(names []string) string {
	var uids []string
	for _, name := range names {
		if e, ok := x.items[name]; ok {
			uids = append(uids, e.item.UID)
		}
	}
	return strings.Join(uids, ",")
}

// plainList answers an agent of version 1.
func plainList(answer wire.Desired, items []wire.Item) *nats.Msg {
	answer.Items = items
	m := broker.JSON(answer)
	if len(m.Data) > wire.MaxPayload-1024 {
		return broker.JSON(wire.Desired{Epoch: answer.Epoch, Generation: answer.Generation, Error: fmt.Sprintf(
			"the list of this cluster has %d works, more than one message of protocol version 1 can hold: upgrade the agent", len(items))})
	}
	return m
}

// sign makes one page of a signed list. Pages depend on the items alone, so every
// replica makes the same of one generation.
func (d *Delivery) sign(cluster string, answer wire.Desired, items []wire.Item, page int) (*wire.Envelope, error) {
	cuts, err := paginate(items)
	if err != nil {
		return nil, err
	}
	if page < 0 || page >= len(cuts) {
		page = 0 // of another generation; the agent starts over
	}
	payload, err := json.Marshal(wire.SignedDesired{
		Cluster: cluster, Epoch: answer.Epoch, Generation: answer.Generation,
		Page: page, Pages: len(cuts), Items: cuts[page],
	})
	if err != nil {
		return nil, fmt.Errorf("encode list: %w", err)
	}
	sig, chain, err := d.cfg.Signer.SignDesired(wire.PAE(wire.PayloadDesired, payload))
	if err != nil {
		return nil, err
	}
	return &wire.Envelope{
		PayloadType: wire.PayloadDesired, Payload: payload, Chain: string(chain),
		Signatures: []wire.Signature{{Sig: sig}},
	}, nil
}

// paginate cuts a list into pages that fit a message; an empty list is one page.
func paginate(items []wire.Item) ([][]wire.Item, error) {
	if len(items) > wire.MaxItems {
		return nil, fmt.Errorf("%d works, at most %d a cluster", len(items), wire.MaxItems)
	}
	const rest = 1024 // of the payload, around the items
	var pages [][]wire.Item
	start, size := 0, rest
	for i, item := range items {
		text, err := json.Marshal(item)
		if err != nil {
			return nil, fmt.Errorf("encode item: %w", err)
		}
		if size+len(text)+1 > wire.MaxPageBytes && i > start {
			pages = append(pages, items[start:i])
			start, size = i, rest
		}
		size += len(text) + 1
	}
	pages = append(pages, items[start:])
	if len(pages) > wire.MaxPages {
		return nil, errors.New("the list has more pages than an agent takes")
	}
	return pages, nil
}
