// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"flag"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/drover-io/drover/test/leak"
	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap/zaptest"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/drover-io/drover/hub/auth"
	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/pki/identity"
	"github.com/drover-io/drover/shared/apis/schemas"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestMain(m *testing.M) { leak.Main(m) }

// patience bounds every wait of a test; it is only reached when the test fails.
const patience = 60 * time.Second

const trustDomain = "fleet.test"

var (
	clusters = schema.GroupVersionResource{Group: "cluster.open-cluster-management.io", Version: "v1", Resource: "managedclusters"}
	metrics  = schema.GroupVersionResource{Group: "fleet.drover.io", Version: "v1alpha1", Resource: "clustermetrics"}
)

// hub is an API over TLS on a real store on a real server.
type hub struct {
	t     testing.TB
	api   *API
	store *store.Store
	docs  [][]byte
	srv   *httptest.Server
	ca    *authority
}

// newHub starts a hub; change edits its configuration.
func newHub(t testing.TB, change ...func(*Config)) *hub {
	t.Helper()
	srv, err := server.NewServer(&server.Options{
		ServerName: "test", DontListen: true, NoSigs: true, NoLog: true, JetStream: true, StoreDir: t.TempDir(),
		JetStreamMaxMemory: 64 << 20, JetStreamMaxStore: 4 << 30,
	})
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	t.Cleanup(func() { srv.Shutdown(); srv.WaitForShutdown() })
	if !srv.ReadyForConnections(patience) {
		t.Fatal("nats-server is not ready")
	}
	nc, err := nats.Connect("", nats.InProcessServer(srv))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	st, err := store.Open(t.Context(), js, store.Options{BookmarkEvery: 200 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- st.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("store: %v", err)
		}
	})

	h := &hub{t: t, store: st, ca: newAuthority(t)}
	docs, err := schemas.Documents()
	if err != nil {
		t.Fatal(err)
	}
	h.docs = docs
	cfg := Config{
		Store: st, Kinds: docs, Version: "0.1.0",
		Authenticator: auth.ClientCertificate(func() *x509.CertPool { return h.ca.pool }, trustDomain),
		Authorizer:    auth.Authorizer{},
	}
	if tt, ok := t.(*testing.T); ok {
		cfg.Log = zaptest.NewLogger(tt)
	}
	for _, f := range change {
		f(&cfg)
	}
	if h.api, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	if err := h.api.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.run(h.api.Run)
	h.srv = httptest.NewUnstartedServer(h.api)
	h.srv.EnableHTTP2 = true
	h.srv.TLS = &tls.Config{ClientAuth: tls.RequestClientCert, MinVersion: tls.VersionTLS13}
	h.srv.StartTLS()
	t.Cleanup(func() { h.srv.CloseClientConnections(); h.srv.Close() })
	return h
}

// run runs something until the test ends.
func (h *hub) run(f func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	h.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			h.t.Error(err)
		}
	})
}

// authority signs certificates of people.
type authority struct {
	t    testing.TB
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	pool *x509.CertPool
}

func newAuthority(t testing.TB) *authority {
	a := &authority{t: t, pool: x509.NewCertPool()}
	a.key = newKey(t)
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "root"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	a.cert = a.sign(tmpl, tmpl, a.key)
	a.pool.AddCert(a.cert)
	return a
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (a *authority) sign(tmpl, parent *x509.Certificate, key *ecdsa.PrivateKey) *x509.Certificate {
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, &key.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert
}

// person returns the certificate and key of a person, PEM.
func (a *authority) person(uri *url.URL, groups ...string) (cert, key []byte) {
	priv := newKey(a.t)
	leaf := a.sign(&x509.Certificate{
		SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "person", Organization: groups}, URIs: []*url.URL{uri},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, a.cert, priv)
	der, err := x509.MarshalPKCS8PrivateKey(priv)
	if err != nil {
		a.t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Raw}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// config is the configuration of a client with the given groups.
func (h *hub) config(name string, groups ...string) *rest.Config {
	cert, key := h.ca.person(identity.UserURI(trustDomain, name), groups...)
	return &rest.Config{
		Host: h.srv.URL, QPS: -1,
		TLSClientConfig: rest.TLSClientConfig{
			CAData:   pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: h.srv.Certificate().Raw}),
			CertData: cert, KeyData: key,
		},
	}
}

func (h *hub) admin() *rest.Config { return h.config("admin", "system:masters") }

func (h *hub) dynamic() dynamic.Interface {
	h.t.Helper()
	client, err := dynamic.NewForConfig(h.admin())
	if err != nil {
		h.t.Fatal(err)
	}
	return client
}

// kubeconfig writes a kubeconfig of the admin and returns its path.
func (h *hub) kubeconfig() string {
	h.t.Helper()
	c := h.admin()
	path := filepath.Join(h.t.TempDir(), "kubeconfig")
	err := clientcmd.WriteToFile(clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{"hub": {Server: c.Host, CertificateAuthorityData: c.CAData}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{"admin": {ClientCertificateData: c.CertData, ClientKeyData: c.KeyData}},
		Contexts:       map[string]*clientcmdapi.Context{"hub": {Cluster: "hub", AuthInfo: "admin", Namespace: "c1"}},
		CurrentContext: "hub",
	}, path)
	if err != nil {
		h.t.Fatal(err)
	}
	return path
}

// answered is an answer, its body read.
type answered struct {
	code   int
	header http.Header
	body   string
}

// do sends one request as the admin; headers come in pairs.
func (h *hub) do(method, path, body string, headers ...string) answered {
	h.t.Helper()
	return h.doAs(h.admin(), method, path, body, headers...)
}

func (h *hub) doAs(cfg *rest.Config, method, path, body string, headers ...string) answered {
	h.t.Helper()
	transport, err := rest.TransportFor(cfg)
	if err != nil {
		h.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, h.srv.URL+path, strings.NewReader(body))
	if err != nil {
		h.t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		h.t.Fatal(err)
	}
	return answered{resp.StatusCode, resp.Header, string(data)}
}

// object decodes an answer.
func (a answered) object(t testing.TB) map[string]any {
	t.Helper()
	obj, _, err := decode([]byte(a.body), false)
	if err != nil {
		t.Fatalf("answer %d %q: %v", a.code, a.body, err)
	}
	return obj
}

// golden compares text with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got; -update rewrites it):\n%s", path, diff)
	}
}

// indent lays out JSON for golden files.
func indent(t testing.TB, body string) string {
	t.Helper()
	var buf bytes.Buffer
	if err := json.Indent(&buf, []byte(strings.TrimSpace(body)), "", "  "); err != nil {
		t.Fatalf("%v: %q", err, body)
	}
	return buf.String() + "\n"
}

const (
	clustersPath = "/apis/cluster.open-cluster-management.io/v1/managedclusters"
	worksPath    = "/apis/work.open-cluster-management.io/v1/namespaces/c1/manifestworks"
	tokensPath   = "/apis/fleet.drover.io/v1alpha1/jointokens"
	nsPath       = "/api/v1/namespaces"
)

// clusterJSON is the body of a ManagedCluster; more goes into spec.
func clusterJSON(name, more string) string {
	return `{"apiVersion":"cluster.open-cluster-management.io/v1","kind":"ManagedCluster","metadata":{"name":"` + name + `"},"spec":{` + more + `}}`
}

// create makes an object and fails the test when that fails.
func (h *hub) create(path, body string) map[string]any {
	h.t.Helper()
	a := h.do(http.MethodPost, path, body)
	if a.code != http.StatusCreated {
		h.t.Fatalf("POST %s: %d %s", path, a.code, a.body)
	}
	return a.object(h.t)
}
