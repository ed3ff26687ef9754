// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"

	"github.com/drover-io/drover/hub/store"
)

// everybody is an administrator.
func everybody(*http.Request) (*authenticator.Response, bool, error) {
	return &authenticator.Response{User: &user.DefaultInfo{Name: "f", Groups: []string{user.SystemPrivilegedGroup}}}, true, nil
}

func newFuzzHub(f *testing.F) *hub {
	h := newHub(f, func(c *Config) { c.Authenticator = authenticator.RequestFunc(everybody) })
	h.create(clustersPath, clusterJSON("c1", `"hubAcceptsClient":true`))
	return h
}

// ask sends a request past the network. Whatever the client sent, the answer is
// JSON and not the server's fault.
func ask(t *testing.T, h *hub, method, target, media string, body []byte) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(method, "/", bytes.NewReader(body))
	u, err := url.Parse(target)
	if err != nil {
		t.Skip()
	}
	r.URL = u
	r.Header.Set("Content-Type", media)
	w := httptest.NewRecorder()
	h.api.ServeHTTP(w, r)
	if w.Code >= 500 && w.Code != http.StatusGatewayTimeout || !json.Valid(w.Body.Bytes()) {
		t.Fatalf("%s %s %q: %d %s", method, target, body, w.Code, w.Body)
	}
	return w
}

func FuzzPatch(f *testing.F) {
	h := newFuzzHub(f)
	for _, seed := range []string{
		`{}`, `[]`, `{"spec":null}`, `{"metadata":{"labels":{"a":null}}}`, `{"a":1,"a":2}`, `[{"op":"add","path":"/spec/taints/-","value":{}}]`,
		`[{"op":"move","from":"","path":"/spec"}]`, `[{"op":"copy","from":"/spec","path":"/metadata/annotations"}]`, `[{"op":"remove","path":"/metadata"}]`,
		clusterJSON("c1", `"hubAcceptsClient":false`), `apiVersion: &a cluster.open-cluster-management.io/v1
kind: ManagedCluster
spec: {leaseDurationSeconds: 1e3}`, `{"metadata":{"finalizers":["a.b/c"],"generateName":"x","deletionTimestamp":"2020-01-01T00:00:00Z"}}`,
		`[{"op":"test","path":"/metadata/~2"}]`, `[{}]`, `[null]`, `[{"op":"add","path":"/spec/taints/99999999999999999999","value":1}]`,
	} {
		for form := range 3 {
			f.Add(uint8(form), []byte(seed))
		}
	}
	forms := []string{mergePatch, jsonPatchT, applyPatch}
	f.Fuzz(func(t *testing.T, form uint8, body []byte) {
		ask(t, h, http.MethodPatch, clustersPath+"/c1?fieldManager=f&force=true", forms[int(form)%3], body)
		entry, err := h.store.Get(t.Context(), store.Key{Resource: clusters.Resource + "." + clusters.Group, Name: "c1"})
		if err != nil {
			t.Fatal(err)
		}
		r := h.api.current.Load().resources[clusters]
		obj, err := r.decodeStored(entry.Data, entry.Revision)
		if err != nil {
			t.Fatal(err)
		}
		if errs, err := r.Validate(t.Context(), obj); err != nil || len(errs) > 0 {
			t.Fatalf("stored an invalid object: %v %v\n%s", errs, err, entry.Data)
		}
	})
}

func FuzzCreate(f *testing.F) {
	h := newFuzzHub(f)
	f.Add([]byte(clusterJSON("c2", `"taints":[{"key":"a","effect":"NoSelect"}]`)), false)
	f.Add([]byte("apiVersion: cluster.open-cluster-management.io/v1\nkind: ManagedCluster\nmetadata: {generateName: a}\nspec: {}\n"), true)
	f.Add([]byte(`{"metadata":{"managedFields":[{"fieldsV1":{"f:":{}}}]}}`), false)
	f.Fuzz(func(t *testing.T, body []byte, isYAML bool) {
		media := mediaJSON
		if isYAML {
			media = mediaYAML
		}
		ask(t, h, http.MethodPost, clustersPath+"?dryRun=All", media, body)
	})
}

func FuzzListQuery(f *testing.F) {
	h := newFuzzHub(f)
	page, err := h.store.List(f.Context(), store.Selection{Resource: clusters.Resource + "." + clusters.Group, Limit: 1})
	if err != nil {
		f.Fatal(err)
	}
	for _, q := range []string{
		"labelSelector=a=b", "labelSelector=a in (b,c)", "fieldSelector=metadata.name=c1", "fieldSelector=a=b,c", "limit=-1", "limit=x",
		"continue=" + url.QueryEscape(page.Continue), "continue=AAAA", "resourceVersion=0&resourceVersionMatch=NotOlderThan", "includeObject=None",
		"resourceVersion=18446744073709551616", "timeoutSeconds=1",
	} {
		f.Add(q)
	}
	f.Fuzz(func(t *testing.T, query string) {
		r, err := url.ParseQuery(query)
		if err != nil {
			t.Skip()
		}
		r.Del("watch")
		if len(r.Get("resourceVersion")) > 2 {
			r.Del("resourceVersion") // waiting for the future takes 3 s
		}
		ask(t, h, http.MethodGet, clustersPath+"?"+r.Encode(), mediaJSON, nil)
	})
}
