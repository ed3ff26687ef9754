// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package fields

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	kjson "k8s.io/apimachinery/pkg/util/json"

	"github.com/drover-io/drover/shared/apis/work"
	"github.com/drover-io/drover/shared/wire"
)

func decode(t *testing.T, body string) *unstructured.Unstructured {
	t.Helper()
	u := &unstructured.Unstructured{}
	if err := kjson.Unmarshal([]byte(body), &u.Object); err != nil {
		t.Fatal(err)
	}
	return u
}

func TestDiff(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, desired, live string
		hide                bool
		want                []wire.FieldDrift
	}{
		{name: "server fields and status", desired: `{"metadata":{"name":"a"}}`, live: `{"metadata":{"name":"a","uid":"1","generation":2},"status":{"x":1}}`},
		{
			name: "value", desired: `{"data":{"a":"1","b":"2"}}`, live: `{"data":{"a":"1","b":"3"}}`,
			want: []wire.FieldDrift{{Path: "data.b", Desired: `"2"`, Live: `"3"`}},
		},
		{
			name: "hidden", desired: `{"data":{"a":"1"}}`, live: `{"data":{"a":"2"}}`, hide: true,
			want: []wire.FieldDrift{{Path: "data.a"}},
		},
		{
			name: "element by name", desired: `{"l":[{"name":"x","v":1},{"name":"y","v":1}]}`, live: `{"l":[{"name":"y","v":2},{"name":"x","v":1}]}`,
			want: []wire.FieldDrift{{Path: "l[y].v", Desired: "1", Live: "2"}},
		},
		{
			name: "element by place", desired: `{"l":["a"]}`, live: `{"l":["a","b"]}`,
			want: []wire.FieldDrift{{Path: "l[1]", Live: `"b"`}},
		},
		{
			name: "key with a dot", desired: `{"metadata":{"annotations":{"a.b/c":"1"}}}`, live: `{"metadata":{}}`,
			want: []wire.FieldDrift{{Path: "metadata.annotations[a.b/c]", Desired: `"1"`}},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, total := Diff(decode(t, tt.desired), decode(t, tt.live), tt.hide)
			if diff := cmp.Diff(tt.want, got); diff != "" || total != len(tt.want) {
				t.Errorf("%d: %s", total, diff)
			}
		})
	}
}

func TestDiffIsBounded(t *testing.T) {
	t.Parallel()
	desired, live := &unstructured.Unstructured{Object: map[string]any{}}, &unstructured.Unstructured{Object: map[string]any{}}
	for i := range 50 {
		desired.Object[string(rune('A'+i))] = strings.Repeat("é", 1000)
	}
	got, total := Diff(desired, live, false)
	if len(got) != maxListed || total != 50 || len(got[0].Desired) > maxValue || !strings.HasSuffix(got[0].Desired, "...") {
		t.Errorf("%d of %d, value of %d bytes", len(got), total, len(got[0].Desired))
	}
}

// liveReplicas is a deployment whose replicas manager owns.
const liveReplicas = `{"metadata":{"resourceVersion":"7","managedFields":[
	{"manager":"MANAGER","operation":"Apply","fieldsV1":{"f:spec":{"f:replicas":{}}}}]},"spec":{"replicas":3,"paused":true}}`

func TestWithhold(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, entry, owner, want, err string
	}{
		{"ours keeps the live value", `{"jsonPaths":[".spec.replicas"]}`, "drover", `{"paused":false,"replicas":3}`, ""},
		{"another's is left out", `{"jsonPointers":["/spec/replicas"]}`, "hpa", `{"paused":false}`, ""},
		{"ours is written until somebody changes it", `{"condition":"OnSpokeChange","jqPathExpressions":[".spec.replicas"]}`, "drover", `{"paused":false,"replicas":2}`, ""},
		{"no such field", `{"jqPathExpressions":[".spec.template"]}`, "drover", `{"paused":false,"replicas":2}`, ""},
		{"not a path", `{"jqPathExpressions":["error"]}`, "drover", "", `ignoreFields: jqPathExpressions "error"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var entry work.IgnoreField
			if err := json.Unmarshal([]byte(tt.entry), &entry); err != nil {
				t.Fatal(err)
			}
			rules, err := CompileIgnore([]work.IgnoreField{entry})
			if err != nil {
				t.Fatal(err)
			}
			u := decode(t, `{"spec":{"replicas":2,"paused":false}}`)
			err = rules.Withhold(t.Context(), u, decode(t, strings.Replace(liveReplicas, "MANAGER", tt.owner, 1)), "drover")
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("got %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got, err := json.Marshal(u.Object["spec"])
			if err != nil || string(got) != tt.want || u.GetResourceVersion() != "7" {
				t.Errorf("got %s of version %q, want %s, %v", got, u.GetResourceVersion(), tt.want, err)
			}
		})
	}
}

func TestTouchOf(t *testing.T) {
	t.Parallel()
	live := decode(t, liveReplicas)
	ours := TouchOf(live, "MANAGER")
	if ours.Own == "" || ours.Version != "7" || ours.Manager != "" || !Applied(live.GetManagedFields(), "MANAGER") {
		t.Errorf("got %+v", ours)
	}
	live.SetManagedFields(append(live.GetManagedFields(),
		metav1.ManagedFieldsEntry{Manager: "kubelet", Operation: metav1.ManagedFieldsOperationUpdate, Subresource: "status"}))
	if diff := cmp.Diff(ours, TouchOf(live, "MANAGER")); diff != "" {
		t.Errorf("a writer of status counts: %s", diff)
	}
	want := Touch{Version: "7", Manager: "MANAGER"}
	if diff := cmp.Diff(want, TouchOf(live, "drover")); diff != "" || Applied(live.GetManagedFields(), "drover") {
		t.Error(diff)
	}
}
