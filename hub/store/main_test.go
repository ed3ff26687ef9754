// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/drover-io/drover/test/leak"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap/zaptest"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("STORE_TEST_WRITER"); dir != "" {
		if err := writeUntilKilled(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	leak.Main(m)
}

// patience bounds every wait of a test; it is only reached when the test fails.
const patience = 30 * time.Second

// startServer runs a real server that syncs every write; the caller shuts it down.
func startServer(dir string, port int) (*server.Server, error) {
	srv, err := server.NewServer(&server.Options{
		ServerName: "test", Host: "127.0.0.1", Port: port, DontListen: port == 0,
		NoSigs: true, NoLog: true,
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

// broker is a server in a test, with a client inside the process.
type broker struct {
	t   testing.TB
	dir string
	srv *server.Server
	nc  *nats.Conn
	js  jetstream.JetStream
}

func newBroker(t testing.TB) *broker {
	t.Helper()
	b := &broker{t: t, dir: t.TempDir()}
	b.start()
	t.Cleanup(b.stop)
	return b
}

func (b *broker) start() {
	b.t.Helper()
	var err error
	if b.srv, err = startServer(b.dir, 0); err != nil {
		b.t.Fatal(err)
	}
	if b.nc, err = nats.Connect("", nats.InProcessServer(b.srv)); err != nil {
		b.t.Fatal(err)
	}
	if b.js, err = jetstream.New(b.nc); err != nil {
		b.t.Fatal(err)
	}
}

func (b *broker) stop() {
	if b.srv == nil {
		return
	}
	b.nc.Close()
	b.srv.Shutdown()
	b.srv.WaitForShutdown()
	b.srv = nil
}

// open opens a store on the broker and runs it; stop ends it.
func (b *broker) open(opts Options) (s *Store, stop func()) {
	b.t.Helper()
	if opts.Log == nil && !testing.Short() {
		opts.Log = zaptest.NewLogger(b.t)
	}
	s, err := Open(timeout(b.t), b.js, opts)
	if err != nil {
		b.t.Fatal(err)
	}
	return s, run(b.t, s)
}

// run runs the store until the function returned is called, or the test ends.
func run(t testing.TB, s *Store) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
	t.Cleanup(stop)
	return stop
}

func timeout(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func key(ns, name string) Key { return Key{Resource: "things.example.io", Namespace: ns, Name: name} }

// object is a small object's JSON; labels come in pairs.
func object(name string, value int, labels ...string) []byte {
	l := ""
	for i := 0; i+1 < len(labels); i += 2 {
		if i > 0 {
			l += ","
		}
		l += fmt.Sprintf("%q:%q", labels[i], labels[i+1])
	}
	return fmt.Appendf(nil, `{"metadata":{"labels":{%s},"name":%q},"spec":{"value":%d}}`, l, name, value)
}

func mustCreate(t testing.TB, s *Store, k Key, value int, labels ...string) uint64 {
	t.Helper()
	rev, err := s.Create(timeout(t), k, object(k.Name, value, labels...))
	if err != nil {
		t.Fatal(err)
	}
	return rev
}

func mustUpdate(t testing.TB, s *Store, k Key, value int, rev uint64, labels ...string) uint64 {
	t.Helper()
	rev, err := s.Update(timeout(t), k, object(k.Name, value, labels...), rev)
	if err != nil {
		t.Fatal(err)
	}
	return rev
}

func mustDelete(t testing.TB, s *Store, k Key, rev uint64) uint64 {
	t.Helper()
	rev, err := s.Delete(timeout(t), k, rev)
	if err != nil {
		t.Fatal(err)
	}
	return rev
}

func mustList(t testing.TB, s *Store, sel Selection) Page {
	t.Helper()
	page, err := s.List(timeout(t), sel)
	if err != nil {
		t.Fatal(err)
	}
	return page
}

func mustWatch(t testing.TB, s *Store, sel WatchSelection) *Watcher {
	t.Helper()
	if sel.Resource == "" {
		sel.Resource = "things.example.io"
	}
	w, err := s.Watch(timeout(t), sel)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)
	return w
}

func next(t testing.TB, w *Watcher) Event {
	t.Helper()
	event, err := w.Next(timeout(t))
	if err != nil {
		t.Fatalf("next event: %v", err)
	}
	return event
}

// wantEvent compares the next event, written as "type name@revision".
func wantEvent(t testing.TB, w *Watcher, typ EventType, name string, rev uint64) Event {
	t.Helper()
	e := next(t, w)
	if e.Type != typ || e.Entry.Key.Name != name || e.Entry.Revision != rev {
		t.Fatalf("event = %d %q@%d, want %d %q@%d", e.Type, e.Entry.Key.Name, e.Entry.Revision, typ, name, rev)
	}
	return e
}

func wantErr(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error = %v, want %v", err, want)
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

func names(page Page) []string {
	list := []string{}
	for _, e := range page.Entries {
		list = append(list, e.Key.Namespace+"/"+e.Key.Name)
	}
	return list
}
