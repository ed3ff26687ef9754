// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package openid

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/spf13/pflag"

	"github.com/drover-io/drover/shared/daemon"
)

func TestIssuersSet(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, text, fails string }{
		{name: "empty"},
		{name: "YAML", text: "- name: corp\n  issuerURL: https://x\n  clientID: a\n"},
		{name: "JSON", text: `[{"name":"corp","issuerURL":"https://x","extraClaims":{"a.b/c":"d"}}]`},
		{name: "no list", text: "name: corp", fails: "want a list of issuers"},
		{name: "unknown field", text: "- {name: a}\n- {name: b, audence: [x]}", fails: `entry 2: unknown field "audence"`},
		{name: "wrong type", text: "- {name: a, audiences: x}", fails: "audiences"},
		{name: "no YAML", text: "- [", fails: "want a YAML list"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var l Issuers
			err := l.Set(tt.text)
			if (err == nil) != (tt.fails == "") || err != nil && !strings.Contains(err.Error(), tt.fails) {
				t.Fatalf("%v, want %q", err, tt.fails)
			}
			var again Issuers
			if err := again.Set(l.String()); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(l, again); d != "" && len(l) > 0 {
				t.Errorf("String and Set differ:\n%s", d)
			}
		})
	}
}

// TestIssuersInFile: what --print-config prints, read back, is the same.
func TestIssuersInFile(t *testing.T) {
	t.Parallel()
	for _, list := range []Issuers{nil, {
		{Name: "a", IssuerURL: "https://x", Audiences: []string{"y"}, ExtraClaims: map[string]string{"a.b/c": "d"}, RequiredClaims: map[string]string{"n": "1"}},
		{Name: "b", IssuerURL: "https://z", ClientID: "q"},
	}} {
		set := func(l *Issuers) *pflag.FlagSet {
			f := pflag.NewFlagSet("", pflag.ContinueOnError)
			f.Var(l, "oidc", "")
			return f
		}
		text := daemon.PrintOptions(set(&list))
		file := filepath.Join(t.TempDir(), "c.yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		var got Issuers
		if err := daemon.LoadOptions(set(&got), file, "X_", nil); err != nil {
			t.Fatalf("%v of %s", err, text)
		}
		if d := cmp.Diff(list, got, cmpopts.EquateEmpty()); d != "" {
			t.Error(d)
		}
		if err := daemon.LoadOptions(set(&got), "", "X_", []string{`X_OIDC=[{"name":"env"}]`}); err != nil || len(got) != 1 || got[0].Name != "env" {
			t.Errorf("%v, %v", got, err)
		}
		if err := os.WriteFile(file, []byte("oidc:\n- name: a\n  isuerURL: b\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := daemon.LoadOptions(set(&got), file, "X_", nil); err == nil || !strings.Contains(err.Error(), `oidc: entry 1: unknown field "isuerURL"`) {
			t.Error(err)
		}
	}
}

func TestIssuersProblems(t *testing.T) {
	t.Parallel()
	good := Issuer{Name: "corp", IssuerURL: "https://id.example", ClientID: "hub"}
	with := func(change func(*Issuer)) Issuers {
		i := good
		change(&i)
		return Issuers{i}
	}
	for _, tt := range []struct {
		name    string
		issuers Issuers
		want    string
	}{
		{"none", nil, ""},
		{"good", Issuers{good}, ""},
		{"name", with(func(i *Issuer) { i.Name = "Corp" }), `oidc[0].name: "Corp": want`},
		{"name twice", Issuers{good, {Name: "corp", IssuerURL: "https://b", ClientID: "x"}}, `oidc[1].name: "corp" is there twice`},
		{"url twice", Issuers{good, {Name: "b", IssuerURL: "https://id.example", ClientID: "x"}}, "oidc[1].issuerURL"},
		{"http", with(func(i *Issuer) { i.IssuerURL = "http://id.example" }), "oidc[0].issuerURL"},
		{"url with a query", with(func(i *Issuer) { i.IssuerURL += "?a=b" }), "oidc[0].issuerURL"},
		{"no client", with(func(i *Issuer) { i.ClientID = "" }), "oidc[0].clientID: missing"},
		{"audience alone", with(func(i *Issuer) { i.ClientID, i.Audiences = "", []string{"x"} }), ""},
		{"empty audience", with(func(i *Issuer) { i.Audiences = []string{"x", ""} }), "oidc[0].audiences"},
		{"reserved user prefix", with(func(i *Issuer) { i.UsernamePrefix = "system:" }), "oidc[0].usernamePrefix"},
		{"reserved groups prefix", with(func(i *Issuer) { i.GroupsPrefix = "system:x" }), "oidc[0].groupsPrefix"},
		{"extra without domain", with(func(i *Issuer) { i.ExtraClaims = map[string]string{"dept": "d"} }), "oidc[0].extraClaims"},
		{"reserved extra", with(func(i *Issuer) { i.ExtraClaims = map[string]string{"drover.io/session": "d"} }), "reserved"},
		{"Kubernetes' extra", with(func(i *Issuer) { i.ExtraClaims = map[string]string{"authentication.kubernetes.io/x": "d"} }), "reserved"},
		{"required", with(func(i *Issuer) { i.RequiredClaims = map[string]string{"a": ""} }), "oidc[0].requiredClaims"},
		{"ca file", with(func(i *Issuer) { i.CAFile = "/nonexistent" }), "oidc[0].caFile"},
		{"secret file", with(func(i *Issuer) { i.ClientSecretFile = "/nonexistent" }), "oidc[0].clientSecretFile"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := strings.Join(tt.issuers.Problems(), "; ")
			if (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}
