// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/drover-io/drover/shared/apis/work"
)

const (
	crashRounds  = 200
	crashObjects = 8 // config maps of the work that is applied when things die
	crashNS      = "e2e-crash"
)

// TestCrash kills the hub, and then the agent, in the middle of an apply,
// two hundred times. Whatever the hub acknowledged must still be there after every
// restart, and in the end the cluster must hold exactly the last state, without
// a person having done anything.
func TestCrash(t *testing.T) {
	t.Parallel()
	cluster := shared.Cluster(t)
	h := startHub(t)
	address := h.Address()
	kubeconfig := []string{"--kubeconfig", cluster.Kubeconfig}
	if err := h.Join(t.Context(), "shop-1", kubeconfig...); err != nil {
		t.Fatal(err)
	}
	agent := startAgent(t, h, "shop-1", kubeconfig...)
	t.Cleanup(func() { showLog(t, agent) })

	c := &crash{hub: hubClient(t, h.Kubeconfig()), acked: map[string]int{}}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for round := 1; round <= crashRounds; round++ {
		var wg sync.WaitGroup
		ctx, cancel := context.WithCancel(t.Context())
		wg.Go(func() { c.write(ctx, round) })
		time.Sleep(time.Duration(random.IntN(60)) * time.Millisecond) // the moment of the cut is the point
		h.Process.Kill()
		cancel()
		wg.Wait()
		if err := h.Start(t.Context(), address); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		c.check(t, round)
		// The hub is back; the agent dies while it works on what it is told.
		c.write(t.Context(), round)
		time.Sleep(time.Duration(random.IntN(80)) * time.Millisecond)
		agent.Kill()
		agent = startAgent(t, h, "shop-1", kubeconfig...)
		if t.Failed() {
			return
		}
	}
	kubernetes, err := dynamic.NewForConfig(cluster.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	maps := kubernetes.Resource(corev1.SchemeGroupVersion.WithResource("configmaps")).Namespace(crashNS)
	eventually(t, "the cluster holds the last state and nothing else", func() bool {
		list, err := maps.List(t.Context(), metav1.ListOptions{LabelSelector: "made-by=crash"})
		return err == nil && lastState(list.Items)
	})
	eventually(t, "the hub knows it", func() bool {
		w, err := c.works().Get(t.Context(), "main", metav1.GetOptions{})
		return err == nil && conditionIsTrue(w, work.ConditionApplied) && conditionIsTrue(w, work.ConditionHealthy)
	})
}

// lastState: in the last round the work names the first half of the config maps
// of an even round, all with the round's number.
func lastState(items []unstructured.Unstructured) bool {
	want := map[string]bool{}
	for _, name := range namesOf(crashRounds) {
		want[name] = true
	}
	for _, item := range items {
		value, _, _ := unstructured.NestedString(item.Object, "data", "round")
		if !want[item.GetName()] || value != fmt.Sprint(crashRounds) {
			return false
		}
	}
	return len(items) == len(want)
}

func namesOf(round int) []string {
	names := []string{}
	for i := range crashObjects - round%2*crashObjects/2 {
		names = append(names, fmt.Sprintf("map-%d", i))
	}
	return names
}

// crash writes works and remembers what the hub acknowledged.
type crash struct {
	hub   dynamic.Interface
	mu    sync.Mutex
	acked map[string]int // name of a work: round of its newest acknowledged write
}

func (c *crash) works() dynamic.ResourceInterface {
	return c.hub.Resource(schema.GroupVersionResource{Group: work.Group, Version: work.Version, Resource: "manifestworks"}).Namespace("shop-1")
}

// write applies the main work for a round and creates two small ones. Errors
// are what a client sees when a hub dies; only acknowledgements count.
func (c *crash) write(ctx context.Context, round int) {
	for _, w := range []*unstructured.Unstructured{
		workOf(fmt.Sprintf("extra-%d-a", round%10), round, nil),
		workOf("main", round, namesOf(round)),
		workOf(fmt.Sprintf("extra-%d-b", round%10), round, nil),
	} {
		_, err := c.works().Apply(ctx, w.GetName(), w, metav1.ApplyOptions{FieldManager: "crash", Force: true})
		if err == nil {
			c.mu.Lock()
			c.acked[w.GetName()] = round
			c.mu.Unlock()
		}
	}
}

// check reads back every acknowledged work: it must be there, with the round
// that was acknowledged or the later one of an attempt whose answer was cut off.
func (c *crash) check(t *testing.T, round int) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	list, err := c.works().List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Errorf("round %d: list after restart: %v", round, err)
		return
	}
	found := map[string]string{}
	for _, w := range list.Items {
		found[w.GetName()] = w.GetLabels()["round"]
	}
	for name, acked := range c.acked {
		if got := found[name]; got != fmt.Sprint(acked) && got != fmt.Sprint(round) {
			t.Errorf("round %d: work %s has round %q, acknowledged was %d", round, name, got, acked)
		}
	}
}

func workOf(name string, round int, maps []string) *unstructured.Unstructured {
	manifests := []any{map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": crashNS}}}
	if maps == nil {
		manifests = []any{configMap("of-"+name, round, "extra")}
	}
	for _, m := range maps {
		manifests = append(manifests, configMap(m, round, "crash"))
	}
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": work.Group + "/" + work.Version, "kind": work.Kind,
		"metadata": map[string]any{"name": name, "namespace": "shop-1", "labels": map[string]any{"round": fmt.Sprint(round)}},
		"spec":     map[string]any{"workload": map[string]any{"manifests": manifests}},
	}}
}

func configMap(name string, round int, madeBy string) map[string]any {
	return map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap",
		"metadata": map[string]any{"name": name, "namespace": crashNS, "labels": map[string]any{"made-by": madeBy}},
		"data":     map[string]any{"round": fmt.Sprint(round)},
	}
}

func hubClient(t *testing.T, kubeconfig string) dynamic.Interface {
	t.Helper()
	cfg, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	cfg.QPS, cfg.Burst = 1000, 1000
	c, err := dynamic.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func conditionIsTrue(w *unstructured.Unstructured, condition string) bool {
	list, _, _ := unstructured.NestedSlice(w.Object, "status", "conditions")
	for _, c := range list {
		m, _ := c.(map[string]any)
		generation, _ := m["observedGeneration"].(int64)
		if m["type"] == condition {
			return m["status"] == "True" && generation == w.GetGeneration()
		}
	}
	return false
}
