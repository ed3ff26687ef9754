// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package ca

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"log"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/smallstep/certificates/authority"
	"github.com/smallstep/certificates/authority/config"
	"github.com/smallstep/certificates/authority/provisioner"
	"github.com/smallstep/certificates/db"

	"github.com/drover-io/drover/pki/identity"
)

// TestSmallstepSharpEdges pins what this package works around, so that an upgrade
// that changes it is seen. A failure here is no bug by itself: look at the code that
// avoids the edge.
func TestSmallstepSharpEdges(t *testing.T) {
	t.Parallel()
	ca := open(t, nil)

	t.Run("renew verifies nothing", func(t *testing.T) {
		template := leafTemplate("paris")
		template.NotBefore, template.NotAfter = time.Now().Add(-400*24*time.Hour), time.Now().Add(-180*24*time.Hour)
		key := newKey(t)
		template.PublicKey = key.Public()
		forged := sign(t, template, template, key) // self-signed and long over
		if _, err := ca.engine.auth.RenewContext(t.Context(), forged, nil); err != nil {
			t.Errorf("RenewContext now refuses a self-signed expired certificate: %v", err)
		}
	})

	t.Run("leaf outlives issuer", func(t *testing.T) {
		root, rootKey, err := ca.files.loadRootKey(ca.roots)
		if err != nil {
			t.Fatal(err)
		}
		short, err := newIntermediateFor(root, rootKey, ca.td, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		tokens, err := newTokenSigner("agents", clientTemplate, ca.td, 24*time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		auth, err := authority.NewEmbedded(
			authority.WithConfig(bareConfig(tokens.prov)), authority.WithDatabase(ca.store), authority.WithQuietInit(),
			authority.WithX509RootCerts(root), authority.WithX509SignerChain([]*x509.Certificate{short.cert}, short.signer),
		)
		if err != nil {
			t.Fatal(err)
		}
		chain, err := (&engine{auth: auth}).sign(t.Context(), tokens, request(t, "paris"), "paris",
			[]string{identity.ClusterURI(ca.td, "paris").String()}, nil)
		if err != nil || !chain[0].NotAfter.After(short.cert.NotAfter) {
			t.Errorf("the authority itself now refuses: %v", err)
		}
	})

	t.Run("no database, no revocation", func(t *testing.T) {
		tokens, err := newTokenSigner("agents", clientTemplate, ca.td, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		auth, err := authority.NewEmbedded(
			authority.WithConfig(bareConfig(tokens.prov)), authority.WithQuietInit(),
			authority.WithX509RootCerts(ca.roots...), authority.WithX509SignerFunc(ca.currentIssuer),
		)
		if err != nil {
			t.Fatal(err)
		}
		err = auth.Revoke(provisioner.NewContextWithMethod(t.Context(), provisioner.RevokeMethod),
			&authority.RevokeOptions{Serial: "1", MTLS: true, PassiveOnly: true, Crt: ca.Issuer()})
		if err == nil || !strings.Contains(err.Error(), "no persistence layer") {
			t.Errorf("error is %v", err)
		}
	})

	t.Run("second revoke", func(t *testing.T) {
		_, _, issued := agent(t, ca, "paris")
		revoke := func() error {
			return ca.engine.auth.Revoke(provisioner.NewContextWithMethod(t.Context(), provisioner.RevokeMethod),
				&authority.RevokeOptions{Serial: issued.Serial, MTLS: true, PassiveOnly: true, Crt: issued.Leaf})
		}
		if err := revoke(); err != nil {
			t.Fatal(err)
		}
		if err := revoke(); err == nil || !strings.Contains(err.Error(), "already revoked") {
			t.Errorf("error is %v", err)
		}
		if err := ca.Revoke(t.Context(), issued.Serial, CodeCessation, "removed"); err != nil {
			t.Errorf("our own second revoke: %v", err)
		}
	})

	t.Run("broken provisioner", func(t *testing.T) {
		tokens, err := newTokenSigner("agents", clientTemplate, ca.td, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		tokens.prov.Type = ""
		auth, err := authority.NewEmbedded(
			authority.WithConfig(bareConfig(tokens.prov)), authority.WithQuietInit(),
			authority.WithX509RootCerts(ca.roots...), authority.WithX509SignerFunc(ca.currentIssuer),
		)
		if err != nil {
			t.Fatalf("the authority itself now refuses: %v", err)
		}
		err = checkProvisioners(auth, tokens)
		if err == nil || !strings.Contains(err.Error(), "provisioner agents did not start: provisioner type cannot be empty") {
			t.Errorf("error is %v", err)
		}
	})
}

func bareConfig(p provisioner.Interface) *config.Config {
	return &config.Config{
		DNSNames:        []string{"hub.fleet.test"},
		AuthorityConfig: &config.AuthConfig{Backdate: &provisioner.Duration{}, Provisioners: provisioner.List{p}},
	}
}

func request(t *testing.T, name string) *x509.CertificateRequest {
	t.Helper()
	csr, err := identity.ParseRequest(newCSR(t, newKey(t), name), name)
	if err != nil {
		t.Fatal(err)
	}
	return csr
}

// TestOneTimeToken: of many that spend one token at once, one wins; and a token is good for its own request only.
func TestOneTimeToken(t *testing.T) {
	t.Parallel()
	ca := open(t, nil)
	csr := request(t, "paris")
	sans := []string{identity.ClusterURI(ca.td, "paris").String()}
	token, err := ca.engine.agents.mint(csr, "paris", sans, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ca.engine.spend(t.Context(), token, request(t, "paris"), time.Time{}); err == nil {
		t.Error("a token was good for another request")
	}
	if token, err = ca.engine.agents.mint(csr, "paris", sans, nil); err != nil {
		t.Fatal(err)
	}
	var won atomic.Int64
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			_, err := ca.engine.spend(context.Background(), token, csr, time.Time{})
			switch {
			case err == nil:
				won.Add(1)
			case !strings.Contains(err.Error(), "already used"):
				t.Errorf("error is %v", err)
			case strings.Contains(err.Error(), token):
				t.Error("the error shows the token")
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 {
		t.Errorf("%d of 20 spent the token", won.Load())
	}
}

// TestLogsNothing: the authority writes to the standard logger, past the hub's own.
// What Open arranges must leave it nothing to say. Not parallel: the logger is global.
func TestLogsNothing(t *testing.T) {
	var out bytes.Buffer
	log.SetOutput(&out)
	defer log.SetOutput(os.Stderr)
	ca := open(t, nil)
	_, _, issued := agent(t, ca, "paris")
	if err := ca.Revoke(t.Context(), issued.Serial, CodeCessation, "removed"); err != nil {
		t.Fatal(err)
	}
	if out.Len() > 0 {
		t.Errorf("written to the standard logger:\n%s", out.String())
	}
}

func TestRevoke(t *testing.T) {
	t.Parallel()
	ca := open(t, nil)
	_, _, issued := agent(t, ca, "paris")
	_, _, kept := agent(t, ca, "lyon")
	for _, tt := range []struct {
		name, serial string
		code         int
		wantErr      string
	}{
		{"known", issued.Serial, CodeKeyCompromise, ""},
		{"again", issued.Serial, CodeCessation, ""},
		{"unknown", "123456", CodeSuperseded, ""},
		{"wildcard", ">", 1, "not a decimal number"},
		{"empty", "", 1, "not a decimal number"},
		{"hex", "0xff", 1, "not a decimal number"},
		{"bad code", "1", 7, "reason code"},
	} {
		err := ca.Revoke(t.Context(), tt.serial, tt.code, "test")
		if tt.wantErr == "" && err != nil || tt.wantErr != "" && (err == nil || !strings.Contains(err.Error(), tt.wantErr)) {
			t.Errorf("%s: error is %v, want %q", tt.name, err, tt.wantErr)
		}
	}
	for serial, want := range map[string]bool{issued.Serial: true, "123456": true, kept.Serial: false} {
		if got, err := ca.Revoked(t.Context(), serial); err != nil || got != want {
			t.Errorf("%s: revoked is %t (%v), want %t", serial, got, err, want)
		}
	}
	der, err := ca.CRL(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		t.Fatal(err)
	}
	if err := list.CheckSignatureFrom(ca.Issuer()); err != nil {
		t.Error(err)
	}
	codes := map[string]int{}
	for _, entry := range list.RevokedCertificateEntries {
		codes[entry.SerialNumber.String()] = entry.ReasonCode
	}
	if len(codes) != 2 || codes[issued.Serial] != CodeKeyCompromise || codes["123456"] != CodeSuperseded {
		t.Errorf("the list has %v", codes)
	}
}

// TestStoreDown: without its store the CA signs nothing and calls everything revoked.
func TestStoreDown(t *testing.T) {
	t.Parallel()
	kv, stop := startNATS(t, t.TempDir())
	ca := open(t, func(cfg *Config) { cfg.KV = kv })
	_, _, issued := agent(t, ca, "paris")
	stop()
	if revoked, err := ca.Revoked(t.Context(), issued.Serial); err == nil || !revoked {
		t.Errorf("revoked is %t, error is %v", revoked, err)
	}
	if _, err := ca.SignAgent(t.Context(), newCSR(t, newKey(t), "paris"), "paris"); err == nil {
		t.Error("signed without a store")
	}
	if err := ca.Revoke(t.Context(), issued.Serial, 1, ""); err == nil {
		t.Error("revoked without a store")
	}
}

// TestStoreConformance checks the parts that the authority finds by type assertion.
func TestStoreConformance(t *testing.T) {
	t.Parallel()
	ca := open(t, nil)
	var _ db.CertificateRevocationListDB = ca.store
	_, _, issued := agent(t, ca, "paris")
	got, err := ca.store.GetCertificate(issued.Serial)
	if err != nil || !got.Equal(issued.Leaf) {
		t.Errorf("the signed certificate was not stored: %v", err)
	}
	if err := ca.store.StoreCertificate(issued.Leaf); err == nil {
		t.Error("a serial was stored twice")
	}
	if ok, err := ca.store.UseToken("not hex", "x"); ok || err == nil {
		t.Error("a token with a bad id was accepted")
	}
	if err := ca.store.RevokeSSH(nil); !errors.Is(err, db.ErrNotImplemented) {
		t.Error(err)
	}
	status, err := ca.cfg.KV.Status(t.Context())
	if err != nil || status.LimitMarkerTTL() != time.Minute || status.History() != 1 {
		t.Errorf("bucket settings: %v %v", status, err)
	}
	entry, err := ca.cfg.KV.Get(t.Context(), certKeys+issued.Serial)
	if err != nil || !bytes.Equal(entry.Value(), issued.Leaf.Raw) {
		t.Errorf("the record is not the DER: %v", err)
	}
}

func BenchmarkSignAgent(b *testing.B) {
	ca := open(b, nil)
	csr := newCSR(b, newKey(b), "paris")
	for b.Loop() {
		if _, err := ca.SignAgent(b.Context(), csr, "paris"); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "signs/s")
}

func BenchmarkRevoke(b *testing.B) {
	ca := open(b, nil)
	serial := int64(1000)
	for b.Loop() {
		serial++
		if err := ca.Revoke(b.Context(), strconv.FormatInt(serial, 10), CodeSuperseded, ""); err != nil {
			b.Fatal(err)
		}
	}
}
