// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package enroll

import (
	"context"
	"crypto/x509"
	"errors"
	"net/http"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap/zapcore"

	"github.com/drover-io/drover/pki/ca"
	"github.com/drover-io/drover/pki/identity"
	"github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/shared/wire"
)

func TestVerifyRefusals(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		change func(r *rig, a *agent)
		status int
		reason string
	}{
		{name: "good"},
		{
			name: "no certificate", status: http.StatusUnauthorized, reason: string(identity.ReasonNoCertificate),
			change: func(_ *rig, a *agent) { a.tls = nil },
		},
		{
			name: "self-signed", status: http.StatusUnauthorized, reason: string(identity.ReasonUntrusted),
			change: func(r *rig, a *agent) { a.tls = r.agent().tls },
		},
		{
			name: "a user", status: http.StatusUnauthorized, reason: string(identity.ReasonIdentity),
			change: func(r *rig, a *agent) { a.tls = r.user("shop-1") },
		},
		{
			name: "identity removed", status: http.StatusUnauthorized, reason: wire.ReasonRemoved,
			change: func(r *rig, _ *agent) { r.must(r.e.identities.Delete(timeout(r.t), "", "shop-1")) },
		},
		{
			name: "cluster removed", status: http.StatusUnauthorized, reason: wire.ReasonRemoved,
			change: func(r *rig, _ *agent) { r.must(r.e.clusters.Delete(timeout(r.t), "", "shop-1")) },
		},
		{
			name: "revoked by a person", status: http.StatusUnauthorized, reason: wire.ReasonRevoked,
			change: func(r *rig, _ *agent) {
				_, err := r.e.identities.Update(timeout(r.t), "", "shop-1", func(id *fleet.AgentIdentity) error {
					id.Spec.Revoked = true
					return nil
				})
				r.must(err)
			},
		},
		{
			name: "serial revoked", status: http.StatusUnauthorized, reason: wire.ReasonRevoked,
			change: func(r *rig, a *agent) { r.must(r.ca.Revoke(timeout(r.t), a.serial(), ca.CodeKeyCompromise, "test")) },
		},
		{
			name: "not accepted", status: http.StatusForbidden, reason: wire.ReasonNotAccepted,
			change: func(r *rig, _ *agent) { r.accept("shop-1", false) },
		},
		{
			name: "unknown serial", status: http.StatusUnauthorized, reason: wire.ReasonSuperseded,
			change: func(r *rig, a *agent) {
				issued, err := r.ca.SignAgent(timeout(r.t), []byte(a.csr("shop-1")), "shop-1")
				r.must(err)
				a.show(string(issued.ChainPEM))
			},
		},
		{
			name: "revocations cannot be read", status: http.StatusServiceUnavailable, reason: wire.ReasonInternal,
			change: func(r *rig, _ *agent) { r.ca.fail(func(a *authority) { a.revoked = errors.New("disk") }) },
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			a := r.agent()
			a.mustJoin("shop-1", fleet.Approval{})
			if tt.change != nil {
				tt.change(r, a)
			}
			for what, verify := range map[string]func(context.Context, []*x509.Certificate) (identity.Peer, error){
				"connect": r.e.Verify, "renew": r.e.VerifyRenewal,
			} {
				_, err := verify(timeout(t), a.tls)
				if got := reasonOf(err); got != tt.reason {
					t.Errorf("%s: %q, want %q", what, got, tt.reason)
				}
				var ref *Refused
				if errors.As(err, &ref) && ref.Status != tt.status {
					t.Errorf("%s: status %d, want %d", what, ref.Status, tt.status)
				}
			}
		})
	}
}

// TestVerifyWithoutStore: a hub that cannot read its records lets nobody in.
func TestVerifyWithoutStore(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a := r.agent()
	a.mustJoin("shop-1", fleet.Approval{})
	ctx, cancel := context.WithCancel(timeout(t))
	cancel()
	_, err := r.e.Verify(ctx, a.tls)
	var ref *Refused
	if !errors.As(err, &ref) || ref.Status != http.StatusServiceUnavailable || ref.Refusal.Reason != wire.ReasonInternal {
		t.Errorf("%v, want 503 internal", err)
	}
}

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) user(name string) []*x509.Certificate {
	r.t.Helper()
	key, err := identity.GenerateKey()
	r.must(err)
	csr, err := identity.NewUserRequest(key, name)
	r.must(err)
	issued, err := r.ca.SignUser(timeout(r.t), csr, name, nil)
	r.must(err)
	certs, err := identity.ParseCerts(issued.ChainPEM)
	r.must(err)
	return certs
}

// renewed asks for a new certificate with a new key, and returns its holder.
func (a *agent) renewed() *agent {
	a.r.t.Helper()
	next := a.r.agent()
	var st wire.JoinState
	code, ref := a.do(http.MethodPost, wire.PathRenew, wire.RenewRequest{CSR: next.csr("shop-1")}, &st)
	if code != http.StatusOK || st.Roots == "" {
		a.r.t.Fatalf("renew: %d %+v", code, ref)
	}
	next.show(st.Chain)
	return next
}

// TestLineage follows the certificates of one identity.
func TestLineage(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	first := r.agent()
	first.mustJoin("shop-1", fleet.Approval{})

	lost := first.renewed() // its answer never arrives
	if got := first.reason(); got != "" {
		t.Fatalf("old certificate after a lost answer: %s", got)
	}
	second := first.renewed() // asks again, and that replaces what was lost
	if got := lost.reason(); got != wire.ReasonSuperseded {
		t.Errorf("replaced successor: %q", got)
	}
	if got := first.reason(); got != "" {
		t.Errorf("old certificate before its successor was seen: %s", got)
	}
	if id := r.identity("shop-1"); id.Status.Serial != first.serial() || id.Status.NextSerial != second.serial() {
		t.Errorf("record %+v", id.Status)
	}
	if got := second.reason(); got != "" {
		t.Errorf("successor: %s", got)
	}
	if id := r.identity("shop-1"); id.Status.Serial != second.serial() || id.Status.NextSerial != "" {
		t.Errorf("record after the successor was seen %+v", id.Status)
	}
	before := r.identity("shop-1").ResourceVersion
	if got := second.reason(); got != "" || r.identity("shop-1").ResourceVersion != before {
		t.Errorf("using the current certificate writes: %s", got)
	}

	// The thief of the first key.
	if got := first.reason(); got != wire.ReasonSuperseded {
		t.Errorf("thief connects: %q", got)
	}
	code, ref := first.do(http.MethodPost, wire.PathRenew, wire.RenewRequest{CSR: first.csr("shop-1")}, nil)
	if code != http.StatusUnauthorized || ref.Reason != wire.ReasonSuperseded {
		t.Errorf("thief renews: %d %+v", code, ref)
	}
	if n := r.logs.FilterLevelExact(zapcore.WarnLevel).FilterMessageSnippet("superseded certificate used").Len(); n == 0 {
		t.Error("no alarm about the copied key")
	}
	if got := second.reason(); got != "" {
		t.Errorf("the rightful agent after the theft: %s", got)
	}
}

// TestThiefRenewsFirst: when the thief was first it is the rightful agent that
// is refused, which is how the theft is noticed.
func TestThiefRenewsFirst(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	victim := r.agent()
	victim.mustJoin("shop-1", fleet.Approval{})
	thief := *victim
	stolen := thief.renewed()
	if got := stolen.reason(); got != "" {
		t.Fatalf("thief: %s", got)
	}
	if got := victim.reason(); got != wire.ReasonSuperseded {
		t.Errorf("victim: %q", got)
	}
	// Joining anew with replace throws the thief out.
	again := r.agent()
	again.mustJoin("shop-1", fleet.Approval{Replace: true})
	if got := stolen.reason(); got != wire.ReasonSuperseded {
		t.Errorf("thief after the new join: %q", got)
	}
	if got := again.reason(); got != "" {
		t.Errorf("new join: %s", got)
	}
}

// TestRevokeCatchesSuccessor: revoking bans a certificate that was issued and
// not seen yet, too.
func TestRevokeCatchesSuccessor(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	first := r.agent()
	first.mustJoin("shop-1", fleet.Approval{})
	next := first.renewed()
	running(t, r.e.Run)
	_, err := r.e.identities.Update(timeout(t), "", "shop-1", func(id *fleet.AgentIdentity) error {
		id.Spec.Revoked = true
		return nil
	})
	r.must(err)
	for _, a := range []*agent{first, next} {
		until(t, "certificate revoked", func() bool {
			yes, err := r.ca.Revoked(timeout(t), a.serial())
			return yes && err == nil
		})
		if got := a.reason(); got != wire.ReasonRevoked {
			t.Errorf("%q", got)
		}
	}
	code, ref := next.do(http.MethodPost, wire.PathRenew, wire.RenewRequest{CSR: next.csr("shop-1")}, nil)
	if code != http.StatusUnauthorized || ref.Reason != wire.ReasonRevoked {
		t.Errorf("renew: %d %+v", code, ref)
	}
}

// TestRenewRace: of several keys that renew with one certificate at the same
// time one is the successor in the end, and the others are nobody.
func TestRenewRace(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	first := r.agent()
	first.mustJoin("shop-1", fleet.Approval{})
	const n = 4
	keys := make([]*agent, n)
	answers := make([]wire.JoinState, n)
	var wg sync.WaitGroup
	for i := range keys {
		keys[i] = r.agent()
		body := wire.RenewRequest{CSR: keys[i].csr("shop-1")}
		wg.Go(func() {
			if code, ref := first.do(http.MethodPost, wire.PathRenew, body, &answers[i]); code != http.StatusOK {
				t.Errorf("renew: %d %+v", code, ref)
			}
		})
	}
	wg.Wait()
	good := 0
	for i, key := range keys {
		key.show(answers[i].Chain)
		if key.reason() == "" {
			good++
		}
	}
	if good != 1 {
		t.Errorf("%d of %d certificates are good, want 1", good, n)
	}
}

func TestGrace(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	if r.e.cfg.Grace != 7*24*time.Hour {
		t.Errorf("grace %s", r.e.cfg.Grace)
	}
}
