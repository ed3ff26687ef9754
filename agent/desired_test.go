// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/drover-io/drover/agent/state"
	"github.com/drover-io/drover/pki/identity"
	"github.com/drover-io/drover/shared/wire"
)

const testDomain = "fleet.test"

// desiredSigner signs lists as a hub does.
type desiredSigner struct {
	t          *testing.T
	key        *ecdsa.PrivateKey
	leaf, root *x509.Certificate
}

func newDesiredSigner(t *testing.T) *desiredSigner {
	t.Helper()
	key := func() *ecdsa.PrivateKey {
		k, err := identity.GenerateKey()
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	make := func(template, parent *x509.Certificate, pub, signer *ecdsa.PrivateKey) *x509.Certificate {
		der, err := x509.CreateCertificate(rand.Reader, template, parent, &pub.PublicKey, signer)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return cert
	}
	rootKey, leafKey, now := key(), key(), time.Now()
	rootTemplate := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "root"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	root := make(rootTemplate, rootTemplate, rootKey, rootKey)
	leaf := make(&x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: now.Add(-time.Minute), NotAfter: now.Add(time.Minute),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
		URIs: []*url.URL{identity.DesiredURI(testDomain)},
	}, root, leafKey, rootKey)
	return &desiredSigner{t: t, key: leafKey, leaf: leaf, root: root}
}

func (s *desiredSigner) sign(p wire.SignedDesired) wire.Envelope {
	s.t.Helper()
	payload, err := json.Marshal(p)
	if err != nil {
		s.t.Fatal(err)
	}
	sum := sha256.Sum256(wire.PAE(wire.PayloadDesired, payload))
	sig, err := ecdsa.SignASN1(rand.Reader, s.key, sum[:])
	if err != nil {
		s.t.Fatal(err)
	}
	return wire.Envelope{
		PayloadType: wire.PayloadDesired, Payload: payload, Signatures: []wire.Signature{{Sig: sig}},
		Chain: string(identity.MarshalCerts([]*x509.Certificate{s.leaf})),
	}
}

func (s *desiredSigner) opener() opener {
	return opener{trust: identity.Trust{TrustDomain: testDomain, Roots: []*x509.Certificate{s.root}}, cluster: "shop-1"}
}

func TestSignedList(t *testing.T) {
	t.Parallel()
	s := newDesiredSigner(t)
	item := func(n string) wire.Item { return wire.Item{Name: n, UID: "u" + n, Generation: 1, Digest: "sha256:x"} }
	page := func(i, n int, change func(*wire.SignedDesired)) wire.Envelope {
		p := wire.SignedDesired{Cluster: "shop-1", Epoch: "e/shop-1", Generation: 7, Page: i, Pages: n, Items: []wire.Item{item(string(rune('a' + i)))}}
		if change != nil {
			change(&p)
		}
		return s.sign(p)
	}
	good := []wire.Envelope{page(0, 2, nil), page(1, 2, nil)}
	got, err := s.opener().list(good, time.Now())
	if diff := cmp.Diff(wire.Desired{Epoch: "e/shop-1", Generation: 7, Items: []wire.Item{item("a"), item("b")}}, got); diff != "" || err != nil {
		t.Fatalf("%v\n%s", err, diff)
	}
	if _, err := s.opener().list(good, time.Time{}); err != nil {
		t.Errorf("from the disk: %v", err)
	}
	if _, err := s.opener().list(good, time.Now().Add(3*time.Hour)); err == nil {
		t.Error("a list of a signer that is over was taken")
	}
	damage := func(change func(e *wire.Envelope)) []wire.Envelope {
		e := page(0, 1, nil)
		change(&e)
		return []wire.Envelope{e}
	}
	for _, tt := range []struct {
		name  string
		pages []wire.Envelope
		want  string
	}{
		{"none", nil, "not signed"},
		{"one of two", good[:1], "do not belong together"},
		{"in the wrong order", []wire.Envelope{good[1], good[0]}, "do not belong together"},
		{"of two generations", []wire.Envelope{good[0], page(1, 2, func(p *wire.SignedDesired) { p.Generation = 8 })}, "do not belong together"},
		{"of two epochs", []wire.Envelope{good[0], page(1, 2, func(p *wire.SignedDesired) { p.Epoch = "f" })}, "do not belong together"},
		{"a work twice", []wire.Envelope{good[0], page(1, 2, func(p *wire.SignedDesired) { p.Items[0].UID = "ua" })}, "twice or without a uid"},
		{"another cluster's", []wire.Envelope{page(0, 1, func(p *wire.SignedDesired) { p.Cluster = "shop-2" })}, `that of cluster "shop-2"`},
		{"too many pages", []wire.Envelope{page(0, wire.MaxPages+1, nil)}, "page 0 of 201"},
		{"changed", damage(func(e *wire.Envelope) { e.Payload = bytes.Replace(e.Payload, []byte("ua"), []byte("ub"), 1) }), "does not match"},
		{"another type", damage(func(e *wire.Envelope) { e.PayloadType = "text/plain" }), "not a list"},
		{"no signature", damage(func(e *wire.Envelope) { e.Signatures = nil }), "0 signatures"},
		{"no chain", damage(func(e *wire.Envelope) { e.Chain = "" }), "the signer's certificate"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := s.opener().list(tt.pages, time.Now())
			if err == nil || !strings.Contains(err.Error(), tt.want) || len(got.Items) != 0 {
				t.Errorf("got %v, %v; want %q", got, err, tt.want)
			}
		})
	}
}

// TestTamperedList: what somebody wrote into the file is not applied, and said.
func TestTamperedList(t *testing.T) {
	t.Parallel()
	s := newDesiredSigner(t)
	path := t.TempDir()
	dir, err := state.Open(path, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	if err := dir.SaveDesired(wire.Desired{Epoch: "old", Items: []wire.Item{{Name: "x", UID: "x"}}}); err != nil {
		t.Fatal(err)
	}
	pages := []wire.Envelope{s.sign(wire.SignedDesired{Cluster: "shop-1", Epoch: "e", Generation: 3, Pages: 1, Items: []wire.Item{{Name: "a", UID: "ua"}}})}
	if err := dir.SaveSignedDesired(pages); err != nil {
		t.Fatal(err)
	}
	load := func() (*session, *observer.ObservedLogs) {
		core, logs := observer.New(zap.DebugLevel)
		creds := &credentials{home: home{TrustDomain: testDomain, Cluster: "shop-1"}}
		creds.current.Store(&identity.Credential{Roots: []*x509.Certificate{s.root}})
		ses := &session{dir: dir, creds: creds, log: zap.New(core)}
		if err := ses.loadDesired(); err != nil {
			t.Fatal(err)
		}
		return ses, logs
	}
	if ses, _ := load(); ses.desired.Generation != 3 || len(ses.desired.Items) != 1 || !ses.signed {
		t.Errorf("loaded %+v", ses.desired)
	}
	_, file, err := dir.SignedDesired()
	if err != nil {
		t.Fatal(err)
	}
	pages[0].Payload = bytes.Replace(pages[0].Payload, []byte(`"ua"`), []byte(`"ub"`), 1)
	if err := dir.SaveSignedDesired(pages); err != nil {
		t.Fatal(err)
	}
	ses, logs := load()
	if ses.desired.Generation != 0 || len(ses.desired.Items) != 0 || !ses.signed {
		t.Errorf("tampered, and loaded: %+v", ses.desired)
	}
	if all := logs.FilterMessageSnippet("not what the hub signed").All(); len(all) != 1 || all[0].ContextMap()["file"] != file {
		t.Errorf("logs %+v", logs.All())
	}
	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if ses, _ := load(); len(ses.desired.Items) != 0 {
		t.Errorf("damaged, and loaded: %+v", ses.desired)
	}
}

func TestFitting(t *testing.T) {
	t.Parallel()
	big := wire.Report{Error: strings.Repeat("x", 400_000)}
	small := wire.Report{Name: "a"}
	for _, tt := range []struct {
		reports []wire.Report
		want    int
	}{{[]wire.Report{small, small}, 2}, {[]wire.Report{big, big, big}, 2}, {[]wire.Report{{Error: strings.Repeat("x", 2_000_000)}, small}, 1}} {
		if got := len(fitting(tt.reports)); got != tt.want {
			t.Errorf("%d of %d fit, want %d", got, len(tt.reports), tt.want)
		}
	}
}

// TestFetch: a download that is cut goes on where it was; what is not the bundle
// is thrown away.
func TestFetch(t *testing.T) {
	t.Parallel()
	data := make([]byte, 400_000)
	if _, err := rand.Read(data); err != nil {
		t.Fatal(err)
	}
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	packed, digest := enc.EncodeAll(data, nil), state.Digest(data)
	var cut, asked, sent atomic.Int64
	var wrong atomic.Bool
	hub := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		w.Header().Set("Content-Encoding", "zstd")
		w.Header().Set("ETag", `"`+digest+`+zstd"`)
		body := packed
		if wrong.CompareAndSwap(true, false) {
			body = enc.EncodeAll([]byte("something else"), nil)
		}
		if cut.Add(-1) >= 0 {
			w.Header().Set("Content-Length", "400100")
			w.Write(body[:100_000]) //nolint:errcheck // the test's client sees it
			panic(http.ErrAbortHandler)
		}
		http.ServeContent(&counting{ResponseWriter: w, n: &sent}, r, "", time.Time{}, bytes.NewReader(body))
	}))
	defer hub.Close()
	dir, err := state.Open(t.TempDir(), zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	pool := x509.NewCertPool()
	pool.AddCert(hub.Certificate())
	f := &fetcher{dir: dir, urls: []string{hub.URL}, tls: func() *tls.Config { return &tls.Config{RootCAs: pool} }, log: zap.NewNop()}

	fetch := func() ([]byte, error) {
		r, err := f.bundle(t.Context(), digest)
		if err != nil {
			return nil, err
		}
		defer r.Close()
		return io.ReadAll(r)
	}
	cut.Store(1)
	got, err := fetch()
	if err != nil || !bytes.Equal(got, data) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	if asked.Load() != 2 || sent.Load() != int64(len(packed)-100_000) {
		t.Errorf("asked %d times, sent %d of %d bytes after the cut", asked.Load(), sent.Load(), len(packed))
	}
	if _, err := fetch(); err != nil || asked.Load() != 2 {
		t.Errorf("asked again for what is on the disk: %v", err)
	}
	// The whole is on the disk as a part already: the process ended just then.
	if _, err := dir.CollectContent(nil); err != nil {
		t.Fatal(err)
	}
	part, _, err := dir.OpenPart(digest)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := part.Write(packed); err != nil {
		t.Fatal(err)
	}
	part.Close()
	if got, err := fetch(); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if _, err := dir.CollectContent(nil); err != nil {
		t.Fatal(err)
	}
	wrong.Store(true)
	if got, err := fetch(); err != nil || !bytes.Equal(got, data) {
		t.Errorf("after something else came: %d bytes, %v", len(got), err)
	}
}

type counting struct {
	http.ResponseWriter
	n *atomic.Int64
}

func (c *counting) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p)
	c.n.Add(int64(n))
	return n, err
}

func FuzzEnvelope(f *testing.F) {
	f.Add([]byte(`{"payloadType":"application/vnd.drover.desired.v1+json","payload":"e30=","signatures":[{"sig":"AA=="}],"chain":"x"}`))
	o := opener{trust: identity.Trust{TrustDomain: testDomain, Roots: []*x509.Certificate{{}}}, cluster: "shop-1"}
	f.Fuzz(func(t *testing.T, data []byte) {
		var e wire.Envelope
		if json.Unmarshal(data, &e) != nil {
			return
		}
		if _, err := o.page(&e, time.Now()); err == nil {
			t.Error("taken without a signature")
		}
	})
}
