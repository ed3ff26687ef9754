// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package openid

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

func TestAuthenticateToken(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	cfg := i.config()
	cfg.RequiredClaims = map[string]string{"tenant": "blue"}
	ps := providers(t, cfg)
	base := map[string]any{"tenant": "blue"}
	with := func(more map[string]any) map[string]any {
		out := map[string]any{"tenant": base["tenant"]}
		for k, v := range more {
			out[k] = v
		}
		return out
	}
	in := func(d time.Duration) int64 { return time.Now().Add(d).Unix() }
	key := i.key()
	other := newIssuer(t)
	otherKey := other.key()
	unsigned := func(header string) string {
		claims, err := json.Marshal(i.good())
		if err != nil {
			t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString(claims) + "."
	}
	// A public key taken for a shared secret, in the forms in which it is published.
	public := key.Public()
	der, err := x509.MarshalPKIXPublicKey(public.Key)
	if err != nil {
		t.Fatal(err)
	}
	asJSON, err := public.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	asPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	confused := func(secret []byte) string {
		return sign(t, jose.HS256, jose.JSONWebKey{Key: secret, KeyID: key.KeyID}, i.good())
	}
	wrongKey := jose.JSONWebKey{Key: otherKey.Key, KeyID: key.KeyID}
	tampered := i.token(t, base)
	part := strings.Split(tampered, ".")
	part[1] = base64.RawURLEncoding.EncodeToString([]byte(`{"iss":"` + i.URL + `","aud":"cli","sub":"root","exp":9999999999}`))
	tampered = strings.Join(part, ".")

	for _, tt := range []struct {
		name, token string
		unknown     bool // left to other authenticators
		refused     string
	}{
		{name: "good", token: i.token(t, base)},
		{name: "for the dashboard", token: i.token(t, with(map[string]any{"aud": "hub"}))},
		{name: "for several", token: i.token(t, with(map[string]any{"aud": []string{"other", "cli"}}))},
		{name: "just expired", token: i.token(t, with(map[string]any{"exp": in(-20 * time.Second)}))},
		{name: "just not yet valid", token: i.token(t, with(map[string]any{"nbf": in(20 * time.Second)}))},

		{name: "wrong audience", token: i.token(t, with(map[string]any{"aud": "other"})), refused: `made for ["other"]`},
		{name: "no audience", token: i.token(t, with(map[string]any{"aud": nil})), refused: "made for"},
		{name: "expired", token: i.token(t, with(map[string]any{"exp": in(-40 * time.Second)})), refused: "expired at"},
		{name: "no expiry", token: i.token(t, with(map[string]any{"exp": nil})), refused: `"exp" is missing`},
		{name: "not yet valid", token: i.token(t, with(map[string]any{"nbf": in(40 * time.Second)})), refused: "not valid before"},
		{name: "from the future", token: i.token(t, with(map[string]any{"iat": in(40 * time.Second)})), refused: "not valid before"},
		{name: "required claim missing", token: i.token(t, with(map[string]any{"tenant": nil})), refused: `"tenant"`},
		{name: "required claim different", token: i.token(t, with(map[string]any{"tenant": "red"})), refused: `"tenant"`},
		{name: "no user", token: i.token(t, with(map[string]any{"sub": nil})), refused: `"sub"`},
		{name: "user is no text", token: i.token(t, with(map[string]any{"sub": 7})), refused: "sub"},
		{name: "groups are no texts", token: i.token(t, with(map[string]any{"groups": []any{1}})), refused: `"groups"`},

		{name: "alg none", token: unsigned(`{"alg":"none"}`), refused: "none"},
		{name: "alg None", token: unsigned(`{"alg":"None"}`), refused: "None"},
		{name: "HS256 with the key in DER", token: confused(der), refused: "HS256"},
		{name: "HS256 with the key in PEM", token: confused(asPEM), refused: "HS256"},
		{name: "HS256 with the key in JSON", token: confused(asJSON), refused: "HS256"},
		{name: "another's key by our name", token: sign(t, jose.ES256, &wrongKey, i.good()), refused: "signature is wrong"},
		{name: "unknown key", token: sign(t, jose.ES256, &jose.JSONWebKey{Key: otherKey.Key, KeyID: "unknown"}, i.good()), refused: "does not publish"},
		{name: "tampered", token: tampered, refused: "signature is wrong"},

		{name: "unknown issuer", token: other.token(t, base), unknown: true},
		{name: "issuer with a slash", token: i.token(t, with(map[string]any{"iss": i.URL + "/"})), unknown: true},
		{name: "no issuer", token: i.token(t, with(map[string]any{"iss": nil})), unknown: true},
		{name: "no token", token: "nonsense", unknown: true},
		{name: "empty", token: "", unknown: true},
		{name: "not JSON", token: "a.b.c", unknown: true},
		{name: "oversize", token: i.token(t, with(map[string]any{"fill": strings.Repeat("x", maxToken)})), refused: "longer than"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			who, ok, err := ps.AuthenticateToken(t.Context(), tt.token)
			switch {
			case tt.refused != "":
				if ok || err == nil || !strings.Contains(err.Error(), tt.refused) {
					t.Errorf("%v, %v, want refused: %s", ok, err, tt.refused)
				}
			case tt.unknown:
				if ok || err != nil {
					t.Errorf("%v, %v, want not recognised", ok, err)
				}
			case !ok || err != nil || who.User.GetName() != "corp:alice":
				t.Errorf("%v, %v", ok, err)
			}
			if err != nil && len(tt.token) > 100 && strings.Contains(err.Error(), tt.token[len(tt.token)-40:]) {
				t.Errorf("the error shows the token: %v", err)
			}
		})
	}
}

// TestKeyRotation: a new key is found at once, an old one is dropped with it, and
// nobody can make the hub ask for keys more often than every keysPause.
func TestKeyRotation(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	ps := providers(t, i.config())
	old := i.token(t, nil)
	accepted := func(token string) bool {
		_, ok, _ := ps.AuthenticateToken(context.Background(), token)
		return ok
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if !accepted(old) {
				t.Error("refused before the rotation")
			}
		})
	}
	wg.Wait()
	if n := i.fetches(); n != 1 {
		t.Errorf("%d requests for keys, want 1 for all", n)
	}
	i.rotate(t, "second")
	fresh := i.token(t, nil)
	if accepted(fresh) {
		t.Error("asked for keys twice within the pause")
	}
	keys := ps.providers[0].keys
	keys.mu.Lock()
	keys.tried = keys.tried.Add(-keysPause)
	keys.mu.Unlock()
	if !accepted(fresh) || accepted(old) {
		t.Error("after the rotation the new key counts, and only that")
	}
	stranger := newIssuer(t).key()
	for range 20 {
		accepted(sign(t, jose.ES256, &jose.JSONWebKey{Key: stranger.Key, KeyID: "x"}, i.good()))
	}
	if n := i.fetches(); n != 2 {
		t.Errorf("%d requests for keys, want 2", n)
	}
}

// TestFollow: a provider that is down is said once, does not end Run, and comes back.
func TestFollow(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	i.set(func() { i.down = true })
	core, logs := observer.New(zap.InfoLevel)
	ps, err := New(Issuers{i.config()}, zap.New(core))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- ps.Run(ctx) }()
	until := func(text string) {
		t.Helper()
		for deadline := time.Now().Add(30 * time.Second); logs.FilterMessageSnippet(text).Len() == 0; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("no log of %q: %v", text, logs.All())
			}
		}
	}
	until("cannot be reached")
	if _, ok, err := ps.AuthenticateToken(ctx, i.token(t, nil)); ok || err == nil {
		t.Errorf("%v, %v while the keys are not known", ok, err)
	}
	i.set(func() { i.down = false })
	until("is reached again")
	token := i.token(t, nil)
	i.set(func() { i.down = true })
	if _, ok, err := ps.AuthenticateToken(ctx, token); !ok {
		t.Errorf("known keys count while the provider is down: %v", err)
	}
	if n := logs.FilterMessageSnippet("cannot be reached").Len(); n != 1 {
		t.Errorf("said %d times that it is down", n)
	}
	cancel()
	if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestSeveral: each provider's users are told apart, and none speaks for another.
func TestSeveral(t *testing.T) {
	t.Parallel()
	one, two := newIssuer(t), newIssuer(t)
	second := two.config()
	second.Name, second.Audiences = "shop", []string{"shop"}
	ps := providers(t, one.config(), second)
	for _, tt := range []struct {
		name, token, want string
	}{
		{"first", one.token(t, nil), "corp:alice"},
		{"second", two.token(t, map[string]any{"aud": "shop"}), "shop:alice"},
		{"audience of the first", two.token(t, nil), ""},
		{"key of the second", two.token(t, map[string]any{"iss": one.URL}), ""},
	} {
		who, ok, err := ps.AuthenticateToken(t.Context(), tt.token)
		if ok != (tt.want != "") || ok && who.User.GetName() != tt.want || !ok && err == nil {
			t.Errorf("%s: %v, %v", tt.name, ok, err)
		}
	}
}

func TestDiscoveryMismatch(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	i.set(func() { i.claimed = "https://other.example" })
	_, ok, err := providers(t, i.config()).AuthenticateToken(t.Context(), i.token(t, nil))
	if ok || err == nil || !strings.Contains(err.Error(), "other.example") {
		t.Errorf("%v, %v", ok, err)
	}
}

func TestUser(t *testing.T) {
	t.Parallel()
	type extra = map[string][]string
	for _, tt := range []struct {
		name   string
		issuer Issuer
		claims string
		user   string
		groups []string
		extra  extra
		fails  string
	}{
		{name: "defaults", claims: `{"sub":"a","groups":["x","y","x"],"jti":"7"}`, user: "n:a", groups: []string{"n:x", "n:y"}, extra: extra{ExtraCredential: {"JTI=7"}}},
		{name: "one group as text", claims: `{"sub":"a","groups":"x"}`, user: "n:a", groups: []string{"n:x"}},
		{name: "no groups", claims: `{"sub":"a"}`, user: "n:a"},
		{name: "no prefix", issuer: Issuer{UsernamePrefix: "-", GroupsPrefix: "-"}, claims: `{"sub":"a","groups":["x"]}`, user: "a", groups: []string{"x"}},
		{
			name: "reserved groups are left out", issuer: Issuer{GroupsPrefix: "-"},
			claims: `{"sub":"a","groups":["system:masters","x","system:authenticated",""]}`, user: "n:a", groups: []string{"x"},
		},
		{name: "reserved user", issuer: Issuer{UsernamePrefix: "-"}, claims: `{"sub":"system:admin"}`, fails: "reserved"},
		{name: "email", issuer: Issuer{UsernameClaim: "email"}, claims: `{"sub":"a","email":"a@b","email_verified":true}`, user: "n:a@b"},
		{name: "email of unknown state", issuer: Issuer{UsernameClaim: "email"}, claims: `{"email":"a@b"}`, user: "n:a@b"},
		{name: "email not verified", issuer: Issuer{UsernameClaim: "email"}, claims: `{"email":"a@b","email_verified":false}`, fails: "email_verified"},
		{name: "other claims", issuer: Issuer{GroupsClaim: "roles", ExtraClaims: map[string]string{"example.com/dept": "dept"}}, claims: `{"sub":"a","roles":["x"],"dept":["p","q"]}`, user: "n:a", groups: []string{"n:x"}, extra: extra{"example.com/dept": {"p", "q"}}},
		{name: "extra is no text", issuer: Issuer{ExtraClaims: map[string]string{"example.com/dept": "dept"}}, claims: `{"sub":"a","dept":{}}`, fails: "dept"},
		{name: "control characters", claims: `{"sub":"a\u001b[2J"}`, fails: "cannot be shown"},
		{name: "groups as an object", claims: `{"sub":"a","groups":{"x":1}}`, fails: "groups"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.issuer.Name = "n"
			c, err := parseClaims([]byte(tt.claims))
			if err != nil {
				t.Fatal(err)
			}
			who, err := tt.issuer.user(c)
			if tt.fails != "" {
				if err == nil || !strings.Contains(err.Error(), tt.fails) {
					t.Errorf("%v, want %s", err, tt.fails)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			want := extra{ExtraIssuer: {"n"}}
			for k, v := range tt.extra {
				want[k] = v
			}
			if d := cmp.Diff(append(tt.groups, "system:authenticated"), who.Groups); d != "" || who.Name != tt.user {
				t.Errorf("%s, groups (-want +got):\n%s", who.Name, d)
			}
			if d := cmp.Diff(want, who.Extra); d != "" {
				t.Errorf("extra (-want +got):\n%s", d)
			}
		})
	}
}
