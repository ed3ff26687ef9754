// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"net/url"
	"strings"
	"testing"
	"time"
)

func TestNames(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name                   string
		cluster, user, td, grp bool
	}{
		{"paris", true, true, true, true},
		{"a", true, true, true, true},
		{"7", true, true, true, true},
		{"paris-1", true, true, true, true},
		{"a--b", true, true, true, true},
		{strings.Repeat("a", 63), true, true, true, true},
		{strings.Repeat("a", 64), false, true, false, true},
		{strings.Repeat("a", 129), false, false, false, false},
		{"", false, false, false, false},
		{"-a", false, false, false, true},
		{"a-", false, false, false, true},
		{"A", false, false, false, true},
		{"a.b", false, true, true, true},
		{"a..b", false, true, false, true},
		{"a_b", false, true, false, true},
		{"alice@example.com", false, true, false, true},
		{"..", false, false, false, true},
		{"a/b", false, false, false, true},
		{"*", false, false, false, true},
		{">", false, false, false, true},
		{"a b", false, false, false, false},
		{"a\n", false, false, false, false},
		{"ä", false, false, false, false},
		{"system:masters", false, false, false, true},
		{"a%2fb", false, false, false, true},
		{"a\x00", false, false, false, false},
	} {
		for kind, got := range map[string]struct {
			err  error
			want bool
		}{
			"cluster": {ValidName(tt.name), tt.cluster}, "user": {ValidUserName(tt.name), tt.user},
			"domain": {ValidTrustDomain(tt.name), tt.td}, "group": {ValidGroup(tt.name), tt.grp},
		} {
			if (got.err == nil) != got.want {
				t.Errorf("%s %q: error is %v", kind, tt.name, got.err)
			}
			if got.err != nil && (strings.ContainsAny(got.err.Error(), "\n\x00") || len(got.err.Error()) > 300) {
				t.Errorf("%s %q: the error is not one short line: %q", kind, tt.name, got.err)
			}
		}
	}
}

func TestParseClientID(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		uri  string
		kind Kind
		name string
	}{
		{"spiffe://fleet.test/cluster/paris", KindCluster, "paris"},
		{"spiffe://fleet.test/user/alice@example.com", KindUser, "alice@example.com"},
		{"spiffe://fleet.test/cluster/", "", ""},
		{"spiffe://fleet.test/cluster", "", ""},
		{"spiffe://fleet.test/cluster/paris/", "", ""},
		{"spiffe://fleet.test//cluster/paris", "", ""},
		{"spiffe://fleet.test/cluster/../user/admin", "", ""},
		{"spiffe://fleet.test/cluster/paris?x", "", ""},
		{"spiffe://fleet.test/cluster/paris?", "", ""},
		{"spiffe://fleet.test/cluster/paris#x", "", ""},
		{"spiffe://fleet.test/cluster/p%61ris", "", ""},
		{"spiffe://fleet.test/%63luster/paris", "", ""},
		{"spiffe://fleet.test/cluster/Paris", "", ""},
		{"spiffe://fleet.test/Cluster/paris", "", ""},
		{"spiffe://fleet.test/hub", "", ""},
		{"spiffe://fleet.test/hub/paris", "", ""},
		{"spiffe://fleet.test/", "", ""},
		{"spiffe://fleet.test", "", ""},
		{"spiffe://FLEET.test/cluster/paris", "", ""},
		{"spiffe://fleet.test./cluster/paris", "", ""},
		{"spiffe://fleet.test:8443/cluster/paris", "", ""},
		{"spiffe://u@fleet.test/cluster/paris", "", ""},
		{"spiffe://x.fleet.test/cluster/paris", "", ""},
		{"spiffe://fleet.test.evil/cluster/paris", "", ""},
		{"spiffe:/cluster/paris", "", ""},
		{"spiffe:cluster/paris", "", ""},
		{"https://fleet.test/cluster/paris", "", ""},
		{"//fleet.test/cluster/paris", "", ""},
	} {
		u, err := url.Parse(tt.uri)
		if err != nil {
			t.Fatal(err)
		}
		kind, name, err := ParseClientID("fleet.test", u)
		if kind != tt.kind || name != tt.name || (err == nil) != (tt.kind != "") {
			t.Errorf("%s: %s %q %v", tt.uri, kind, name, err)
		}
		cluster, err := ParseClusterID("fleet.test", u)
		if want := tt.kind == KindCluster; (err == nil) != want || want && cluster != tt.name {
			t.Errorf("%s: cluster %q %v", tt.uri, cluster, err)
		}
	}
	if _, _, err := ParseClientID("fleet.test", nil); err == nil {
		t.Error("nil has an identity")
	}
}

func FuzzParseClientID(f *testing.F) {
	for _, uri := range []string{"spiffe://fleet.test/cluster/paris", "spiffe://fleet.test/user/a@b", "spiffe://fleet.test/cluster/%70aris?"} {
		f.Add(uri)
	}
	f.Fuzz(func(t *testing.T, text string) {
		u, err := url.Parse(text)
		if err != nil {
			return
		}
		kind, name, err := ParseClientID("fleet.test", u)
		if err != nil {
			return
		}
		// The scheme is the one part that url.Parse folds.
		if want := "spiffe://fleet.test/" + string(kind) + "/" + name; !strings.EqualFold(text[:6], "spiffe") || text[6:] != want[6:] {
			t.Errorf("%q is taken for %s %q", text, kind, name)
		}
	})
}

func TestURIs(t *testing.T) {
	t.Parallel()
	for want, got := range map[string]*url.URL{
		"spiffe://fleet.test/cluster/paris": ClusterURI("fleet.test", "paris"),
		"spiffe://fleet.test/user/alice@b":  UserURI("fleet.test", "alice@b"),
		"spiffe://fleet.test/hub":           HubURI("fleet.test"),
		"spiffe://fleet.test/api":           APIURI("fleet.test"),
	} {
		if got.String() != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	if HubName("fleet.test") != "hub.fleet.test" || APIName("fleet.test") != "api.fleet.test" {
		t.Error("wrong server names")
	}
}

func TestRenewAt(t *testing.T) {
	t.Parallel()
	start := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		name     string
		lifetime time.Duration
		random   float64
		want     time.Duration
	}{
		{"middle", 24 * time.Hour, 0.5, 16 * time.Hour},
		{"earliest", 24 * time.Hour, 0, 14*time.Hour + 24*time.Minute},
		{"latest", 24 * time.Hour, 1, 17*time.Hour + 36*time.Minute},
		{"seconds", 3 * time.Second, 0.5, 2 * time.Second},
		{"out of range", 24 * time.Hour, 9, 17*time.Hour + 36*time.Minute},
		{"no lifetime", 0, 0.5, 0},
		{"negative lifetime", -time.Hour, 0.5, 0},
	} {
		got := RenewAt(start, start.Add(tt.lifetime), tt.random)
		if diff := got - tt.want; diff < -time.Millisecond || diff > time.Millisecond {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}
