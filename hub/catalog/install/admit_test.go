// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package install

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/drover-io/drover/shared/apis/addon"
	"github.com/drover-io/drover/shared/apis/fleet"
)

func TestAdmit(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	no := false
	r.cluster("c1", true)
	r.cluster("c2", true)
	r.version("base", "1.0.0", func(s *fleet.AddOnVersionSpec) { s.Default = true })
	r.version("base", "2.0.0", nil)
	r.version("base", "3.0.0", func(s *fleet.AddOnVersionSpec) { s.Active = &no })
	r.version("base", "4.0.0", func(s *fleet.AddOnVersionSpec) { s.Upgrade = &fleet.Upgrade{From: ">=2.0.0"} })
	r.version("app", "1.0.0", needs(fleet.AddOnRange{AddOn: "base", VersionRange: "^1.0.0"}))
	r.version("picky", "1.0.0", func(s *fleet.AddOnVersionSpec) { s.Requirements = &fleet.Requirements{Kubernetes: ">=9.0.0"} })
	r.version("thief", "1.0.0", func(s *fleet.AddOnVersionSpec) {
		s.Manifests = []runtime.RawExtension{configMap(addon.DefaultInstallNamespace, "base", "mine")}
	})
	r.must(r.clusters.UpdateStatus(ctx(t), "", "c1", kubernetes("v1.36.0")))
	r.install("c1", "base", "1.0.0")
	r.well("c1", "base", "1.0.0")
	r.install("c1", "app", "1.0.0")
	r.well("c1", "app", "1.0.0")
	bad := r.values("c1", "bad", `{"broken":true}`)

	dish := func(ns, name string, configs ...addon.Config) *addon.ManagedClusterAddOn {
		return &addon.ManagedClusterAddOn{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name}, Spec: addon.ManagedClusterAddOnSpec{Configs: configs}}
	}
	annotated := func(o *addon.ManagedClusterAddOn, key, value string) *addon.ManagedClusterAddOn {
		o.Annotations = map[string]string{key: value}
		return o
	}
	missing := addon.Config{ConfigGroupResource: bad.ConfigGroupResource, ConfigReferent: addon.ConfigReferent{Namespace: "c2", Name: "later"}}
	for _, tt := range []struct {
		name     string
		old, obj *addon.ManagedClusterAddOn
		err      string // part of it; empty: accepted
		warning  string
		configs  string // names, after
	}{
		{"the default is written down", nil, dish("c2", "base"), "", "spec.configs is set to AddOnVersion base-1.0.0", "base-1.0.0"},
		{"a version", nil, dish("c2", "base", versionConfig("base-2.0.0")), "", "", "base-2.0.0"},
		{"no such addon", nil, dish("c2", "nothing"), "there is no ClusterManagementAddOn of this name; there are: app, base, picky, thief", "", ""},
		{"no such version", nil, dish("c2", "base", versionConfig("base-9.0.0")), "there is no such AddOnVersion; of the addon base there are: 1.0.0, 2.0.0, 3.0.0 (inactive), 4.0.0", "", ""},
		{"a version of another", nil, dish("c2", "base", versionConfig("app-1.0.0")), "it is a version of the addon app", "", ""},
		{"inactive", nil, dish("c2", "base", versionConfig("base-3.0.0")), "it is not active", "", ""},
		{"hosted", nil, annotated(dish("c2", "base"), addon.AnnotationHostingCluster, "c1"), "hosted mode is not supported", "", ""},
		{"what it needs is missing", nil, dish("c2", "app", versionConfig("app-1.0.0")), "", "it waits for base ^1.0.0", "app-1.0.0"},
		{"the cluster lacks something", nil, dish("c1", "picky", versionConfig("picky-1.0.0")), "kubernetes", "", ""},
		{"nothing is known of the cluster", nil, dish("c2", "picky", versionConfig("picky-1.0.0")), "", "", "picky-1.0.0"},
		{"no such cluster", nil, dish("c9", "base", versionConfig("base-1.0.0")), "", `there is no ManagedCluster "c9"`, "base-1.0.0"},
		{"what another has", nil, dish("c1", "thief", versionConfig("thief-1.0.0")), "is an object of addon base already, so addon thief cannot have it", "", ""},
		{"broken values", nil, dish("c1", "thief", versionConfig("thief-1.0.0"), bad), "values say that it is broken", "", ""},
		{"a configuration to come", nil, dish("c2", "base", versionConfig("base-1.0.0"), missing), "", "there is no addonconfigs.fleet.drover.io c2/later", "base-1.0.0 later"},
		{"a dependent would break", r.dish("c1", "base"), dish("c1", "base", versionConfig("base-2.0.0")), "app@1.0.0 needs base in ^1.0.0, and 2.0.0 is not in it", "", ""},
		{"not from there", dish("c2", "base", versionConfig("base-1.0.0")), dish("c2", "base", versionConfig("base-4.0.0")), ">=2.0.0", "", ""},
		{"a revision", nil, annotated(dish("c2", "base", versionConfig("base-1.0.0")), fleet.AnnotationAddOnRevision, "1"), "", "", "base-1.0.0"},
		{"the newest revision", nil, annotated(dish("c2", "base", versionConfig("base-1.0.0")), fleet.AnnotationAddOnRevision, RevisionNewest), "", "", "base-1.0.0"},
		{"no such revision", nil, annotated(dish("c2", "base", versionConfig("base-1.0.0")), fleet.AnnotationAddOnRevision, "5"), "has no such revision", "", ""},
		{"not a revision", nil, annotated(dish("c2", "base", versionConfig("base-1.0.0")), fleet.AnnotationAddOnRevision, "x"), "want the number of a revision", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var warnings []string
			err := r.resolver.Admit(ctx(t), tt.old, tt.obj, func(w string) { warnings = append(warnings, w) })
			switch {
			case tt.err == "" && err != nil:
				t.Fatal(err)
			case tt.err != "" && (err == nil || !strings.Contains(strings.ToLower(err.Error()), strings.ToLower(tt.err))):
				t.Fatalf("error %v, want %q", err, tt.err)
			case tt.err != "":
				return
			}
			if all := strings.Join(warnings, "\n"); !strings.Contains(all, tt.warning) || tt.warning == "" && tt.name == "a version" && all != "" {
				t.Errorf("warnings %q, want %q", all, tt.warning)
			}
			var names []string
			for _, c := range tt.obj.Spec.Configs {
				names = append(names, c.Name)
			}
			if strings.Join(names, " ") != tt.configs {
				t.Errorf("configs %v, want %s", names, tt.configs)
			}
		})
	}

	// The number of a revision is one of a version.
	old := annotated(dish("c2", "base", versionConfig("base-1.0.0")), fleet.AnnotationAddOnRevision, "1")
	next := annotated(dish("c2", "base", versionConfig("base-2.0.0")), fleet.AnnotationAddOnRevision, "1")
	r.must(nil, r.resolver.Admit(ctx(t), old, next, func(string) {}))
	if len(next.Annotations) != 0 {
		t.Errorf("annotations %v", next.Annotations)
	}

	// Who is needed stays.
	if err := r.resolver.AdmitRemoval(ctx(t), r.dish("c1", "base")); err == nil || !strings.Contains(err.Error(), "app on this cluster needs it") {
		t.Errorf("removal: %v", err)
	}
	if err := r.resolver.AdmitAddOnRemoval(ctx(t), "base"); err == nil || !strings.Contains(err.Error(), "app on c1") {
		t.Errorf("removal of the addon: %v", err)
	}
	r.must(nil, r.resolver.AdmitRemoval(ctx(t), r.dish("c1", "app")))
	r.must(nil, r.dishes.Delete(ctx(t), "c1", "app"))
	r.must(nil, r.resolver.AdmitRemoval(ctx(t), r.dish("c1", "base")))
}

// No version is the default: those there are are named.
func TestAdmitWithoutDefault(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.version("log", "1.0.0", nil)
	r.version("log", "2.0.0", nil)
	o := &addon.ManagedClusterAddOn{ObjectMeta: metav1.ObjectMeta{Namespace: "c1", Name: "log"}}
	if err := r.resolver.Admit(ctx(t), nil, o, func(string) {}); err == nil || !strings.Contains(err.Error(), "name one of 1.0.0, 2.0.0") {
		t.Errorf("error: %v", err)
	}
}

func TestPreview(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, c := range []string{"c1", "c2", "c3"} {
		r.cluster(c, true)
	}
	r.version("base", "1.0.0", func(s *fleet.AddOnVersionSpec) { s.Default = true })
	secret := func(s *fleet.AddOnVersionSpec) {
		s.Dependencies = []fleet.AddOnRange{{AddOn: "base", VersionRange: "^1.0.0"}}
		s.Manifests = append(s.Manifests, runtime.RawExtension{Raw: []byte(
			`{"apiVersion":"v1","kind":"Secret","metadata":{"namespace":"$NAMESPACE","name":"key"},"stringData":{"password":"` + s.Version + `"}}`)})
	}
	r.version("app", "1.0.0", secret)
	r.version("app", "2.0.0", secret)
	r.install("c1", "base", "1.0.0")
	r.well("c1", "base", "1.0.0")
	r.install("c1", "app", "1.0.0", r.values("c1", "app", `{"value":"red"}`))
	r.well("c1", "app", "1.0.0")

	preview := func(req fleet.PreviewRequest, clusters ...string) *fleet.Preview {
		t.Helper()
		out, err := r.resolver.Preview(ctx(t), &req, clusters)
		r.must(out, err)
		return out
	}
	p := preview(fleet.PreviewRequest{AddOn: "app", Version: "2.0.0"}, "c1", "c2", "c3")
	if len(p.Outcomes) != 2 || strings.Join(p.Outcomes[0].Clusters, " ") != "c2 c3" || strings.Join(p.Outcomes[1].Clusters, " ") != "c1" {
		t.Fatalf("outcomes: %+v", p.Outcomes)
	}
	fresh, change := p.Outcomes[0], p.Outcomes[1]
	if strings.Join(fresh.Requires, " ") != "base@1.0.0" || len(fresh.Objects) != 3 || fresh.Objects[0].Action != "create" {
		t.Errorf("fresh: %+v", fresh)
	}
	if len(change.Requires) != 0 || len(change.Objects) != 2 || change.Objects[0].Action != "change" {
		t.Fatalf("change: %+v", change)
	}
	if f := change.Objects[0].Fields; len(f) != 1 || f[0].Path != "data.k" || f[0].Live != `"1.0.0 red"` || f[0].Desired != `"2.0.0 red"` {
		t.Errorf("fields: %+v", f)
	}
	if f := change.Objects[1].Fields; len(f) != 1 || f[0].Path != "stringData.password" || f[0].Desired != secretText || f[0].Live != secretText {
		t.Errorf("fields of the secret: %+v", f)
	}
	for _, m := range change.Manifests {
		if strings.Contains(string(m), `"password":"2.0.0"`) {
			t.Errorf("a secret is shown: %s", m)
		}
	}
	if v := change.Values; len(v) != 1 || v[0].Path != "value" || v[0].From != "AddOnConfig c1/app" || v[0].Layer != fleet.LayerInstalled {
		t.Errorf("values: %+v", v)
	}
	// What is there changes nothing; a value of the request goes over all.
	if p := preview(fleet.PreviewRequest{AddOn: "app"}, "c1"); len(p.Outcomes[0].Objects) != 0 || p.Outcomes[0].Version != "1.0.0" {
		t.Errorf("nothing changes: %+v", p.Outcomes[0])
	}
	if p := preview(fleet.PreviewRequest{AddOn: "app", Values: map[string]any{"value": "blue"}}, "c1"); p.Outcomes[0].Objects[0].Fields[0].Desired != `"1.0.0 blue"` {
		t.Errorf("values of the request: %+v", p.Outcomes[0])
	}
	// Removal: what goes, and who needs it.
	if p := preview(fleet.PreviewRequest{AddOn: "base", Remove: true}, "c1"); strings.Join(p.Outcomes[0].Requires, " ") != "app@1.0.0" || p.Outcomes[0].Objects[0].Action != "delete" {
		t.Errorf("removal: %+v", p.Outcomes[0])
	}
	if p := preview(fleet.PreviewRequest{AddOn: "app", Values: map[string]any{"broken": true}}, "c1"); !strings.Contains(p.Outcomes[0].Error, "values say that it is broken") {
		t.Errorf("broken: %+v", p.Outcomes[0])
	}
	for _, req := range []fleet.PreviewRequest{{AddOn: "nothing"}, {AddOn: "app", Version: "7.0.0"}, {AddOn: "app", Version: "x"}} {
		if _, err := r.resolver.Preview(ctx(t), &req, nil); err == nil {
			t.Errorf("%+v is accepted", req)
		}
	}
	if r.work("c2", deployName("app")) != nil {
		t.Error("a preview writes")
	}
}
