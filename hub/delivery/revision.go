// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/shared/apis/work"
	"github.com/drover-io/drover/shared/daemon"
)

const (
	// UndoFor is how long a removal can be undone, and maxRevisions how many of a
	// work are kept.
	UndoFor      = 7 * 24 * time.Hour
	maxRevisions = 10

	collectEvery = 10 * time.Minute
)

// KeepRevision stores a work as it was, before a change that takes objects from
// its cluster is accepted: old is the stored work, next what it is to become, nil
// when it is to be deleted. A change that takes nothing stores nothing. Called
// again for the same state it does nothing, so a write that is tried again, or
// fails in the end, leaves one revision at most.
func (d *Delivery) KeepRevision(ctx context.Context, old, next map[string]any, by string) error {
	before, err := revisionOf(old)
	if err != nil {
		return err
	}
	reason, message := fleet.RevisionDeleted, ""
	if next == nil {
		if before.deleting {
			return nil
		}
		n := len(before.objects)
		message = fmt.Sprintf("the work was deleted, with %d manifests", n)
	} else {
		after, err := revisionOf(next)
		if err != nil {
			return err
		}
		reason = fleet.RevisionManifestsDropped
		if message = dropped(before, after); message == "" {
			return nil
		}
	}
	spec, err := json.Marshal(before.spec)
	if err != nil {
		return fmt.Errorf("keep revision of work %s: %w", before.name, err)
	}
	existing, err := d.history(ctx, before.namespace, before.name, 0) // with all that is acknowledged
	if err != nil {
		return err
	}
	number := int64(1)
	for _, r := range existing {
		if r.Spec.UID == before.uid && r.Spec.Generation == before.generation && r.Spec.Reason == reason {
			return nil
		}
		number = max(number, r.Spec.Revision+1)
	}
	_, err = d.revisions.Create(ctx, &fleet.WorkRevision{
		TypeMeta: metav1.TypeMeta{APIVersion: fleet.Group + "/" + fleet.Version, Kind: fleet.KindWorkRevision},
		ObjectMeta: metav1.ObjectMeta{
			Namespace: before.namespace, Name: revisionName(before.name, before.uid, before.generation, reason),
		},
		Spec: fleet.WorkRevisionSpec{
			Work: before.name, UID: before.uid, Generation: before.generation, Revision: number,
			Reason: reason, Message: message, By: by, ExpiresAt: metav1.Time{Time: time.Now().Add(UndoFor).UTC().Truncate(time.Second)},
			Labels: before.labels, Annotations: before.annotations, WorkSpec: runtime.RawExtension{Raw: spec},
		},
	})
	if errors.Is(err, store.ErrExists) {
		return nil
	}
	for i := maxRevisions - 1; err == nil && i < len(existing); i++ {
		err = d.drop(ctx, existing[i])
	}
	return err
}

// revisionName is the same for the same state.
func revisionName(name, uid string, generation int64, reason string) string {
	short, _, _ := strings.Cut(uid, "-")
	tail := "-" + cmp.Or(short, "x") + "-" + strconv.FormatInt(generation, 10)
	if reason == fleet.RevisionDeleted {
		tail += "-d"
	}
	name = name[:min(len(name), 253-len(tail))]
	return strings.TrimRight(name, ".-") + tail
}

// revisionPrefix is what the names of all revisions of a work begin with, and of
// hardly any other's, so that deleting many works does not read the revisions of
// all of them each time.
func revisionPrefix(name string) string {
	const longestTail = len("-") + 36 + len("-") + 19 + len("-d") // uid, generation
	if len(name) <= 253-longestTail {
		return name + "-"
	}
	return strings.TrimRight(name[:253-longestTail], ".-")
}

// state is what of a work matters to undo.
type state struct {
	namespace, name, uid string
	generation           int64
	deleting             bool
	labels, annotations  map[string]string
	spec                 any
	objects              map[string]bool // Kind namespace/name of each manifest
	bundle               string
}

func revisionOf(obj map[string]any) (*state, error) {
	var meta struct {
		Metadata metav1.ObjectMeta `json:"metadata"`
	}
	head := map[string]any{"metadata": obj["metadata"]}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(head, &meta); err != nil {
		return nil, fmt.Errorf("read metadata of the work: %w", err)
	}
	m := &meta.Metadata
	s := &state{
		namespace: m.Namespace, name: m.Name, uid: string(m.UID), generation: m.Generation, deleting: m.DeletionTimestamp != nil,
		labels: m.Labels, annotations: maps.Clone(m.Annotations), spec: obj["spec"], objects: map[string]bool{},
		bundle: m.Annotations[work.AnnotationBundle],
	}
	// An approval was for that moment.
	delete(s.annotations, work.AnnotationApprovePrune)
	spec, _ := obj["spec"].(map[string]any)
	workload, _ := spec["workload"].(map[string]any)
	manifests, _ := workload["manifests"].([]any)
	for _, m := range manifests {
		manifest, _ := m.(map[string]any)
		s.objects[objectName(manifest)] = true
	}
	return s, nil
}

// objectName names a manifest whatever the version of its API.
func objectName(m map[string]any) string {
	api, _ := m["apiVersion"].(string)
	kind, _ := m["kind"].(string)
	meta, _ := m["metadata"].(map[string]any)
	ns, _ := meta["namespace"].(string)
	name, _ := meta["name"].(string)
	group, _, grouped := strings.Cut(api, "/")
	if !grouped {
		group = ""
	}
	return strings.Join([]string{group, kind, ns, name}, "\x00")
}

// dropped says what a change takes from the cluster; empty: nothing.
func dropped(before, after *state) string {
	var gone []string
	for name := range before.objects {
		if !after.objects[name] {
			part := strings.Split(name, "\x00")
			text := part[1] + " " + part[3]
			if part[2] != "" {
				text = part[1] + " " + part[2] + "/" + part[3]
			}
			gone = append(gone, text)
		}
	}
	slices.Sort(gone)
	switch {
	case len(gone) > 3:
		return fmt.Sprintf("%d of %d manifests were dropped: %s and %d more", len(gone), len(before.objects), strings.Join(gone[:2], ", "), len(gone)-2)
	case len(gone) > 0:
		return fmt.Sprintf("%d of %d manifests were dropped: %s", len(gone), len(before.objects), strings.Join(gone, ", "))
	case before.bundle != "" && after.bundle != before.bundle:
		return "the bundle " + before.bundle + " was replaced"
	}
	return ""
}

// history are the revisions of a work's name, the newest first, not older than a
// revision of the store.
func (d *Delivery) history(ctx context.Context, namespace, name string, revision uint64) ([]*fleet.WorkRevision, error) {
	all, _, err := d.revisions.List(ctx, store.Selection{Namespace: namespace, Prefix: revisionPrefix(name), MinRevision: revision})
	if err != nil {
		return nil, fmt.Errorf("list revisions of work %s: %w", name, err)
	}
	all = slices.DeleteFunc(all, func(r *fleet.WorkRevision) bool { return r.Spec.Work != name })
	slices.SortFunc(all, func(a, b *fleet.WorkRevision) int { return cmp.Compare(b.Spec.Revision, a.Spec.Revision) })
	return all, nil
}

// collectRevisions removes revisions whose time is over and those beyond the
// newest of each work, until ctx ends.
func (d *Delivery) collectRevisions(ctx context.Context) error {
	for {
		wait := collectEvery
		if err := d.collectOnce(ctx, time.Now()); err != nil && ctx.Err() == nil {
			wait = failedInterval
			d.cfg.Log.Warn("old revisions of works not removed, will try again", zap.Error(err))
		}
		if !daemon.Sleep(ctx, wait) {
			return ctx.Err()
		}
	}
}

func (d *Delivery) collectOnce(ctx context.Context, now time.Time) error {
	page, err := d.cfg.Store.List(ctx, store.Selection{Resource: fleet.ResourceWorkRevisions})
	if err != nil {
		return err
	}
	var failed error
	byWork := map[[2]string][]*fleet.WorkRevision{}
	for _, e := range page.Entries {
		r, err := d.revisions.Decode(e)
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		if now.After(r.Spec.ExpiresAt.Time) {
			failed = errors.Join(failed, d.drop(ctx, r))
			continue
		}
		k := [2]string{r.Namespace, r.Spec.Work}
		r.Spec.WorkSpec = runtime.RawExtension{} // not needed, and large
		byWork[k] = append(byWork[k], r)
	}
	for _, list := range byWork {
		slices.SortFunc(list, func(a, b *fleet.WorkRevision) int { return cmp.Compare(b.Spec.Revision, a.Spec.Revision) })
		for _, r := range list[min(len(list), maxRevisions):] {
			failed = errors.Join(failed, d.drop(ctx, r))
		}
	}
	return failed
}

func (d *Delivery) drop(ctx context.Context, r *fleet.WorkRevision) error {
	err := d.revisions.Delete(ctx, r.Namespace, r.Name)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}

// BundlesInUse are the digests that works and their revisions name.
func (d *Delivery) BundlesInUse(ctx context.Context) (map[string]bool, error) {
	used := map[string]bool{}
	for _, sel := range []store.Selection{{Resource: work.Resource}, {Resource: fleet.ResourceWorkRevisions}} {
		page, err := d.cfg.Store.List(ctx, sel) // what is acknowledged counts
		if err != nil {
			return nil, err
		}
		for _, e := range page.Entries {
			var obj struct {
				Metadata struct {
					Annotations map[string]string `json:"annotations"`
				} `json:"metadata"`
				Spec struct {
					Annotations map[string]string `json:"annotations"`
				} `json:"spec"`
			}
			if err := json.Unmarshal(e.Data, &obj); err != nil {
				return nil, fmt.Errorf("read %s %s/%s: %w", e.Key.Resource, e.Key.Namespace, e.Key.Name, err)
			}
			for _, a := range []map[string]string{obj.Metadata.Annotations, obj.Spec.Annotations} {
				if digest := a[work.AnnotationBundle]; digest != "" {
					used[digest] = true
				}
			}
		}
	}
	return used, nil
}
