// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"context"
	"encoding/json"
	"sync"
	"testing"
	"time"

	"github.com/drover-io/drover/test/leak"
	"github.com/nats-io/nats.go"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/drover-io/drover/hub/broker"
	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/shared/apis/cluster"
	"github.com/drover-io/drover/shared/wire"
)

func TestMain(m *testing.M) { leak.Main(m) }

// patience bounds every wait; it is only reached when a test fails.
const patience = 60 * time.Second

// sessions is who a test says is connected.
type sessions struct {
	mu      sync.Mutex
	live    map[string]Session
	epoch   uint64
	changed chan struct{}
}

func (s *sessions) Sessions() []Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Session
	for _, x := range s.live {
		out = append(out, x)
	}
	return out
}

func (s *sessions) Subscribe() (<-chan struct{}, func()) { return s.changed, func() {} }

// set changes who is connected without saying so.
func (s *sessions) set(name string, connected bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.live, name)
	if connected {
		s.epoch++
		s.live[name] = Session{Cluster: name, Epoch: s.epoch, Address: "192.0.2.1:1", Since: time.Now()}
	}
}

func (s *sessions) connect(name string, connected bool) {
	s.set(name, connected)
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

type rig struct {
	t        *testing.T
	fleet    *Fleet
	store    *store.Store
	conn     *nats.Conn
	presence *sessions
	clusters store.Objects[cluster.ManagedCluster, *cluster.ManagedCluster]
	logs     *observer.ObservedLogs
}

func newRig(t *testing.T, change func(*Config)) *rig {
	t.Helper()
	b, err := broker.Open(broker.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	conn, err := b.Connect("test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	s, err := store.Open(timeout(t), b.JetStream(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	running(t, s.Run)
	core, logs := observer.New(zapcore.DebugLevel)
	cfg := Config{
		Store: s, Conn: conn, Log: zap.New(core), Grace: time.Millisecond, StartGrace: time.Millisecond,
		Presence: &sessions{live: map[string]Session{}, changed: make(chan struct{}, 1)},
	}
	if change != nil {
		change(&cfg)
	}
	f := New(cfg)
	return &rig{t: t, fleet: f, store: s, conn: conn, presence: cfg.Presence.(*sessions), clusters: f.clusters, logs: logs}
}

func running(t *testing.T, run func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); run(ctx) }() //nolint:errcheck // ends by cancel
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return stop
}

func timeout(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func (r *rig) add(names ...string) {
	r.t.Helper()
	for _, n := range names {
		if _, err := r.clusters.Create(timeout(r.t), &cluster.ManagedCluster{ObjectMeta: metav1.ObjectMeta{Name: n}}); err != nil {
			r.t.Fatal(err)
		}
	}
}

func (r *rig) get(name string) *cluster.ManagedCluster {
	r.t.Helper()
	mc, err := r.clusters.Get(timeout(r.t), "", name)
	if err != nil {
		r.t.Fatal(err)
	}
	return mc
}

func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

// ask sends a request as the agent of a cluster does.
func (r *rig) ask(name, service string, body, answer any) {
	r.t.Helper()
	data, ok := body.([]byte)
	if !ok {
		var err error
		if data, err = json.Marshal(body); err != nil {
			r.t.Fatal(err)
		}
	}
	inbox := wire.InboxPrefix(name) + "." + nats.NewInbox()[len("_INBOX."):]
	sub, err := r.conn.SubscribeSync(inbox)
	if err != nil {
		r.t.Fatal(err)
	}
	defer sub.Unsubscribe() //nolint:errcheck // the test is over
	until(r.t, service+" answers", func() bool {
		if err := r.conn.PublishRequest(wire.ServiceSubject(name, service), inbox, data); err != nil {
			r.t.Fatal(err)
		}
		// The service may not have subscribed yet.
		m, err := sub.NextMsg(500 * time.Millisecond)
		if err != nil {
			return false
		}
		if err := json.Unmarshal(m.Data, answer); err != nil {
			r.t.Fatalf("answer %q: %v", m.Data, err)
		}
		return true
	})
}
