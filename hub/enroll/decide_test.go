// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package enroll

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/shared/apis/cluster"
	"github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/shared/wire"
)

func selectAll() store.Selection { return store.Selection{} }

func TestCheckDecision(t *testing.T) {
	t.Parallel()
	key := strings.Repeat("0123456789abcdef", 4)
	for _, tt := range []struct {
		name     string
		approval fleet.Approval
		edit     func(*fleet.JoinRequest)
		field    string // empty: allowed
	}{
		{name: "whole fingerprint", approval: fleet.Approval{Decision: fleet.Approve, Fingerprint: key}},
		{name: "sixteen digits", approval: fleet.Approval{Decision: fleet.Approve, Fingerprint: key[:16]}},
		{name: "as people write it", approval: fleet.Approval{Decision: fleet.Approve, Fingerprint: " 01:23:45:67-89AB cdef "}},
		{name: "fifteen digits", approval: fleet.Approval{Decision: fleet.Approve, Fingerprint: key[:15]}, field: "spec.approval.fingerprint"},
		{name: "separators do not count", approval: fleet.Approval{Decision: fleet.Approve, Fingerprint: "0:1:2:3:4:5:6:7:"}, field: "spec.approval.fingerprint"},
		{name: "none", approval: fleet.Approval{Decision: fleet.Approve}, field: "spec.approval.fingerprint"},
		{name: "another key", approval: fleet.Approval{Decision: fleet.Approve, Fingerprint: strings.Repeat("f", 64)}, field: "spec.approval.fingerprint"},
		{name: "the middle of it", approval: fleet.Approval{Decision: fleet.Approve, Fingerprint: key[1:30]}, field: "spec.approval.fingerprint"},
		{name: "longer", approval: fleet.Approval{Decision: fleet.Approve, Fingerprint: key + "0"}, field: "spec.approval.fingerprint"},
		{name: "deny needs none", approval: fleet.Approval{Decision: fleet.Deny}},
		{name: "no decision", approval: fleet.Approval{Fingerprint: key}, field: "spec.approval.decision"},
		{name: "unknown decision", approval: fleet.Approval{Decision: "approve", Fingerprint: key}, field: "spec.approval.decision"},
		{
			name: "name in use", approval: fleet.Approval{Decision: fleet.Approve, Fingerprint: key},
			edit: func(jr *fleet.JoinRequest) { jr.Spec.Rejoin = true }, field: "spec.approval.replace",
		},
		{
			name: "name in use, replace", approval: fleet.Approval{Decision: fleet.Approve, Fingerprint: key, Replace: true},
			edit: func(jr *fleet.JoinRequest) { jr.Spec.Rejoin = true },
		},
		{
			name: "name in use, deny", approval: fleet.Approval{Decision: fleet.Deny},
			edit: func(jr *fleet.JoinRequest) { jr.Spec.Rejoin = true },
		},
		{
			name: "decided", approval: fleet.Approval{Decision: fleet.Deny},
			edit: func(jr *fleet.JoinRequest) { jr.Spec.Approval = &fleet.Approval{Decision: fleet.Approve} }, field: "spec.approval",
		},
		{
			name: "expired", approval: fleet.Approval{Decision: fleet.Approve, Fingerprint: key},
			edit: func(jr *fleet.JoinRequest) { jr.Status.Phase = fleet.PhaseExpired }, field: "spec.approval",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			jr := &fleet.JoinRequest{
				Spec:   fleet.JoinRequestSpec{ClusterName: "shop-1", Fingerprint: key},
				Status: fleet.JoinRequestStatus{Phase: fleet.PhasePending},
			}
			if tt.edit != nil {
				tt.edit(jr)
			}
			got := ""
			if err := CheckDecision(jr, &tt.approval); err != nil {
				got = err.Field
			}
			if got != tt.field {
				t.Errorf("refused for %q, want %q", got, tt.field)
			}
		})
	}
}

// TestApproveResumes stops the approval at every step and goes on.
func TestApproveResumes(t *testing.T) {
	t.Parallel()
	for _, stop := range []string{"before signing", "after signing", "after admission", "at the end"} {
		t.Run(stop, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			ctx := timeout(t)
			a := r.agent()
			_, st, _ := a.join(r.token(nil), "shop-1")
			jr := r.approve(st.ID, fleet.Approval{})
			switch stop {
			case "before signing":
				r.ca.fail(func(a *authority) { a.sign = errors.New("no CA now") })
				if err := r.e.decide(ctx, jr); err == nil {
					t.Fatal("signed without a CA")
				}
				r.ca.fail(func(a *authority) { a.sign = nil })
			case "after signing", "after admission":
				if _, err := r.e.issue(ctx, jr, nil); err != nil {
					t.Fatal(err)
				}
				if stop == "after admission" {
					if err := r.e.admitCluster(ctx, jr); err != nil {
						t.Fatal(err)
					}
				}
			case "at the end":
				if err := r.e.decide(ctx, jr); err != nil {
					t.Fatal(err)
				}
			}
			before, err := r.e.identities.Get(ctx, "", "shop-1")
			if err != nil && stop != "before signing" {
				t.Fatal(err)
			}
			a.collect(st.ID)
			after := r.identity("shop-1")
			if before != nil && before.Status.Serial != after.Status.Serial {
				t.Error("going on made a second certificate")
			}
			if got := a.reason(); got != "" {
				t.Errorf("refused: %s", got)
			}
			mc, err := r.e.clusters.Get(ctx, "", "shop-1")
			if err != nil || !mc.Spec.HubAcceptsClient || !meta.IsStatusConditionTrue(mc.Status.Conditions, cluster.ConditionJoined) {
				t.Errorf("cluster %+v, %v", mc, err)
			}
			if err := r.e.decide(ctx, jr); err != nil {
				t.Error(err)
			}
			if again := r.identity("shop-1"); again.ResourceVersion != after.ResourceVersion {
				t.Error("deciding twice wrote twice")
			}
		})
	}
}

// TestReplace: a name in use needs replace, and the old certificate is dead
// before the new one exists.
func TestReplace(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	ctx := timeout(t)
	old := r.agent()
	old.mustJoin("shop-1", fleet.Approval{})
	anew := r.agent()
	_, st, _ := anew.join(r.token(nil), "shop-1")
	jr, err := r.e.requests.Get(ctx, "", st.ID)
	if err != nil || !jr.Spec.Rejoin {
		t.Fatalf("%+v, %v: want rejoin", jr, err)
	}
	if err := CheckDecision(jr, &fleet.Approval{Decision: fleet.Approve, Fingerprint: anew.fingerprint()}); err == nil {
		t.Error("approved without replace")
	}
	jr = r.approve(st.ID, fleet.Approval{Replace: true})
	// The CA fails between revocation and signing.
	r.ca.fail(func(a *authority) { a.sign = errors.New("no CA now") })
	if err := r.e.decide(ctx, jr); err == nil {
		t.Fatal("signed without a CA")
	}
	if got := old.reason(); got != wire.ReasonRevoked {
		t.Errorf("old agent before the new certificate: %q, want %q", got, wire.ReasonRevoked)
	}
	r.ca.fail(func(a *authority) { a.sign = nil })
	anew.collect(st.ID)
	if got := anew.reason(); got != "" {
		t.Errorf("new agent: %s", got)
	}
	if got := old.reason(); got != wire.ReasonSuperseded {
		t.Errorf("old agent: %q, want %q", got, wire.ReasonSuperseded)
	}
	if !r.wasClosed("shop-1: replaced: the cluster was enrolled anew") {
		t.Errorf("sessions closed: %q", r.closed)
	}
	if code, ref := old.do(http.MethodPost, wire.PathRenew, wire.RenewRequest{CSR: old.csr("shop-1")}, nil); code != http.StatusUnauthorized {
		t.Errorf("the old agent renewed: %d %+v", code, ref)
	}
}

// TestRaceForAName: two pending requests for one new name, both approved.
func TestRaceForAName(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	ctx := timeout(t)
	first, second := r.agent(), r.agent()
	_, a, _ := first.join(r.token(nil), "shop-1")
	_, b, _ := second.join(r.token(nil), "shop-1")
	r.approve(a.ID, fleet.Approval{})
	r.approve(b.ID, fleet.Approval{})
	first.collect(a.ID)
	jr, _ := r.e.requests.Get(ctx, "", b.ID)
	if err := r.e.decide(ctx, jr); err != nil {
		t.Fatal(err)
	}
	var st wire.JoinState
	second.do(http.MethodGet, wire.PathJoin+"/"+b.ID, nil, &st)
	if st.State != wire.JoinDenied || !strings.Contains(st.Message, "meanwhile") {
		t.Errorf("second: %+v", st)
	}
	if got := first.reason(); got != "" {
		t.Errorf("first: %s", got)
	}
}

func TestAutoApprove(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	auto := func(t *fleet.JoinToken) { t.Spec.AutoApprove, t.Spec.ClusterName, t.Spec.Uses = true, "shop-1", 3 }
	token := r.token(auto)
	a := r.agent()
	_, st, _ := a.join(token, "shop-1")
	a.collect(st.ID)
	if got := a.reason(); got != "" {
		t.Errorf("refused: %s", got)
	}
	b := r.agent()
	_, st, _ = b.join(token, "shop-1")
	jr, err := r.e.requests.Get(timeout(t), "", st.ID)
	if err != nil || jr.Spec.Approval != nil || !jr.Spec.Rejoin {
		t.Errorf("a name in use was approved by a token: %+v, %v", jr, err)
	}
	if code, _, _ := r.agent().join(token, "shop-2"); code != http.StatusForbidden {
		t.Errorf("another name: %d", code)
	}
	unbound := r.token(func(t *fleet.JoinToken) { t.Spec.AutoApprove = true })
	_, st, _ = r.agent().join(unbound, "shop-3")
	if jr, err := r.e.requests.Get(timeout(t), "", st.ID); err != nil || jr.Spec.Approval != nil {
		t.Errorf("a token without a name approved: %+v, %v", jr, err)
	}
}

// TestRun: the loops act on decisions, one bad object does not hold up others,
// a removed cluster loses its identity, a revoked one its access.
func TestRun(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	ctx := timeout(t)
	// The name of this one sorts first, and it can never be signed.
	bad := &fleet.JoinRequest{
		ObjectMeta: metav1.ObjectMeta{Name: "aaa"},
		Spec:       fleet.JoinRequestSpec{ClusterName: "bad", CSR: "none", Approval: &fleet.Approval{Decision: fleet.Approve}},
		Status:     fleet.JoinRequestStatus{Phase: fleet.PhasePending},
	}
	if _, err := r.e.requests.Create(ctx, bad); err != nil {
		t.Fatal(err)
	}
	running(t, r.e.Run)
	agents := map[string]*agent{}
	for _, name := range []string{"one", "two", "three"} {
		a := r.agent()
		_, st, ref := a.join(r.token(nil), name)
		if st.ID == "" {
			t.Fatalf("join %s: %+v", name, ref)
		}
		r.approve(st.ID, fleet.Approval{})
		until(t, name+" joined", func() bool {
			a.do(http.MethodGet, wire.PathJoin+"/"+st.ID, nil, &st)
			return st.State == wire.JoinApproved
		})
		a.show(st.Chain)
		agents[name] = a
	}
	denied := r.agent()
	_, st, _ := denied.join(r.token(nil), "four")
	if _, err := r.e.requests.Update(ctx, "", st.ID, func(jr *fleet.JoinRequest) error {
		jr.Spec.Approval = &fleet.Approval{Decision: fleet.Deny, Reason: "who are you?"}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	until(t, "denied", func() bool {
		denied.do(http.MethodGet, wire.PathJoin+"/"+st.ID, nil, &st)
		return st.State == wire.JoinDenied && st.Message == "who are you?"
	})

	if err := r.e.clusters.Delete(ctx, "", "one"); err != nil {
		t.Fatal(err)
	}
	until(t, "one removed", func() bool {
		_, err := r.e.identities.Get(ctx, "", "one")
		return errors.Is(err, store.ErrNotFound) && r.wasClosed("one: removed: the cluster was removed from the hub")
	})
	if got := agents["one"].reason(); got != wire.ReasonRemoved {
		t.Errorf("removed agent: %q", got)
	}
	if yes, err := r.ca.Revoked(ctx, agents["one"].serial()); !yes || err != nil {
		t.Errorf("certificate of a removed cluster: revoked = %v, %v", yes, err)
	}

	if _, err := r.e.identities.Update(ctx, "", "two", func(id *fleet.AgentIdentity) error {
		id.Spec = fleet.AgentIdentitySpec{Revoked: true, Reason: "stolen"}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if got := agents["two"].reason(); got != wire.ReasonRevoked {
		t.Errorf("revoked agent, before the loop acts: %q", got)
	}
	until(t, "two closed", func() bool { return r.wasClosed("two: revoked: stolen") })
	until(t, "two's certificate revoked", func() bool {
		yes, err := r.ca.Revoked(ctx, agents["two"].serial())
		return yes && err == nil
	})

	r.accept("three", false)
	until(t, "three closed", func() bool { return r.wasClosed("three: not-accepted: spec.hubAcceptsClient is false") })
	if got := agents["three"].reason(); got != wire.ReasonNotAccepted {
		t.Errorf("agent that is not accepted: %q", got)
	}
	until(t, "condition says denied", func() bool { return r.accepted("three") == metav1.ConditionFalse })
	r.accept("three", true)
	until(t, "condition says accepted", func() bool { return r.accepted("three") == metav1.ConditionTrue })
	if got := agents["three"].reason(); got != "" {
		t.Errorf("accepted again: %q", got)
	}
}

func (r *rig) accept(name string, yes bool) {
	r.t.Helper()
	if _, err := r.e.clusters.Update(timeout(r.t), "", name, func(mc *cluster.ManagedCluster) error {
		mc.Spec.HubAcceptsClient = yes
		return nil
	}); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) accepted(name string) metav1.ConditionStatus {
	mc, err := r.e.clusters.Get(timeout(r.t), "", name)
	if err != nil {
		r.t.Fatal(err)
	}
	c := meta.FindStatusCondition(mc.Status.Conditions, cluster.ConditionHubAccepted)
	if c == nil {
		return ""
	}
	return c.Status
}

// TestExpire: undecided requests end, old ones and dead tokens go, and an
// identity whose cluster is gone goes with it.
func TestExpire(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	ctx := timeout(t)
	a, b := r.agent(), r.agent()
	_, waiting, _ := a.join(r.token(nil), "one")
	_, approved, _ := b.join(r.token(nil), "two")
	r.approve(approved.ID, fleet.Approval{})
	phase := func(id string) string {
		jr, err := r.e.requests.Get(ctx, "", id)
		if errors.Is(err, store.ErrNotFound) {
			return "gone"
		}
		if err != nil {
			t.Fatal(err)
		}
		return jr.Status.Phase
	}
	expire := func(after time.Duration) {
		t.Helper()
		if err := r.e.expire(ctx, time.Now().Add(after)); err != nil {
			t.Fatal(err)
		}
	}
	expire(pendingLifetime - time.Minute)
	if got := phase(waiting.ID); got != fleet.PhasePending {
		t.Errorf("too soon: %s", got)
	}
	expire(pendingLifetime + time.Minute)
	if got := phase(waiting.ID); got != fleet.PhaseExpired {
		t.Errorf("after its time: %s", got)
	}
	if got := phase(approved.ID); got != fleet.PhasePending {
		t.Errorf("an approved request must not expire: %s", got)
	}
	var st wire.JoinState
	if a.do(http.MethodGet, wire.PathJoin+"/"+waiting.ID, nil, &st); st.State != wire.JoinDenied {
		t.Errorf("poll of an expired request: %+v", st)
	}
	b.collect(approved.ID)
	expire(keepDecided + 2*time.Hour)
	if phase(waiting.ID) != "gone" || phase(approved.ID) != "gone" {
		t.Errorf("old requests stay: %s, %s", phase(waiting.ID), phase(approved.ID))
	}
	if left, _, err := r.e.tokens.List(ctx, selectAll()); err != nil || len(left) != 0 {
		t.Errorf("%d dead tokens stay, %v", len(left), err)
	}
	if got := b.reason(); got != "" {
		t.Errorf("the agent must not mind that its request is gone: %s", got)
	}
	// The hub died between the removal of the cluster and that of its identity.
	if err := r.e.clusters.Delete(ctx, "", "two"); err != nil {
		t.Fatal(err)
	}
	until(t, "cache is without the cluster", func() bool {
		_, ok := r.store.Cached(store.Key{Resource: cluster.Resource, Name: "two"})
		return !ok
	})
	expire(0)
	if _, err := r.e.identities.Get(ctx, "", "two"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("identity without a cluster: %v", err)
	}
}

func TestPendingCap(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	ctx := timeout(t)
	token := r.token(func(t *fleet.JoinToken) { t.Spec.Uses = 10 })
	early := r.agent()
	_, first, _ := early.join(token, "early")
	writes := make([]store.Write, maxPending-1)
	for i := range writes {
		name := fmt.Sprintf("filler-%d", i)
		writes[i] = store.Write{
			Key:  store.Key{Resource: fleet.ResourceJoinRequests, Name: name},
			Data: fmt.Appendf(nil, `{"metadata":{"name":%q,"uid":%q},"spec":{},"status":{"phase":"Pending"}}`, name, name),
		}
	}
	if _, err := r.store.Batch(ctx, writes); err != nil {
		t.Fatal(err)
	}
	late := r.agent()
	code, _, ref := late.join(token, "late")
	if code != http.StatusTooManyRequests || ref.Reason != wire.ReasonBusy {
		t.Errorf("over the cap: %d %+v", code, ref)
	}
	if code, st, _ := early.join(token, "early"); code != http.StatusAccepted || st.ID != first.ID {
		t.Errorf("a key that waits already asks again: %d", code)
	}
	guess := token
	guess.Secret = strings.Repeat("x", 43)
	if code, _, _ := late.join(guess, "late"); code != http.StatusForbidden {
		t.Errorf("without the secret nothing is learned of the cap: %d", code)
	}
	if err := r.e.requests.Delete(ctx, "", "filler-0"); err != nil {
		t.Fatal(err)
	}
	if code, _, ref := late.join(token, "late"); code != http.StatusAccepted {
		t.Errorf("below the cap: %d %+v", code, ref)
	}
}

// TestFollowRetries: what failed is tried again, without a new change.
func TestFollowRetries(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	ctx, cancel := context.WithCancel(timeout(t))
	defer cancel()
	for _, name := range []string{"a", "b"} {
		if _, err := r.e.requests.Create(ctx, &fleet.JoinRequest{ObjectMeta: metav1.ObjectMeta{Name: name}}); err != nil {
			t.Fatal(err)
		}
	}
	var seen []string
	err := r.e.follow(ctx, fleet.ResourceJoinRequests, func(_ context.Context, ev store.Event) error {
		seen = append(seen, ev.Entry.Key.Name)
		if len(seen) == 4 {
			cancel()
		}
		if ev.Entry.Key.Name == "a" {
			return errors.New("not now")
		}
		return nil
	})
	if !errors.Is(err, context.Canceled) || !slices.Equal(seen, []string{"a", "b", "a", "b"}) {
		t.Errorf("acted on %q, %v", seen, err)
	}
}
