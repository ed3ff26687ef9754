// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package openid

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"go.uber.org/goleak"
	"go.uber.org/zap"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// issuer publishes keys, and signs whatever a test wants: a real provider does not
// make the tokens that must be refused. Logins with a real one are in test/signin.
type issuer struct {
	*httptest.Server
	caFile string

	mu      sync.Mutex
	keys    []jose.JSONWebKey // private
	fetched int               // requests for keys
	down    bool
	claimed string // its own name for itself, if it lies
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	i := &issuer{}
	i.rotate(t, "first")
	mux := http.NewServeMux()
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		i.mu.Lock()
		defer i.mu.Unlock()
		if i.down {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		self := i.URL
		if i.claimed != "" {
			self = i.claimed
		}
		json.NewEncoder(w).Encode(map[string]any{ //nolint:errcheck // a test
			"issuer": self, "jwks_uri": i.URL + "/keys", "authorization_endpoint": i.URL + "/auth", "token_endpoint": i.URL + "/token",
		})
	})
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) {
		i.mu.Lock()
		defer i.mu.Unlock()
		i.fetched++
		set := jose.JSONWebKeySet{}
		for _, k := range i.keys {
			set.Keys = append(set.Keys, k.Public())
		}
		json.NewEncoder(w).Encode(set) //nolint:errcheck // a test
	})
	i.Server = httptest.NewTLSServer(mux)
	t.Cleanup(i.Close)
	i.caFile = filepath.Join(t.TempDir(), "ca.crt")
	if err := os.WriteFile(i.caFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return i
}

// rotate publishes only a new key.
func (i *issuer) rotate(t *testing.T, kid string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys = []jose.JSONWebKey{{Key: key, KeyID: kid, Algorithm: "ES256", Use: "sig"}}
}

func (i *issuer) key() jose.JSONWebKey {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.keys[0]
}

func (i *issuer) set(f func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	f()
}

func (i *issuer) fetches() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.fetched
}

// config is an issuer of the hub's options.
func (i *issuer) config() Issuer {
	return Issuer{Name: "corp", IssuerURL: i.URL, ClientID: "hub", CLIClientID: "cli", CAFile: i.caFile}
}

func providers(t *testing.T, list ...Issuer) *Providers {
	t.Helper()
	ps, err := New(list, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, p := range ps.providers {
			p.client.Transport.(bounded).next.(*http.Transport).CloseIdleConnections()
		}
	})
	return ps
}

// good are the claims of a token that is accepted.
func (i *issuer) good() map[string]any {
	now := time.Now()
	return map[string]any{
		"iss": i.URL, "aud": "cli", "sub": "alice", "exp": now.Add(time.Minute).Unix(), "iat": now.Unix(), "groups": []string{"staff"},
	}
}

func sign(t *testing.T, alg jose.SignatureAlgorithm, key any, claims map[string]any) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, nil)
	if err != nil {
		t.Fatal(err)
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	jws, err := signer.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	text, err := jws.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func (i *issuer) token(t *testing.T, change map[string]any) string {
	t.Helper()
	claims := i.good()
	for k, v := range change {
		if v == nil {
			delete(claims, k)
		} else {
			claims[k] = v
		}
	}
	key := i.key()
	return sign(t, jose.ES256, &key, claims)
}
