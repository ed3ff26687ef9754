// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package enroll

import (
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/drover-io/drover/pki/jointoken"
	"github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/shared/wire"
)

func TestCheckToken(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	at := func(d time.Duration) *metav1.Time { m := metav1.NewTime(now.Add(d)); return &m }
	type edit = func(*fleet.JoinToken)
	for _, tt := range []struct {
		name    string
		edit    edit
		secret  string
		cluster string
		key     string
		earlier string
		want    string
	}{
		{name: "good"},
		{name: "wrong secret", secret: "other", want: "wrong secret"},
		{name: "empty secret", secret: "-", want: "wrong secret"},
		{name: "no hash", edit: func(t *fleet.JoinToken) { t.Status.SecretHash = "" }, want: "wrong secret"},
		{name: "wrong secret of a revoked token tells nothing", secret: "x", edit: func(t *fleet.JoinToken) { t.Spec.Revoked = true }, want: "wrong secret"},
		{name: "revoked", edit: func(t *fleet.JoinToken) { t.Spec.Revoked = true }, want: "token is revoked"},
		{name: "being deleted", edit: func(t *fleet.JoinToken) { t.DeletionTimestamp = at(0) }, want: "token is revoked"},
		{name: "at its end", edit: func(t *fleet.JoinToken) { t.Status.Expires = at(0) }, want: "token is expired"},
		{name: "a second before its end", edit: func(t *fleet.JoinToken) { t.Status.Expires = at(time.Second) }},
		{name: "without an end", edit: func(t *fleet.JoinToken) { t.Status.Expires = nil }, want: "token is expired"},
		{name: "other name", edit: func(t *fleet.JoinToken) { t.Spec.ClusterName = "shop-2" }, want: `token is for cluster "shop-2"`},
		{name: "longer name", edit: func(t *fleet.JoinToken) { t.Spec.ClusterName = "shop" }, want: `token is for cluster "shop"`},
		{name: "its name", edit: func(t *fleet.JoinToken) { t.Spec.ClusterName = "shop-1" }},
		{name: "used up", edit: func(t *fleet.JoinToken) { t.Status.Used = uses("a") }, want: "token is used up"},
		{name: "zero uses mean one", edit: func(t *fleet.JoinToken) { t.Spec.Uses = 0 }},
		{name: "zero uses, used", edit: func(t *fleet.JoinToken) { t.Spec.Uses, t.Status.Used = 0, uses("a") }, want: "token is used up"},
		{name: "second of two", edit: func(t *fleet.JoinToken) { t.Spec.Uses, t.Status.Used = 2, uses("a") }},
		{name: "third of two", edit: func(t *fleet.JoinToken) { t.Spec.Uses, t.Status.Used = 2, uses("a", "b") }, want: "token is used up"},
		{name: "same key again", key: "a", edit: func(t *fleet.JoinToken) { t.Status.Used = uses("a") }, earlier: "jr-a"},
		{name: "same key after the end", key: "a", edit: func(t *fleet.JoinToken) { t.Status.Used, t.Status.Expires = uses("a"), at(-1) }, want: "token is expired"},
		{name: "same key after revocation", key: "a", edit: func(t *fleet.JoinToken) { t.Status.Used, t.Spec.Revoked = uses("a"), true }, want: "token is revoked"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			token := &fleet.JoinToken{
				Spec:   fleet.JoinTokenSpec{Uses: 1},
				Status: fleet.JoinTokenStatus{SecretHash: jointoken.HashSecret("secret"), Expires: at(time.Hour)},
			}
			if tt.edit != nil {
				tt.edit(token)
			}
			secret, key := "secret", "new"
			if tt.secret != "" {
				secret = strings.TrimPrefix(tt.secret, "-")
			}
			if tt.key != "" {
				key = tt.key
			}
			earlier, err := checkToken(token, secret, "shop-1", key, now)
			got := ""
			if err != nil {
				got = err.Error()
				if !isRefused(err) {
					t.Errorf("%v is not a refusal", err)
				}
			}
			if got != tt.want {
				t.Errorf("error %q, want %q", got, tt.want)
			}
			if (earlier != nil) != (tt.earlier != "") || (earlier != nil && earlier.Request != tt.earlier) {
				t.Errorf("earlier use %+v, want %q", earlier, tt.earlier)
			}
		})
	}
}

func uses(keys ...string) []fleet.TokenUse {
	var out []fleet.TokenUse
	for _, k := range keys {
		out = append(out, fleet.TokenUse{Fingerprint: k, Request: "jr-" + k})
	}
	return out
}

func TestPrepareToken(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	now := time.Now()
	obj := &fleet.JoinToken{Spec: fleet.JoinTokenSpec{ClusterName: "shop-1", TTLSeconds: 60}}
	text, err := r.e.PrepareToken(obj, now)
	if err != nil {
		t.Fatal(err)
	}
	token, err := jointoken.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	if token.Cluster != "shop-1" || token.TrustDomain != "fleet.test" || token.Pins[0] != r.ca.Pins()[0] {
		t.Errorf("token %v", token)
	}
	if obj.Status.Token != "" || strings.Contains(obj.Status.SecretHash, token.Secret) || obj.Status.ID != token.ID {
		t.Errorf("status %+v", obj.Status)
	}
	if d := obj.Status.Expires.Sub(now); d > time.Minute || d < 58*time.Second {
		t.Errorf("expires in %s", d)
	}
	for _, bad := range []string{"Shop", "a.b", "a/b", "..", strings.Repeat("a", 64)} {
		if _, err := r.e.PrepareToken(&fleet.JoinToken{Spec: fleet.JoinTokenSpec{ClusterName: bad}}, now); err == nil {
			t.Errorf("a token for %q was made", bad)
		}
	}
}

// TestTokenRace: of twenty keys that race for one use exactly one wins.
func TestTokenRace(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	token := r.token(nil)
	const racers = 20
	codes := make(chan int, racers)
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range racers {
		a := r.agent()
		a.addr = "192.0.2." + string(rune('0'+i%10)) + ":1"
		wg.Go(func() {
			<-start
			// The back-off answers 429 to whoever comes too late; both are losers.
			code, _, _ := a.join(token, "shop-1")
			codes <- code
		})
	}
	close(start)
	wg.Wait()
	close(codes)
	won := 0
	for code := range codes {
		switch code {
		case http.StatusAccepted:
			won++
		case http.StatusForbidden, http.StatusTooManyRequests:
		default:
			t.Errorf("answer %d", code)
		}
	}
	if won != 1 {
		t.Errorf("%d winners", won)
	}
	all, _, err := r.e.requests.List(timeout(t), selectAll())
	if err != nil || len(all) != 1 {
		t.Errorf("%d requests, %v", len(all), err)
	}
}

// TestSameKeyAgain: a lost answer costs nothing, even while a crowd waits.
func TestSameKeyAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	token := r.token(nil)
	a := r.agent()
	_, first, _ := a.join(token, "shop-1")
	for range 3 {
		code, st, ref := a.join(token, "shop-1")
		if code != http.StatusAccepted || st.ID != first.ID {
			t.Fatalf("again: %d %+v %+v, want request %s", code, st, ref, first.ID)
		}
	}
	used, err := r.e.findToken(timeout(t), token.ID)
	if err != nil || len(used.Status.Used) != 1 {
		t.Errorf("uses %+v, %v", used, err)
	}
	if code, _, _ := r.agent().join(token, "shop-1"); code != http.StatusForbidden {
		t.Errorf("another key: %d", code)
	}
	// The hub died between the use and the request: the same key gets it now.
	if err := r.e.requests.Delete(timeout(t), "", first.ID); err != nil {
		t.Fatal(err)
	}
	if code, st, _ := a.join(token, "shop-1"); code != http.StatusAccepted || st.ID != first.ID {
		t.Errorf("after the request was lost: %d %+v", code, st)
	}
	// The token object is gone.
	if err := r.e.tokens.Delete(timeout(t), "", used.Name); err != nil {
		t.Fatal(err)
	}
	if code, _, _ := a.join(token, "shop-1"); code != http.StatusForbidden {
		t.Errorf("after the token was deleted: %d", code)
	}
	if code, _ := a.do(http.MethodGet, wire.PathJoin+"/"+first.ID, nil, &wire.JoinState{}); code != http.StatusOK {
		t.Errorf("the request must outlive its token: %d", code)
	}
}

func TestFailures(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for _, tt := range []struct {
		count int
		want  time.Duration
	}{{0, 0}, {4, 0}, {5, time.Second}, {6, 2 * time.Second}, {9, 16 * time.Second}, {13, 256 * time.Second}, {14, 256 * time.Second}, {1000, 256 * time.Second}} {
		f := newFailures()
		for range tt.count {
			f.add("192.0.2.1", "id", now)
		}
		if got := f.delay("192.0.2.1", "other", now); got != tt.want {
			t.Errorf("%d failures: by address %s, want %s", tt.count, got, tt.want)
		}
		if got := f.delay("192.0.2.2", "id", now); got != tt.want {
			t.Errorf("%d failures: by token %s, want %s", tt.count, got, tt.want)
		}
		if got := f.delay("192.0.2.2", "other", now); got != 0 {
			t.Errorf("%d failures: another waits %s", tt.count, got)
		}
		if got := f.delay("192.0.2.1", "id", now.Add(tt.want)); got != 0 {
			t.Errorf("%d failures: after the wait another %s", tt.count, got)
		}
		f.clear("192.0.2.1", "id")
		if got := f.delay("192.0.2.1", "id", now); got != 0 {
			t.Errorf("%d failures: after success %s", tt.count, got)
		}
	}
}

func TestFailuresBounded(t *testing.T) {
	t.Parallel()
	f, now := newFailures(), time.Now()
	for i := range 2 * maxTracked {
		f.add(strings.Repeat("a", 1+i%7)+string(rune(i)), string(rune(i)), now)
	}
	if n := len(f.who); n > maxTracked+2 {
		t.Errorf("%d tracked", n)
	}
	f.add("later", "later", now.Add(maxFailureDelay+time.Second))
	if n := len(f.who); n != 2 {
		t.Errorf("%d tracked after all were old, want the new one's 2", n)
	}
}

func TestRefusedIsAnError(t *testing.T) {
	t.Parallel()
	err := error(refuse(http.StatusForbidden, "x", "y %d", 1))
	var ref *Refused
	if !errors.As(err, &ref) || err.Error() != "x: y 1" {
		t.Errorf("%v", err)
	}
}
