// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	kjson "k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/yaml"

	"github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/shared/wire"
)

func TestParseConfigured(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"AddOnConfig/edge/logging":                    "fleet.drover.io/v1alpha1, Resource=addonconfigs edge logging",
		"addonconfigs/edge/logging":                   "fleet.drover.io/v1alpha1, Resource=addonconfigs edge logging",
		"addondeploymentconfig/edge/proxy":            "addon.open-cluster-management.io/v1beta1, Resource=addondeploymentconfigs edge proxy",
		"AddOnTemplate/hello":                         "addon.open-cluster-management.io/v1alpha1, Resource=addontemplates  hello",
		"addonversions.fleet.drover.io/logging-1.0.0": "fleet.drover.io/v1alpha1, Resource=addonversions  logging-1.0.0",
		"tunings.example.com/edge/fast":               "example.com/, Resource=tunings edge fast",
	} {
		o, err := parseConfigured(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got := o.gvr.String() + " " + o.ref.Namespace + " " + o.ref.Name; got != want {
			t.Errorf("%s: %s", text, got)
		}
	}
	for text, want := range map[string]string{
		"logging": "want KIND/NAMESPACE/NAME", "AddOnConfig//x": "want KIND/NAMESPACE/NAME", "a/b/c/d": "want KIND",
		"AddOnConfig/logging": "want AddOnConfig/NAMESPACE/NAME", "AddOnVersion/edge/x": "it is in no namespace", "tuning/edge/x": `kind "tuning": want AddOnConfig`,
	} {
		if _, err := parseConfigured(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}

// said is a configuration that says the last of its contents.
func said(t *testing.T, head string, contents ...string) *configured {
	t.Helper()
	o := &configured{name: "AddOnConfig/edge/logging"}
	read := func(text string) map[string]any {
		data, err := yaml.YAMLToJSON([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		var out map[string]any
		if err := kjson.Unmarshal(data, &out); err != nil {
			t.Fatal(err)
		}
		return out
	}
	for i, c := range contents {
		data, err := kjson.Marshal(read(c))
		if err != nil {
			t.Fatal(err)
		}
		o.revisions = append([]fleet.ConfigRevision{{Spec: fleet.ConfigRevisionSpec{Revision: int64(i + 1), Content: runtime.RawExtension{Raw: data}}}}, o.revisions...)
	}
	o.live = &unstructured.Unstructured{Object: read(head)}
	o.kind = o.live.GetKind()
	return o
}

func TestRestore(t *testing.T) {
	t.Parallel()
	o := said(t, "{apiVersion: fleet.drover.io/v1alpha1, kind: AddOnConfig, metadata: {name: logging}, status: {x: 1}, spec: {values: {a: 1, b: false}}}",
		"{spec: {values: {a: 1}}}", "{spec: {values: {a: 1, b: false}}}", "{spec: {values: {a: 3, c: [1]}, addOn: x}}")
	if r := o.current(); r == nil || r.Spec.Revision != 2 {
		t.Fatalf("current is %+v", r)
	}
	r, err := o.choose(0)
	if err != nil || r.Spec.Revision != 3 {
		t.Fatalf("%+v, %v", r, err)
	}
	d, err := o.diff(r)
	if err != nil {
		t.Fatal(err)
	}
	want := []wire.FieldDrift{
		{Path: "spec.addOn", Desired: `"x"`},
		{Path: "spec.values.a", Live: "1", Desired: "3"},
		{Path: "spec.values.b", Live: "false"},
		{Path: "spec.values.c", Desired: "[1]"},
	}
	if diff := cmp.Diff(want, d.Fields); diff != "" {
		t.Error(diff)
	}
	next, err := o.restored(r)
	if err != nil {
		t.Fatal(err)
	}
	wantObject := said(t, "{apiVersion: fleet.drover.io/v1alpha1, kind: AddOnConfig, metadata: {name: logging}, status: {x: 1}, spec: {values: {a: 3, c: [1]}, addOn: x}}").live
	if diff := cmp.Diff(wantObject, next); diff != "" {
		t.Error(diff)
	}
	if _, err := o.choose(9); err == nil || !strings.Contains(err.Error(), "has no revision 9") {
		t.Error(err)
	}
	if _, err := said(t, "{kind: AddOnConfig, spec: {a: 1}}", "{spec: {a: 1}}").choose(0); err == nil || !strings.Contains(err.Error(), "never said anything else") {
		t.Error(err)
	}
}

// TestRestoreVersion: what is said about a version stays as it is.
func TestRestoreVersion(t *testing.T) {
	t.Parallel()
	o := said(t, `
apiVersion: fleet.drover.io/v1alpha1
kind: AddOnVersion
metadata: {name: logging-1.0.0}
spec: {addOn: logging, version: 1.0.0, manager: helm, image: "sha256:2", default: true, active: false, upgrade: {from: ">1"}, health: [{name: a, timeout: 60s}]}
`, "{spec: {addOn: logging, version: 1.0.0, manager: helm, image: 'sha256:1'}}", "{spec: {addOn: logging, version: 1.0.0, manager: helm, image: 'sha256:2', health: [{name: a, object: {name: ''}, timeout: 1m0s}]}}")
	if r := o.current(); r == nil || r.Spec.Revision != 2 {
		t.Fatalf("current is %+v", r)
	}
	r, err := o.choose(1)
	if err != nil {
		t.Fatal(err)
	}
	next, err := o.restored(r)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"addOn": "logging", "version": "1.0.0", "manager": "helm", "image": "sha256:1", "default": true, "active": false, "upgrade": map[string]any{"from": ">1"},
	}
	if diff := cmp.Diff(want, next.Object["spec"]); diff != "" {
		t.Error(diff)
	}
}
