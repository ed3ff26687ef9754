// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package ca

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/drover-io/drover/pki/identity"
)

func TestKeysAtRest(t *testing.T) {
	t.Parallel()
	kv := bucket(t)
	dir := t.TempDir()
	cfg := Config{Dir: dir, KV: kv, Password: []byte("correct horse")}
	if _, err := Open(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{rootKeyFile, issuerKeyFile} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(text, []byte("BEGIN ENCRYPTED PRIVATE KEY")) {
			t.Errorf("%s is not encrypted", name)
		}
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", name, info, err)
		}
	}
	for _, tt := range []struct {
		name, password, want string
		modes                map[string]fs.FileMode
	}{
		{"right password", "correct horse", "", nil},
		{"wrong password", "wrong", "wrong CA password", nil},
		{"no password", "", "is encrypted: give the CA password", nil},
		{"readable intermediate key", "correct horse", "mode 0644, want 0600", map[string]fs.FileMode{issuerKeyFile: 0o644}},
		{"readable root key", "correct horse", "mode 0640, want 0600", map[string]fs.FileMode{issuerKeyFile: 0o600, rootKeyFile: 0o640}},
	} {
		for name, mode := range tt.modes {
			if err := os.Chmod(filepath.Join(dir, name), mode); err != nil {
				t.Fatal(err)
			}
		}
		cfg.Password = []byte(tt.password)
		_, err := Open(t.Context(), cfg)
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: error is %v, want %q", tt.name, err, tt.want)
		}
	}
}

func TestRestartKeepsCA(t *testing.T) {
	t.Parallel()
	data, dir := t.TempDir(), t.TempDir()
	kv, stop := startNATS(t, data)
	ca, err := Open(t.Context(), Config{Dir: dir, KV: kv, TrustDomain: "fleet.test"})
	if err != nil {
		t.Fatal(err)
	}
	_, chain, issued := agent(t, ca, "paris")
	if err := ca.Revoke(t.Context(), issued.Serial, CodeKeyCompromise, "stolen"); err != nil {
		t.Fatal(err)
	}
	stop()

	kv, _ = startNATS(t, data)
	again, err := Open(t.Context(), Config{Dir: dir, KV: kv})
	if err != nil {
		t.Fatal(err)
	}
	if again.TrustDomain() != "fleet.test" || again.Pins()[0] != ca.Pins()[0] || !again.Issuer().Equal(ca.Issuer()) {
		t.Error("the CA changed over a restart")
	}
	if _, err := identity.VerifyClient(chain, again.RootPool(), "fleet.test", time.Now()); err != nil {
		t.Errorf("a certificate from before the restart: %v", err)
	}
	if revoked, err := again.Revoked(t.Context(), issued.Serial); err != nil || !revoked {
		t.Errorf("the revocation did not survive the restart: %t %v", revoked, err)
	}
	_, err = Open(t.Context(), Config{Dir: dir, KV: kv, TrustDomain: "other.test"})
	if err == nil || !strings.Contains(err.Error(), "cannot be changed") {
		t.Errorf("another trust domain: error is %v", err)
	}
}

var errCrash = errors.New("crash")

// crashing returns a material that fails at the n-th write, before or after it.
func crashing(dir string, n int, after bool) *material {
	count := 0
	return &material{dir: dir, log: zap.NewNop(), write: func(path string, data []byte, mode fs.FileMode) error {
		count++
		if count == n && !after {
			return errCrash
		}
		if err := identity.WriteFile(path, data, mode); err != nil {
			return err
		}
		if count == n {
			return errCrash
		}
		return nil
	}}
}

func TestCrashDuringCreation(t *testing.T) {
	t.Parallel()
	for n := 1; n <= 4; n++ {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("write %d after %t", n, after), func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				if _, err := crashing(dir, n, after).open("fleet.test"); !errors.Is(err, errCrash) {
					t.Fatalf("error is %v", err)
				}
				root, _ := os.ReadFile(filepath.Join(dir, rootsFile))
				l, err := crashing(dir, 0, false).open("fleet.test")
				if err != nil {
					t.Fatal(err)
				}
				if root != nil && !bytes.Equal(root, identity.MarshalCerts(l.roots)) {
					t.Error("a root that was on disk was replaced")
				}
				l2, err := crashing(dir, 1, false).open("")
				if err != nil {
					t.Fatalf("third start: %v", err)
				}
				if !l2.issuer.cert.Equal(l.issuer.cert) || l2.trustDomain != "fleet.test" {
					t.Error("the third start has another CA")
				}
			})
		}
	}
}

func TestCrashDuringRotation(t *testing.T) {
	t.Parallel()
	for n := 1; n <= 3; n++ {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("write %d after %t", n, after), func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				l, err := crashing(dir, 0, false).open("fleet.test")
				if err != nil {
					t.Fatal(err)
				}
				if _, err := crashing(dir, n, after).rotate(l.roots, l.trustDomain); !errors.Is(err, errCrash) {
					t.Fatalf("error is %v", err)
				}
				m := crashing(dir, 0, false)
				if _, err := m.open(""); err != nil {
					t.Fatal(err)
				}
				// A second attempt must not lose the key that is in use.
				if _, err := crashing(dir, 2, true).rotate(l.roots, l.trustDomain); !errors.Is(err, errCrash) {
					t.Fatalf("error is %v", err)
				}
				if _, err := m.open(""); err != nil {
					t.Fatalf("after two crashes: %v", err)
				}
				if _, err := m.rotate(l.roots, l.trustDomain); err != nil {
					t.Fatal(err)
				}
				done, err := m.open("")
				if err != nil {
					t.Fatal(err)
				}
				if done.issuer.cert.Equal(l.issuer.cert) {
					t.Error("the intermediate was not rotated")
				}
			})
		}
	}
}

func TestLostFiles(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, remove, want string
	}{
		{"offline root", rootKeyFile, ""},
		{"intermediate certificate", issuerCertFile, ""}, // made again under the same root
		{"intermediate key", issuerKeyFile, issuerKeyFile},
		{"roots", rootsFile, rootsFile},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := crashing(t.TempDir(), 0, false)
			l, err := m.open("fleet.test")
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Remove(m.path(tt.remove)); err != nil {
				t.Fatal(err)
			}
			again, err := m.open("")
			if tt.want != "" {
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Fatalf("error is %v, want %q", err, tt.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if !again.roots[0].Equal(l.roots[0]) || again.trustDomain != "fleet.test" {
				t.Error("the CA is another one")
			}
		})
	}
	t.Run("offline root and intermediate certificate", func(t *testing.T) {
		t.Parallel()
		m := crashing(t.TempDir(), 0, false)
		if _, err := m.open("fleet.test"); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{rootKeyFile, issuerCertFile} {
			if err := os.Remove(m.path(name)); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := m.open(""); err == nil || !strings.Contains(err.Error(), "the root key is not here") {
			t.Errorf("error is %v", err)
		}
	})
	t.Run("files of two authorities", func(t *testing.T) {
		t.Parallel()
		one, two := crashing(t.TempDir(), 0, false), crashing(t.TempDir(), 0, false)
		for _, m := range []*material{one, two} {
			if _, err := m.open("fleet.test"); err != nil {
				t.Fatal(err)
			}
		}
		text, err := os.ReadFile(two.path(rootsFile))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(one.path(rootsFile), text, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := one.open(""); err == nil || !strings.Contains(err.Error(), "different authorities") {
			t.Errorf("error is %v", err)
		}
	})
}

// TestRotateIntermediate: what was signed before stays good, and what is signed
// after is good for those who knew only what was before.
func TestRotateIntermediate(t *testing.T) {
	t.Parallel()
	dir, kv := t.TempDir(), bucket(t)
	ca := open(t, func(cfg *Config) { cfg.Dir, cfg.KV = dir, kv })
	old := ca.Issuer()
	_, before, issued := agent(t, ca, "paris")
	if err := ca.RotateIntermediate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if ca.Issuer().Equal(old) {
		t.Fatal("the intermediate is the old one")
	}
	_, after, _ := agent(t, ca, "paris")
	for name, chain := range map[string][]*x509.Certificate{"before": before, "after": after} {
		if _, err := identity.VerifyClient(chain, ca.RootPool(), "fleet.test", time.Now()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	hub, err := ca.HubCertificate(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := identity.VerifyHub(parseAll(t, hub), identity.Trust{TrustDomain: "fleet.test", Pins: ca.Pins()}, time.Now()); err != nil {
		t.Error(err)
	}
	if err := ca.Revoke(t.Context(), issued.Serial, CodeSuperseded, "joined again"); err != nil {
		t.Error(err)
	}
	again := open(t, func(cfg *Config) { cfg.Dir, cfg.KV = dir, kv })
	if !again.Issuer().Equal(ca.Issuer()) {
		t.Error("a restart brought another intermediate")
	}
	if _, err := os.Stat(filepath.Join(dir, oldKeyFile)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the old key is still there: %v", err)
	}
}

// TestRotationIsDue: an intermediate past half of its life is replaced at the start;
// without the root key it is kept, and signing goes on.
func TestRotationIsDue(t *testing.T) {
	t.Parallel()
	for _, offline := range []bool{false, true} {
		t.Run(fmt.Sprintf("root offline %t", offline), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			m := crashing(dir, 0, false)
			l, err := m.open("fleet.test")
			if err != nil {
				t.Fatal(err)
			}
			root, rootKey, err := m.loadRootKey(l.roots)
			if err != nil {
				t.Fatal(err)
			}
			// Ends soon, but began as always: more than half of its life is over.
			worn, err := newIntermediateFor(root, rootKey, "fleet.test", maxBackdate/2)
			if err != nil {
				t.Fatal(err)
			}
			if err := m.saveKey(issuerKeyFile, worn.signer); err != nil {
				t.Fatal(err)
			}
			if err := m.write(m.path(issuerCertFile), identity.MarshalCerts([]*x509.Certificate{worn.cert}), 0o644); err != nil {
				t.Fatal(err)
			}
			if offline {
				if err := os.Remove(m.path(rootKeyFile)); err != nil {
					t.Fatal(err)
				}
			}
			ca := open(t, func(cfg *Config) {
				cfg.Dir, cfg.AgentTTL, cfg.ServerTTL = dir, time.Minute, time.Minute
			})
			if rotated := !ca.Issuer().Equal(worn.cert); rotated == offline {
				t.Errorf("rotated: %t", rotated)
			}
			agent(t, ca, "paris")
		})
	}
}

func TestBucketSettings(t *testing.T) {
	t.Parallel()
	kv := bucketWith(t, jetstream.KeyValueConfig{Bucket: "plain"})
	_, err := Open(t.Context(), Config{Dir: t.TempDir(), KV: kv})
	if err == nil || !strings.Contains(err.Error(), "no limit marker TTL") {
		t.Errorf("error is %v", err)
	}
}
