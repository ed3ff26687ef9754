// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package openid

import (
	"strings"
	"testing"
	"time"
)

// FuzzToken: what is not signed by the issuer's key is never anybody.
func FuzzToken(f *testing.F) {
	keys := newKeySet(nil)
	keys.tried = time.Now().Add(time.Hour) // never asks for more
	p, err := newProvider(Issuer{Name: "n", IssuerURL: "https://x", ClientID: "c"})
	if err != nil {
		f.Fatal(err)
	}
	p.keys = keys
	f.Add("eyJhbGciOiJub25lIn0.eyJpc3MiOiJodHRwczovL3gifQ.")
	f.Add("a.b.c")
	f.Add("eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJodHRwczovL3gifQ.AAAA")
	f.Fuzz(func(t *testing.T, text string) {
		_, _ = unverifiedIssuer(text)
		if payload, err := keys.VerifySignature(t.Context(), text); err == nil {
			t.Errorf("accepted %q: %s", text, payload)
		}
	})
}

// FuzzClaims: names that are reserved come out of no claims.
func FuzzClaims(f *testing.F) {
	for _, s := range []string{
		`{"sub":"a","groups":["x"],"exp":1}`, `{"sub":"system:admin","groups":"system:masters"}`, `{"exp":1e400,"nbf":"x"}`, `[]`, `{"groups":[[]]}`,
	} {
		f.Add([]byte(s))
	}
	i := Issuer{Name: "n", UsernamePrefix: "-", GroupsPrefix: "-", ExtraClaims: map[string]string{"a.b/c": "groups"}}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := parseClaims(data)
		if err != nil {
			return
		}
		_ = c.checkTimes(time.Now())
		_ = c.checkRequired(map[string]string{"groups": "x"})
		who, err := i.user(c)
		if err != nil {
			return
		}
		if strings.HasPrefix(who.Name, "system:") || who.Name == "" {
			t.Errorf("user %q", who.Name)
		}
		for _, g := range who.Groups {
			if strings.HasPrefix(g, "system:") && g != "system:authenticated" {
				t.Errorf("group %q", g)
			}
		}
	})
}

// FuzzKeys: what is kept of a key set can verify, and is public.
func FuzzKeys(f *testing.F) {
	f.Add([]byte(`{"keys":[{"kty":"EC","crv":"P-256","kid":"a","x":"AA","y":"AA"},{"kty":"oct","k":"AA"},{"kty":"new"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		keys, err := parseKeys(data)
		if err != nil {
			return
		}
		for _, k := range keys {
			if _, secret := k.Key.([]byte); secret || !k.IsPublic() || !k.Valid() {
				t.Errorf("kept %T", k.Key)
			}
		}
	})
}
