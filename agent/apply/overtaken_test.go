// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package apply_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/drover-io/drover/shared/apis/work"
	"github.com/drover-io/drover/shared/wire"
)

// roundTrip is a transport made of a function.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// before runs do once, ahead of the first request of that method for a path with
// that end, of an engine that is started later.
func (r *rig) before(method, path string, do func()) {
	var ran atomic.Bool
	r.cfg.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTrip(func(req *http.Request) (*http.Response, error) {
			if req.Method == method && strings.HasSuffix(req.URL.Path, path) && ran.CompareAndSwap(false, true) {
				do()
			}
			return next.RoundTrip(req)
		})
	})
}

// What somebody else makes between the engine's look and its apply is theirs, in
// place of nothing or of what was ours, and wherever the engine dies meanwhile.
func TestMadeBetweenLookAndApply(t *testing.T) {
	t.Parallel()
	shared.Cluster(t)
	for _, replaced := range []bool{false, true} {
		for killAt := range 14 { // 0 does not kill
			t.Run(fmt.Sprintf("replaced=%v/%d", replaced, killAt), func(t *testing.T) {
				t.Parallel()
				r := newRig(t, fmt.Sprintf("made-%v-%d", replaced, killAt))
				item := r.item("work", 1, "", configMap(r.ns, "theirs", "1"), configMap(r.ns, "own", "1"))
				if replaced {
					r.start()
					r.engine.Sync([]wire.Item{item})
					r.awaitCurrent(item)
					r.stop()
					item = r.item("work", 2, "", configMap(r.ns, "theirs", "2"), configMap(r.ns, "own", "2"))
				}
				var theirs types.UID
				r.before(http.MethodPatch, "/configmaps/theirs", func() {
					if replaced {
						_ = r.live.Resource(configMaps).Namespace(r.ns).Delete(context.Background(), "theirs", metav1.DeleteOptions{})
					}
					theirs = r.create(configMaps, r.ns, configMap("", "theirs", "theirs")).GetUID()
				})
				r.mu.Lock()
				r.events, r.killAt = 0, killAt
				r.mu.Unlock()
				r.start()
				r.engine.Sync([]wire.Item{item})
				r.awaitHealthyOrDead(item)
				r.stop()
				r.mu.Lock()
				r.killAt = 0
				r.mu.Unlock()

				r.start()
				r.engine.Sync([]wire.Item{item})
				r.awaitCurrent(item)
				item.Deleting = true
				r.engine.Sync([]wire.Item{item})
				r.awaitDeleted(item)
				if live := r.get(configMaps, r.ns, "theirs"); live == nil || live.GetUID() != theirs {
					t.Errorf("theirs is %v, want it kept, uid %s", live, theirs)
				}
				if live := r.get(configMaps, r.ns, "own"); live != nil {
					t.Errorf("own is still there: %v", live)
				}
			})
		}
	}
}

// The adoption policy holds for what appears after the engine's look.
func TestNeverAdoptsWhatAppears(t *testing.T) {
	t.Parallel()
	r := newRig(t, "appears")
	r.before(http.MethodPatch, "/configmaps/theirs", func() { r.create(configMaps, r.ns, configMap("", "theirs", "theirs")) })
	r.start()
	item := r.item("work", 1, "", configMap(r.ns, "theirs", "ours"))
	item.Policy.Adoption = wire.AdoptNever
	r.engine.Sync([]wire.Item{item})
	if got := r.awaitOutcome(item); got.ApplyReason != wire.ApplyNotAdopted {
		t.Errorf("got %+v", got)
	}
	if got := level(r.get(configMaps, r.ns, "theirs")); got != "theirs" {
		t.Errorf("written although refused: %s", got)
	}
}

// So it does for an object whose kind comes with the same work, at which nobody
// could look before.
func TestNeverAdoptsOfNewKind(t *testing.T) {
	t.Parallel()
	r := newRig(t, "new-kind")
	gadgets := schema.GroupVersionResource{Group: "gadgets.example.com", Version: "v1", Resource: "gadgets"}
	crd := `{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","metadata":{"name":"gadgets.gadgets.example.com"},
		"spec":{"group":"gadgets.example.com","scope":"Namespaced","names":{"kind":"Gadget","plural":"gadgets"},"versions":[{"name":"v1",
		"served":true,"storage":true,"schema":{"openAPIV3Schema":{"type":"object","x-kubernetes-preserve-unknown-fields":true}}}]}}`
	gadget := func(level string) string {
		return fmt.Sprintf(`{"apiVersion":"gadgets.example.com/v1","kind":"Gadget","metadata":{"name":"theirs","namespace":%q},"data":{"level":%q}}`, r.ns, level)
	}
	r.before(http.MethodGet, "/gadgets/theirs", func() { r.create(gadgets, r.ns, gadget("theirs")) })
	r.start()
	item := r.item("work", 1, "", crd, gadget("ours"))
	item.Policy.Adoption = wire.AdoptNever
	r.engine.Sync([]wire.Item{item})
	report := r.await(item, "refusal", func(report wire.Report) bool {
		return len(report.Manifests) == 2 && report.Manifests[1].ApplyReason == wire.ApplyNotAdopted
	})
	if got := level(r.get(gadgets, r.ns, "theirs")); got != "theirs" || !report.Manifests[0].Applied {
		t.Errorf("level %s, report %+v", got, report)
	}
}

// An object whose manifest says nothing but a name is known again as ours by an
// engine that was killed when it made it.
func TestKilledWhileMakingBlank(t *testing.T) {
	t.Parallel()
	shared.Cluster(t)
	accounts := schema.GroupVersionResource{Version: "v1", Resource: "serviceaccounts"}
	for killAt := 1; killAt <= 6; killAt++ {
		t.Run(fmt.Sprint(killAt), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, fmt.Sprint("blank-", killAt))
			blank := fmt.Sprintf(`{"apiVersion":"v1","kind":"ServiceAccount","metadata":{"name":"blank","namespace":%q}}`, r.ns)
			item := r.item("work", 1, "", blank, configMap(r.ns, "own", "1"))
			r.killAt = killAt
			r.start()
			r.engine.Sync([]wire.Item{item})
			r.awaitHealthyOrDead(item)
			r.stop()
			r.mu.Lock()
			r.killAt = 0
			r.mu.Unlock()
			r.start()
			r.engine.Sync([]wire.Item{item})
			r.awaitCurrent(item)
			if live := r.get(accounts, r.ns, "blank"); live == nil || live.GetAnnotations()[work.AnnotationMadeBy] != "drover" {
				t.Errorf("got %v", live)
			}
			item.Deleting = true
			r.engine.Sync([]wire.Item{item})
			r.awaitDeleted(item)
			if live := r.get(accounts, r.ns, "blank"); live != nil {
				t.Errorf("left behind: %v", live)
			}
		})
	}
}

// A blank object of somebody else's has no difference and gets no mark.
func TestAdoptsBlankWithoutMark(t *testing.T) {
	t.Parallel()
	r := newRig(t, "blank-theirs")
	accounts := schema.GroupVersionResource{Version: "v1", Resource: "serviceaccounts"}
	blank := fmt.Sprintf(`{"apiVersion":"v1","kind":"ServiceAccount","metadata":{"name":"blank","namespace":%q}}`, r.ns)
	r.create(accounts, r.ns, blank)
	r.start()
	item := r.item("work", 1, "", blank)
	item.Policy.Adoption = wire.AdoptIfNoDiff
	r.engine.Sync([]wire.Item{item})
	r.awaitCurrent(item)
	if live := r.get(accounts, r.ns, "blank"); live == nil || len(live.GetAnnotations()) > 0 {
		t.Errorf("got %v", live)
	}
}

// A server that takes no resource version for what it creates is told by its
// answer whose the object is.
func TestServerWithoutPrecondition(t *testing.T) {
	t.Parallel()
	r := newRig(t, "no-version")
	refused := make(chan struct{}, 16)
	r.cfg.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTrip(func(req *http.Request) (*http.Response, error) {
			if req.Method != http.MethodPatch {
				return next.RoundTrip(req)
			}
			body, err := io.ReadAll(req.Body)
			if err != nil {
				return nil, err
			}
			if !bytes.Contains(body, []byte("resourceVersion")) {
				req = req.Clone(req.Context())
				req.Body = io.NopCloser(bytes.NewReader(body))
				return next.RoundTrip(req)
			}
			refused <- struct{}{}
			answer := apierrors.NewInternalError(fmt.Errorf("resourceVersion should not be set on objects to be created")).Status()
			return jsonResponse(req, int(answer.Code), fmt.Sprintf(`{"kind":"Status","apiVersion":"v1","status":"Failure","reason":%q,"message":%q,"code":500}`, answer.Reason, answer.Message)), nil
		})
	})
	r.start()
	item := r.item("work", 1, "", configMap(r.ns, "own", "1"))
	r.engine.Sync([]wire.Item{item})
	r.awaitCurrent(item)
	select {
	case <-refused:
	default:
		t.Error("the object was not to be created alone")
	}
	item.Deleting = true
	r.engine.Sync([]wire.Item{item})
	r.awaitDeleted(item)
	if r.get(configMaps, r.ns, "own") != nil {
		t.Error("own is still there")
	}
}

func jsonResponse(req *http.Request, code int, body string) *http.Response {
	return &http.Response{
		Request: req, StatusCode: code, Status: http.StatusText(code), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Content-Type": {"application/json"}, "Date": {time.Now().Format(http.TimeFormat)}},
		Body:   io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)),
	}
}

// An object that ends and appears again before anybody saw it missing is
// repaired at once: after some reports the next look waits a little.
func TestReplacedUnseen(t *testing.T) {
	t.Parallel()
	r := newRig(t, "replaced")
	r.start()
	item := r.item("work", 1, "", configMap(r.ns, "a", "ours"))
	r.engine.Sync([]wire.Item{item})
	r.awaitCurrent(item)
	r.await(item, "settled", func(wire.Report) bool { return r.lastGood(item) })
	heal := func() {
		t.Helper()
		for began := time.Now(); level(r.get(configMaps, r.ns, "a")) != "ours"; time.Sleep(5 * time.Millisecond) {
			if time.Since(began) > patience {
				t.Fatal("it stays as somebody else made it")
			}
		}
	}
	for range 2 {
		r.edit(configMaps, "a", `{"data":{"level":"theirs"}}`)
		heal()
	}
	if err := r.live.Resource(configMaps).Namespace(r.ns).Delete(context.Background(), "a", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	r.create(configMaps, r.ns, configMap("", "a", "theirs"))
	heal()
}

// lastGood says that the record has the item's content as seen well.
func (r *rig) lastGood(item wire.Item) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return bytes.Contains(r.records[item.UID], []byte(`"lastGood":"`+item.Digest))
}

// What the adoption policy refuses is applied as soon as the object in its way is
// gone.
func TestAppliesWhenTheWayIsFree(t *testing.T) {
	t.Parallel()
	r := newRig(t, "way-free")
	r.create(configMaps, r.ns, configMap("", "a", "theirs"))
	r.start()
	item := r.item("work", 1, "", configMap(r.ns, "a", "ours"))
	item.Policy.Adoption = wire.AdoptNever
	r.engine.Sync([]wire.Item{item})
	if got := r.awaitOutcome(item); got.ApplyReason != wire.ApplyNotAdopted {
		t.Fatalf("got %+v", got)
	}
	began := time.Now()
	if err := r.live.Resource(configMaps).Namespace(r.ns).Delete(t.Context(), "a", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	r.awaitCurrent(item)
	// A refusal alone is tried again after about 16 s.
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("took %v", took)
	}
}

// What an item gave up that somebody else had made is not ours to a policy either.
func TestNeverAdoptsWhatWasAdopted(t *testing.T) {
	t.Parallel()
	r := newRig(t, "was-adopted")
	r.create(configMaps, r.ns, configMap("", "theirs", "theirs"))
	r.start()
	first := r.item("first", 1, "", configMap(r.ns, "theirs", "first"))
	r.engine.Sync([]wire.Item{first})
	r.awaitCurrent(first)
	first.Deleting = true
	r.engine.Sync([]wire.Item{first})
	r.awaitDeleted(first)
	second := r.item("second", 1, "", configMap(r.ns, "theirs", "second"))
	second.Policy.Adoption = wire.AdoptNever
	r.engine.Sync([]wire.Item{second})
	if got := r.awaitOutcome(second); got.ApplyReason != wire.ApplyNotAdopted {
		t.Errorf("got %+v", got)
	}
	if got := level(r.get(configMaps, r.ns, "theirs")); got != "first" {
		t.Errorf("written although refused: %s", got)
	}
}

// What differs a moment after it was found equal is not taken over.
func TestIfNoDiffHoldsAtTheWrite(t *testing.T) {
	t.Parallel()
	r := newRig(t, "same-then-not")
	r.create(configMaps, r.ns, configMap("", "theirs", "same"))
	writes := 0
	r.cfg.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTrip(func(req *http.Request) (*http.Response, error) {
			if req.Method == http.MethodPatch && req.URL.Query().Get("dryRun") == "" {
				if writes++; writes == 1 {
					r.edit(configMaps, "theirs", `{"data":{"level":"not the same"}}`)
				}
			}
			return next.RoundTrip(req)
		})
	})
	r.start()
	item := r.item("work", 1, "", configMap(r.ns, "theirs", "same"))
	item.Policy.Adoption = wire.AdoptIfNoDiff
	r.engine.Sync([]wire.Item{item})
	if got := r.awaitOutcome(item); got.ApplyReason != wire.ApplyNotAdopted {
		t.Errorf("got %+v", got)
	}
	if got := level(r.get(configMaps, r.ns, "theirs")); got != "not the same" {
		t.Errorf("written although refused: %s", got)
	}
}

// A removal of what was never applied here does not take what another item makes
// meanwhile.
func TestRemovalOfUnknownTakesNothingNew(t *testing.T) {
	t.Parallel()
	r := newRig(t, "unknown")
	removed := r.item("removed", 1, "", configMap(r.ns, "a", "removed"))
	removed.Deleting = true
	made := r.item("made", 1, "", configMap(r.ns, "a", "made"))
	var looks atomic.Int32
	r.cfg.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTrip(func(req *http.Request) (*http.Response, error) {
			// The first look judges, the second is that of the removal.
			if req.Method == http.MethodGet && strings.HasSuffix(req.URL.Path, "/configmaps/a") && looks.Add(1) == 2 {
				r.engine.Sync([]wire.Item{removed, made})
				for began := time.Now(); r.get(configMaps, r.ns, "a") == nil && time.Since(began) < time.Second; {
					time.Sleep(10 * time.Millisecond) // it is not to be made now
				}
			}
			return next.RoundTrip(req)
		})
	})
	r.start()
	r.engine.Sync([]wire.Item{removed})
	r.awaitDeleted(removed)
	r.awaitCurrent(made)
	for _, write := range r.takeWrites() {
		if strings.HasPrefix(write, http.MethodDelete) {
			t.Errorf("unwanted: %s", write)
		}
	}
	if r.get(configMaps, r.ns, "a") == nil {
		t.Error("the object is gone")
	}
}
