// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
)

const definitionsPath = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"

var boats = schema.GroupVersionResource{Group: "shop.example.com", Version: "v1", Resource: "boats"}

const boatYAML = `apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: boats.shop.example.com}
spec:
  group: shop.example.com
  scope: Namespaced
  names: {plural: boats, kind: Boat, shortNames: [bt], categories: [all]}
  versions:
  - name: v1
    served: true
    storage: true
    subresources:
      status: {}
      scale: {specReplicasPath: .spec.masts, statusReplicasPath: .status.masts}
    additionalPrinterColumns:
    - {name: Masts, type: integer, jsonPath: .spec.masts}
    - {name: Colour, type: string, jsonPath: .spec.colour}
    selectableFields: [{jsonPath: .spec.colour}]
    schema:
      openAPIV3Schema:
        type: object
        description: A Boat floats.
        properties:
          spec:
            type: object
            x-kubernetes-validations:
            - {rule: self.masts <= self.length, message: too many masts}
            properties:
              masts: {type: integer, default: 1, minimum: 0, description: How many masts it has.}
              length: {type: integer, default: 10}
              colour: {type: string, default: white}
          status:
            type: object
            properties:
              masts: {type: integer}
`

// definition is boatYAML as JSON, with parts replaced.
func definitionJSON(t *testing.T, replace ...string) string {
	t.Helper()
	obj, _, err := decode([]byte(strings.NewReplacer(replace...).Replace(boatYAML)), true)
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(obj)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// eventually polls until ok.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %v", what, patience)
		}
	}
}

// established waits until the kind of a definition is served.
func (h *hub) established(name string) {
	h.t.Helper()
	eventually(h.t.(*testing.T), name+" established", func() bool {
		return strings.Contains(h.do(http.MethodGet, definitionsPath+"/"+name, "").body, `"reason":"InitialNamesAccepted","status":"True"`)
	})
}

// TestDefinitionKubectl is the life of a user's own kind, as people type it.
func TestDefinitionKubectl(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	k := newKubectl(t, h)
	k.file(t, "crd.yaml", boatYAML)
	k.file(t, "boat.yaml", "apiVersion: shop.example.com/v1\nkind: Boat\nmetadata: {name: ida, namespace: c1}\nspec: {masts: 2}\n")
	k.file(t, "wrong.yaml", "apiVersion: shop.example.com/v1\nkind: Boat\nmetadata: {name: eve, namespace: c1}\nspec: {mast: 2}\n")
	k.file(t, "own.yaml", "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: managedclusters.cluster.open-cluster-management.io}\n"+
		"spec: {group: cluster.open-cluster-management.io, scope: Cluster, names: {plural: managedclusters, kind: ManagedCluster}, versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}]}\n")
	k.steps(t, []step{
		{args: "get boats -A", want: []string{`the server doesn't have a resource type "boats"`}, code: 1},
		{args: "apply -f crd.yaml", want: []string{"boats.shop.example.com created"}},
		{args: "wait --for=condition=Established crd/boats.shop.example.com --timeout=60s", want: []string{"condition met"}},
		{args: "apply -f crd.yaml", want: []string{"unchanged"}},
		{args: "get crd", want: []string{"CREATED AT", "boats.shop.example.com"}, not: []string{"managedclusters"}},
		{args: "apply -f own.yaml", want: []string{"is built into the hub and cannot be defined"}, code: 1},
		{args: "create namespace c1"},
		{args: "apply -f boat.yaml", want: []string{"boat.shop.example.com/ida created"}},
		{args: "apply -f boat.yaml", want: []string{"unchanged"}},
		{args: "apply -f wrong.yaml", want: []string{`unknown field "spec.mast"`}, code: 1},
		{args: "get bt -n c1", want: []string{"NAME", "MASTS", "COLOUR", "ida", "white"}},
		{args: "get boats -A --field-selector spec.colour=black", want: []string{"No resources found"}},
		{args: "explain boats.spec.masts", want: []string{"How many masts it has."}},
		{args: "-n c1 patch boat ida --type merge -p {\"spec\":{\"masts\":11}}", want: []string{"too many masts"}, code: 1},
		{args: "-n c1 scale boat ida --replicas=3", want: []string{"scaled"}},
		{args: "-n c1 get boat ida -o jsonpath={.spec}{.metadata.generation}", want: []string{`"masts":3`, `}2`}},
		{args: "-n c1 apply --server-side --field-manager=x -f boat.yaml", want: []string{"conflict"}, code: 1},
		{args: "-n c1 patch boat ida --subresource=status --type merge -p {\"status\":{\"masts\":3},\"spec\":{\"masts\":9}}"},
		{args: "-n c1 get boat ida -o jsonpath={.spec.masts}{.status.masts}", want: []string{"33"}},
		{args: "get all -n c1", want: []string{"boat.shop.example.com/ida"}},
		{args: "delete crd boats.shop.example.com", want: []string{"deleted"}},
		{args: "get boats -A", want: []string{"the server could not find the requested resource"}, code: 1},
	})
	// made again, the kind is empty
	h.create(definitionsPath, definitionJSON(t))
	h.established("boats.shop.example.com")
	if list, err := h.dynamic().Resource(boats).List(t.Context(), metav1.ListOptions{}); err != nil || len(list.Items) != 0 {
		t.Errorf("after deletion: %v, %v", list, err)
	}
}

// TestDefinitionSoon: a kind is served soon after its definition was stored, by a
// hub that was started later too.
func TestDefinitionSoon(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	start := time.Now()
	h.create(definitionsPath, definitionJSON(t))
	eventually(t, "boats", func() bool { return h.do(http.MethodGet, "/apis/shop.example.com/v1/boats", "").code == http.StatusOK })
	t.Logf("served after %v", time.Since(start))
	other, err := New(Config{Store: h.store, Kinds: h.docs, Authenticator: h.api.authenticator, Authorizer: h.api.authorizer})
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	if other.current.Load().resources[boats] == nil {
		t.Error("a new hub does not know boats")
	}
	for path, want := range map[string]string{
		"/apis": `"shop.example.com/v1"`, "/apis/shop.example.com/v1": `"boats/scale"`, "/openapi/v3": "apis/shop.example.com/v1", "/openapi/v2": "A Boat floats.",
	} {
		if a := h.do(http.MethodGet, path, "", "Accept", "application/json"); !strings.Contains(a.body, want) {
			t.Errorf("%s: no %q in %.300s", path, want, a.body)
		}
	}
}

// TestDefinitionVersions changes the versions of a kind in use.
func TestDefinitionVersions(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	h.create(definitionsPath, definitionJSON(t))
	h.established("boats.shop.example.com")
	h.create(nsPath, `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"c1"}}`)
	const path = "/apis/shop.example.com/v1/namespaces/c1/boats"
	h.create(path, `{"apiVersion":"shop.example.com/v1","kind":"Boat","metadata":{"name":"ida"},"spec":{"masts":2}}`)
	events, err := h.dynamic().Resource(boats).Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer events.Stop()
	_, v1, _ := strings.Cut(boatYAML, "  - name: v1\n")
	two := boatYAML + "  - name: v2\n    deprecated: true\n" + strings.Replace(strings.Replace(v1, "storage: true", "storage: false", 1), "default: white", "default: black", 1)
	obj, _, err := decode([]byte(two), true)
	if err != nil {
		t.Fatal(err)
	}
	spec, err := json.Marshal(map[string]any{"spec": obj["spec"]})
	if err != nil {
		t.Fatal(err)
	}
	if a := h.do(http.MethodPatch, definitionsPath+"/boats.shop.example.com", string(spec), "Content-Type", "application/merge-patch+json"); a.code != http.StatusOK {
		t.Fatalf("second version: %d %s", a.code, a.body)
	}
	const path2 = "/apis/shop.example.com/v2/namespaces/c1/boats"
	eventually(t, "v2", func() bool { return h.do(http.MethodGet, path2, "").code == http.StatusOK })
	a := h.do(http.MethodGet, path2+"/ida", "")
	if !strings.Contains(a.body, `"apiVersion":"shop.example.com/v2"`) || !strings.Contains(a.header.Get("Warning"), "shop.example.com/v2 Boat is deprecated") {
		t.Errorf("in v2: %v %s", a.header, a.body)
	}
	// the watch in the old form has ended, so that the client comes again
	eventually(t, "end of watch", func() bool {
		for {
			select {
			case _, open := <-events.ResultChan():
				if !open {
					return true
				}
			default:
				return false
			}
		}
	})
	h.create(path2, `{"apiVersion":"shop.example.com/v2","kind":"Boat","metadata":{"name":"eve"},"spec":{}}`)
	if a := h.do(http.MethodGet, path+"/eve", ""); !strings.Contains(a.body, `"colour":"black"`) || !strings.Contains(a.body, `"apiVersion":"shop.example.com/v1"`) {
		t.Errorf("made in v2, read in v1: %s", a.body)
	}
	// fields are owned in the version in which they were written
	apply := h.do(http.MethodPatch, path+"/eve?fieldManager=b&force=true", "apiVersion: shop.example.com/v1\nkind: Boat\nspec: {masts: 4}\n", "Content-Type", "application/apply-patch+yaml")
	if apply.code != http.StatusOK || !strings.Contains(apply.body, `"apiVersion":"shop.example.com/v2"`) || !strings.Contains(apply.body, `"manager":"b"`) {
		t.Errorf("apply: %d %s", apply.code, apply.body)
	}
	// a version in which objects may be stored cannot go
	one := definitionJSON(t, "name: v1\n", "name: v3\n")
	obj, _, _ = decode([]byte(one), false)
	patch, _ := json.Marshal(map[string]any{"spec": map[string]any{"versions": obj["spec"].(map[string]any)["versions"]}})
	if a := h.do(http.MethodPatch, definitionsPath+"/boats.shop.example.com", string(patch), "Content-Type", "application/merge-patch+json"); a.code != http.StatusUnprocessableEntity || !strings.Contains(a.body, "status.storedVersions[0]") {
		t.Errorf("stored version dropped: %d %s", a.code, a.body)
	}
}

// TestDefinitionDeletion: the objects go first, those that finalizers hold too,
// then the kind and the watches.
func TestDefinitionDeletion(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	h.create(definitionsPath, definitionJSON(t))
	h.established("boats.shop.example.com")
	h.create(nsPath, `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"c1"}}`)
	const path = "/apis/shop.example.com/v1/namespaces/c1/boats"
	const more = 20
	for i := range more {
		h.create(path, fmt.Sprintf(`{"apiVersion":"shop.example.com/v1","kind":"Boat","metadata":{"name":"b%d"}}`, i))
	}
	h.create(path, `{"apiVersion":"shop.example.com/v1","kind":"Boat","metadata":{"name":"held","finalizers":["example.com/hold"]}}`)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	events, err := h.dynamic().Resource(boats).Watch(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer events.Stop()
	if a := h.do(http.MethodDelete, definitionsPath+"/boats.shop.example.com", ""); a.code != http.StatusOK {
		t.Fatalf("delete: %d %s", a.code, a.body)
	}
	deleted := 0
	for ev := range events.ResultChan() {
		if ev.Type == watch.Deleted {
			deleted++
		}
		if u, ok := ev.Object.(*unstructured.Unstructured); ok && u.GetName() == "held" && u.GetDeletionTimestamp() != nil && deleted >= more {
			break
		}
	}
	eventually(t, "condition Terminating", func() bool {
		return strings.Contains(h.do(http.MethodGet, definitionsPath+"/boats.shop.example.com", "").body, "InstanceDeletionInProgress")
	})
	if a := h.do(http.MethodPost, path, `{"apiVersion":"shop.example.com/v1","kind":"Boat","metadata":{"name":"late"}}`); a.code != http.StatusMethodNotAllowed {
		t.Errorf("create while terminating: %d %s", a.code, a.body)
	}
	if a := h.do(http.MethodPatch, path+"/held", `{"metadata":{"finalizers":null}}`, "Content-Type", "application/merge-patch+json"); a.code != http.StatusOK {
		t.Fatalf("let go: %d %s", a.code, a.body)
	}
	eventually(t, "end of the kind", func() bool { return h.do(http.MethodGet, path, "").code == http.StatusNotFound })
	for range events.ResultChan() { // ends, or the context does
	}
	if ctx.Err() != nil {
		t.Error("the watch did not end with the kind")
	}
	if a := h.do(http.MethodGet, definitionsPath+"/boats.shop.example.com", ""); a.code != http.StatusNotFound {
		t.Errorf("definition: %d %s", a.code, a.body)
	}
}

// TestDefinitionRefused: what is wrong is named by its path.
func TestDefinitionRefused(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	tests := []struct {
		name     string
		old, new string
		want     string
	}{
		{"name", "name: boats.shop", "name: boat.shop", "metadata.name"},
		{"group", "group: shop.example.com", "group: shop", "spec.group"},
		{"group of the hub", "shop.example.com", "fleet.drover.io", "is the hub's own"},
		{"unapproved group", "shop.example.com", "shop.k8s.io", "api-approved.kubernetes.io"},
		{"scope", "scope: Namespaced", "scope: Nowhere", "spec.scope"},
		{"plural", "plural: boats,", "plural: BOATS,", "spec.names.plural"},
		{"no storage", "storage: true", "storage: false", "exactly one version"},
		{"type", "masts: {type: integer, default", "masts: {type: number-ish, default", "spec.versions[0].schema.openAPIV3Schema.properties[spec].properties[masts].type"},
		{"no type", "          status:\n            type: object", "          status:\n            nullable: true", "openAPIV3Schema.properties[status].type: Required"},
		{"default", "default: white", "default: 7", "properties[colour].default"},
		{"rule", "rule: self.masts <= self.length", "rule: self.mast <= self.length", "x-kubernetes-validations[0].rule"},
		{"reference", "length: {type: integer, default: 10}", "length: {$ref: x}", "$ref"},
		{"pattern", "colour: {type: string, default: white}", "colour: {type: string, pattern: '('}", "pattern"},
		{"column", "type: integer, jsonPath: .spec.masts", "type: int, jsonPath: .spec.masts", "additionalPrinterColumns[0].type"},
		{"column path", "jsonPath: .spec.colour}\n    selectable", "jsonPath: '.spec[?('}\n    selectable", "additionalPrinterColumns[1].jsonPath"},
		{"selectable", "selectableFields: [{jsonPath: .spec.colour}]", "selectableFields: [{jsonPath: .spec.smell}]", "selectableFields[0].jsonPath"},
		{"scale", "specReplicasPath: .spec.masts", "specReplicasPath: .status.masts", "scale.specReplicasPath"},
		{"webhook", "  scope: Namespaced", "  scope: Namespaced\n  conversion: {strategy: Webhook}", "spec.conversion.strategy"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a := h.do(http.MethodPost, definitionsPath, definitionJSON(t, tt.old, tt.new))
			if a.code != http.StatusUnprocessableEntity || !strings.Contains(a.body, tt.want) {
				t.Errorf("got %d %s\nwant 422 with %q", a.code, a.body, tt.want)
			}
		})
	}
}

// TestDefinitionNames: of two definitions with one name the first wins, and the
// second comes when the first goes.
func TestDefinitionNames(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	h.create(definitionsPath, definitionJSON(t))
	h.established("boats.shop.example.com")
	h.create(definitionsPath, definitionJSON(t, "name: boats.", "name: ships.", "plural: boats", "plural: ships", "kind: Boat,", "kind: Ship,"))
	eventually(t, "conflict", func() bool {
		return strings.Contains(h.do(http.MethodGet, definitionsPath+"/ships.shop.example.com", "").body, `\"bt\" is already in use`)
	})
	if a := h.do(http.MethodGet, "/apis/shop.example.com/v1/ships", ""); a.code != http.StatusNotFound {
		t.Errorf("ships: %d", a.code)
	}
	h.do(http.MethodDelete, definitionsPath+"/boats.shop.example.com", "")
	h.established("ships.shop.example.com")
}
