// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestKeyFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "agent.key")
	key := mustKey(t)
	if err := SaveKey(path, key); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		mode fs.FileMode
		want string
	}{
		{0o600, ""},
		{0o400, ""},
		{0o644, "mode 0644, want 0600"},
		{0o640, "mode 0640, want 0600"},
		{0o604, "mode 0604, want 0600"},
		{0o620, "mode 0620, want 0600"},
	} {
		if err := os.Chmod(path, tt.mode); err != nil {
			t.Fatal(err)
		}
		got, err := LoadKey(path)
		if tt.want == "" && (err != nil || !got.Equal(key)) || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%04o: error is %v, want %q", tt.mode, err, tt.want)
		}
	}
	// Written again, the mode is right again.
	if err := SaveKey(path, key); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadKey(path); err != nil {
		t.Error(err)
	}
}

func TestBadKeys(t *testing.T) {
	t.Parallel()
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(p384)
	if err != nil {
		t.Fatal(err)
	}
	good, err := MarshalKey(mustKey(t))
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{
		"empty":       nil,
		"text":        []byte("hello"),
		"P-384":       pem.EncodeToMemory(&pem.Block{Type: pemKey, Bytes: der}),
		"half":        good[:len(good)/2],
		"other block": pems(newTestCA(t).root),
		"no DER":      pem.EncodeToMemory(&pem.Block{Type: pemKey, Bytes: []byte{1, 2, 3}}),
	} {
		if _, err := ParseKey(text); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestFingerprint(t *testing.T) {
	t.Parallel()
	key := mustKey(t)
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(spki)
	if got, want := Fingerprint(key.Public()), hex.EncodeToString(sum[:]); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	carrier, err := Carrier(key)
	if err != nil {
		t.Fatal(err)
	}
	if CertFingerprint(carrier.Leaf) != Fingerprint(key.Public()) {
		t.Error("the certificate's fingerprint differs from its key's")
	}
	if got := Fingerprint("no key"); got != "" {
		t.Errorf("no key has fingerprint %q", got)
	}
}

func TestCarrier(t *testing.T) {
	t.Parallel()
	cert, err := Carrier(mustKey(t))
	if err != nil {
		t.Fatal(err)
	}
	leaf := cert.Leaf
	for _, at := range []time.Time{time.Unix(0, 0), time.Now(), time.Date(2241, 12, 31, 0, 0, 0, 0, time.UTC)} {
		if at.Before(leaf.NotBefore) || at.After(leaf.NotAfter) {
			t.Errorf("not valid at %s", at)
		}
	}
	if leaf.Subject.String() != "CN=join" || leaf.IsCA || len(leaf.URIs)+len(leaf.DNSNames) != 0 {
		t.Errorf("subject %s, CA %t", leaf.Subject, leaf.IsCA)
	}
	if _, err := VerifyClient([]*x509.Certificate{leaf}, pool([]*x509.Certificate{newTestCA(t).root}), "fleet.test", time.Now()); ReasonOf(err) != ReasonUntrusted {
		t.Errorf("a carrier certificate as a client: %v", err)
	}
}

func TestRequest(t *testing.T) {
	t.Parallel()
	key := mustKey(t)
	text, err := NewRequest(key, "paris")
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	for name, form := range map[string][]byte{"PEM": text, "DER": block.Bytes} {
		csr, err := ParseRequest(form, "paris")
		if err != nil || !key.PublicKey.Equal(csr.PublicKey) || len(csr.Extensions) != 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ParseRequest(text, "lyon"); err == nil || !strings.Contains(err.Error(), `common name is "paris", want "lyon"`) {
		t.Errorf("error is %v", err)
	}
	if _, err := NewRequest(key, "Paris"); err == nil {
		t.Error("a request for a bad name was made")
	}
}

func FuzzParseRequest(f *testing.F) {
	key := mustKey(f)
	text, err := NewRequest(key, "paris")
	if err != nil {
		f.Fatal(err)
	}
	block, _ := pem.Decode(text)
	f.Add(text)
	f.Add(block.Bytes)
	f.Add([]byte("-----BEGIN X-----\n-----END X-----\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		csr, err := ParseRequest(text, "paris")
		if err == nil && csr.Subject.CommonName != "paris" {
			t.Error("another name got through")
		}
	})
}

func FuzzParsePair(f *testing.F) {
	ca, key := newTestCA(f), mustKey(f)
	text, err := marshalPair(&Credential{Key: key, Chain: []*x509.Certificate{ca.agent(f, key.Public(), "paris"), ca.root}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add(bytes.Replace(text, []byte("PRIVATE"), []byte("PUBLIC"), 2))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := parsePair(text)
		if err == nil && !c.Key.PublicKey.Equal(c.Leaf().PublicKey) {
			t.Error("key and certificate do not fit")
		}
	})
}
