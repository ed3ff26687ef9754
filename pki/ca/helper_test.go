// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package ca

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"io"
	"log"
	"testing"
	"time"

	"github.com/drover-io/drover/test/leak"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/drover-io/drover/pki/identity"
)

func TestMain(m *testing.M) {
	leak.Main(m)
}

// startNATS runs a server with JetStream on dir until stop, or the test's end.
func startNATS(t testing.TB, dir string) (kv jetstream.KeyValue, stop func()) {
	t.Helper()
	return startWith(t, dir, BucketConfig())
}

func startWith(t testing.TB, dir string, cfg jetstream.KeyValueConfig) (kv jetstream.KeyValue, stop func()) {
	t.Helper()
	srv, err := server.NewServer(&server.Options{
		ServerName: "test", DontListen: true, JetStream: true, StoreDir: dir, SyncAlways: true, NoLog: true, NoSigs: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	if !srv.ReadyForConnections(30 * time.Second) {
		t.Fatal("nats-server is not ready")
	}
	conn, err := nats.Connect("", nats.InProcessServer(srv))
	if err != nil {
		t.Fatal(err)
	}
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	kv, err = js.CreateOrUpdateKeyValue(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		conn.Close()
		srv.Shutdown()
		srv.WaitForShutdown()
	}
	t.Cleanup(stop)
	return kv, stop
}

func bucket(t testing.TB) jetstream.KeyValue {
	t.Helper()
	kv, _ := startNATS(t, t.TempDir())
	return kv
}

func bucketWith(t testing.TB, cfg jetstream.KeyValueConfig) jetstream.KeyValue {
	t.Helper()
	kv, _ := startWith(t, t.TempDir(), cfg)
	return kv
}

// open opens a CA on a new bucket and directory; change may alter the configuration.
func open(t testing.TB, change func(*Config)) *CA {
	t.Helper()
	cfg := Config{Dir: t.TempDir(), TrustDomain: "fleet.test"}
	if change != nil {
		change(&cfg)
	}
	if cfg.KV == nil {
		cfg.KV = bucket(t)
	}
	ca, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := identity.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newCSR(t testing.TB, key *ecdsa.PrivateKey, name string) []byte {
	t.Helper()
	csr, err := identity.NewRequest(key, name)
	if err != nil {
		t.Fatal(err)
	}
	return csr
}

// agent signs a fresh key and returns key, chain and result.
func agent(t testing.TB, ca *CA, name string) (*ecdsa.PrivateKey, []*x509.Certificate, Issued) {
	t.Helper()
	key := newKey(t)
	issued, err := ca.SignAgent(context.Background(), newCSR(t, key, name), name)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := identity.ParseCerts(issued.ChainPEM)
	if err != nil {
		t.Fatal(err)
	}
	return key, chain, issued
}

func discard() *log.Logger { return log.New(io.Discard, "", 0) }
