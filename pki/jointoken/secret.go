// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package jointoken

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
)

// New returns a token with a fresh id and secret. The cluster may be empty. The
// fields are checked by Encode, not here.
func New(urls, pins []string, trustDomain, cluster string) Token {
	var id [idBytes]byte
	var secret [secBytes]byte
	// crypto/rand.Read never fails: it ends the program instead.
	_, _ = rand.Read(id[:])
	_, _ = rand.Read(secret[:])
	return Token{
		URLs:        urls,
		Pins:        pins,
		TrustDomain: trustDomain,
		ID:          hex.EncodeToString(id[:]),
		Secret:      base64.RawURLEncoding.EncodeToString(secret[:]),
		Cluster:     cluster,
	}
}

// HashSecret returns the SHA-256 of the secret in lower-case hex, the only form
// of it that the hub stores. A plain hash is enough for 256 random bits.
func HashSecret(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// SecretMatches reports whether hash is HashSecret(secret), in time that does not
// depend on either value.
func SecretMatches(hash, secret string) bool {
	return subtle.ConstantTimeCompare([]byte(hash), []byte(HashSecret(secret))) == 1
}

// String shows the prefix and the public id only.
func (t Token) String() string {
	if t.ID == "" {
		return Prefix + "(no id)"
	}
	if !lowerHex(t.ID, idBytes) {
		return Prefix + "(bad id)"
	}
	return Prefix + t.ID
}

// GoString keeps the secret out of %#v.
func (t Token) GoString() string { return "jointoken.Token(" + t.String() + ")" }

// Format prints String for every verb. Without it a wrong verb, such as %d, would
// print the fields one by one.
func (t Token) Format(s fmt.State, verb rune) {
	text := t.String()
	if verb == 'v' && s.Flag('#') {
		text = t.GoString()
	}
	_, _ = io.WriteString(s, text)
}

// MarshalJSON keeps the secret out of structured logs and dumps: the result is
// the text of String. Encode is the only way to get the secret out.
func (t Token) MarshalJSON() ([]byte, error) { return json.Marshal(t.String()) }
