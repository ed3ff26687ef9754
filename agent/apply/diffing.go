// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package apply

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/drover-io/drover/agent/apply/fields"
	"github.com/drover-io/drover/agent/apply/manifest"
	"github.com/drover-io/drover/shared/apis/work"
	"github.com/drover-io/drover/shared/wire"
)

// maxUnchanged is the number of manifests up to which those that would not change
// are listed too.
const maxUnchanged = 500

// Diff says what applying the content of a request would do to each object, by
// server-side dry-run with the same rights and field managers, and what would be
// deleted. It writes nothing. The error is about the request or the API server,
// not about an object.
func (e *Engine) Diff(ctx context.Context, request wire.DiffRequest) (wire.DiffAnswer, error) {
	c, err := e.loadFor(ctx, request)
	if err != nil {
		return wire.DiffAnswer{}, err
	}
	defer c.Close()
	e.mu.Lock()
	var rec record
	if it := e.items[request.UID]; it != nil && request.UID != "" {
		rec = it.rec
	}
	e.mu.Unlock()

	d := &dryRun{engine: e, content: c, request: request, answers: make([]wire.ObjectDiff, len(c.Manifests))}
	if err := d.prepare(ctx, rec); err != nil {
		return wire.DiffAnswer{}, apiError(err)
	}
	if err := d.compare(ctx); err != nil {
		return wire.DiffAnswer{}, apiError(err)
	}
	removed, err := d.removals(ctx, rec)
	if err != nil {
		return wire.DiffAnswer{}, err
	}
	answer := wire.DiffAnswer{Objects: removed}
	for i := range d.answers {
		if len(d.answers) <= maxUnchanged || d.answers[i].Action != wire.ActionNone {
			answer.Objects = append(answer.Objects, d.answers[i])
		}
	}
	return answer, nil
}

func (e *Engine) loadFor(ctx context.Context, request wire.DiffRequest) (*manifest.Content, error) {
	if len(request.Content) == 0 {
		if request.Digest == "" {
			return nil, errors.New("the request has neither content nor digest")
		}
		return e.load(ctx, request.Digest)
	}
	if got := manifest.Digest(request.Content); request.Digest != "" && got != request.Digest {
		return nil, fmt.Errorf("the content of the request is not %s but %s", request.Digest, got)
	}
	return e.open(ctx, manifest.Digest(request.Content), request.Content)
}

// dryRun is one comparison.
type dryRun struct {
	engine  *Engine
	content *manifest.Content
	request wire.DiffRequest
	results []result
	tasks   []*task
	answers []wire.ObjectDiff // by ordinal
	creates map[string]bool   // namespaces that the content brings
}

// prepare finds out what each manifest is on the cluster, as applying does.
func (d *dryRun) prepare(ctx context.Context, rec record) error {
	d.results = make([]result, len(d.content.Manifests))
	d.creates = make(map[string]bool)
	promised := d.content.Promises()
	for i := range d.content.Manifests {
		m, r := &d.content.Manifests[i], &d.results[i]
		if m.ID.IsNamespace() {
			d.creates[m.ID.Name] = true
		}
		r.begin(m)
		t := &task{content: d.content, manifest: m, result: r}
		if err := d.engine.recognise(ctx, t, promised); err != nil {
			if ctx.Err() != nil || unreachable(err) {
				return err
			}
			r.fail(err)
			continue
		}
		d.tasks = append(d.tasks, t)
	}
	it := &item{rec: rec}
	if err := d.engine.examine(ctx, it, d.tasks); err != nil {
		return err
	}
	from := strings.Split(d.request.Policy.TakeFrom, ",")
	d.engine.mu.Lock()
	defer d.engine.mu.Unlock()
	for _, t := range d.tasks {
		uid := d.engine.owners[t.manifest.ID]
		owner := d.engine.items[uid]
		if owner == nil || uid == d.request.UID || !owner.listed || !t.result.managed || slices.Contains(from, uid) {
			continue
		}
		t.result.fail(&manifest.Error{Reason: wire.ApplyOwnedElsewhere, Message: fmt.Sprintf("belongs to work %q", owner.want.Name)})
	}
	return nil
}

// compare asks the API server about each object.
func (d *dryRun) compare(ctx context.Context) error {
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(parallelRequests)
	for _, t := range d.tasks {
		if t.result.report.ApplyMessage == "" {
			group.Go(func() error { return t.note(gctx, d.compareOne(gctx, t)) })
		}
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for i := range d.results {
		r, answer := &d.results[i], &d.answers[i]
		answer.Group, answer.Kind = r.report.Group, r.report.Kind
		answer.Namespace, answer.Name = r.report.Namespace, r.report.Name
		if r.report.ApplyMessage != "" {
			answer.Action, answer.Message = wire.ActionRefuse, fields.Shorten(r.report.ApplyMessage, 1024)
			answer.Fields, answer.Total = nil, 0
		}
	}
	return nil
}

func (d *dryRun) compareOne(ctx context.Context, t *task) error {
	e, r, answer := d.engine, t.result, &d.answers[t.manifest.Ordinal]
	switch {
	case t.awaited:
		answer.Action, answer.Message = wire.ActionCreate, "its kind comes with this work"
		return nil
	case t.strategy.Kind == work.StrategyReadOnly || (t.strategy.Kind == work.StrategyCreateOnly && t.exists):
		answer.Action = wire.ActionNone
		return nil
	}
	if t.foreign && t.strategy.Writes() {
		if err := e.adopt(ctx, t, d.request.Policy.Adoption); err != nil || r.report.ApplyMessage != "" {
			return err
		}
		answer.Message = "exists, made by somebody else: would be taken over"
	}
	desired, err := e.write(ctx, t, true)
	if !t.exists {
		answer.Action = wire.ActionCreate
		if apierrors.IsNotFound(err) && d.creates[t.manifest.ID.Namespace] {
			answer.Message = "its namespace comes with this work"
			return nil
		}
		return err
	}
	if err != nil {
		return err
	}
	live, err := e.cluster.get(ctx, r.obj)
	if err != nil {
		return err
	}
	answer.Fields, answer.Total = fields.Diff(desired, live, r.obj.identity().Secretive())
	answer.Action = wire.ActionChange
	if answer.Total == 0 {
		answer.Action = wire.ActionNone
	}
	return nil
}

// removals are what would be deleted, with the word that it needs.
func (d *dryRun) removals(ctx context.Context, rec record) ([]wire.ObjectDiff, error) {
	var named []object
	for i := range d.results {
		named = append(named, d.results[i].obj)
	}
	gone := dropped(rec.owned(), named)
	if len(gone) == 0 {
		return nil, nil
	}
	v, err := d.engine.judgeAll(ctx, d.request.UID, gone, d.content.Delete)
	if err != nil {
		return nil, err
	}
	message := ""
	if reason := pruneReason(v.doomed, len(rec.owned())); reason != "" {
		if plan := planOf(v.doomed, reason); !approves(d.request.Policy, plan) {
			message = fmt.Sprintf("waits for approval of plan %s (%s)", plan.ID, reason)
		}
	}
	var removed []wire.ObjectDiff
	for _, o := range v.doomed {
		removed = append(removed, wire.ObjectDiff{
			Group: o.Group, Kind: o.Kind, Namespace: o.Namespace, Name: o.Name, Action: wire.ActionDelete, Message: message,
		})
	}
	return removed, nil
}
