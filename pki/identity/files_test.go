// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// join takes files through a first enrolment.
func join(t *testing.T, files *Files, ca *testCA, name string) *Credential {
	t.Helper()
	key, err := files.PendingKey()
	if err != nil {
		t.Fatal(err)
	}
	c, err := files.Install(pems(ca.agent(t, key.Public(), name)), pems(ca.root))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestFiles(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "state")
	files, ca := NewFiles(dir), newTestCA(t)
	if _, err := files.Load(); !errors.Is(err, ErrNoCredential) {
		t.Fatalf("error is %v, want ErrNoCredential", err)
	}
	first, err := files.PendingKey()
	if err != nil {
		t.Fatal(err)
	}
	again, err := NewFiles(dir).PendingKey()
	if err != nil || !again.Equal(first) {
		t.Fatalf("a restart before the answer changed the key: %v", err)
	}
	c := join(t, files, ca, "paris")
	if !c.Key.Equal(first) {
		t.Error("the credential has another key than the request")
	}
	loaded, err := NewFiles(dir).Load()
	if err != nil {
		t.Fatal(err)
	}
	td, name, err := loaded.ClusterID()
	if err != nil || td != "fleet.test" || name != "paris" {
		t.Errorf("identity is %s %s %v", td, name, err)
	}
	if cert := loaded.TLSCertificate(); len(cert.Certificate) != 1 || cert.Leaf != loaded.Leaf() {
		t.Error("wrong certificate for TLS")
	}
	next, err := files.PendingKey()
	if err != nil || next.Equal(first) {
		t.Errorf("a renewal has the old key: %v", err)
	}
	if err := files.DropPending(); err != nil {
		t.Error(err)
	}
	for file, mode := range map[string]os.FileMode{credentialFile: 0o600, rootsFile: 0o644, ".": 0o700} {
		if info, err := os.Stat(filepath.Join(dir, file)); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v %v", file, info, err)
		}
	}
	if err := files.Remove(); err != nil {
		t.Error(err)
	}
	if _, err := files.Load(); !errors.Is(err, ErrNoCredential) {
		t.Errorf("after Remove: %v", err)
	}
}

func TestInstallRefuses(t *testing.T) {
	t.Parallel()
	files, ca, other := NewFiles(t.TempDir()), newTestCA(t), newTestCA(t)
	if _, err := files.Install(nil, nil); err == nil {
		t.Error("installed without a pending key")
	}
	old := join(t, files, ca, "paris")
	key, err := files.PendingKey()
	if err != nil {
		t.Fatal(err)
	}
	leaf := ca.agent(t, key.Public(), "paris")
	for _, tt := range []struct {
		name         string
		chain, roots []byte
		want         string
	}{
		{"no chain", nil, pems(ca.root), "chain: no PEM block"},
		{"no roots", pems(leaf), nil, "roots: no PEM block"},
		{"other key", pems(old.Leaf()), pems(ca.root), "another key"},
		{"other roots", pems(leaf), pems(other.root), "does not lead to the roots"},
		{"a key in the chain", append(pems(leaf), []byte("-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n")...), pems(ca.root), "PEM block"},
	} {
		if _, err := files.Install(tt.chain, tt.roots); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error is %v, want %q", tt.name, err, tt.want)
		}
	}
	if c, err := files.Load(); err != nil || !c.Leaf().Equal(old.Leaf()) {
		t.Errorf("the old credential is gone: %v", err)
	}
	if _, err := files.Install(pems(leaf), pems(ca.root)); err != nil {
		t.Errorf("the right answer after wrong ones: %v", err)
	}
}

func TestLoadRefuses(t *testing.T) {
	t.Parallel()
	ca := newTestCA(t)
	for _, tt := range []struct {
		name, want string
		damage     func(dir string) error
	}{
		{"readable", "mode 0644, want 0600", func(dir string) error { return os.Chmod(filepath.Join(dir, credentialFile), 0o644) }},
		{"empty", "first PEM block", func(dir string) error { return os.WriteFile(filepath.Join(dir, credentialFile), nil, 0o600) }},
		{"cut", "read credential", func(dir string) error { return os.Truncate(filepath.Join(dir, credentialFile), 300) }},
		{"no roots", "read roots", func(dir string) error { return os.Remove(filepath.Join(dir, rootsFile)) }},
	} {
		dir := t.TempDir()
		join(t, NewFiles(dir), ca, "paris")
		if err := tt.damage(dir); err != nil {
			t.Fatal(err)
		}
		_, err := NewFiles(dir).Load()
		if err == nil || errors.Is(err, ErrNoCredential) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error is %v, want %q", tt.name, err, tt.want)
		}
	}
}

// TestInterruption renews a credential under a new root and stops at every change
// to the disk in turn. After each stop, what Load finds must be a whole credential
// whose chain leads to the stored roots, and a new attempt must succeed.
func TestInterruption(t *testing.T) {
	t.Parallel()
	oldCA, newCA := newTestCA(t), newTestCA(t)
	crash := errors.New("crash")
	for n := 1; ; n++ {
		dir := t.TempDir()
		old := join(t, NewFiles(dir), oldCA, "paris")
		count, at := 0, ""
		files := NewFiles(dir)
		files.step = func(what string) error {
			count++
			if count == n {
				at = strings.ReplaceAll(what, dir, "")
				return crash
			}
			return nil
		}
		// renew is what the agent does: key, request, answer, install.
		renew := func(files *Files) (sent string, err error) {
			key, err := files.PendingKey()
			if err != nil {
				return "", err
			}
			sent = Fingerprint(key.Public())
			_, err = files.Install(pems(newCA.agent(t, key.Public(), "paris")), pems(newCA.root, oldCA.root))
			return sent, err
		}
		sent, err := renew(files)
		if err == nil {
			if n < 12 {
				t.Errorf("only %d steps were seen", n-1)
			}
			return
		}
		if !errors.Is(err, crash) {
			t.Fatal(err)
		}
		t.Run(fmt.Sprintf("%02d %s", n, at), func(t *testing.T) {
			restarted := NewFiles(dir)
			got, err := restarted.Load()
			if err != nil {
				t.Fatal(err)
			}
			if err := got.check(); err != nil {
				t.Fatal(err)
			}
			isOld := got.Leaf().Equal(old.Leaf())
			if !isOld && CertFingerprint(got.Leaf()) != sent {
				t.Error("the credential is neither the old one nor the new one")
			}
			// The key that was sent is still there for the late answer, unless the
			// answer was installed already: then a new one is made.
			key, err := restarted.PendingKey()
			if err != nil {
				t.Fatal(err)
			}
			if sent != "" && isOld != (Fingerprint(key.Public()) == sent) {
				t.Errorf("old credential in use: %t, pending key is the one sent: %t", isOld, !isOld)
			}
			if _, err := renew(restarted); err != nil {
				t.Fatal(err)
			}
			last, err := NewFiles(dir).Load()
			if err != nil || last.Leaf().Equal(old.Leaf()) {
				t.Errorf("the second attempt did not renew: %v", err)
			}
			if _, err := last.Leaf().Verify(x509.VerifyOptions{
				Roots: pool(last.Roots), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
			}); err != nil {
				t.Error(err)
			}
			left, err := filepath.Glob(filepath.Join(dir, "*"))
			if err != nil || len(left) != 2 {
				t.Errorf("files left: %v %v", left, err)
			}
		})
	}
}
