// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package openid

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
)

const (
	// keysEvery is how often keys are fetched anew, so that one that the provider
	// withdrew is not accepted for longer. Unknown keys are looked for at once, but
	// no more often than keysPause: else anybody could make the hub flood the provider.
	keysEvery = 5 * time.Minute
	keysPause = 10 * time.Second
)

// signingAlgorithms are those with a public key. "none", and those with a shared
// secret, for which a public key could be mistaken, are not among them.
func signingAlgorithms() []string {
	return []string{oidc.RS256, oidc.RS384, oidc.RS512, oidc.ES256, oidc.ES384, oidc.ES512, oidc.PS256, oidc.PS384, oidc.PS512, oidc.EdDSA}
}

var errNoKey = errors.New("signed with a key that the provider does not publish")

// keySet are the keys that a provider signs with.
type keySet struct {
	// load fetches the keys.
	load func(context.Context) ([]jose.JSONWebKey, error)

	loading chan struct{} // holds a token while load runs

	mu     sync.Mutex
	keys   []jose.JSONWebKey
	loaded bool
	tried  time.Time
	err    error // of the last attempt
}

var _ oidc.KeySet = (*keySet)(nil)

func newKeySet(load func(context.Context) ([]jose.JSONWebKey, error)) *keySet {
	return &keySet{load: load, loading: make(chan struct{}, 1)}
}

// VerifySignature implements oidc.KeySet.
func (k *keySet) VerifySignature(ctx context.Context, token string) ([]byte, error) {
	var algorithms []jose.SignatureAlgorithm
	for _, a := range signingAlgorithms() {
		algorithms = append(algorithms, jose.SignatureAlgorithm(a))
	}
	jws, err := jose.ParseSigned(token, algorithms)
	if err != nil || len(jws.Signatures) != 1 {
		return nil, errors.New("not a token with one signature of a known kind")
	}
	payload, known, err := k.try(jws)
	if known || err == nil {
		return payload, err
	}
	if err := k.refresh(ctx, keysPause); err != nil {
		return nil, fmt.Errorf("%w, and asking for new keys failed: %w", errNoKey, err)
	}
	payload, _, err = k.try(jws)
	return payload, err
}

// try verifies with the keys at hand; known says that one of them is the one.
func (k *keySet) try(jws *jose.JSONWebSignature) (payload []byte, known bool, err error) {
	k.mu.Lock()
	keys := k.keys
	k.mu.Unlock()
	header := jws.Signatures[0].Header
	for i := range keys {
		key := &keys[i]
		if key.Use == "enc" || key.Algorithm != "" && key.Algorithm != header.Algorithm || header.KeyID != "" && key.KeyID != header.KeyID {
			continue
		}
		if payload, err := jws.Verify(key); err == nil {
			return payload, true, nil
		}
		// A key without a name may be one of many.
		known = known || header.KeyID != ""
	}
	if known {
		return nil, true, errors.New("the signature is wrong")
	}
	return nil, false, errNoKey
}

// refresh fetches the keys unless that was tried within pause. Concurrent calls
// make one fetch. After a failure the keys at hand stay.
func (k *keySet) refresh(ctx context.Context, pause time.Duration) error {
	select {
	case k.loading <- struct{}{}:
		defer func() { <-k.loading }()
	case <-ctx.Done():
		return ctx.Err()
	}
	k.mu.Lock()
	recent, last := !k.tried.IsZero() && time.Since(k.tried) < pause, k.err
	k.mu.Unlock()
	if recent {
		return last
	}
	// The fetch is everybody's: who gives up must not make it fail for others.
	fetch, cancel := context.WithTimeout(context.WithoutCancel(ctx), providerTimeout)
	defer cancel()
	keys, err := k.load(fetch)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.tried, k.err = time.Now(), err
	if err == nil {
		k.keys, k.loaded = keys, true
	}
	return err
}

// fetchKeys reads a JSON Web Key Set. A key of a kind that is not known is left out.
func fetchKeys(ctx context.Context, client *http.Client, url string) ([]jose.JSONWebKey, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("fetch keys: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("fetch keys: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("fetch keys: %s answered %s", url, resp.Status)
	}
	return parseKeys(body)
}

func parseKeys(body []byte) ([]jose.JSONWebKey, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(body, &set); err != nil {
		return nil, fmt.Errorf("read keys: %w", err)
	}
	var keys []jose.JSONWebKey
	for _, raw := range set.Keys {
		var key jose.JSONWebKey
		if key.UnmarshalJSON(raw) == nil && key.Valid() && key.IsPublic() {
			keys = append(keys, key)
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("read keys: the provider publishes none that can be used")
	}
	return keys, nil
}
