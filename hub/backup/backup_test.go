// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package backup

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/shared/apis/fleet"
)

func TestRestore(t *testing.T) {
	t.Parallel()
	h := start(t, t.TempDir())
	for i := range 1500 { // more than a batch
		h.create(key(fmt.Sprintf("%04d", i)), object(fmt.Sprint(i), i))
	}
	h.create(store.Key{Resource: "namespaces", Name: "a.b:c"}, []byte("{\n  \"metadata\": {\"name\": \"a.b:c\"}\n}\n"))
	gone := h.create(key("gone"), object("gone", 1))
	if _, err := h.store.Delete(timeout(t), key("gone"), gone); err != nil {
		t.Fatal(err)
	}
	h.token("jt-1")
	h.token("jt-2")
	if _, err := h.kv.Create(timeout(t), "cert.1", []byte("one\n\n"), jetstream.KeyTTL(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if _, err := h.kv.Create(timeout(t), "ott.1", nil, jetstream.KeyTTL(2*time.Second)); err != nil {
		t.Fatal(err)
	}
	saved := h.backup()
	want := h.contents()
	delete(want, "ca ott.1")
	// What comes after the backup is lost, but its revisions are not given again.
	late := h.create(key("late"), object("late", 1))
	identity := h.store.Identity()

	dir := filepath.Join(t.TempDir(), "new")
	now := time.Now().Add(time.Minute) // what lived for seconds is over
	r, err := Restore(timeout(t), file(t, saved), dir, now)
	if err != nil {
		t.Fatal(err)
	}
	if r.Tokens != 2 || r.Objects != 1503 || r.Expired == 0 {
		t.Errorf("restored %d objects, %d tokens void, %d records over", r.Objects, r.Tokens, r.Expired)
	}
	past, err := ReadRestored(dir)
	if err != nil {
		t.Fatal(err)
	}
	if d := past.AdoptUntil.Sub(past.RestoredAt); d != AdoptFor || past.RestoredAt.Sub(now).Abs() > time.Second {
		t.Errorf("restored at %s, adopts for %s", past.RestoredAt, d)
	}
	info, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o700 {
		t.Errorf("data dir has mode %v", info.Mode())
	}

	n := start(t, dir)
	got := n.contents()
	for k := range got { // what the CA made at its start: certificates of its own
		if _, ok := want[k]; !ok && (strings.HasPrefix(k, "ca cert.") || strings.HasPrefix(k, "ca ott.")) {
			delete(got, k)
		}
	}
	delete(want, "ca crl")
	delete(got, "ca crl")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("contents (-saved +restored):\n%s", diff)
	}
	if h.ca.TrustDomain() != n.ca.TrustDomain() || !bytes.Equal(h.ca.RootsPEM(), n.ca.RootsPEM()) {
		t.Error("the CA is another one")
	}
	if n.store.Identity() == identity {
		t.Error("the store's identity is the same: agents would not start over")
	}
	if rev := n.create(key("new"), object("new", 1)); rev <= late || rev < r.First {
		t.Errorf("revision %d after %d and from %d on", rev, late, r.First)
	}
	// Nobody continues from before, whether there are such objects or not.
	for _, resource := range []string{"things.example.io", "others.example.io"} {
		for _, from := range []uint64{1, r.Revision, late} {
			if w, err := n.store.Watch(timeout(t), store.WatchSelection{Resource: resource, From: from}); err == nil {
				w.Stop()
				t.Errorf("a watch of %s continues from %d", resource, from)
			}
		}
	}
	tokens, _, err := store.Of[fleet.JoinToken](n.store, fleet.ResourceJoinTokens).List(timeout(t), store.Selection{})
	if err != nil {
		t.Fatal(err)
	}
	for _, tok := range tokens {
		if !tok.Spec.Revoked {
			t.Errorf("token %s is not void", tok.Name)
		}
	}
	if len(tokens) != 2 {
		t.Errorf("%d tokens", len(tokens))
	}
	// A second restore of the same file is beyond the first one.
	if again := firstRevision(r.Manifest, now.Add(time.Minute)); again <= n.store.Revision() {
		t.Errorf("a second restore would begin at %d, the first is at %d", again, n.store.Revision())
	}
}

// TestLive: every backup taken while somebody writes is a state that existed. The
// writer moves a mark through objects, one after the other, so that at any time
// all have the same value or a prefix of them is one ahead.
func TestLive(t *testing.T) {
	t.Parallel()
	h := start(t, t.TempDir())
	const objects = 50
	revisions := make([]uint64, objects)
	for i := range revisions {
		revisions[i] = h.create(key(fmt.Sprintf("%02d", i)), object("x", 0))
	}
	ctx, cancel := context.WithCancel(timeout(t))
	written := make(chan int, 1)
	go func() {
		n := 0
		defer func() { written <- n }()
		for round := 1; ; round++ {
			for i := range revisions {
				rev, err := h.store.Update(ctx, key(fmt.Sprintf("%02d", i)), object("x", round), revisions[i])
				if err != nil {
					if ctx.Err() == nil {
						t.Error(err)
					}
					return
				}
				revisions[i] = rev
				n++
			}
		}
	}()
	for range 30 {
		var values []string
		_, err := scan(bytes.NewReader(h.backup()), func(name string, data []byte) error {
			if !strings.HasPrefix(name, objectsPrefix) {
				return nil
			}
			return records(data, func(r record) error {
				values = append(values, string(r.data))
				return nil
			})
		})
		if err != nil {
			t.Fatal(err)
		}
		if len(values) != objects {
			t.Fatalf("%d objects, want %d", len(values), objects)
		}
		steps := 0
		for i := 1; i < objects; i++ {
			if values[i] != values[i-1] {
				steps++
			}
		}
		if steps > 1 {
			t.Fatalf("not one moment: %q", values)
		}
	}
	cancel()
	if n := <-written; n == 0 {
		t.Error("nothing was written meanwhile")
	}
}

func TestSave(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	h := start(t, dir)
	h.create(key("a"), object("a", 1))
	out := filepath.Join(t.TempDir(), "hub.backup")

	// Without a socket, a hub that runs is in the way.
	_, err := Save(timeout(t), dir, out, false)
	wantError(t, err, "in use by another hub")

	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- h.source().Serve(ctx, nop()) }()
	for deadline := time.Now().Add(patience); !running(dir); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nobody listens")
		}
	}
	if st, err := os.Stat(socketPath(dir)); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v, %v", st.Mode(), err)
	}
	m, err := Save(timeout(t), dir, out, false)
	if err != nil {
		t.Fatal(err)
	}
	if m.Objects != 1 || m.TrustDomain != h.ca.TrustDomain() {
		t.Errorf("manifest %+v", m)
	}
	if st, err := os.Stat(out); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("file: %v, %v", st.Mode(), err)
	}
	_, err = Save(timeout(t), dir, out, false)
	wantError(t, err, "exists already")
	_, err = Restore(timeout(t), file(t, h.backup()), dir, time.Now().Add(time.Minute))
	wantError(t, err, "a hub runs on data dir")
	cancel()
	if err := <-served; err != context.Canceled {
		t.Error(err)
	}
	h.stop()

	if m, err = Save(timeout(t), dir, out, true); err != nil || m.Objects != 1 {
		t.Errorf("of a stopped hub: %+v, %v", m, err)
	}
	_, err = Save(timeout(t), t.TempDir(), out+"2", false)
	wantError(t, err, "there is no hub in it")
	_, err = Save(timeout(t), dir, filepath.Join(dir, "none", "x"), false)
	wantError(t, err, "no such file or directory")
	entries, err := os.ReadDir(filepath.Dir(out))
	if err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}
