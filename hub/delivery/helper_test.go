// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/drover-io/drover/test/leak"
	"github.com/nats-io/nats.go"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/drover-io/drover/hub/broker"
	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/shared/apis/cluster"
	"github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/shared/apis/work"
	"github.com/drover-io/drover/shared/wire"
)

func TestMain(m *testing.M) { leak.Main(m) }

// patience bounds every wait; it is only reached when a test fails.
const patience = 60 * time.Second

// hub is one start of a broker, a store and a Delivery.
type hub struct {
	t        *testing.T
	d        *Delivery
	store    *store.Store
	conn     *nats.Conn
	clusters store.Objects[cluster.ManagedCluster, *cluster.ManagedCluster]
	agents   store.Objects[fleet.AgentIdentity, *fleet.AgentIdentity]
	logs     *observer.ObservedLogs
	stop     func()
}

func start(t *testing.T, dir string) *hub {
	t.Helper()
	b, err := broker.Open(broker.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := b.Connect("test", nats.Timeout(patience))
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(timeout(t), b.JetStream(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	core, logs := observer.New(zapcore.DebugLevel)
	h := &hub{
		t: t, store: s, conn: conn, logs: logs, d: New(Config{Store: s, Conn: conn, Log: zap.New(core)}),
		clusters: store.Of[cluster.ManagedCluster](s, cluster.Resource),
		agents:   store.Of[fleet.AgentIdentity](s, fleet.ResourceAgentIdentities),
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 2)
	go func() { done <- s.Run(ctx) }()
	go func() { done <- h.d.Run(ctx) }()
	stopped := false
	h.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		<-done
		<-done
		conn.Close()
		b.Close()
	}
	t.Cleanup(h.stop)
	until(t, "ready", func() bool { return h.desired("nobody", wire.DesiredRequest{}).Error == "" })
	return h
}

func timeout(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

func (h *hub) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *hub) manage(names ...string) {
	h.t.Helper()
	for _, n := range names {
		_, err := h.clusters.Create(timeout(h.t), &cluster.ManagedCluster{ObjectMeta: metav1.ObjectMeta{Name: n}})
		h.must(err)
		_, err = h.agents.Create(timeout(h.t), &fleet.AgentIdentity{ObjectMeta: metav1.ObjectMeta{Name: n}})
		h.must(err)
	}
}

// listed is the plain list that d would give a cluster.
func listed(d *Delivery, cluster string, req wire.DesiredRequest) wire.Desired {
	answer, items := d.desired(cluster, req)
	answer.Items = items
	return answer
}

// work stores a work with one manifest.
func (h *hub) work(clusterName, name, manifest string) *work.ManifestWork {
	h.t.Helper()
	w, err := h.d.works.Create(timeout(h.t), &work.ManifestWork{
		ObjectMeta: metav1.ObjectMeta{Namespace: clusterName, Name: name},
		Spec:       work.ManifestWorkSpec{Workload: work.Workload{Manifests: []runtime.RawExtension{{Raw: []byte(manifest)}}}},
	})
	h.must(err)
	return w
}

func (h *hub) get(clusterName, name string) *work.ManifestWork {
	h.t.Helper()
	w, err := h.d.works.Get(timeout(h.t), clusterName, name)
	h.must(err)
	return w
}

// ask sends a request as the agent of a cluster does.
func (h *hub) ask(clusterName, service string, body any) *nats.Msg {
	h.t.Helper()
	data, err := json.Marshal(body)
	h.must(err)
	inbox := wire.InboxPrefix(clusterName) + "." + nats.NewInbox()[len("_INBOX."):]
	sub, err := h.conn.SubscribeSync(inbox)
	h.must(err)
	defer sub.Unsubscribe() //nolint:errcheck // the answer is there
	var m *nats.Msg
	wait := time.Second
	until(h.t, service+" answers", func() bool {
		wait *= 2
		h.must(h.conn.PublishRequest(wire.ServiceSubject(clusterName, service), inbox, data))
		// The service may not have subscribed yet.
		m, err = sub.NextMsg(wait)
		return err == nil
	})
	return m
}

func (h *hub) desired(clusterName string, req wire.DesiredRequest) (got wire.Desired) {
	h.t.Helper()
	h.must(json.Unmarshal(h.ask(clusterName, wire.ServiceDesired, req).Data, &got))
	return got
}

func (h *hub) report(clusterName string, r wire.Report) (ack wire.Ack) {
	h.t.Helper()
	h.must(json.Unmarshal(h.ask(clusterName, wire.ServiceReport, r).Data, &ack))
	return ack
}

// items waits until the list of a cluster has n items, and returns it.
func (h *hub) items(clusterName string, n int) (got wire.Desired) {
	h.t.Helper()
	until(h.t, "the list is complete", func() bool {
		got = h.desired(clusterName, wire.DesiredRequest{})
		return len(got.Items) == n
	})
	return got
}

const configMap = `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c","namespace":"default"}}`
