// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package kind

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	kjson "sigs.k8s.io/json"

	"github.com/drover-io/drover/shared/apis/cluster"
	"github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/shared/apis/schemas"
	"github.com/drover-io/drover/shared/apis/work"
)

func kinds(t testing.TB) map[string]*Kind {
	t.Helper()
	docs, err := schemas.Documents()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]*Kind{}
	for _, doc := range docs {
		all, err := Parse(doc, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range all {
			name := k.StoreResource()
			if k != k.Storage() {
				name += "/" + k.GVK.Version
			}
			out[name] = k
		}
	}
	return out
}

// TestAllKinds compiles every document, its rules included.
func TestAllKinds(t *testing.T) {
	t.Parallel()
	for name, k := range kinds(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := k.Check(); err != nil {
				t.Fatal(err)
			}
			for _, v2 := range []bool{false, true} {
				models, err := k.Schemas(v2)
				if err != nil || models[k.ModelName()] == nil || models[k.ListModelName()] == nil {
					t.Errorf("models (v2 %t): %v", v2, err)
				}
			}
			// A rule that does not compile is reported when it runs.
			obj := map[string]any{"apiVersion": k.GVK.GroupVersion().String(), "kind": k.GVK.Kind, "metadata": map[string]any{"name": "x", "resourceVersion": "1"}, "spec": map[string]any{}}
			if k.Namespaced {
				obj["metadata"].(map[string]any)["namespace"] = "c1"
			}
			errs, err := k.Validate(t.Context(), obj)
			if err != nil {
				t.Fatal(err)
			}
			updates, err := k.ValidateUpdate(t.Context(), obj, runtime.DeepCopyJSON(obj), false)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range append(errs, updates...) {
				if strings.Contains(e.Detail, "compil") || strings.Contains(e.Detail, "rule") {
					t.Error(e)
				}
			}
		})
	}
}

// TestStructs sends what controllers store, with the nulls and zero values of
// Go structs, through the schemas.
func TestStructs(t *testing.T) {
	t.Parallel()
	meta := metav1.ObjectMeta{Name: "c1", Namespace: "", UID: "u", Generation: 1, CreationTimestamp: metav1.Now()}
	inNamespace := meta
	inNamespace.Namespace = "c1"
	now := metav1.Now()
	tests := []struct {
		name string
		in   any
	}{
		{cluster.Resource, cluster.ManagedCluster{
			TypeMeta: metav1.TypeMeta{APIVersion: cluster.Group + "/v1", Kind: cluster.Kind}, ObjectMeta: meta,
			Spec: cluster.ManagedClusterSpec{LeaseDurationSeconds: 60, Taints: []cluster.Taint{{Key: cluster.TaintUnreachable, Effect: "NoSelect"}}},
			Status: cluster.ManagedClusterStatus{
				Conditions: []metav1.Condition{{Type: "A", Status: metav1.ConditionTrue, Reason: "R", LastTransitionTime: now}},
				Agent:      &cluster.AgentStatus{ConnectedSince: &now},
			},
		}},
		{work.Resource, work.ManifestWork{
			TypeMeta: metav1.TypeMeta{APIVersion: work.Group + "/v1", Kind: work.Kind}, ObjectMeta: inNamespace,
			Spec: work.ManifestWorkSpec{
				Workload:        work.Workload{Manifests: []runtime.RawExtension{{Raw: []byte(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"data":{"x":"y"}}`)}}},
				DeleteOption:    &work.DeleteOption{PropagationPolicy: work.SelectivelyOrphan, SelectivelyOrphans: &work.SelectiveOrphans{OrphaningRules: []work.ResourceIdentifier{{Resource: "configmaps", Name: "a"}}}},
				ManifestConfigs: []work.ManifestConfig{{ResourceIdentifier: work.ResourceIdentifier{Resource: "*", Name: "*"}, UpdateStrategy: &work.UpdateStrategy{Type: work.StrategyServerSide, ServerSideApply: &work.ServerSideApply{Force: true, FieldManager: "work-agent"}}, FeedbackScrapeType: "Poll"}},
			},
			Status: work.ManifestWorkStatus{ResourceStatus: work.ResourceStatus{Manifests: []work.ManifestCondition{{}}}},
		}},
		{fleet.ResourceJoinTokens, fleet.JoinToken{
			TypeMeta: metav1.TypeMeta{APIVersion: fleet.Group + "/" + fleet.Version, Kind: fleet.KindJoinToken}, ObjectMeta: meta,
			Spec:   fleet.JoinTokenSpec{ClusterName: "c1", TTLSeconds: 60, Uses: 1, AutoApprove: true},
			Status: fleet.JoinTokenStatus{Used: []fleet.TokenUse{{Fingerprint: "f", Request: "r", Time: now}}},
		}},
		{fleet.ResourceJoinRequests, fleet.JoinRequest{
			TypeMeta: metav1.TypeMeta{APIVersion: fleet.Group + "/" + fleet.Version, Kind: fleet.KindJoinRequest}, ObjectMeta: meta,
			Spec: fleet.JoinRequestSpec{
				ClusterName: "c1", Fingerprint: strings.Repeat("ab", 32), CSR: "x", Token: "t",
				Approval: &fleet.Approval{Decision: fleet.Deny, By: "admin"},
			},
			Status: fleet.JoinRequestStatus{Phase: fleet.PhaseDenied},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			k := kinds(t)[tt.name]
			data, err := json.Marshal(tt.in)
			if err != nil {
				t.Fatal(err)
			}
			var obj map[string]any
			if err := kjson.UnmarshalCaseSensitivePreserveInts(data, &obj); err != nil {
				t.Fatal(err)
			}
			unknown, err := k.Coerce(obj)
			if err != nil || len(unknown) > 0 {
				t.Fatalf("unknown fields %v, %v", unknown, err)
			}
			if errs, err := k.Validate(t.Context(), obj); err != nil || len(errs) > 0 {
				t.Errorf("invalid: %v %v", errs, err)
			}
			before, _ := json.Marshal(obj)
			if err := k.Default(obj); err != nil {
				t.Fatal(err)
			}
			if after, _ := json.Marshal(obj); !bytes.Equal(before, after) {
				t.Errorf("defaults change what a controller wrote:\n%s\n%s", before, after)
			}
		})
	}
}

// rules are transitions of spec, valid and not.
func TestRules(t *testing.T) {
	t.Parallel()
	f := strings.Repeat("ab", 32)
	request := func(more string) string {
		return `{"clusterName":"c1","fingerprint":"` + f + `","csr":"x","token":"t"` + more + `}`
	}
	tests := []struct {
		name, resource, old, spec string
		want                      string // "" is valid
	}{
		{"approve", fleet.ResourceJoinRequests, request(""), request(`,"approval":{"decision":"Approve","fingerprint":"` + f[:16] + `"}`), ""},
		{"deny", fleet.ResourceJoinRequests, request(""), request(`,"approval":{"decision":"Deny"}`), ""},
		{"approve without looking", fleet.ResourceJoinRequests, request(""), request(`,"approval":{"decision":"Approve"}`), "fingerprint is needed to approve"},
		{"another fingerprint", fleet.ResourceJoinRequests, request(""), request(`,"approval":{"decision":"Approve","fingerprint":"` + strings.Repeat("0", 16) + `"}`), "does not match"},
		{"short fingerprint", fleet.ResourceJoinRequests, request(""), request(`,"approval":{"decision":"Approve","fingerprint":"abab"}`), "should match"},
		{"name in use", fleet.ResourceJoinRequests, request(`,"rejoin":true`), request(`,"rejoin":true,"approval":{"decision":"Approve","fingerprint":"` + f + `"}`), "set approval.replace"},
		{"replace", fleet.ResourceJoinRequests, request(`,"rejoin":true`), request(`,"rejoin":true,"approval":{"decision":"Approve","fingerprint":"` + f + `","replace":true}`), ""},
		{"change of mind", fleet.ResourceJoinRequests, request(`,"approval":{"decision":"Deny"}`), request(`,"approval":{"decision":"Approve","fingerprint":"` + f + `"}`), "the decision cannot be changed"},
		{"taken back", fleet.ResourceJoinRequests, request(`,"approval":{"decision":"Deny"}`), request(``), "cannot be taken back"},
		{"another key", fleet.ResourceJoinRequests, request(""), strings.Replace(request(""), "abab", "abac", 1), "cannot be changed"},
		{"revoke", fleet.ResourceJoinTokens, `{"uses":1,"ttlSeconds":60}`, `{"uses":1,"ttlSeconds":60,"revoked":true}`, ""},
		{"longer life", fleet.ResourceJoinTokens, `{"uses":1,"ttlSeconds":60}`, `{"uses":1,"ttlSeconds":61}`, "create another token"},
		{"labels added", fleet.ResourceJoinTokens, `{"uses":1}`, `{"uses":1,"labels":{"a":"b"}}`, "labels cannot be changed"},
		{"too many uses", fleet.ResourceJoinTokens, "", `{"uses":10001}`, "less than or equal to 10000"},
		{"too long", fleet.ResourceJoinTokens, "", `{"ttlSeconds":604801}`, "less than or equal to 604800"},
		{"bad cluster name", fleet.ResourceJoinTokens, "", `{"clusterName":"A"}`, "should match"},
		{"orphans without policy", work.Resource, "", `{"deleteOption":{"propagationPolicy":"Orphan","selectivelyOrphans":{}}}`, "needs propagationPolicy SelectivelyOrphan"},
		{"server-side apply of another type", work.Resource, "", `{"manifestConfigs":[{"resourceIdentifier":{"resource":"a","name":"b"},"updateStrategy":{"type":"Update","serverSideApply":{}}}]}`, "needs type ServerSideApply"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			k := kinds(t)[tt.resource]
			object := func(spec string) map[string]any {
				var obj map[string]any
				text := `{"apiVersion":"` + k.GVK.GroupVersion().String() + `","kind":"` + k.GVK.Kind + `","metadata":{"name":"x","namespace":"c1","resourceVersion":"1"},"spec":` + spec + `}`
				if err := kjson.UnmarshalCaseSensitivePreserveInts([]byte(text), &obj); err != nil {
					t.Fatal(err)
				}
				if !k.Namespaced {
					delete(obj["metadata"].(map[string]any), "namespace")
				}
				return obj
			}
			errs, err := k.Validate(t.Context(), object(tt.spec))
			if tt.old != "" {
				errs, err = k.ValidateUpdate(t.Context(), object(tt.spec), object(tt.old), false)
			}
			if err != nil {
				t.Fatal(err)
			}
			text := ""
			if len(errs) > 0 {
				text = errs.ToAggregate().Error()
			}
			if (tt.want == "") != (text == "") || !strings.Contains(text, tt.want) {
				t.Errorf("got %q, want %q", text, tt.want)
			}
		})
	}
}

func TestCells(t *testing.T) {
	t.Parallel()
	k := kinds(t)[fleet.ResourceJoinRequests]
	obj := map[string]any{
		"metadata": map[string]any{"creationTimestamp": "not a time"},
		"spec":     map[string]any{"clusterName": "c1", "fingerprint": "0123456789abcdef0123", "sourceAddress": int64(5)},
	}
	want := []any{"r1", "c1", "0123456789abcdef", "5", nil, "<invalid>"}
	if diff := cmp.Diff(want, k.NewPrinter().Cells("r1", obj)); diff != "" {
		t.Errorf("cells (-want +got):\n%s", diff)
	}
	if f := k.NewPrinter().Definitions()[2].Format; f != "" {
		t.Errorf("format %q goes to clients", f)
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	docs, err := schemas.Documents()
	if err != nil {
		t.Fatal(err)
	}
	var good string
	for _, d := range docs {
		if strings.Contains(string(d), "kind: JoinToken\n") {
			good = string(d)
		}
	}
	tests := []struct {
		name, old, new, want string
	}{
		{"misspelt", "scope: Cluster", "skope: Cluster", "skope"},
		{"wrong name", "name: jointokens.fleet.drover.io", "name: tokens", `metadata.name must be "jointokens.fleet.drover.io"`},
		{"wrong scope", "scope: Cluster", "scope: Everywhere", "spec.scope"},
		{"no list kind", "listKind: JoinTokenList", "", "listKind"},
		{"not stored", "storage: true", "storage: false", "storage version"},
		{"bad column", "jsonPath: .status.id", `jsonPath: ".a[?(@"`, "column ID"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := Parse([]byte(strings.Replace(good, tt.old, tt.new, 1)), nil)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}
