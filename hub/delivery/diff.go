// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"
	"golang.org/x/sync/errgroup"

	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/shared/apis/work"
	"github.com/drover-io/drover/shared/wire"
)

const (
	// parallelDiffs is how many clusters are asked at the same time.
	parallelDiffs = 128
	// leaseFor is how long an agent may fetch a bundle that a comparison names.
	leaseFor  = 10 * time.Minute
	maxLeases = 10_000
)

// Change is a work as it would be on a cluster.
type Change struct {
	Name        string
	Annotations map[string]string
	Spec        json.RawMessage
}

// ParseChange reads a ManifestWork; namespace is the one it names, if any.
func ParseChange(object []byte) (c Change, namespace string, err error) {
	var w struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
		Metadata   struct {
			Name        string            `json:"name"`
			Namespace   string            `json:"namespace"`
			Annotations map[string]string `json:"annotations"`
		} `json:"metadata"`
		Spec json.RawMessage `json:"spec"`
	}
	if err := json.Unmarshal(object, &w); err != nil {
		return Change{}, "", fmt.Errorf("not a ManifestWork: %w", err)
	}
	switch {
	case w.Kind != work.Kind || w.APIVersion != work.Group+"/"+work.Version:
		return Change{}, "", fmt.Errorf("%.80s %.80s is not a ManifestWork of %s/%s", w.APIVersion, w.Kind, work.Group, work.Version)
	case w.Metadata.Name == "":
		return Change{}, "", errors.New("metadata.name is missing")
	}
	if errs := CheckAnnotations(w.Metadata.Name, w.Metadata.Annotations); len(errs) > 0 {
		return Change{}, "", fmt.Errorf("work %s: %w", w.Metadata.Name, errs.ToAggregate())
	}
	return Change{Name: w.Metadata.Name, Annotations: w.Metadata.Annotations, Spec: w.Spec}, w.Metadata.Namespace, nil
}

// errOffline: no agent of the cluster listens.
var errOffline = errors.New("offline")

// Compare asks the agents of the clusters what a change would do, each for at most
// wait, and sums their answers up.
func (d *Delivery) Compare(ctx context.Context, c Change, clusters []string, wait time.Duration) fleet.WorkDiff {
	answers := make([]wire.DiffAnswer, len(clusters))
	failures := make([]error, len(clusters))
	var g errgroup.Group
	g.SetLimit(parallelDiffs)
	for i, name := range clusters {
		g.Go(func() error {
			ctx, cancel := context.WithTimeout(ctx, wait)
			defer cancel()
			answers[i], failures[i] = d.compare(ctx, c, name)
			return nil
		})
	}
	g.Wait() //nolint:errcheck // the functions return nil
	return fleet.WorkDiff{Name: c.Name, Outcomes: outcomes(clusters, answers, failures)}
}

// compare asks one agent. Its answer comes to a subject of its own, since that is
// where agents may publish.
func (d *Delivery) compare(ctx context.Context, c Change, cluster string) (wire.DiffAnswer, error) {
	req, err := d.diffRequest(ctx, c, cluster)
	if err != nil {
		return wire.DiffAnswer{}, err
	}
	data, err := json.Marshal(req)
	if err != nil {
		return wire.DiffAnswer{}, fmt.Errorf("encode comparison: %w", err)
	}
	if len(data) > wire.MaxPayload {
		return wire.DiffAnswer{}, fmt.Errorf("the work has %d bytes, more than one message can hold", len(data))
	}
	reply := wire.ReplyPrefix(cluster) + nuid.Next()
	sub, err := d.cfg.Conn.SubscribeSync(reply)
	if err != nil {
		return wire.DiffAnswer{}, fmt.Errorf("wait for the answer: %w", err)
	}
	defer sub.Unsubscribe() //nolint:errcheck // the connection is gone
	if err := d.cfg.Conn.PublishRequest(wire.DownSubject(cluster, wire.DownDiff), reply, data); err != nil {
		return wire.DiffAnswer{}, fmt.Errorf("ask the agent: %w", err)
	}
	m, err := sub.NextMsgWithContext(ctx)
	switch {
	case errors.Is(err, nats.ErrNoResponders) || err == nil && len(m.Data) == 0 && m.Header.Get("Status") == "503":
		return wire.DiffAnswer{}, errOffline
	case errors.Is(err, context.DeadlineExceeded):
		return wire.DiffAnswer{}, errors.New("the agent did not answer in time")
	case err != nil:
		return wire.DiffAnswer{}, err
	}
	var answer wire.DiffAnswer
	if err := json.Unmarshal(m.Data, &answer); err != nil {
		return wire.DiffAnswer{}, errors.New("the agent's answer cannot be read")
	}
	return answer, nil
}

// diffRequest is the change in the form in which it would reach a cluster.
func (d *Delivery) diffRequest(ctx context.Context, c Change, cluster string) (wire.DiffRequest, error) {
	b, err := d.besideOf(ctx, c.Annotations)
	if err != nil {
		return wire.DiffRequest{}, err
	}
	content, err := contentOfSpec(c.Spec, b)
	if err != nil {
		return wire.DiffRequest{}, err
	}
	req := wire.DiffRequest{Work: c.Name, Digest: digestOf(content), Content: content, Policy: policyOf(c.Annotations)}
	if e, ok := d.cfg.Store.Cached(store.Key{Resource: work.Resource, Namespace: cluster, Name: c.Name}); ok {
		req.UID = e.Header.UID
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if x := d.clusters[cluster]; x != nil {
		req.Policy.TakeFrom = x.uids(names(c.Annotations[work.AnnotationTakeFrom]))
	}
	d.lend(cluster, b.bundle.Digest, time.Now())
	return req, nil
}

// lease is a bundle that a cluster may fetch for a comparison.
type lease struct{ cluster, digest string }

// lend lets a cluster fetch a bundle for a while; d.mu is held.
func (d *Delivery) lend(cluster, digest string, now time.Time) {
	if digest == "" {
		return
	}
	if d.leases == nil || len(d.leases) >= maxLeases {
		d.leases = map[lease]time.Time{}
	}
	d.leases[lease{cluster, digest}] = now.Add(leaseFor)
}

// outcomes puts clusters with the same answer together.
func outcomes(clusters []string, answers []wire.DiffAnswer, failures []error) []fleet.DiffOutcome {
	byKey := map[string]*fleet.DiffOutcome{}
	for i, name := range clusters {
		o := outcomeOf(answers[i], failures[i])
		key := keyOf(o)
		same := byKey[key]
		if same == nil {
			byKey[key] = &o
			same = &o
		} else {
			generalize(same, o)
		}
		same.Clusters = append(same.Clusters, name)
	}
	out := make([]fleet.DiffOutcome, 0, len(byKey))
	for _, o := range byKey {
		slices.Sort(o.Clusters)
		out = append(out, *o)
	}
	slices.SortFunc(out, func(a, b fleet.DiffOutcome) int {
		return cmp.Or(cmp.Compare(len(b.Clusters), len(a.Clusters)), cmp.Compare(a.Clusters[0], b.Clusters[0]))
	})
	return out
}

func outcomeOf(a wire.DiffAnswer, err error) fleet.DiffOutcome {
	switch {
	case errors.Is(err, errOffline):
		return fleet.DiffOutcome{State: fleet.DiffOffline}
	case err != nil:
		return fleet.DiffOutcome{State: fleet.DiffFailed, Message: clip(err.Error(), maxMessage)}
	case a.Error != "":
		return fleet.DiffOutcome{State: fleet.DiffFailed, Message: clip(a.Error, maxMessage)}
	}
	o := fleet.DiffOutcome{State: fleet.DiffNone}
	for _, x := range a.Objects {
		switch x.Action {
		case wire.ActionNone:
			o.Unchanged++
			continue
		case wire.ActionRefuse:
			o.State = fleet.DiffRefused
		case wire.ActionCreate, wire.ActionChange, wire.ActionDelete:
			if o.State == fleet.DiffNone {
				o.State = fleet.DiffChanges
			}
		default:
			continue
		}
		x.Message = clip(x.Message, maxMessage)
		x.Fields = slices.Clone(x.Fields[:min(len(x.Fields), maxFields)])
		o.Objects = append(o.Objects, x)
	}
	slices.SortStableFunc(o.Objects, func(a, b wire.ObjectDiff) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return o
}

// keyOf is the same for outcomes that a person would call the same: what would be
// set counts, and not what is there now.
func keyOf(o fleet.DiffOutcome) string {
	o.Objects = slices.Clone(o.Objects)
	for i := range o.Objects {
		fields := slices.Clone(o.Objects[i].Fields)
		for j := range fields {
			fields[j].Live = ""
		}
		o.Objects[i].Fields = fields
	}
	key, err := json.Marshal(o)
	if err != nil {
		return err.Error()
	}
	return string(key)
}

// differs stands for a present value that is not the same everywhere.
const differs = "(differs)"

// generalize drops the present values in which two outcomes of one key differ.
func generalize(into *fleet.DiffOutcome, o fleet.DiffOutcome) {
	for i := range into.Objects {
		for j := range into.Objects[i].Fields {
			if f := &into.Objects[i].Fields[j]; f.Live != o.Objects[i].Fields[j].Live {
				f.Live = differs
			}
		}
	}
}
