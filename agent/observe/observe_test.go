// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package observe_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/drover-io/drover/test/kube"
)

// One object, or many in one namespace: changes, ends and returns are seen.
func TestSees(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name             string
		objects, watches int
	}{{"few", 2, 2}, {"many", 12, 1}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ns := "sees-" + tt.name
			r := newRig(t, shared.Cluster(t).RESTConfig())
			r.namespace(ns)
			var names []string
			for i := range tt.objects {
				names = append(names, fmt.Sprint("c", i))
			}
			for _, name := range append(names[1:], "other") { // c0 comes later
				r.create(configMaps, ns, configMap(name, "0"))
			}
			r.observer.Follow("work", objects(configMaps, ns, names...))
			r.await(configMaps, ns, "c0", "absence", isGone)
			for _, name := range names[1:] {
				r.await(configMaps, ns, name, "first state", level("0"))
			}
			r.create(configMaps, ns, configMap("c0", "0"))
			r.await(configMaps, ns, "c0", "creation", level("0"))
			var took []time.Duration
			for i := 1; i <= 50; i++ {
				name, value := names[i%len(names)], fmt.Sprint(i)
				began := time.Now()
				r.patch(configMaps, ns, name, `{"data":{"level":"`+value+`"}}`)
				took = append(took, r.await(configMaps, ns, name, "change", level(value)).at.Sub(began))
			}
			slices.Sort(took)
			t.Logf("change on the cluster to Changed, patch included: p50 %v, p99 %v", took[len(took)/2], took[len(took)*99/100])
			r.patch(configMaps, ns, "other", `{"data":{"level":"9"}}`)
			r.delete(configMaps, ns, "c1")
			r.await(configMaps, ns, "c1", "deletion", isGone)
			r.create(configMaps, ns, configMap("c1", "again"))
			r.await(configMaps, ns, "c1", "return", level("again"))
			if n := r.count(configMaps, ns, "other"); n != 0 {
				t.Errorf("saw an object that nobody follows %d times", n)
			}
			if got := r.observer.Stats(); got.Watches != tt.watches || got.Objects != tt.objects {
				t.Errorf("stats %+v, want %d watches of %d objects", got, tt.watches, tt.objects)
			}

			// Another owner adds objects; what was seen already is not handed over again.
			r.forget()
			r.create(configMaps, ns, configMap("more", "0"))
			r.observer.Follow("second", objects(configMaps, ns, "more", names[0]))
			r.await(configMaps, ns, "more", "addition", exists)
			r.observer.Follow("second", nil)
			r.patch(configMaps, ns, names[0], `{"data":{"level":"end"}}`)
			r.await(configMaps, ns, names[0], "change", level("end"))
		})
	}
}

// Objects in many namespaces share a watch.
func TestManyNamespaces(t *testing.T) {
	t.Parallel()
	r := newRig(t, shared.Cluster(t).RESTConfig())
	follow := objects(configMaps, "")
	for i := range 25 {
		ns := fmt.Sprint("spread-", i)
		r.namespace(ns)
		r.create(configMaps, ns, configMap("c", "0"))
		follow[configMaps] = append(follow[configMaps], objects(configMaps, ns, "c")[configMaps]...)
	}
	r.observer.Follow("work", follow)
	for i := range 25 {
		r.await(configMaps, fmt.Sprint("spread-", i), "c", "first state", level("0"))
	}
	r.patch(configMaps, "spread-7", "c", `{"data":{"level":"1"}}`)
	r.await(configMaps, "spread-7", "c", "change", level("1"))
	if got := r.observer.Stats(); got.Watches != 1 {
		t.Errorf("stats %+v, want one watch", got)
	}
}

// What a Secret holds does not come into the process.
func TestSecretsStayClosed(t *testing.T) {
	t.Parallel()
	r := newRig(t, shared.Cluster(t).RESTConfig())
	r.namespace("closed")
	r.create(secrets, "closed", `{"apiVersion":"v1","kind":"Secret","metadata":{"name":"s"},"stringData":{"password":"canary"}}`)
	r.observer.Follow("work", objects(secrets, "closed", "s"))
	first := r.await(secrets, "closed", "s", "first state", exists)
	r.patch(secrets, "closed", "s", `{"stringData":{"password":"canary2"}}`)
	second := r.await(secrets, "closed", "s", "change", func(live *unstructured.Unstructured) bool {
		return live != nil && live.GetResourceVersion() != first.live.GetResourceVersion()
	})
	for _, live := range []*unstructured.Unstructured{first.live, second.live} {
		if _, has := live.Object["data"]; has || len(live.GetManagedFields()) == 0 {
			t.Errorf("got %v", live.Object)
		}
	}
}

func crd(group, plural, kind string) string {
	return strings.NewReplacer("GROUP", group, "PLURAL", plural, "KIND", kind).Replace(`{"apiVersion":"apiextensions.k8s.io/v1",
		"kind":"CustomResourceDefinition","metadata":{"name":"PLURAL.GROUP"},"spec":{"group":"GROUP","scope":"Namespaced",
		"names":{"plural":"PLURAL","singular":"KINDs","kind":"KIND","listKind":"KINDList"},"versions":[{"name":"v1","served":true,"storage":true,
		"schema":{"openAPIV3Schema":{"type":"object","x-kubernetes-preserve-unknown-fields":true}}}]}}`)
}

// A kind that vanishes takes its objects along; when it comes back, so do they.
func TestKindVanishes(t *testing.T) {
	t.Parallel()
	r := newRig(t, shared.Cluster(t).RESTConfig())
	r.namespace("vanish")
	widgets := schema.GroupVersionResource{Group: "vanish.example.com", Version: "v1", Resource: "widgets"}
	r.observer.Follow("work", objects(widgets, "vanish", "w"))
	r.await(widgets, "vanish", "w", "absence", isGone)
	make1 := func() {
		r.create(crds, "", strings.ReplaceAll(crd("vanish.example.com", "widgets", "Widget"), `"Widgets"`, `"widget"`))
		body := &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "vanish.example.com/v1", "kind": "Widget", "metadata": map[string]any{"name": "w"},
		}}
		for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
			_, err := r.in(widgets, "vanish").Create(t.Context(), body, metav1.CreateOptions{})
			if err == nil {
				return
			}
			if time.Now().After(deadline) {
				t.Fatal(err)
			}
		}
	}
	for range 2 {
		make1()
		r.await(widgets, "vanish", "w", "object", exists)
		r.forget()
		r.delete(crds, "", "widgets.vanish.example.com")
		r.await(widgets, "vanish", "w", "end", isGone)
		r.forget()
		for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
			if _, err := r.in(crds, "").Get(t.Context(), "widgets.vanish.example.com", metav1.GetOptions{}); err != nil {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal("the CRD is still there")
			}
		}
	}
}

// The API server ends and starts again: what happened meanwhile is seen.
func TestRestart(t *testing.T) {
	t.Parallel()
	shared.Cluster(t) // skips without a control plane
	dir := t.TempDir()
	cluster, err := kube.Start(t.Context(), kube.Options{Dir: dir, APIOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	var port int
	if _, err := fmt.Sscanf(cluster.RESTConfig().Host, "https://127.0.0.1:%d", &port); err != nil {
		t.Fatal(err)
	}
	r := newRig(t, cluster.RESTConfig())
	r.create(configMaps, "default", configMap("a", "0"))
	r.observer.Follow("work", objects(configMaps, "default", "a", "b"))
	r.await(configMaps, "default", "a", "first state", level("0"))
	r.await(configMaps, "default", "b", "absence", isGone)
	if err := cluster.Stop(); err != nil {
		t.Fatal(err)
	}
	cluster, err = kube.Start(t.Context(), kube.Options{Dir: dir, Port: port, APIOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cluster.Stop() })
	began := time.Now()
	r.patch(configMaps, "default", "a", `{"data":{"level":"1"}}`)
	r.create(configMaps, "default", configMap("b", "1"))
	r.await(configMaps, "default", "a", "change after the restart", level("1"))
	r.await(configMaps, "default", "b", "creation after the restart", level("1"))
	t.Logf("seen %v after the restart", time.Since(began))
	if n := r.count(configMaps, "default", "a"); n != 2 {
		t.Errorf("object a was handed over %d times, want 2", n)
	}
	r.stop()
}
