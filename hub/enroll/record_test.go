// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package enroll

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"
	"testing"

	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"

	"github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/shared/wire"
)

// auditor keeps what it is told, or fails.
type auditor struct {
	mu     sync.Mutex
	err    error
	events []*auditv1.Event
}

func (a *auditor) Record(_ context.Context, ev *auditv1.Event) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.events = append(a.events, ev)
	return a.err
}

func (a *auditor) verbs() (out []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, ev := range a.events {
		out = append(out, ev.Verb)
	}
	return out
}

// TestAuditLogFails: an agent joins and renews although the audit log cannot be
// written, and the hub's log says what is missing.
func TestAuditLogFails(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	log := &auditor{err: errors.New("disk full")}
	r.e.cfg.Audit = log
	a := r.agent()
	jr := a.mustJoin("shop-1", fleet.Approval{By: "ann"})
	var st wire.JoinState
	if code, ref := a.do(http.MethodPost, wire.PathRenew, wire.RenewRequest{CSR: a.csr("shop-1")}, &st); code != http.StatusOK {
		t.Fatalf("renew: %d %v", code, ref)
	}
	if got, want := log.verbs(), []string{VerbJoin, VerbJoin, VerbRenew}; !slices.Equal(got, want) {
		t.Errorf("recorded %v, want %v", got, want)
	}
	if by := log.events[1].Annotations[AnnotationApprovedBy]; by != "ann" || log.events[1].Annotations[AnnotationRequest] != jr.Name {
		t.Errorf("the certificate: %+v", log.events[1])
	}
	if n := r.logs.FilterMessageSnippet("not in the audit log yet").Len(); n != 3 {
		t.Errorf("%d lines in the hub's log about it, want 3", n)
	}
}

// TestRevokedOnce: revoking is repeated whenever the hub starts, the record is not.
func TestRevokedOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	log := &auditor{}
	r.e.cfg.Audit = log
	record := &fleet.AgentIdentity{Status: fleet.AgentIdentityStatus{Serial: "71"}}
	record.Name = "shop-1"
	for range 3 {
		if err := r.e.revokeSerials(timeout(t), record, 1, "stolen"); err != nil {
			t.Fatal(err)
		}
	}
	if got := log.verbs(); !slices.Equal(got, []string{VerbRevoke}) {
		t.Errorf("recorded %v", got)
	}
}

// TestUnknownTokenIsNotKept: what stands in place of a token's id may be anything.
func TestUnknownTokenIsNotKept(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	log := &auditor{}
	r.e.cfg.Audit = log
	token := r.token(nil)
	token.ID = "my-password"
	if code, _, _ := r.agent().join(token, "shop-1"); code != http.StatusForbidden {
		t.Fatalf("an unknown token: %d", code)
	}
	if len(log.events) != 1 || log.events[0].ResponseStatus.Code != http.StatusForbidden {
		t.Fatalf("recorded %+v", log.events)
	}
	for key, value := range log.events[0].Annotations {
		if value == token.ID || value == token.Secret {
			t.Errorf("%s holds %q", key, value)
		}
	}
}
