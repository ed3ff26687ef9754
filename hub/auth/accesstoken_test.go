// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/drover-io/drover/shared/apis/fleet"
)

// TestAccessTokens is the life of a token over a real store: used, its use written
// down once an hour, revoked by deleting it, and not revived by another of its name.
func TestAccessTokens(t *testing.T) {
	t.Parallel()
	a := NewAccessTokens(openStore(t), zap.NewNop())
	ctx := t.Context()
	create := func() string {
		t.Helper()
		obj := &fleet.AccessToken{
			TypeMeta:   metav1.TypeMeta{APIVersion: fleet.Group + "/" + fleet.Version, Kind: fleet.KindAccessToken},
			ObjectMeta: metav1.ObjectMeta{Name: "ci"}, Spec: fleet.AccessTokenSpec{User: "ci:deploy", Groups: []string{"deployers"}},
		}
		text, err := PrepareAccessToken(obj, "root", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := a.objects.Create(ctx, obj); err != nil {
			t.Fatal(err)
		}
		return text
	}
	await := func(text string, want bool) {
		t.Helper()
		for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
			who, ok, err := a.AuthenticateToken(ctx, text)
			if ok == want {
				if ok && (who.User.GetName() != "ci:deploy" || strings.Join(who.User.GetGroups(), " ") != "deployers system:authenticated" ||
					who.User.GetExtra()[ExtraAccessToken][0] != "ci") {
					t.Fatalf("user %+v", who.User)
				}
				if err != nil && strings.Contains(err.Error(), text) {
					t.Errorf("the error shows the token: %v", err)
				}
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%v, %v", ok, err)
			}
		}
	}
	text := create()
	await(text, true)
	for _, other := range []string{"", "eyJ.a.b", "drover_xx_ci"} {
		if _, ok, err := a.AuthenticateToken(ctx, other); ok || err != nil {
			t.Errorf("%q: %v, %v, want left to others", other, ok, err)
		}
	}
	if _, ok, err := a.AuthenticateToken(ctx, text[:len(text)-1]); ok || err == nil || !strings.Contains(err.Error(), "mistyped") {
		t.Errorf("cut off: %v, %v", ok, err)
	}

	a.flush(ctx)
	first, err := a.objects.Get(ctx, "", "ci")
	if err != nil || first.Status.LastUsed == nil {
		t.Fatalf("%+v, %v", first.Status, err)
	}
	a.mu.Lock()
	a.used["ci"] = first.Status.LastUsed.Add(lastUsedEvery - time.Second)
	a.used["gone"] = time.Now()
	a.mu.Unlock()
	a.flush(ctx)
	if second, err := a.objects.Get(ctx, "", "ci"); err != nil || second.ResourceVersion != first.ResourceVersion {
		t.Errorf("written down twice in an hour: %+v, %v", second.Status, err)
	}

	if err := a.objects.Delete(ctx, "", "ci"); err != nil {
		t.Fatal(err)
	}
	await(text, false)
	await(create(), true)
	await(text, false)
}
