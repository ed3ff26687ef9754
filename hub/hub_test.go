// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/drover-io/drover/pki/ca"
	"github.com/drover-io/drover/pki/identity"
)

// pair is a certificate of the hub's own CA, as an operator would install one.
type pair struct {
	cert, key []byte
	serial    *big.Int
}

// authority opens a CA of its own, to sign what tests need.
func authority(t *testing.T) *ca.CA {
	t.Helper()
	srv, err := server.NewServer(&server.Options{ServerName: "test", DontListen: true, JetStream: true, StoreDir: t.TempDir(), NoLog: true, NoSigs: true})
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	if !srv.ReadyForConnections(patience) {
		t.Fatal("nats-server is not ready")
	}
	t.Cleanup(func() { srv.Shutdown(); srv.WaitForShutdown() })
	conn, err := nats.Connect("", nats.InProcessServer(srv))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	kv, err := js.CreateOrUpdateKeyValue(timeout(t), ca.BucketConfig())
	if err != nil {
		t.Fatal(err)
	}
	c, err := ca.Open(timeout(t), ca.Config{Dir: t.TempDir(), TrustDomain: "fleet.test", KV: kv})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// pair signs a user's certificate, which is as good as any for a server in tests.
func (r *running) pair() pair {
	r.t.Helper()
	key, err := identity.GenerateKey()
	if err != nil {
		r.t.Fatal(err)
	}
	carrier, err := identity.Carrier(key)
	if err != nil {
		r.t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(carrier.Certificate[0])
	if err != nil {
		r.t.Fatal(err)
	}
	keyPEM, err := identity.MarshalKey(key)
	if err != nil {
		r.t.Fatal(err)
	}
	return pair{identity.MarshalCerts([]*x509.Certificate{leaf}), keyPEM, leaf.SerialNumber}
}

// TestTwice: a hub comes back on its directory with everything it had, and the
// admin credential follows the address.
func TestTwice(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := start(t, dir, nil)
	st, err := os.Stat(first.cfg.AdminKubeconfig())
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Fatalf("admin.kubeconfig: %v, %v", st.Mode(), err)
	}
	made, err := first.client().Resource(clusters()).Create(timeout(t), object(t, "{apiVersion: cluster.open-cluster-management.io/v1, kind: ManagedCluster, metadata: {name: shop-1}, spec: {hubAcceptsClient: false}}"), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	// What the hub itself adds to a cluster that nobody has seen comes at the
	// creation or a moment later; compared is the object as it then stays.
	until(t, "a cluster without an agent is tainted", func() bool {
		now, err := first.client().Resource(clusters()).Get(timeout(t), "shop-1", metav1.GetOptions{})
		if err != nil || now.GetUID() != made.GetUID() {
			t.Fatalf("the cluster just made: %v, %v", now, err)
		}
		made = now
		taints, _, _ := unstructured.NestedSlice(now.Object, "spec", "taints")
		return len(taints) > 0
	})
	old := first.config()

	// A second hub on the same directory does not start, and does no harm.
	h, err := New(Config{DataDir: dir, Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Run(timeout(t)); err == nil || !strings.Contains(err.Error(), "in use by another hub") {
		t.Errorf("second hub: %v", err)
	}
	if _, err := first.client().Resource(clusters()).Get(timeout(t), "shop-1", metav1.GetOptions{}); err != nil {
		t.Errorf("the first hub after the second's attempt: %v", err)
	}
	first.stop()

	second := start(t, dir, nil)
	got, err := second.client().Resource(clusters()).Get(timeout(t), "shop-1", metav1.GetOptions{})
	if err != nil || got.GetUID() != made.GetUID() || got.GetResourceVersion() != made.GetResourceVersion() {
		t.Errorf("after a restart: %v, %v", got, err)
	}
	now := second.config()
	if now.Host != second.url || string(now.CAData) != string(old.CAData) {
		t.Errorf("kubeconfig has %s, the hub is at %s", now.Host, second.url)
	}
}

func TestAdminCredential(t *testing.T) {
	t.Parallel()
	cfg := &Config{DataDir: t.TempDir()}
	a := &admin{cfg: cfg, ca: authority(t), url: "https://127.0.0.1:1", log: zap.NewNop()}
	ctx, now := timeout(t), time.Now()
	read := func() string {
		t.Helper()
		text, err := os.ReadFile(cfg.AdminKubeconfig())
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	ensure := func(at time.Time) string {
		t.Helper()
		if err := a.ensure(ctx, at); err != nil {
			t.Fatal(err)
		}
		if st, err := os.Stat(cfg.AdminKubeconfig()); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%v, %v", st.Mode(), err)
		}
		return read()
	}
	last := ensure(now)
	kube, err := clientcmd.Load([]byte(last))
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := identity.ParseCerts(kube.AuthInfos[adminUser].ClientCertificateData)
	if err != nil {
		t.Fatal(err)
	}
	life := leaf[0].NotAfter.Sub(leaf[0].NotBefore)
	edit := func(change func(*clientcmdapi.Config)) func() {
		return func() {
			c, err := clientcmd.Load([]byte(last))
			if err != nil {
				t.Fatal(err)
			}
			change(c)
			if err := clientcmd.WriteToFile(*c, cfg.AdminKubeconfig()); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, tt := range []struct {
		name   string
		before func()
		at     time.Time
		remade bool
	}{
		{name: "current", at: now},
		{name: "a little more than a third left", at: leaf[0].NotAfter.Add(-life/3 - time.Minute)},
		{name: "less than a third left", at: leaf[0].NotAfter.Add(-life/3 + time.Minute), remade: true},
		{name: "another address", before: func() { a.url = "https://127.0.0.1:2" }, at: now, remade: true},
		{name: "removed", before: func() { os.Remove(cfg.AdminKubeconfig()) }, at: now, remade: true},
		{name: "garbage", before: func() { os.WriteFile(cfg.AdminKubeconfig(), []byte("{{"), 0o600) }, at: now, remade: true},
		{name: "readable for others", before: func() { os.Chmod(cfg.AdminKubeconfig(), 0o644) }, at: now, remade: true},
		{name: "without its key", before: edit(func(c *clientcmdapi.Config) { c.AuthInfos[adminUser].ClientKeyData = nil }), at: now, remade: true},
		{name: "another root", before: edit(func(c *clientcmdapi.Config) { c.Clusters["drover"].CertificateAuthorityData = []byte("x") }), at: now, remade: true},
	} {
		if tt.before != nil {
			tt.before()
		}
		got := ensure(tt.at)
		if (got != last) != tt.remade {
			t.Errorf("%s: made anew %v, want %v", tt.name, got != last, tt.remade)
		}
		last = got
	}
}

// TestWhoGetsIn: the API is for people's certificates under people's names.
func TestWhoGetsIn(t *testing.T) {
	t.Parallel()
	r := start(t, t.TempDir(), nil)
	kube := r.config()
	td := strings.TrimPrefix(kube.ServerName, "api.")
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(kube.CAData)
	adminPair, err := tls.X509KeyPair(kube.CertData, kube.KeyData)
	if err != nil {
		t.Fatal(err)
	}
	key, err := identity.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := identity.Carrier(key)
	if err != nil {
		t.Fatal(err)
	}
	get := func(name, path string, cert *tls.Certificate) (int, string) {
		t.Helper()
		tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: name, MinVersion: tls.VersionTLS13}}
		defer tr.CloseIdleConnections()
		if cert != nil {
			tr.TLSClientConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil }
		}
		req, err := http.NewRequestWithContext(timeout(t), http.MethodGet, r.url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := (&http.Client{Transport: tr}).Do(req)
		if err != nil {
			t.Fatalf("%s %s: %v", name, path, err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(body)
	}
	list := "/apis/cluster.open-cluster-management.io/v1/managedclusters"
	for _, tt := range []struct {
		name, sni, path string
		cert            *tls.Certificate
		want            int
	}{
		{"admin", "api." + td, list, &adminPair, http.StatusOK},
		{"nobody", "api." + td, list, nil, http.StatusUnauthorized},
		{"nobody, by another name", "localhost", list, nil, http.StatusUnauthorized},
		{"a stranger's key", "api." + td, list, stranger, http.StatusUnauthorized},
		{"agents' name leads to no API", "hub." + td, list, &adminPair, http.StatusNotFound},
		{"agents' name leads to no pages", "hub." + td, "/", &adminPair, http.StatusNotFound},
		{"people's name leads to no enrolment", "api." + td, "/v1/crl", &adminPair, http.StatusMisdirectedRequest},
		{"health needs no login", "api." + td, "/livez", nil, http.StatusOK},
		{"readiness needs no login", "localhost", "/readyz", nil, http.StatusOK},
		{"version needs no login", "localhost", "/version", nil, http.StatusOK},
	} {
		if code, body := get(tt.sni, tt.path, tt.cert); code != tt.want {
			t.Errorf("%s: %d, want %d: %.200s", tt.name, code, tt.want, body)
		}
	}
}

// TestStopWhileStarting: an end at any moment is orderly, and leaves a
// directory that the next start takes.
func TestStopWhileStarting(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, after := range []time.Duration{0, 20 * time.Millisecond, 100 * time.Millisecond, 300 * time.Millisecond} {
		h, err := New(Config{DataDir: dir, Listen: "127.0.0.1:0"})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), after)
		err = h.Run(ctx)
		cancel()
		if err != nil && ctx.Err() == nil {
			t.Errorf("ended after %s: %v", after, err)
		}
	}
	start(t, dir, nil)
}
