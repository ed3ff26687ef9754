// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/labels"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	testConformance(t, func(t *testing.T) *Store {
		s, _ := newBroker(t).open(Options{BookmarkEvery: 50 * time.Millisecond, WatchBuffer: 64})
		return s
	})
}

// testConformance is what callers of a store rely on. It is modelled on the
// tests that Kubernetes has for its storage backends.
func testConformance(t *testing.T, open func(t *testing.T) *Store) {
	for _, tt := range []struct {
		name string
		run  func(*testing.T, *Store)
	}{
		{"create", testCreate},
		{"create after delete", testRecreate},
		{"update", testUpdate},
		{"delete", testDelete},
		{"malformed", testMalformed},
		{"list order", testListOrder},
		{"list selectors", testListSelectors},
		{"list pages", testListPages},
		{"list revisions", testListRevisions},
		{"watch from 0", testWatchInitial},
		{"watch from revision", testWatchFrom},
		{"watch deletion", testWatchDeleted},
		{"watch selectors", testWatchSelectors},
		{"watch future", testWatchFuture},
		{"watch bookmarks", testWatchBookmarks},
		{"watch many", testWatchMany},
		{"watch slow", testWatchSlow},
		{"watch stop", testWatchStop},
		{"batch", testBatch},
		{"concurrent updates", testConcurrentUpdates},
		{"concurrent creates", testConcurrentCreates},
		{"delete stale", testDeleteStale},
		{"keys", testKeys},
		{"list consistent", testListConsistent},
		{"list pages under writes", testListPagesUnderWrites},
		{"list rare", testListRare},
		{"list prefix", testListPrefix},
		{"stats", testStats},
		{"watch scopes", testWatchScopes},
		{"watch order", testWatchOrder},
		{"watch resume", testWatchResume},
		{"watch cancel", testWatchCancel},
		{"watch ready", testWatchReady},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.run(t, open(t))
		})
	}
}

func testCreate(t *testing.T, s *Store) {
	k := key("ns", "a")
	before := s.Revision()
	if before == 0 {
		t.Error("an empty store is at revision 0")
	}
	rev := mustCreate(t, s, k, 1, "app", "x")
	if rev <= before {
		t.Errorf("revision %d after %d", rev, before)
	}
	e, err := s.Get(timeout(t), k)
	if err != nil {
		t.Fatal(err)
	}
	want := Entry{Key: k, Revision: rev, Data: object("a", 1, "app", "x"), Header: Header{Labels: map[string]string{"app": "x"}}}
	if d := cmp.Diff(want, e); d != "" {
		t.Error(d)
	}
	_, err = s.Create(timeout(t), k, object("a", 2))
	wantErr(t, err, ErrExists)
	_, err = s.Get(timeout(t), key("ns", "b"))
	wantErr(t, err, ErrNotFound)
	eventually(t, "the cache holds it", func() bool {
		c, ok := s.Cached(k)
		return ok && cmp.Equal(want, c)
	})
}

func testRecreate(t *testing.T, s *Store) {
	k := key("ns", "a")
	for range 3 {
		rev := mustCreate(t, s, k, 1)
		mustDelete(t, s, k, rev)
	}
	// The cache has seen the deletion, or has not: both must work.
	mustList(t, s, Selection{Resource: k.Resource})
	rev := mustCreate(t, s, k, 2)
	if e, err := s.Get(timeout(t), k); err != nil || e.Revision != rev {
		t.Errorf("get = %d, %v, want revision %d", e.Revision, err, rev)
	}
}

func testUpdate(t *testing.T, s *Store) {
	k := key("", "cluster-scoped")
	_, err := s.Update(timeout(t), k, object(k.Name, 1), 1)
	wantErr(t, err, ErrNotFound)
	first := mustCreate(t, s, k, 1)
	second := mustUpdate(t, s, k, 2, first)
	if second <= first {
		t.Errorf("revision %d after %d", second, first)
	}
	_, err = s.Update(timeout(t), k, object(k.Name, 3), first)
	wantErr(t, err, ErrConflict)
	_, err = s.Update(timeout(t), k, object(k.Name, 3), 0)
	wantErr(t, err, ErrConflict)
	deleted := mustDelete(t, s, k, second)
	_, err = s.Update(timeout(t), k, object(k.Name, 3), second)
	wantErr(t, err, ErrNotFound)
	mustList(t, s, Selection{Resource: k.Resource})
	_, err = s.Update(timeout(t), k, object(k.Name, 3), deleted)
	wantErr(t, err, ErrNotFound)
}

func testDelete(t *testing.T, s *Store) {
	k := key("ns", "a")
	_, err := s.Delete(timeout(t), k, 0)
	wantErr(t, err, ErrNotFound)
	first := mustCreate(t, s, k, 1)
	second := mustUpdate(t, s, k, 2, first)
	_, err = s.Delete(timeout(t), k, first)
	wantErr(t, err, ErrConflict)
	third := mustDelete(t, s, k, second)
	if third <= second {
		t.Errorf("revision %d after %d", third, second)
	}
	_, err = s.Get(timeout(t), k)
	wantErr(t, err, ErrNotFound)
	_, err = s.Delete(timeout(t), k, second)
	wantErr(t, err, ErrNotFound)
	if page := mustList(t, s, Selection{Resource: k.Resource}); len(page.Entries) != 0 || page.Revision < third {
		t.Errorf("list after deletion: %v at %d", names(page), page.Revision)
	}
	mustCreate(t, s, k, 3)
	mustDelete(t, s, k, 0)
}

func testMalformed(t *testing.T, s *Store) {
	for _, data := range []string{"", "null", "[]", "7", `"x"`, `{`, `{"metadata":7}`, `{"metadata":{}} x`} {
		_, err := s.Create(timeout(t), key("ns", "a"), []byte(data))
		wantErr(t, err, ErrInvalid)
	}
	_, err := s.Create(timeout(t), Key{Resource: "things"}, object("a", 1))
	wantErr(t, err, ErrInvalid)
	_, err = s.Create(timeout(t), key("ns", strings.Repeat("x", maxKey)), object("a", 1))
	wantErr(t, err, ErrInvalid)

	fits := append(object("a", 1), strings.Repeat(" ", MaxObject-len(object("a", 1)))...)
	rev, err := s.Create(timeout(t), key("ns", "a"), fits)
	if err != nil {
		t.Fatalf("an object of MaxObject bytes: %v", err)
	}
	_, err = s.Update(timeout(t), key("ns", "a"), append(fits, ' '), rev)
	wantErr(t, err, ErrTooLarge)
}

func testListOrder(t *testing.T, s *Store) {
	for _, k := range []Key{
		key("b", "a"), key("a", "b"), key("a", "a.z"), key("a", "a"), key("", "z"), key("a-b", "a"),
		{Resource: "things", Namespace: "a", Name: "other"},
		{Resource: "things.example.io.x", Name: "other"},
	} {
		mustCreate(t, s, k, 1)
	}
	got := names(mustList(t, s, Selection{Resource: "things.example.io"}))
	if d := cmp.Diff([]string{"/z", "a/a", "a/a.z", "a/b", "a-b/a", "b/a"}, got); d != "" {
		t.Error(d)
	}
	got = names(mustList(t, s, Selection{Resource: "things.example.io", Namespace: "a"}))
	if d := cmp.Diff([]string{"a/a", "a/a.z", "a/b"}, got); d != "" {
		t.Error(d)
	}
	if page := mustList(t, s, Selection{Resource: "nothing"}); len(page.Entries) != 0 || page.Revision == 0 {
		t.Errorf("list of nothing: %v at %d", names(page), page.Revision)
	}
}

func testListSelectors(t *testing.T, s *Store) {
	mustCreate(t, s, key("a", "1"), 1, "app", "x")
	mustCreate(t, s, key("a", "2"), 1, "app", "y")
	mustCreate(t, s, key("b", "3"), 1, "app", "x")
	selector := labels.SelectorFromSet(labels.Set{"app": "x"})
	page := mustList(t, s, Selection{Resource: "things.example.io", Labels: selector, Limit: 1})
	if d := cmp.Diff([]string{"a/1"}, names(page)); d != "" {
		t.Error(d)
	}
	if page.Remaining != -1 {
		t.Errorf("remaining = %d, want unknown", page.Remaining)
	}
	page = mustList(t, s, Selection{Resource: "things.example.io", Labels: selector, Limit: 1, Continue: page.Continue})
	if d := cmp.Diff([]string{"b/3"}, names(page)); d != "" || page.Continue != "" || page.Remaining != 0 {
		t.Error(d, page.Continue, page.Remaining)
	}
	page = mustList(t, s, Selection{
		Resource: "things.example.io",
		Match:    func(e Entry) bool { return e.Key.Name == "2" },
	})
	if d := cmp.Diff([]string{"a/2"}, names(page)); d != "" {
		t.Error(d)
	}
}

func testListPages(t *testing.T, s *Store) {
	sel := Selection{Resource: "things.example.io", Limit: 2}
	for _, n := range []string{"a", "b", "c", "d", "e"} {
		mustCreate(t, s, key("ns", n), 1)
	}
	first := mustList(t, s, sel)
	if first.Remaining != 3 || first.Continue == "" {
		t.Errorf("remaining %d, continue %q", first.Remaining, first.Continue)
	}
	// What happens between the pages is not seen by them.
	mustDelete(t, s, key("ns", "d"), 0)
	mustCreate(t, s, key("ns", "bb"), 1)
	e, _ := s.Get(timeout(t), key("ns", "c"))
	mustUpdate(t, s, key("ns", "c"), 2, e.Revision)
	mustList(t, s, Selection{Resource: sel.Resource})

	got := names(first)
	for page := first; page.Continue != ""; {
		sel.Continue = page.Continue
		page = mustList(t, s, sel)
		if page.Revision != first.Revision {
			t.Errorf("page at revision %d, the first was at %d", page.Revision, first.Revision)
		}
		for _, e := range page.Entries {
			if e.Revision > first.Revision {
				t.Errorf("%s has revision %d on a page at %d", e.Key, e.Revision, first.Revision)
			}
		}
		got = append(got, names(page)...)
	}
	if d := cmp.Diff([]string{"ns/a", "ns/b", "ns/c", "ns/d", "ns/e"}, got); d != "" {
		t.Error(d)
	}
	exact := mustList(t, s, Selection{Resource: sel.Resource, MinRevision: first.Revision, Exact: true})
	if len(exact.Entries) != 5 || exact.Revision != first.Revision {
		t.Errorf("exact list: %v at %d", names(exact), exact.Revision)
	}
	for _, token := range []string{"x", "e30", "!!", position{2, 1, "ns", "a"}.String(), position{1, 0, "ns", "a"}.String()} {
		_, err := s.List(timeout(t), Selection{Resource: sel.Resource, Continue: token})
		wantErr(t, err, ErrInvalid)
	}
	_, err := s.List(timeout(t), Selection{Resource: sel.Resource, Namespace: "other", Continue: first.Continue})
	wantErr(t, err, ErrInvalid)
	_, err = s.List(timeout(t), Selection{Resource: sel.Resource, Continue: position{1, first.Revision - 1, "ns", "a"}.String()})
	wantErr(t, err, ErrExpired)
}

func testListRevisions(t *testing.T, s *Store) {
	sel := Selection{Resource: "things.example.io"}
	rev := mustCreate(t, s, key("ns", "a"), 1)
	if page := mustList(t, s, sel); len(page.Entries) != 1 || page.Revision < rev {
		t.Errorf("consistent list misses a write: %v at %d, written at %d", names(page), page.Revision, rev)
	}
	sel.MinRevision = rev
	if page := mustList(t, s, sel); page.Revision < rev {
		t.Errorf("list at %d, wanted at least %d", page.Revision, rev)
	}
	sel.MinRevision = Any
	mustList(t, s, sel)
	sel.MinRevision = rev + 1000
	_, err := s.List(timeout(t), sel)
	wantErr(t, err, ErrFuture)
	second := mustUpdate(t, s, key("ns", "a"), 2, rev)
	mustList(t, s, Selection{Resource: sel.Resource})
	_, err = s.List(timeout(t), Selection{Resource: sel.Resource, MinRevision: rev, Exact: true})
	wantErr(t, err, ErrExpired)
	other := mustCreate(t, s, Key{Resource: "others", Name: "x"}, 1)
	page := mustList(t, s, Selection{Resource: sel.Resource, MinRevision: other, Exact: true})
	if page.Revision != other || page.Entries[0].Revision != second {
		t.Errorf("exact list at %d holds %d, want %d and %d", page.Revision, page.Entries[0].Revision, other, second)
	}
}

func testBatch(t *testing.T, s *Store) {
	a := mustCreate(t, s, key("ns", "a"), 1)
	b := mustCreate(t, s, key("ns", "b"), 1)
	gone := mustCreate(t, s, key("ns", "gone"), 1)
	mustDelete(t, s, key("ns", "gone"), gone)
	writes := []Write{
		{Key: key("ns", "a"), Data: object("a", 2), Revision: a},
		{Key: key("ns", "b"), Revision: b},
		{Key: key("ns", "c"), Data: object("c", 1)},
		{Key: key("ns", "gone"), Data: object("gone", 2)},
	}
	revs, err := s.Batch(timeout(t), writes)
	if err != nil {
		t.Fatal(err)
	}
	for i := 1; i < len(revs); i++ {
		if revs[i] <= revs[i-1] {
			t.Errorf("revisions %v do not grow", revs)
		}
	}
	page := mustList(t, s, Selection{Resource: "things.example.io"})
	if d := cmp.Diff([]string{"ns/a", "ns/c", "ns/gone"}, names(page)); d != "" {
		t.Error(d)
	}
	if page.Entries[0].Revision != revs[0] || page.Entries[1].Revision != revs[2] {
		t.Errorf("list holds %d and %d, batch said %v", page.Entries[0].Revision, page.Entries[1].Revision, revs)
	}

	for _, tt := range []struct {
		name string
		bad  Write
		want error
	}{
		{"conflict", Write{Key: key("ns", "a"), Data: object("a", 9), Revision: a}, ErrConflict},
		{"exists", Write{Key: key("ns", "a"), Data: object("a", 9)}, ErrExists},
		{"not found", Write{Key: key("ns", "b"), Data: object("b", 9), Revision: b}, ErrNotFound},
		{"delete not found", Write{Key: key("ns", "b")}, ErrNotFound},
		{"delete conflict", Write{Key: key("ns", "c"), Revision: a}, ErrConflict},
		{"malformed", Write{Key: key("ns", "z"), Data: []byte("x")}, ErrInvalid},
		{"twice", Write{Key: key("ns", "new"), Data: object("new", 9)}, ErrInvalid},
	} {
		_, err := s.Batch(timeout(t), []Write{{Key: key("ns", "new"), Data: object("new", 1)}, tt.bad})
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: error = %v, want %v", tt.name, err, tt.want)
		}
		if _, err := s.Get(timeout(t), key("ns", "new")); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: a refused batch was stored in part: %v", tt.name, err)
		}
	}
	if _, err := s.Batch(timeout(t), make([]Write, MaxBatch+1)); !errors.Is(err, ErrInvalid) {
		t.Errorf("too many: %v", err)
	}
	if revs, err := s.Batch(timeout(t), nil); err != nil || revs != nil {
		t.Errorf("empty batch: %v, %v", revs, err)
	}
	if _, err := s.Batch(timeout(t), []Write{{Key: key("ns", "a")}, {Key: key("ns", "c"), Revision: revs[2]}}); err != nil {
		t.Errorf("delete whatever it is: %v", err)
	}
}

func testConcurrentUpdates(t *testing.T, s *Store) {
	const writers, each = 8, 20
	k := key("ns", "counter")
	mustCreate(t, s, k, 0)
	var group sync.WaitGroup
	for range writers {
		group.Go(func() {
			for range each {
				for {
					e, err := s.Get(context.Background(), k)
					if err != nil {
						t.Error(err)
						return
					}
					_, err = s.Update(context.Background(), k, object(k.Name, valueOf(t, e)+1), e.Revision)
					if errors.Is(err, ErrConflict) {
						continue
					}
					if err != nil {
						t.Error(err)
						return
					}
					break
				}
			}
		})
	}
	group.Wait()
	e, err := s.Get(timeout(t), k)
	if err != nil {
		t.Fatal(err)
	}
	if got := valueOf(t, e); got != writers*each {
		t.Errorf("counter = %d, want %d", got, writers*each)
	}
}

func valueOf(t testing.TB, e Entry) int {
	var o struct {
		Spec struct {
			Value int `json:"value"`
		} `json:"spec"`
	}
	if err := decode(e.Data, &o); err != nil {
		t.Error(err)
	}
	return o.Spec.Value
}
