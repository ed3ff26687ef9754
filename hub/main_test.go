// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/drover-io/drover/test/leak"
	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/yaml"

	"github.com/drover-io/drover/shared/apis/cluster"
	"github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/shared/apis/work"
)

func TestMain(m *testing.M) { leak.Main(m) }

// patience bounds every wait; it is only reached when a test fails.
const patience = 90 * time.Second

// running is a hub in this process.
type running struct {
	t    *testing.T
	cfg  Config
	url  string
	done chan error
	end  context.CancelFunc
}

// start runs a hub on dir and waits until it serves.
func start(t *testing.T, dir string, change func(*Config)) *running {
	t.Helper()
	cfg := Config{DataDir: dir, Listen: "127.0.0.1:0", Log: zap.NewNop()}
	if change != nil {
		change(&cfg)
	}
	h, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{t: t, cfg: cfg, done: make(chan error, 1), end: cancel}
	go func() { r.done <- h.Run(ctx) }()
	t.Cleanup(func() { r.stop() })
	deadline := time.Now().Add(patience)
	for {
		text, err := os.ReadFile(cfg.URLFile())
		if err == nil {
			r.url = strings.TrimSpace(string(text))
			return r
		}
		select {
		case err := <-r.done:
			r.end = nil
			t.Fatalf("the hub ended: %v", err)
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatal("the hub does not serve")
		}
	}
}

// stop ends the hub and fails the test unless that was orderly.
func (r *running) stop() {
	r.t.Helper()
	if r.end == nil {
		return
	}
	r.end()
	r.end = nil
	select {
	case err := <-r.done:
		if err != nil {
			r.t.Errorf("Run: %v", err)
		}
	case <-time.After(patience):
		r.t.Fatal("the hub does not stop")
	}
	if _, err := os.Stat(r.cfg.URLFile()); !os.IsNotExist(err) {
		r.t.Errorf("hub.url stays after the end: %v", err)
	}
}

func (r *running) config() *rest.Config {
	r.t.Helper()
	cfg, err := clientcmd.BuildConfigFromFlags("", r.cfg.AdminKubeconfig())
	if err != nil {
		r.t.Fatal(err)
	}
	return cfg
}

// client is a real client-go client with the admin credential.
func (r *running) client() dynamic.Interface {
	r.t.Helper()
	cfg := r.config()
	hc, err := rest.HTTPClientFor(cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(hc.CloseIdleConnections)
	c, err := dynamic.NewForConfigAndClient(cfg, hc)
	if err != nil {
		r.t.Fatal(err)
	}
	return c
}

func timeout(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func of(group, version, resource string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: group, Version: version, Resource: resource}
}

func tokens() schema.GroupVersionResource   { return of(fleet.Group, fleet.Version, "jointokens") }
func requests() schema.GroupVersionResource { return of(fleet.Group, fleet.Version, "joinrequests") }

func identities() schema.GroupVersionResource {
	return of(fleet.Group, fleet.Version, "agentidentities")
}

func clusters() schema.GroupVersionResource {
	return of(cluster.Group, cluster.Version, "managedclusters")
}
func works() schema.GroupVersionResource { return of(work.Group, work.Version, "manifestworks") }

// object reads YAML.
func object(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	u := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(text), &u.Object); err != nil {
		t.Fatal(err)
	}
	return u
}
