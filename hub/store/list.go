// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/labels"
)

const (
	// snapshotTTL is how long the state of a paged list is kept after its last use.
	snapshotTTL = 5 * time.Minute
	// maxSnapshots bounds how many are kept. They share what did not change.
	maxSnapshots = 256
)

type snapshotKey struct {
	resource string
	revision uint64
}

type snapshot struct {
	objects *tree
	used    time.Time
}

// position is the content of a continue token: where the page before ended.
type position struct {
	Version   int    `json:"v"`
	Revision  uint64 `json:"rv"`
	Namespace string `json:"ns,omitempty"`
	Name      string `json:"n"`
}

func (p position) String() string {
	b, _ := json.Marshal(p)
	return base64.RawURLEncoding.EncodeToString(b)
}

func parsePosition(token string) (position, error) {
	var p position
	b, err := base64.RawURLEncoding.DecodeString(token)
	if err == nil {
		err = json.Unmarshal(b, &p)
	}
	if err != nil || p.Version != 1 || p.Revision == 0 || p.Name == "" {
		return position{}, fmt.Errorf("continue token: %w", ErrInvalid)
	}
	return p, nil
}

// List reads from the cache; ErrFuture, ErrExpired, ErrInvalid.
func (s *Store) List(ctx context.Context, sel Selection) (Page, error) {
	from := Key{Resource: sel.Resource, Namespace: sel.Namespace}
	var objects *tree
	var revision uint64
	var err error
	if sel.Continue != "" {
		p, err := parsePosition(sel.Continue)
		if err != nil {
			return Page{}, err
		}
		if p.Namespace < sel.Namespace || sel.Namespace != "" && p.Namespace > sel.Namespace {
			return Page{}, fmt.Errorf("continue token: %w: of another namespace", ErrInvalid)
		}
		from.Namespace, from.Name = p.Namespace, p.Name
		objects, revision, err = s.stateAt(ctx, sel.Resource, p.Revision)
		if err != nil {
			return Page{}, err
		}
	} else if sel.Exact {
		objects, revision, err = s.stateAt(ctx, sel.Resource, sel.MinRevision)
	} else {
		objects, revision, err = s.state(ctx, sel.Resource, sel.MinRevision)
	}
	if err != nil {
		return Page{}, err
	}

	page := Page{Revision: revision}
	if objects == nil {
		return page, nil
	}
	filtered := sel.Match != nil || sel.Labels != nil && !sel.Labels.Empty()
	if !filtered && sel.Limit == 0 && sel.Namespace == "" && sel.Prefix == "" {
		page.Entries = make([]Entry, 0, objects.Len())
	}
	var last *Entry
	first := from
	first.Name = max(first.Name, sel.Prefix)
	objects.Ascend(&Entry{Key: first}, func(e *Entry) bool {
		if sel.Prefix != "" && (e.Key.Namespace != sel.Namespace || !strings.HasPrefix(e.Key.Name, sel.Prefix)) {
			return false
		}
		if sel.Namespace != "" && e.Key.Namespace != sel.Namespace {
			return false
		}
		if from.Name != "" && e.Key.Namespace == from.Namespace && e.Key.Name == from.Name {
			return true // the last of the page before
		}
		if last != nil {
			if filtered {
				page.Remaining = -1
				return false
			}
			page.Remaining++
			return true
		}
		if !matches(sel.Labels, sel.Match, e) {
			return true
		}
		if sel.Limit > 0 && len(page.Entries) == sel.Limit {
			// One more than fits: there is a next page.
			last = e
			page.Remaining = 1
			if filtered {
				page.Remaining = -1
				return false
			}
			return true
		}
		page.Entries = append(page.Entries, *e)
		return true
	})
	if last != nil {
		end := page.Entries[len(page.Entries)-1].Key
		page.Continue = position{1, revision, end.Namespace, end.Name}.String()
		s.keepSnapshot(snapshotKey{sel.Resource, revision}, objects)
	}
	return page, nil
}

func matches(selector labels.Selector, match func(Entry) bool, e *Entry) bool {
	if selector != nil && !selector.Empty() && !selector.Matches(labels.Set(e.Header.Labels)) {
		return false
	}
	return match == nil || match(*e)
}

// state is a resource's objects now, not older than revision.
func (s *Store) state(ctx context.Context, resource string, revision uint64) (*tree, uint64, error) {
	if err := s.wait(ctx, revision); err != nil {
		return nil, 0, fmt.Errorf("list %s: %w", resource, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.loading {
		return nil, 0, fmt.Errorf("list %s: %w", resource, ErrFuture)
	}
	return s.cache.snapshot(resource), s.cache.revision, nil
}

// stateAt is a resource's objects as they were at a revision.
func (s *Store) stateAt(ctx context.Context, resource string, revision uint64) (*tree, uint64, error) {
	if err := s.wait(ctx, max(revision, 1)); err != nil {
		return nil, 0, fmt.Errorf("list %s: %w", resource, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if kept, ok := s.snapshots[snapshotKey{resource, revision}]; ok {
		kept.used = time.Now()
		s.snapshots[snapshotKey{resource, revision}] = kept
		return kept.objects, revision, nil
	}
	// The present state serves as well if nothing changed since, and if nothing
	// can have been missed before it.
	if r := s.cache.resources[resource]; !s.loading && revision >= s.cache.oldest && revision <= s.cache.revision &&
		(r == nil || r.changed <= revision) {
		return s.cache.snapshot(resource), revision, nil
	}
	return nil, 0, fmt.Errorf("list %s at revision %d: %w", resource, revision, ErrExpired)
}

func (s *Store) keepSnapshot(key snapshotKey, objects *tree) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.snapshots[key]; !ok && len(s.snapshots) >= maxSnapshots {
		var oldest snapshotKey
		var used time.Time
		for k, v := range s.snapshots {
			if used.IsZero() || v.used.Before(used) {
				oldest, used = k, v.used
			}
		}
		delete(s.snapshots, oldest)
	}
	s.snapshots[key] = snapshot{objects, time.Now()}
}

func (s *Store) dropSnapshots(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, v := range s.snapshots {
		if expired(v.used, now, snapshotTTL) {
			delete(s.snapshots, k)
		}
	}
}
