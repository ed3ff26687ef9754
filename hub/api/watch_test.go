// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

// line is one event as it comes over the wire.
type line struct {
	Type   string         `json:"type"`
	Object map[string]any `json:"object"`
}

// follow starts a watch and returns a function that waits for its next event.
func (h *hub) follow(query string, accept ...string) func() line {
	h.t.Helper()
	return h.followAs(h.admin(), clustersPath, query, accept...)
}

func (h *hub) followAs(cfg *rest.Config, path, query string, accept ...string) func() line {
	h.t.Helper()
	transport, err := rest.TransportFor(cfg)
	if err != nil {
		h.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, h.srv.URL+path+"?watch=true&"+query, nil)
	if err != nil {
		h.t.Fatal(err)
	}
	for _, a := range accept {
		req.Header.Set("Accept", a)
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { cancel(); _ = resp.Body.Close() })
	if resp.StatusCode != http.StatusOK {
		h.t.Fatalf("watch: %s", resp.Status)
	}
	scan := bufio.NewScanner(resp.Body)
	scan.Buffer(nil, 4<<20)
	return func() line {
		h.t.Helper()
		if !scan.Scan() {
			return line{Type: "EOF"}
		}
		var l line
		if err := json.Unmarshal(scan.Bytes(), &l); err != nil {
			h.t.Fatalf("%v: %s", err, scan.Text())
		}
		return l
	}
}

// want takes the next event that is no bookmark and compares it.
func want(t *testing.T, next func() line, typ, name string) line {
	t.Helper()
	l := next()
	for l.Type == "BOOKMARK" {
		l = next()
	}
	if got := metaString(l.Object, "name"); l.Type != typ || got != name {
		t.Fatalf("got %s %s, want %s %s: %v", l.Type, got, typ, name, l.Object)
	}
	return l
}

func TestWatch(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	first := h.create(clustersPath, clusterJSON("c1", ``))
	rv := metaString(first, "resourceVersion")
	h.create(clustersPath, clusterJSON("c2", ``))

	all := h.follow("")
	want(t, all, "ADDED", "c1")
	want(t, all, "ADDED", "c2")
	after := h.follow("resourceVersion=" + rv)
	want(t, after, "ADDED", "c2")
	prod := h.follow("resourceVersion=" + rv + "&labelSelector=env%3Dprod")
	one := h.follow("resourceVersion=" + rv + "&fieldSelector=metadata.name%3Dc1")

	h.patch(mergePatch, clustersPath+"/c1", `{"metadata":{"labels":{"env":"prod"}}}`)
	want(t, all, "MODIFIED", "c1")
	want(t, prod, "ADDED", "c1")
	want(t, one, "MODIFIED", "c1")
	h.patch(mergePatch, clustersPath+"/c1", `{"metadata":{"labels":{"env":"test"}}}`)
	want(t, prod, "DELETED", "c1")
	want(t, all, "MODIFIED", "c1")
	h.do(http.MethodDelete, clustersPath+"/c1", "")
	gone := want(t, all, "DELETED", "c1")
	want(t, one, "MODIFIED", "c1")
	want(t, one, "DELETED", "c1")
	if v, err := strconv.Atoi(metaString(gone.Object, "resourceVersion")); err != nil || v < 5 {
		t.Errorf("revision of the deletion: %d %v", v, err)
	}
}

func TestWatchInitialEvents(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	h.create(clustersPath, clusterJSON("c1", ``))
	next := h.follow("sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true")
	if l := next(); l.Type != "ADDED" {
		t.Fatalf("got %v", l)
	}
	l := next()
	annotations, _ := meta(l.Object)["annotations"].(map[string]any)
	if l.Type != "BOOKMARK" || annotations[annotationInitialEnd] != "true" || metaString(l.Object, "resourceVersion") == "" {
		t.Fatalf("got %v, want the bookmark that ends the initial events", l)
	}
	// a quiet kind still hears how far the hub is
	h.create(tokensPath, tokenJSON("t1"))
	for before := metaString(l.Object, "resourceVersion"); ; {
		l = next()
		if l.Type != "BOOKMARK" {
			t.Fatalf("got %v", l)
		}
		if metaString(l.Object, "resourceVersion") != before {
			break
		}
	}
}

func TestWatchTable(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	h.create(clustersPath, clusterJSON("c1", ``))
	h.create(clustersPath, clusterJSON("c2", ``))
	next := h.follow("", acceptTable)
	for i, columns := range []int{8, 0} {
		l := next()
		defs, _ := l.Object["columnDefinitions"].([]any)
		rows, _ := l.Object["rows"].([]any)
		if l.Type != "ADDED" || l.Object["kind"] != "Table" || len(defs) != columns || len(rows) != 1 {
			t.Errorf("event %d: %d columns, want %d: %v", i, len(defs), columns, l)
		}
	}
}

func TestWatchEnds(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	next := h.follow("timeoutSeconds=1")
	if l := next(); l.Type != "EOF" {
		t.Errorf("got %v", l)
	}
}

// TestInformer runs client-go's informer against the hub, with changes of every sort.
func TestInformer(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	h.create(clustersPath, clusterJSON("c1", ``))
	factory := dynamicinformer.NewDynamicSharedInformerFactory(h.dynamic(), 0)
	informer := factory.ForResource(clusters).Informer()
	type change struct {
		what, name string
	}
	changes := make(chan change, 100)
	name := func(obj any) string {
		if d, ok := obj.(cache.DeletedFinalStateUnknown); ok {
			obj = d.Obj
		}
		return obj.(*unstructured.Unstructured).GetName()
	}
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { changes <- change{"add", name(obj)} },
		UpdateFunc: func(_, obj any) { changes <- change{"update", name(obj)} },
		DeleteFunc: func(obj any) { changes <- change{"delete", name(obj)} },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	factory.Start(ctx.Done())
	defer factory.Shutdown()
	defer cancel()
	if !cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
		t.Fatal("informer did not sync")
	}
	expect := func(what, name string) {
		t.Helper()
		select {
		case got := <-changes:
			if got != (change{what, name}) {
				t.Fatalf("got %v, want %s %s", got, what, name)
			}
		case <-time.After(patience):
			t.Fatalf("no %s %s", what, name)
		}
	}
	expect("add", "c1")
	client := h.dynamic().Resource(clusters)
	c2 := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "cluster.open-cluster-management.io/v1", "kind": "ManagedCluster",
		"metadata": map[string]any{"name": "c2"}, "spec": map[string]any{},
	}}
	if c2, err = client.Create(ctx, c2, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	expect("add", "c2")
	c2.SetLabels(map[string]string{"a": "b"})
	if c2, err = client.Update(ctx, c2, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	expect("update", "c2")
	if err := unstructured.SetNestedField(c2.Object, "v1.36.3", "status", "version", "kubernetes"); err != nil {
		t.Fatal(err)
	}
	if _, err = client.UpdateStatus(ctx, c2, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	expect("update", "c2")
	// a broken connection is resumed from the last revision
	h.srv.CloseClientConnections()
	if a := h.do(http.MethodDelete, clustersPath+"?labelSelector=a%3Db", ""); a.code != http.StatusOK {
		t.Fatalf("%d %s", a.code, a.body)
	}
	expect("delete", "c2")
	if got := informer.GetStore().ListKeys(); len(got) != 1 || got[0] != "c1" {
		t.Errorf("store holds %v", got)
	}
}
