// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package apply

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/drover-io/drover/agent/apply/fields"
	"github.com/drover-io/drover/agent/apply/manifest"
	"github.com/drover-io/drover/shared/wire"
)

const (
	// maxListed is the number of manifests up to which a report lists every one.
	maxListed = 500
	// maxWorst is how many of a larger item are listed.
	maxWorst = 200
)

// result is the outcome of one manifest: what the report says, and what the
// engine needs beside it.
type result struct {
	report   wire.ManifestReport
	obj      object
	managed  bool // written by the engine, so repaired when missing
	redo     bool // missing from the cluster, to be applied again
	refused  bool // another item owns the object
	moving   bool // of the refused: to be taken over when the other item is not busy
	waiting  bool // for a lower wave
	unserved bool // its kind is not served
	lasting  bool // the failure will hardly pass by itself
	blocked  bool // by an object of somebody else's, which obj is
	// overtaken says that the object is not what the plan was made for.
	overtaken *overtakenError

	rules   manifest.Rules
	applied time.Time    // when the content was, zero if that is not known
	version string       // of the resource as applied or seen last
	touch   fields.Touch // of the object as seen last
	drift   drift
	found   finding // what report says of health before Explain added to it
	doubt   bool    // look at it now
	// unwellSince is when it was last Current, explainedAt when it was asked about.
	unwellSince, explainedAt time.Time
}

// begin forgets an earlier outcome.
func (r *result) begin(m *manifest.Manifest) {
	before := *r
	*r = result{report: wire.ManifestReport{Ordinal: m.Ordinal, AvailableMessage: "not applied"}}
	if before.redo {
		r.redo, r.drift, r.report.Drift = true, before.drift, before.report.Drift
	}
	r.name(m, "")
}

// name writes down what the manifest is on the cluster.
func (r *result) name(m *manifest.Manifest, resource string) {
	r.report.Group, r.report.Version, r.report.Kind = m.GVK.Group, m.GVK.Version, m.GVK.Kind
	r.report.Resource, r.report.Namespace, r.report.Name = resource, m.ID.Namespace, m.ID.Name
	r.obj.Group, r.obj.Version, r.obj.Kind = m.GVK.Group, m.GVK.Version, m.GVK.Kind
	r.obj.Resource, r.obj.Namespace, r.obj.Name = resource, m.ID.Namespace, m.ID.Name
	r.obj.Wave, r.obj.Ordinal = m.Wave, m.Ordinal+1
}

func (r *result) fail(err error) {
	r.redo = false
	r.report.Applied = false
	r.report.ApplyMessage, r.report.ApplyReason = err.Error(), ""
	var own *manifest.Error
	isOwn := errors.As(err, &own)
	if isOwn {
		r.report.ApplyReason = own.Reason
	}
	if apierrors.HasStatusCause(err, metav1.CauseTypeFieldManagerConflict) {
		r.report.ApplyReason, r.report.ApplyMessage = wire.ApplyConflict, conflictMessage(err)
	}
	var unserved *noMatchError
	r.unserved = errors.As(err, &unserved)
	r.lasting = permanent(err) || (isOwn && !r.refused && own.Reason != wire.ApplyForbidden)
}

// conflictMessage names the managers and the fields of theirs.
func conflictMessage(err error) string {
	var answered apierrors.APIStatus
	message := err.Error()
	if errors.As(err, &answered) && answered.Status().Details != nil {
		fields := make(map[string][]string)
		var whose []string
		for _, cause := range answered.Status().Details.Causes {
			if cause.Type != metav1.CauseTypeFieldManagerConflict {
				continue
			}
			if fields[cause.Message] == nil {
				whose = append(whose, cause.Message)
			}
			fields[cause.Message] = append(fields[cause.Message], cause.Field)
		}
		var parts []string
		for _, w := range whose {
			parts = append(parts, w+": "+strings.Join(fields[w], ", "))
		}
		if len(parts) > 0 {
			message = strings.Join(parts, "; ")
		}
	}
	return message + " (updateStrategy ServerSideApply with force: true takes the fields over)"
}

func apiError(err error) error {
	if unreachable(err) {
		return fmt.Errorf("the kube-apiserver does not answer: %w", err)
	}
	return err
}

// buildReport says what became of want.
func buildReport(want wire.Item, s *progress, results []result) wire.Report {
	r := wire.Report{
		Name: want.Name, UID: want.UID, Generation: want.Generation, Digest: want.Digest,
		Error: s.err, Prune: s.plan, Remaining: s.remaining, RemainingTotal: s.left,
	}
	if r.Error == "" {
		r.Error = s.pruneErr
	}
	if len(results) > maxListed {
		r.Counts = count(results)
		r.Manifests = worst(results)
		return fit(r)
	}
	for i := range results {
		r.Manifests = append(r.Manifests, results[i].report)
	}
	return fit(r)
}

func count(results []result) *wire.Counts {
	c := &wire.Counts{Total: len(results), Health: make(map[string]int)}
	for i := range results {
		r := &results[i]
		if r.report.Applied {
			c.Applied++
		}
		if r.report.Available {
			c.Available++
		}
		if r.report.Health != "" {
			c.Health[r.report.Health]++
		}
		if r.report.Drift != nil {
			c.Drifted++
		}
	}
	return c
}

// worst lists what is not applied and Current, or differs, the worst first, and
// what has an outcome of rules.
func worst(results []result) []wire.ManifestReport {
	rank := func(r *result) int {
		switch {
		case r.waiting:
			return 6
		case !r.report.Applied:
			return 0
		case r.report.Health == wire.HealthFailed:
			return 1
		case r.report.Health == wire.HealthNotFound:
			return 2
		case r.report.Health != wire.HealthCurrent:
			return 3
		case r.report.Drift != nil:
			return 4
		case len(r.rules.Feedback)+len(r.rules.Conditions) > 0:
			return 5
		}
		return -1
	}
	var ranked []*result
	for i := range results {
		if rank(&results[i]) >= 0 {
			ranked = append(ranked, &results[i])
		}
	}
	slices.SortStableFunc(ranked, func(a, b *result) int { return cmp.Compare(rank(a), rank(b)) })
	var listed []wire.ManifestReport
	for _, r := range ranked[:min(len(ranked), maxWorst)] {
		listed = append(listed, r.report)
	}
	return listed
}

// fit shortens messages until the report travels in one message. The facts stay.
func fit(r wire.Report) wire.Report {
	for _, limit := range []int{1024, 256, 64, 0} {
		r.Error = fields.Shorten(r.Error, max(limit, 256))
		for i := range r.Manifests {
			m := &r.Manifests[i]
			m.ApplyMessage = fields.Shorten(m.ApplyMessage, limit)
			m.AvailableMessage = fields.Shorten(m.AvailableMessage, limit)
			m.HealthMessage = fields.Shorten(m.HealthMessage, limit)
			m.FeedbackError = fields.Shorten(m.FeedbackError, limit)
			if limit < 256 {
				m.Events = nil
				if m.Drift != nil && m.Drift.Diffs != nil {
					d := *m.Drift
					d.Diffs, m.Drift = nil, &d
				}
			}
		}
		if encoded, err := json.Marshal(r); err == nil && len(encoded) <= wire.MaxContent {
			break
		}
	}
	return r
}

func equalReports(a, b wire.Report) bool { return reflect.DeepEqual(a, b) }

func compareStrings(a, b, a2, b2 string) int { return cmp.Or(cmp.Compare(a, b), cmp.Compare(a2, b2)) }
