// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/labels"
)

const things = "things.example.io"

// testListConsistent: who has written finds it in the next list, whoever else
// writes; and of two lists of one client the later is not the older one.
func testListConsistent(t *testing.T, s *Store) {
	var group sync.WaitGroup
	for writer := range 6 {
		group.Go(func() {
			newest := uint64(0)
			for i := range 15 {
				name := fmt.Sprintf("w%d-%d", writer, i)
				rev, err := s.Create(context.Background(), key("ns", name), object(name, i))
				if err != nil {
					t.Error(err)
					return
				}
				page, err := s.List(context.Background(), Selection{Resource: things, Namespace: "ns"})
				if err != nil {
					t.Error(err)
					return
				}
				if page.Revision < rev || page.Revision < newest {
					t.Errorf("list at %d after a write at %d and a list at %d", page.Revision, rev, newest)
				}
				newest = page.Revision
				if !slices.Contains(names(page), "ns/"+name) {
					t.Errorf("list at %d misses %s written at %d", page.Revision, name, rev)
				}
			}
		})
	}
	group.Wait()
}

// testListPagesUnderWrites: the pages of a list are one state, whatever is
// written and deleted between them.
func testListPagesUnderWrites(t *testing.T, s *Store) {
	const objects = 40
	for i := range objects {
		mustCreate(t, s, key(fmt.Sprintf("ns-%d", i%3), fmt.Sprintf("object-%02d", i)), 0)
	}
	ctx, stop := context.WithCancel(context.Background())
	var group sync.WaitGroup
	defer group.Wait()
	defer stop()
	for writer := range 3 {
		random := rand.New(rand.NewPCG(1, uint64(writer)))
		group.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				i := random.IntN(objects)
				k := key(fmt.Sprintf("ns-%d", i%3), fmt.Sprintf("object-%02d", i))
				// refusals are expected: the others write the same objects
				if random.IntN(2) == 0 {
					_, _ = s.Delete(ctx, k, 0)
				} else {
					_, _ = s.Create(ctx, k, object(k.Name, n))
				}
			}
		})
	}
	for range 20 {
		whole := mustList(t, s, Selection{Resource: things, Limit: 7})
		got := whole.Entries
		left := whole.Remaining
		for page := whole; page.Continue != ""; {
			page = mustList(t, s, Selection{Resource: things, Limit: 7, Continue: page.Continue})
			if page.Revision != whole.Revision {
				t.Fatalf("page at %d of a list at %d", page.Revision, whole.Revision)
			}
			got = append(got, page.Entries...)
		}
		if want := int64(len(got)-len(whole.Entries)) - left; want != 0 {
			t.Errorf("the first page said %d remain, there were %d more", left, want)
		}
		sorted := slices.IsSortedFunc(got, func(a, b Entry) int {
			if a.Key.Namespace != b.Key.Namespace {
				return cmpString(a.Key.Namespace, b.Key.Namespace)
			}
			return cmpString(a.Key.Name, b.Key.Name)
		})
		if !sorted {
			t.Error("pages are not in order")
		}
		for _, e := range got {
			if e.Revision > whole.Revision {
				t.Errorf("%s@%d on a page at %d", e.Key, e.Revision, whole.Revision)
			}
		}
		// The same state as a whole, if it is still kept.
		exact, err := s.List(timeout(t), Selection{Resource: things, MinRevision: whole.Revision, Exact: true})
		if errors.Is(err, ErrExpired) && whole.Continue == "" {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(exact.Entries, got); d != "" {
			t.Fatalf("the pages are not the state at %d:\n%s", whole.Revision, d)
		}
	}
}

func cmpString(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// testListRare: a selector that few objects match gives full pages, and none
// after the last match that is empty and yet promises more for ever.
func testListRare(t *testing.T, s *Store) {
	var writes []Write
	for i := range 300 {
		app := "common"
		if i == 123 || i == 299 {
			app = "rare"
		}
		name := fmt.Sprintf("object-%03d", i)
		writes = append(writes, Write{Key: key("ns", name), Data: object(name, i, "app", app)})
	}
	if _, err := s.Batch(timeout(t), writes); err != nil {
		t.Fatal(err)
	}
	sel := Selection{Resource: things, Labels: labels.SelectorFromSet(labels.Set{"app": "rare"}), Limit: 1}
	var got []string
	pages := 0
	for {
		page := mustList(t, s, sel)
		got = append(got, names(page)...)
		if pages++; page.Continue == "" || pages > 5 {
			break
		}
		sel.Continue = page.Continue
	}
	if d := cmp.Diff([]string{"ns/object-123", "ns/object-299"}, got); d != "" || pages > 3 {
		t.Errorf("%d pages: %s", pages, d)
	}
}

// testKeys: no name is a prefix of another's path, and no character in a name
// leads out of its namespace or resource.
func testKeys(t *testing.T, s *Store) {
	keys := []Key{
		{Resource: "things.example.io", Namespace: "a", Name: "b"},
		{Resource: "things.example.io", Namespace: "a", Name: "b.c"},
		{Resource: "things.example.io", Namespace: "a", Name: "b:c"},
		{Resource: "things.example.io", Namespace: "a", Name: "system:x/y"},
		{Resource: "things.example.io", Namespace: "a", Name: "b=2Ec"},
		{Resource: "things.example.io", Namespace: "a", Name: "*"},
		{Resource: "things.example.io", Namespace: "a", Name: ">"},
		{Resource: "things.example.io", Namespace: "a", Name: "_"},
		{Resource: "things.example.io", Namespace: "a", Name: " b"},
		{Resource: "things.example.io", Namespace: "a", Name: "ünï"},
		{Resource: "things.example.io", Namespace: "a-b", Name: "c"},
		{Resource: "things.example.io", Namespace: "ab", Name: "b"},
		{Resource: "things.example.io", Namespace: "a.b", Name: "c"},
		{Resource: "things.example.io", Namespace: "", Name: "a.b"},
		{Resource: "things.example.io", Namespace: "", Name: "a"},
		{Resource: "things.example", Namespace: "io", Name: "a"},
		{Resource: "things", Namespace: "example", Name: "io"},
		{Resource: "things", Namespace: "", Name: "example.io"},
	}
	revisions := map[Key]uint64{}
	for i, k := range keys {
		revisions[k] = mustCreate(t, s, k, i)
	}
	for i, k := range keys {
		e, err := s.Get(timeout(t), k)
		if err != nil || e.Revision != revisions[k] || valueOf(t, e) != i {
			t.Errorf("get %q = %d, %v", k, e.Revision, err)
		}
		page := mustList(t, s, Selection{Resource: k.Resource, Namespace: k.Namespace})
		want := 0
		for _, other := range keys {
			if other.Resource == k.Resource && (k.Namespace == "" || other.Namespace == k.Namespace) {
				want++
			}
		}
		if len(page.Entries) != want {
			t.Errorf("list of %q in %q: %v, want %d", k.Resource, k.Namespace, names(page), want)
		}
	}
	// Deleting one leaves the others.
	mustDelete(t, s, keys[0], revisions[keys[0]])
	for _, k := range keys[1:] {
		if _, err := s.Get(timeout(t), k); err != nil {
			t.Errorf("after a deletion: %v", err)
		}
	}
	for _, k := range []Key{{}, {Resource: "things"}, {Name: "a"}, {Namespace: "a", Name: "b"}} {
		_, err := s.Create(timeout(t), k, object("a", 1))
		wantErr(t, err, ErrInvalid)
		_, err = s.Get(timeout(t), k)
		wantErr(t, err, ErrInvalid)
		_, err = s.Delete(timeout(t), k, 0)
		wantErr(t, err, ErrInvalid)
	}
}

// testDeleteStale: a deletion that names a revision removes only that state, also
// of an object that was made anew.
func testDeleteStale(t *testing.T, s *Store) {
	k := key("ns", "a")
	first := mustCreate(t, s, k, 1)
	mustDelete(t, s, k, first)
	again := mustCreate(t, s, k, 2)
	_, err := s.Delete(timeout(t), k, first)
	wantErr(t, err, ErrConflict)
	if e, err := s.Get(timeout(t), k); err != nil || e.Revision != again {
		t.Errorf("get = %d, %v, want %d", e.Revision, err, again)
	}
	_, err = s.Delete(timeout(t), k, again+1000)
	wantErr(t, err, ErrConflict)
	mustDelete(t, s, k, again)
	_, err = s.Delete(timeout(t), k, again)
	wantErr(t, err, ErrNotFound)
}

// testConcurrentCreates: of many who create one object one succeeds, and of many
// who delete it too.
func testConcurrentCreates(t *testing.T, s *Store) {
	k := key("ns", "a")
	for round := range 5 {
		for _, do := range []func() error{
			func() error { _, err := s.Create(context.Background(), k, object(k.Name, round)); return err },
			func() error { _, err := s.Delete(context.Background(), k, 0); return err },
		} {
			var group sync.WaitGroup
			var mu sync.Mutex
			won := 0
			for range 20 {
				group.Go(func() {
					err := do()
					mu.Lock()
					defer mu.Unlock()
					if err == nil {
						won++
					} else if !errors.Is(err, ErrExists) && !errors.Is(err, ErrNotFound) {
						t.Error(err)
					}
				})
			}
			group.Wait()
			if won != 1 {
				t.Errorf("%d of 20 succeeded", won)
			}
		}
	}
}

// testStats: the figures are those of what is there.
func testStats(t *testing.T, s *Store) {
	before := s.Stats()
	rev := seen(t, s, mustCreate(t, s, key("ns", "a"), 1))
	seen(t, s, mustCreate(t, s, key("ns", "b"), 1))
	rev = seen(t, s, mustUpdate(t, s, key("ns", "a"), 1000, rev))
	mustDelete(t, s, key("ns", "b"), 0)
	page := mustList(t, s, Selection{Resource: things})
	after := s.Stats()
	size := int64(0)
	for _, e := range page.Entries {
		size += int64(len(e.Data))
	}
	if after.Objects != 1 || after.Bytes != size || after.Revision != s.Revision() {
		t.Errorf("%d objects of %d bytes at %d, want 1 of %d at %d", after.Objects, after.Bytes, after.Revision, size, s.Revision())
	}
	commits := uint64(0)
	for i := range after.Commits.Counts {
		commits += after.Commits.Counts[i] - before.Commits.Counts[i]
	}
	if commits != 4 || after.Kept != 4 {
		t.Errorf("%d commits, %d changes kept, want 4 and 4", commits, after.Kept)
	}
	_, err := s.Update(timeout(t), key("ns", "a"), object("a", 3), rev-1)
	wantErr(t, err, ErrConflict)
	if got := s.Stats().Refused - before.Refused; got != 1 {
		t.Errorf("%d refused, want 1", got)
	}
}

// testListPrefix: names that begin with a prefix, of one namespace, in pages too.
func testListPrefix(t *testing.T, s *Store) {
	for _, k := range []Key{
		key("a", "w-1"), key("b", "v-9"), key("b", "w"), key("b", "w-1"), key("b", "w-2"), key("b", "w-3"), key("b", "w.4"), key("c", "w-1"), key("", "w-1"),
	} {
		mustCreate(t, s, k, 0)
	}
	for _, tt := range []struct {
		namespace, prefix string
		want              []string
	}{
		{"b", "w-", []string{"b/w-1", "b/w-2", "b/w-3"}},
		{"b", "w-2", []string{"b/w-2"}},
		{"b", "x", []string{}},
		{"", "w-", []string{"/w-1"}},
	} {
		sel := Selection{Resource: things, Namespace: tt.namespace, Prefix: tt.prefix}
		if diff := cmp.Diff(tt.want, names(mustList(t, s, sel))); diff != "" {
			t.Errorf("%s %s (-want +got):\n%s", tt.namespace, tt.prefix, diff)
		}
		paged := []string{}
		for sel.Limit = 2; ; {
			page := mustList(t, s, sel)
			paged = append(paged, names(page)...)
			if sel.Continue = page.Continue; sel.Continue == "" {
				break
			}
		}
		if diff := cmp.Diff(tt.want, paged); diff != "" {
			t.Errorf("%s %s, pages (-want +got):\n%s", tt.namespace, tt.prefix, diff)
		}
	}
}
