// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package enroll

import (
	"net/http"
	"testing"

	"github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/shared/wire"
)

// TestRequestOutlivesToken: a key that asked while its token lived can collect
// what was approved after the token's end; no new key can.
func TestRequestOutlivesToken(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	token := r.token(nil)
	a := r.agent()
	code, st, ref := a.join(token, "shop-1")
	if code != http.StatusAccepted {
		t.Fatalf("%d %v", code, ref)
	}
	list, err := r.e.findToken(timeout(t), token.ID)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.e.tokens.Update(timeout(t), "", list.Name, func(t *fleet.JoinToken) error {
		t.Spec.Revoked = true
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	again, same, ref := a.join(token, "shop-1")
	if again != http.StatusAccepted || same.ID != st.ID {
		t.Errorf("the same key: %d %v %v, want the request %s", again, same, ref, st.ID)
	}
	if code, _, ref := r.agent().join(token, "shop-1"); code != http.StatusForbidden || ref.Reason != wire.ReasonRefused {
		t.Errorf("another key: %d %v", code, ref)
	}
	wrong := token
	wrong.Secret = "x"
	if code, _, _ := a.join(wrong, "shop-1"); code != http.StatusForbidden {
		t.Errorf("the same key without the secret: %d", code)
	}
}

// TestUsedUpIsNoGuess: an agent that keeps asking with a token that is used up
// does not lock out the others behind its address.
func TestUsedUpIsNoGuess(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	spent := r.token(nil)
	if code, _, ref := r.agent().join(spent, "shop-1"); code != http.StatusAccepted {
		t.Fatalf("%d %v", code, ref)
	}
	other := r.agent()
	for range 2 * freeFailures {
		if code, _, _ := other.join(spent, "shop-2"); code != http.StatusForbidden {
			t.Fatalf("a used-up token: %d", code)
		}
	}
	if code, _, ref := other.join(r.token(nil), "shop-2"); code != http.StatusAccepted {
		t.Errorf("a good token from the same address: %d %v", code, ref)
	}
}
