// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/drover-io/drover/shared/apis/cluster"
	"github.com/drover-io/drover/shared/wire"
)

func healthy() wire.Status {
	return wire.Status{Kubernetes: &wire.KubernetesStatus{Healthy: true, Version: "v1.36.3"}}
}

func (r *rig) available(name string) metav1.ConditionStatus {
	c := meta.FindStatusCondition(r.get(name).Status.Conditions, cluster.ConditionAvailable)
	if c == nil {
		return ""
	}
	return c.Status
}

// TestLife is one agent that comes, speaks, goes and comes back.
func TestLife(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.add("shop-1", "paper")
	paper := r.get("paper").ResourceVersion
	running(t, r.fleet.Run)
	r.presence.connect("shop-1", true)
	var welcome wire.Welcome
	r.ask("shop-1", wire.ServiceHello, wire.Hello{Version: 1, AgentVersion: "v1"}, &welcome)
	if welcome.Error != "" || welcome.Version != 1 || welcome.SampleSeconds != 10 || welcome.StatusSeconds != 60 {
		t.Errorf("welcome %+v", welcome)
	}
	var ack wire.Ack
	r.ask("shop-1", wire.ServiceStatus, healthy(), &ack)
	if ack != (wire.Ack{}) {
		t.Errorf("ack %+v", ack)
	}
	until(t, "available", func() bool { return r.available("shop-1") == metav1.ConditionTrue })
	until(t, "version and address", func() bool {
		a := r.get("shop-1").Status.Agent
		return a.Version == "v1" && a.Address == "192.0.2.1:1" && a.ConnectedSince != nil
	})

	r.presence.connect("shop-1", false)
	until(t, "lost", func() bool { return r.available("shop-1") == metav1.ConditionUnknown })
	r.presence.connect("shop-1", true)
	until(t, "connected again", func() bool { return r.get("shop-1").Status.Agent.ConnectedSince != nil })
	if got := r.available("shop-1"); got != metav1.ConditionUnknown {
		t.Errorf("%s before the agent has said anything", got)
	}
	r.ask("shop-1", wire.ServiceStatus, healthy(), &ack)
	until(t, "available again", func() bool { return r.available("shop-1") == metav1.ConditionTrue })
	if got := r.get("paper").ResourceVersion; got != paper {
		t.Error("the status of a cluster without an agent was written")
	}
}

// TestNoWrite: what says nothing new is not written.
func TestNoWrite(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.add("shop-1")
	r.presence.set("shop-1", true)
	running(t, r.fleet.Run)
	var ack wire.Ack
	r.ask("shop-1", wire.ServiceStatus, healthy(), &ack)
	until(t, "available", func() bool { return r.available("shop-1") == metav1.ConditionTrue })
	before := r.get("shop-1").ResourceVersion
	for i := range 5 {
		s := healthy()
		s.ObservedAt, s.Generation = time.Now(), uint64(i)
		r.ask("shop-1", wire.ServiceStatus, s, &ack)
		r.fleet.flush(timeout(t))
	}
	if after := r.get("shop-1").ResourceVersion; after != before {
		t.Errorf("revision %s became %s", before, after)
	}
}

// TestGraces: at the start there is more patience than later, and nothing is
// missed by a controller that was busy when a grace period ended.
func TestGraces(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) { c.Grace, c.StartGrace = 15*time.Second, time.Minute })
	ctx := timeout(t)
	r.add("old", "never")
	if _, err := r.clusters.UpdateStatus(ctx, "", "old", func(mc *cluster.ManagedCluster) error {
		apply(&mc.Status, view{connected: true, since: time.Now(), status: &wire.Status{}}, 0, time.Now())
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	f, start := r.fleet, time.Now()
	f.started = start
	until(t, "cache holds both", func() bool {
		f.markOverdue(ctx, start)
		return len(f.views) == 2
	})
	dirty := func() int {
		n := len(f.dirty)
		clear(f.dirty)
		return n
	}
	for _, tt := range []struct {
		at   time.Duration
		want int
	}{{0, 0}, {16 * time.Second, 0}, {59 * time.Second, 0}, {10 * time.Minute, 2}, {11 * time.Minute, 0}} {
		f.markOverdue(ctx, start.Add(tt.at))
		if got := dirty(); got != tt.want {
			t.Errorf("after %s: %d marked, want %d", tt.at, got, tt.want)
		}
	}
	r.presence.set("old", true)
	f.takePresence(start.Add(20 * time.Minute))
	r.presence.set("old", false)
	f.takePresence(start.Add(30 * time.Minute))
	clear(f.dirty)
	for _, tt := range []struct {
		at   time.Duration
		want int
	}{{14 * time.Second, 0}, {15 * time.Second, 1}, {16 * time.Second, 0}} {
		f.markOverdue(ctx, start.Add(30*time.Minute+tt.at))
		if got := dirty(); got != tt.want {
			t.Errorf("%s after the loss: %d marked, want %d", tt.at, got, tt.want)
		}
	}
}

// TestPresenceRaces: news of sessions and what is said in them may overtake
// each other.
func TestPresenceRaces(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	f, now := r.fleet, time.Now()
	hello := func(version string) {
		f.hello(t.Context(), "shop-1", []byte(`{"version":1,"agentVersion":"`+version+`"}`))
	}
	moved := func(want int) {
		t.Helper()
		if got := f.takePresence(now); len(got) != want {
			t.Errorf("moved %q, want %d", got, want)
		}
	}
	// The hello comes before the news of the session.
	hello("v1")
	r.presence.set("shop-1", true)
	moved(1)
	if v := f.views["shop-1"]; !v.connected || v.hello == nil || v.hello.AgentVersion != "v1" {
		t.Errorf("the hello was forgotten: %+v", v)
	}
	moved(0)
	// Replaced by a newer session; in between nobody looked.
	r.presence.set("shop-1", false)
	r.presence.set("shop-1", true)
	hello("v2")
	moved(1)
	if v := f.views["shop-1"]; v.hello.AgentVersion != "v2" {
		t.Errorf("the hello of the newer session was forgotten: %+v", v.hello)
	}
	// Gone: the next session starts from nothing.
	r.presence.set("shop-1", false)
	moved(1)
	if v := f.views["shop-1"]; v.connected || v.hello != nil || v.status != nil || !v.lost.Equal(now) {
		t.Errorf("after the loss: %+v", v)
	}
	moved(0)
	r.presence.set("shop-1", true)
	r.presence.set("shop-2", true)
	moved(2)
	if f.connected != 2 {
		t.Errorf("%d connected, want 2", f.connected)
	}
}

// TestFlapping: an agent that comes and goes all the time ends as what it is.
func TestFlapping(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.add("shop-1")
	running(t, r.fleet.Run)
	for i := range 50 {
		r.presence.connect("shop-1", i%2 == 0)
	}
	r.presence.connect("shop-1", true)
	var ack wire.Ack
	r.ask("shop-1", wire.ServiceStatus, healthy(), &ack)
	until(t, "available", func() bool { return r.available("shop-1") == metav1.ConditionTrue })
	r.presence.connect("shop-1", false)
	until(t, "lost", func() bool { return r.available("shop-1") == metav1.ConditionUnknown })
}

// TestManyAtOnce: a storm ends in the right state everywhere.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	const n = 200
	for i := range n {
		r.add(fmt.Sprintf("c%d", i))
		r.presence.set(fmt.Sprintf("c%d", i), true)
	}
	running(t, r.fleet.Run)
	for i := range n {
		r.fleet.status(t.Context(), fmt.Sprintf("c%d", i), []byte(`{"kubernetes":{"healthy":true}}`))
	}
	for i := range n {
		name := fmt.Sprintf("c%d", i)
		until(t, name, func() bool { return r.available(name) == metav1.ConditionTrue })
	}
}

func TestBadRequests(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	running(t, r.fleet.Run)
	var welcome wire.Welcome
	r.ask("shop-1", wire.ServiceHello, []byte("{"), &welcome)
	if welcome.Error == "" {
		t.Error("a broken hello was welcomed")
	}
	welcome = wire.Welcome{}
	r.ask("shop-1", wire.ServiceHello, wire.Hello{Version: 0}, &welcome)
	if welcome.Error == "" {
		t.Error("protocol version 0 was welcomed")
	}
	welcome = wire.Welcome{}
	r.ask("shop-1", wire.ServiceHello, wire.Hello{Version: 99}, &welcome)
	if welcome.Error != "" || welcome.Version != wire.Version {
		t.Errorf("a newer agent: %+v, want version %d", welcome, wire.Version)
	}
	var ack wire.Ack
	r.ask("shop-1", wire.ServiceStatus, []byte(`{"kubernetes":7}`), &ack)
	if ack.Error == "" {
		t.Error("a broken status was taken")
	}
}

// TestForeignReply: an agent cannot have the hub's answer sent to another.
func TestForeignReply(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	running(t, r.fleet.Run)
	var welcome wire.Welcome
	r.ask("shop-1", wire.ServiceHello, wire.Hello{Version: 1}, &welcome)
	for _, reply := range []string{wire.InboxPrefix("shop-2") + ".x", wire.InboxPrefix("shop-1") + "0.x", wire.HintSubject("shop-2"), "fm.shop-2.up.svc.report"} {
		victim, err := r.conn.SubscribeSync(reply)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.conn.PublishRequest(wire.ServiceSubject("shop-1", wire.ServiceHello), reply, []byte(`{"version":1}`)); err != nil {
			t.Fatal(err)
		}
		until(t, "drop is logged", func() bool {
			for _, e := range r.logs.FilterMessage("request with a foreign reply subject dropped").All() {
				if e.ContextMap()["reply"] == reply {
					return true
				}
			}
			return false
		})
		if m, err := victim.NextMsg(time.Millisecond); !errors.Is(err, nats.ErrTimeout) {
			t.Errorf("%s received %v, %v", reply, m, err)
		}
	}
}

// TestRemovedCluster: the agent of a cluster that was deleted meanwhile does no harm.
func TestRemovedCluster(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.add("gone", "stays")
	running(t, r.fleet.Run)
	r.presence.set("gone", true)
	r.presence.connect("stays", true)
	if err := r.clusters.Delete(timeout(t), "", "gone"); err != nil {
		t.Fatal(err)
	}
	var ack wire.Ack
	r.ask("gone", wire.ServiceStatus, healthy(), &ack)
	r.ask("stays", wire.ServiceStatus, healthy(), &ack)
	until(t, "the other is written", func() bool { return r.available("stays") == metav1.ConditionTrue })
	if n := r.logs.FilterMessageSnippet("writing cluster status failed").Len(); n != 0 {
		t.Errorf("%d complaints about a cluster that is gone", n)
	}
}

// TestRestart: a new controller over the same store takes back what is not
// true any more, and keeps since when.
func TestRestart(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.add("shop-1")
	stop := running(t, r.fleet.Run)
	r.presence.connect("shop-1", true)
	var ack wire.Ack
	r.ask("shop-1", wire.ServiceStatus, healthy(), &ack)
	until(t, "available", func() bool { return r.available("shop-1") == metav1.ConditionTrue })
	stop()
	cfg := r.fleet.cfg
	cfg.Presence = &sessions{live: map[string]Session{}, changed: make(chan struct{}, 1)}
	again := New(cfg)
	running(t, again.Run)
	until(t, "lost", func() bool { return r.available("shop-1") == metav1.ConditionUnknown })
	if a := r.get("shop-1").Status.Agent; a.LastSeen == nil || a.ConnectedSince != nil {
		t.Errorf("agent %+v", a)
	}
}
