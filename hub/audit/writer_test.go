// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/drover-io/drover/hub/api"
	"github.com/drover-io/drover/hub/auth"
	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/pki/identity"
	"github.com/drover-io/drover/shared/apis/schemas"
)

const (
	trustDomain  = "fleet.test"
	clustersPath = "/apis/cluster.open-cluster-management.io/v1/managedclusters"
	tokensPath   = "/apis/fleet.drover.io/v1alpha1/jointokens"
	requestsPath = "/apis/fleet.drover.io/v1alpha1/joinrequests"
)

func clusterJSON(name string) string {
	return `{"apiVersion":"cluster.open-cluster-management.io/v1","kind":"ManagedCluster","metadata":{"name":"` + name + `"},"spec":{}}`
}

// hub is an API over TLS, with or without an audit log.
type hub struct {
	store *store.Store
	srv   *httptest.Server
	root  *x509.Certificate
	key   *ecdsa.PrivateKey
	stop  func()
}

// startHub serves on a store, and on l unless that is nil.
func startHub(ctx context.Context, js jetstream.JetStream, l *Log, hooks map[string]api.Hook) (*hub, error) {
	st, err := store.Open(ctx, js, store.Options{})
	if err != nil {
		return nil, err
	}
	h := &hub{store: st}
	if h.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, err
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "root"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &h.key.PublicKey, h.key)
	if err != nil {
		return nil, err
	}
	if h.root, err = x509.ParseCertificate(der); err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AddCert(h.root)
	docs, err := schemas.Documents()
	if err != nil {
		return nil, err
	}
	authn := auth.ClientCertificate(func() *x509.CertPool { return pool }, trustDomain)
	cfg := api.Config{Store: st, Kinds: docs, Hooks: hooks, Authenticator: authn, Authorizer: masters{}, Log: zap.NewNop()}
	mux := http.NewServeMux()
	if l != nil {
		cfg.Auditor = l
		handler := l.Handler(authn, masters{})
		mux.Handle(Path, handler)
		mux.Handle(VerifyPath, handler)
	}
	a, err := api.New(cfg)
	if err != nil {
		return nil, err
	}
	mux.Handle("/", a)
	h.srv = httptest.NewUnstartedServer(mux)
	h.srv.EnableHTTP2 = true
	h.srv.TLS = &tls.Config{ClientAuth: tls.RequestClientCert, MinVersion: tls.VersionTLS13}
	h.srv.StartTLS()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- st.Run(ctx) }()
	h.stop = func() {
		h.srv.CloseClientConnections()
		h.srv.Close()
		cancel()
		<-done
	}
	return h, nil
}

// client is a person's; without a name it has no certificate.
func (h *hub) client(name string, groups ...string) (*http.Client, error) {
	pool := x509.NewCertPool()
	pool.AddCert(h.srv.Certificate())
	cfg := &tls.Config{RootCAs: pool}
	if name != "" {
		uri := identity.UserURI(trustDomain, name)
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, err
		}
		leaf := &x509.Certificate{
			SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: name, Organization: groups},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
			KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		}
		leaf.URIs = append(leaf.URIs, uri)
		der, err := x509.CreateCertificate(rand.Reader, leaf, h.root, &key.PublicKey, h.key)
		if err != nil {
			return nil, err
		}
		cfg.Certificates = []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}
	}
	return &http.Client{Transport: &http.Transport{TLSClientConfig: cfg, ForceAttemptHTTP2: true}, Timeout: patience}, nil
}

// send returns the code and body of an answer.
func (h *hub) send(c *http.Client, method, path, body, contentType string) (int, string, error) {
	req, err := http.NewRequest(method, h.srv.URL+path, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := c.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(data), err
}

// writeUntilKilled is the child process of TestKill: it creates clusters through
// the API, and prints the name of each that was acknowledged.
func writeUntilKilled(dir string) error {
	srv, err := startServer(filepath.Join(dir, "nats"))
	if err != nil {
		return err
	}
	nc, err := nats.Connect("", nats.InProcessServer(srv))
	if err != nil {
		return err
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	ctx := context.Background()
	l, err := Open(ctx, js, Options{HeadFile: filepath.Join(dir, "audit.head")})
	if err != nil {
		return err
	}
	go l.Run(ctx) //nolint:errcheck // ends with the process
	h, err := startHub(ctx, js, l, nil)
	if err != nil {
		return err
	}
	client, err := h.client("ann", "system:masters")
	if err != nil {
		return err
	}
	var out sync.Mutex
	var group sync.WaitGroup
	for w := range 16 {
		group.Go(func() {
			for i := 0; ; i++ {
				name := fmt.Sprintf("c-%d-%d-%d", os.Getpid(), w, i)
				code, body, err := h.send(client, http.MethodPost, clustersPath, clusterJSON(name), "application/json")
				if err != nil || code != http.StatusCreated {
					fmt.Fprintln(os.Stderr, code, body, err)
					return
				}
				out.Lock()
				fmt.Printf("%s .\n", name)
				out.Unlock()
			}
		})
	}
	group.Wait()
	return nil
}

// TestKill kills a hub while it writes, three times over the same data, and looks
// for the record of every write that was acknowledged.
func TestKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	acked := map[string]bool{}
	for range 3 {
		child := exec.Command(os.Args[0], "-test.run=^$")
		child.Env = append(os.Environ(), "AUDIT_TEST_WRITER="+dir)
		child.Stderr = os.Stderr
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		text := bufio.NewScanner(out)
		for n := 0; text.Scan(); n++ {
			// a last line cut short is no acknowledgement
			if name, ok := strings.CutSuffix(text.Text(), " ."); ok {
				acked[name] = true
			}
			if n == 200 {
				if err := child.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := child.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
			t.Fatalf("child: %v", err)
		}
	}
	b := &testBroker{t: t, dir: filepath.Join(dir, "nats")}
	b.start()
	t.Cleanup(b.stop)
	l, _ := b.open(Options{HeadFile: filepath.Join(dir, "audit.head")})
	recorded := map[string]bool{}
	for _, ev := range mustQuery(t, l, Filter{Verb: "create", Limit: MaxLimit}) {
		if ev.ResponseStatus.Code == http.StatusCreated && ev.User.Username == "ann" {
			recorded[ev.ObjectRef.Name] = true
		}
	}
	for name := range acked {
		if !recorded[name] {
			t.Errorf("%s was acknowledged and is not recorded", name)
		}
	}
	if r := mustVerify(t, l); r.Breaks != 0 {
		t.Errorf("report = %+v %+v", r, r.FirstBad)
	}
	t.Logf("%d acknowledged, %d recorded", len(acked), len(recorded))
}
