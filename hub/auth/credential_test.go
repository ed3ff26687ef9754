// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/drover-io/drover/shared/apis/fleet"
)

func TestCredential(t *testing.T) {
	t.Parallel()
	c := newCredential("ci-deploy")
	text := c.text(PrefixAccessToken)
	got, err := parseCredential(PrefixAccessToken, text)
	if err != nil || got != c || !got.matches(c.hash()) {
		t.Fatalf("%v, %v", got, err)
	}
	if shown := fmt.Sprintf("%v %#v %s", c, c, c); strings.Contains(shown, c.secret) {
		t.Errorf("shows the secret: %s", shown)
	}
	if newCredential("ci-deploy").matches(c.hash()) {
		t.Error("another secret matches")
	}
	flipped := []byte(text)
	for i := range flipped {
		old := flipped[i]
		flipped[i] = 'a' + (old+1)%26
		if flipped[i] == old {
			flipped[i]++
		}
		if _, err := parseCredential(PrefixAccessToken, string(flipped)); err == nil {
			t.Errorf("position %d changed from %c to %c is not noticed", i, old, flipped[i])
		}
		flipped[i] = old
	}
	for _, bad := range []string{
		"", PrefixAccessToken, text[:len(text)-1], text + "a", strings.ToUpper(text), " " + text, PrefixSession + strings.TrimPrefix(text, PrefixAccessToken),
		c.text(PrefixSession), credential{strings.Repeat("a", 64), c.secret}.text(PrefixAccessToken), credential{"a.b", c.secret}.text(PrefixAccessToken),
		credential{"-a", c.secret}.text(PrefixAccessToken), credential{"", c.secret}.text(PrefixAccessToken),
	} {
		if _, err := parseCredential(PrefixAccessToken, bad); err == nil {
			t.Errorf("accepted %q", bad)
		}
	}
	// A golden one: scanners and stored tokens rely on the form.
	const golden = "drover_at_ci_" + "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" + "sf7dupa"
	if got := (credential{"ci", strings.Repeat("a", 52)}).text(PrefixAccessToken); got != golden {
		t.Errorf("form changed: %s, want %s", got, golden)
	}
}

func FuzzCredential(f *testing.F) {
	f.Add(newCredential("a").text(PrefixAccessToken))
	f.Add("drover_at_a_b")
	f.Add(strings.Repeat("drover_at_", 50))
	f.Fuzz(func(t *testing.T, text string) {
		c, err := parseCredential(PrefixAccessToken, text)
		if err == nil && c.text(PrefixAccessToken) != text {
			t.Errorf("%q reads as %q", text, c.text(PrefixAccessToken))
		}
		bearer([]string{text})
	})
}

func TestCheckAccessToken(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	c := newCredential("ci")
	for _, tt := range []struct {
		name  string
		edit  func(*fleet.AccessToken)
		none  bool
		fails string
		seen  bool // worth a record
	}{
		{name: "good"},
		{name: "none", none: true, fails: "not known"},
		{name: "wrong secret", edit: func(t *fleet.AccessToken) { t.Status.SecretHash = newCredential("ci").hash() }, fails: "not known", seen: true},
		{name: "no secret", edit: func(t *fleet.AccessToken) { t.Status.SecretHash = "" }, fails: "not known", seen: true},
		{name: "expired", edit: func(t *fleet.AccessToken) { e := metav1.NewTime(now); t.Status.Expires = &e }, fails: "expired", seen: true},
		{name: "no expiry", edit: func(t *fleet.AccessToken) { t.Status.Expires = nil }, fails: "expired", seen: true},
		{name: "being deleted", edit: func(t *fleet.AccessToken) { d := metav1.NewTime(now); t.DeletionTimestamp = &d }, fails: "not known", seen: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			expires := metav1.NewTime(now.Add(time.Second))
			obj := &fleet.AccessToken{ObjectMeta: metav1.ObjectMeta{Name: "ci"}, Status: fleet.AccessTokenStatus{SecretHash: c.hash(), Expires: &expires}}
			if tt.edit != nil {
				tt.edit(obj)
			}
			if tt.none {
				obj = nil
			}
			err := checkAccessToken(obj, c, now)
			if (err == nil) != (tt.fails == "") || err != nil && !strings.Contains(err.Error(), tt.fails) {
				t.Fatalf("%v, want %q", err, tt.fails)
			}
			if _, seen := err.(*RefusedError); seen != tt.seen {
				t.Errorf("worth a record: %v, want %v", seen, tt.seen)
			}
		})
	}
}

func TestPrepareAccessToken(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, tt := range []struct {
		name, object string
		spec         fleet.AccessTokenSpec
		life         time.Duration
		fails        string
	}{
		{name: "default life", spec: fleet.AccessTokenSpec{User: "a"}, life: 90 * 24 * time.Hour},
		{name: "a year", spec: fleet.AccessTokenSpec{User: "a", TTLSeconds: 31536000}, life: 365 * 24 * time.Hour},
		{name: "longer", spec: fleet.AccessTokenSpec{User: "a", TTLSeconds: 31536001}, fails: "spec.ttlSeconds"},
		{name: "negative", spec: fleet.AccessTokenSpec{User: "a", TTLSeconds: -1}, fails: "spec.ttlSeconds"},
		{name: "reserved user", spec: fleet.AccessTokenSpec{User: "system:admin"}, fails: "spec.user"},
		{name: "group of everybody", spec: fleet.AccessTokenSpec{User: "a", Groups: []string{"x", "system:authenticated"}}, fails: "spec.groups[1]"},
		{name: "long name", object: strings.Repeat("a", 64), fails: "metadata.name"},
		{name: "dotted name", object: "a.b", fails: "metadata.name"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if tt.object == "" {
				tt.object = "n"
			}
			obj := &fleet.AccessToken{ObjectMeta: metav1.ObjectMeta{Name: tt.object}, Spec: tt.spec}
			text, err := PrepareAccessToken(obj, "root", now)
			if tt.fails != "" {
				if err == nil || !strings.Contains(err.Error(), tt.fails) {
					t.Fatalf("%v, want %q", err, tt.fails)
				}
				return
			}
			if err != nil || obj.Status.Expires.Sub(now) != tt.life || obj.Status.CreatedBy != "root" || obj.Status.Token != "" {
				t.Fatalf("%v, %+v", err, obj.Status)
			}
			if c, err := parseCredential(PrefixAccessToken, text); err != nil || checkAccessToken(obj, c, now) != nil {
				t.Errorf("%v, %v", err, c)
			}
		})
	}
}
