// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"net/http"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
)

const (
	alphaDishes = "/apis/addon.open-cluster-management.io/v1alpha1/namespaces/c1/managedclusteraddons"
	betaDishes  = "/apis/addon.open-cluster-management.io/v1beta1/namespaces/c1/managedclusteraddons"
)

// betaHook wants v1beta1, whatever the client speaks.
type betaHook struct{ seen chan string }

func (h betaHook) Admit(_ context.Context, a *Admission) error {
	if a.Object == nil {
		return nil
	}
	h.seen <- a.Object["apiVersion"].(string)
	if a.Operation == Create {
		a.Object["spec"].(map[string]any)["configs"] = []any{map[string]any{"group": "g.example.com", "resource": "rs", "name": "hooked"}}
	}
	return nil
}

// TestVersions: one object, two versions, through every verb.
func TestVersions(t *testing.T) {
	t.Parallel()
	hook := betaHook{make(chan string, 100)}
	h := newHub(t, func(c *Config) {
		c.Hooks = map[string]Hook{"managedclusteraddons.addon.open-cluster-management.io": hook}
	})
	h.create(nsPath, `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"c1"}}`)
	watched := map[string]watch.Interface{}
	for _, v := range []string{"v1alpha1", "v1beta1"} {
		w, err := h.dynamic().Resource(schema.GroupVersionResource{Group: "addon.open-cluster-management.io", Version: v, Resource: "managedclusteraddons"}).Watch(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		defer w.Stop()
		watched[v] = w
	}
	created := h.create(alphaDishes, `{"apiVersion":"addon.open-cluster-management.io/v1alpha1","kind":"ManagedClusterAddOn","metadata":{"name":"dns"},"spec":{"installNamespace":"here"}}`)
	if spec := created["spec"].(map[string]any); spec["installNamespace"] != "here" || len(spec["configs"].([]any)) != 1 {
		t.Errorf("created: %v", created)
	}
	if got := <-hook.seen; got != "addon.open-cluster-management.io/v1beta1" {
		t.Errorf("the hook saw %s", got)
	}
	for v, w := range watched {
		ev := <-w.ResultChan()
		u := ev.Object.(*unstructured.Unstructured)
		ns, _, _ := unstructured.NestedString(u.Object, "spec", "installNamespace")
		if u.GetAPIVersion() != "addon.open-cluster-management.io/"+v || ns != map[string]string{"v1alpha1": "here"}[v] {
			t.Errorf("watched in %s: %v", v, u.Object)
		}
	}
	tests := []struct {
		name, method, path, body, media string
		want                            []string
		not                             string
	}{
		{
			"get beta", http.MethodGet, betaDishes + "/dns", "", "",
			[]string{`"apiVersion":"addon.open-cluster-management.io/v1beta1"`, `/v1alpha1-install-namespace":"here"`, `"name":"hooked"`},
			`"installNamespace"`,
		},
		{
			"list alpha", http.MethodGet, alphaDishes, "", "",
			[]string{`"apiVersion":"addon.open-cluster-management.io/v1alpha1","kind":"ManagedClusterAddOnList"`, `"installNamespace":"here"`},
			"v1alpha1-install-namespace",
		},
		{
			"patch beta keeps alpha's field", http.MethodPatch, betaDishes + "/dns", `{"metadata":{"labels":{"a":"b"}}}`, "application/merge-patch+json",
			[]string{`/v1alpha1-install-namespace":"here"`, `"a":"b"`},
			"",
		},
		{
			"apply alpha", http.MethodPatch, alphaDishes + "/dns?fieldManager=ops&force=true", `{"apiVersion":"addon.open-cluster-management.io/v1alpha1","kind":"ManagedClusterAddOn","spec":{"installNamespace":"there"}}`, "application/apply-patch+yaml",
			[]string{`"installNamespace":"there"`, `"manager":"ops"`, `"apiVersion":"addon.open-cluster-management.io/v1alpha1","fieldsType"`},
			"",
		},
		{
			"status in alpha", http.MethodPatch, alphaDishes + "/dns/status", `{"status":{"kubeClientDriver":"csr","registrations":[{"signerName":"kubernetes.io/kube-apiserver-client"}]}}`, "application/merge-patch+json",
			[]string{`"kubeClientDriver":"csr"`, `"installNamespace":"there"`},
			"",
		},
		{
			"status in beta", http.MethodGet, betaDishes + "/dns", "", "",
			[]string{`"kubeClient":{"driver":"csr"}`, `"type":"kubeClient"`, `/v1alpha1-install-namespace":"there"`, `"a":"b"`},
			"",
		},
		{
			"apply beta", http.MethodPatch, betaDishes + "/dns?fieldManager=ops2&force=true", `{"apiVersion":"addon.open-cluster-management.io/v1beta1","kind":"ManagedClusterAddOn","spec":{"configs":[{"resource":"rs","name":"x"}]}}`, "application/apply-patch+yaml",
			[]string{`"manager":"ops"`, `"manager":"ops2"`, `"apiVersion":"addon.open-cluster-management.io/v1alpha1","fieldsType"`, `"name":"x"`, `"there"`},
			"",
		},
		{
			"wrong in alpha", http.MethodPatch, alphaDishes + "/dns", `{"spec":{"installNamespace":"NO"}}`, "application/merge-patch+json",
			[]string{"spec.installNamespace", "Invalid value"},
			"",
		},
		{
			"unknown in beta", http.MethodPatch, betaDishes + "/dns?fieldValidation=Strict", `{"spec":{"installNamespace":"x"}}`, "application/merge-patch+json",
			[]string{`unknown field \"spec.installNamespace\"`},
			"",
		},
	}
	for _, tt := range tests {
		a := h.do(tt.method, tt.path, tt.body, "Content-Type", tt.media)
		for _, want := range tt.want {
			if !strings.Contains(a.body, want) {
				t.Errorf("%s: no %q in %d %s", tt.name, want, a.code, a.body)
			}
		}
		if tt.not != "" && strings.Contains(a.body, tt.not) {
			t.Errorf("%s: %q in %s", tt.name, tt.not, a.body)
		}
	}
	// a change of nothing, in the version that is not stored, is no write
	before := h.do(http.MethodGet, alphaDishes+"/dns", "").object(t)
	again := h.do(http.MethodPatch, alphaDishes+"/dns", `{"spec":{"installNamespace":"there"}}`, "Content-Type", "application/merge-patch+json").object(t)
	if metaString(before, "resourceVersion") != metaString(again, "resourceVersion") {
		t.Errorf("nothing changed, but the revision: %v\n%v", before, again)
	}
	table := h.do(http.MethodGet, alphaDishes, "", "Accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
	if !strings.Contains(table.body, `"cells":["dns"`) {
		t.Errorf("table: %s", table.body)
	}
}

// TestRefusedMetadata: the cluster registry refuses a field that metadata lost.
func TestRefusedMetadata(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	const path = "/apis/clusterregistry.k8s.io/v1alpha1/clusters"
	const body = `{"apiVersion":"clusterregistry.k8s.io/v1alpha1","kind":"Cluster","metadata":{"name":"c1"`
	a := h.do(http.MethodPost, path, body+`,"clusterName":"x"}}`)
	if a.code != http.StatusUnprocessableEntity || !strings.Contains(a.body, "clusterName is not used and must not be set.") || !strings.Contains(a.body, `"field":"metadata.clusterName"`) {
		t.Errorf("create: %d %s", a.code, a.body)
	}
	h.create(path, body+`},"spec":{"kubernetesApiEndpoints":{"serverEndpoints":[{"clientCIDR":"0.0.0.0/0","serverAddress":"[::1]:6443"}]}}}`)
	for form, patch := range map[string]string{"application/merge-patch+json": `{"metadata":{"clusterName":"x"}}`, "application/json-patch+json": `[{"op":"add","path":"/metadata/clusterName","value":"x"}]`} {
		if a := h.do(http.MethodPatch, path+"/c1", patch, "Content-Type", form); a.code != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d %s", form, a.code, a.body)
		}
	}
	for _, bad := range []string{`{"clientCIDR":"0.0.0.0"}`, `{"serverAddress":"https://x"}`, `{"serverAddress":"a b"}`} {
		if a := h.do(http.MethodPatch, path+"/c1", `{"spec":{"kubernetesApiEndpoints":{"serverEndpoints":[`+bad+`]}}}`, "Content-Type", "application/merge-patch+json"); a.code != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d %s", bad, a.code, a.body)
		}
	}
}
