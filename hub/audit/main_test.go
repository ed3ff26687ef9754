// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"
	"go.uber.org/zap/zaptest"
	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("AUDIT_TEST_WRITER"); dir != "" {
		if err := writeUntilKilled(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// patience bounds every wait of a test; it is only reached when the test fails.
const patience = 60 * time.Second

// startServer runs a real server that syncs every write; the caller shuts it down.
func startServer(dir string) (*server.Server, error) {
	srv, err := server.NewServer(&server.Options{
		ServerName: "test", DontListen: true, NoSigs: true, NoLog: true,
		JetStream: true, StoreDir: dir, SyncAlways: true,
		JetStreamMaxMemory: 64 << 20, JetStreamMaxStore: 4 << 30,
	})
	if err != nil {
		return nil, err
	}
	srv.Start()
	if !srv.ReadyForConnections(patience) {
		return nil, errors.New("server is not ready")
	}
	return srv, nil
}

// testBroker is a server in a test, with a client inside the process.
type testBroker struct {
	t   testing.TB
	dir string
	srv *server.Server
	nc  *nats.Conn
	js  jetstream.JetStream
}

func newBroker(t testing.TB) *testBroker {
	t.Helper()
	b := &testBroker{t: t, dir: t.TempDir()}
	b.start()
	t.Cleanup(b.stop)
	return b
}

func (b *testBroker) start() {
	b.t.Helper()
	var err error
	if b.srv, err = startServer(b.dir); err != nil {
		b.t.Fatal(err)
	}
	if b.nc, err = nats.Connect("", nats.InProcessServer(b.srv)); err != nil {
		b.t.Fatal(err)
	}
	if b.js, err = jetstream.New(b.nc); err != nil {
		b.t.Fatal(err)
	}
}

func (b *testBroker) stop() {
	if b.srv == nil {
		return
	}
	b.nc.Close()
	b.srv.Shutdown()
	b.srv.WaitForShutdown()
	b.srv = nil
}

// open opens a log and runs it; stop ends it.
func (b *testBroker) open(opts Options) (l *Log, stop func()) {
	b.t.Helper()
	if opts.Log == nil {
		opts.Log = zaptest.NewLogger(b.t)
	}
	l, err := Open(timeout(b.t), b.js, opts)
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			b.t.Errorf("Run: %v", err)
		}
	}
	b.t.Cleanup(stop)
	return l, stop
}

func timeout(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// event is a small event of a user about a cluster.
func event(user, name string) *auditv1.Event {
	return &auditv1.Event{
		Verb: "create", RequestURI: "/apis/x", User: authenticationv1.UserInfo{Username: user},
		ObjectRef:      &auditv1.ObjectReference{APIGroup: "x.example.io", Resource: "managedclusters", Name: name},
		ResponseStatus: &metav1.Status{Code: 201, Status: metav1.StatusSuccess},
	}
}

func mustRecord(t testing.TB, l *Log, events ...*auditv1.Event) {
	t.Helper()
	for _, ev := range events {
		if err := l.Record(timeout(t), ev); err != nil {
			t.Fatal(err)
		}
	}
}

func mustQuery(t testing.TB, l *Log, f Filter) []auditv1.Event {
	t.Helper()
	events, err := l.Query(timeout(t), f)
	if err != nil {
		t.Fatal(err)
	}
	return events
}

func mustVerify(t testing.TB, l *Log) Report {
	t.Helper()
	r, err := l.Verify(timeout(t))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// wantWhole fails unless the log holds exactly n records, all good.
func wantWhole(t testing.TB, l *Log, n uint64) {
	t.Helper()
	if r := mustVerify(t, l); r.Breaks != 0 || r.Records != n || r.Last != n {
		t.Fatalf("report = %+v (%+v), want %d good records", r, r.FirstBad, n)
	}
}

// eventually polls until ok.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// messages are the stream's messages, as they are.
func (b *testBroker) messages() [][]byte {
	b.t.Helper()
	stream, err := b.js.Stream(timeout(b.t), Stream)
	if err != nil {
		b.t.Fatal(err)
	}
	state := stream.CachedInfo().State
	var out [][]byte
	for seq := state.FirstSeq; seq <= state.LastSeq; seq++ {
		msg, err := stream.GetMsg(timeout(b.t), seq)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}
		if err != nil {
			b.t.Fatal(err)
		}
		out = append(out, msg.Data)
	}
	return out
}
