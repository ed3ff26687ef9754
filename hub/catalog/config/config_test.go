// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package config_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"github.com/drover-io/drover/hub/catalog/config"
	"github.com/drover-io/drover/shared/apis/addon"
	"github.com/drover-io/drover/shared/apis/fleet"
)

func named(kind addon.ConfigGroupResource, name string) addon.Config {
	return addon.Config{ConfigGroupResource: kind, ConfigReferent: addon.ConfigReferent{Name: name}}
}

func TestReferences(t *testing.T) {
	t.Parallel()
	other := addon.ConfigGroupResource{Group: "example.com", Resource: "tunings"}
	cma := &addon.ClusterManagementAddOn{Spec: addon.ClusterManagementAddOnSpec{DefaultConfigs: []addon.Config{
		named(config.VersionKind(), "logging-1.0.0"), named(config.ValuesKind(), "base"), named(config.DeploymentKind(), "all"), named(other, "slow"),
	}}}
	placement := &addon.PlacementStrategy{Configs: []addon.Config{
		named(config.ValuesKind(), "edge"), named(config.DeploymentKind(), "edge"), named(config.DeploymentKind(), "edge-2"),
	}}
	mca := &addon.ManagedClusterAddOn{Spec: addon.ManagedClusterAddOnSpec{Configs: []addon.Config{
		named(config.VersionKind(), "logging-1.1.0"), named(config.ValuesKind(), "base"), named(other, "fast"),
	}}}
	for _, c := range []struct {
		name string
		got  []config.Reference
		want []string
	}{
		{"nothing", config.References(nil, nil, nil), nil},
		{"by hand", config.References(cma, nil, nil), []string{"addon logging-1.0.0", "addon base", "addon all", "addon slow"}},
		{"placement", config.References(cma, placement, nil), []string{"addon logging-1.0.0", "addon base", "addon slow", "placement edge", "placement edge", "placement edge-2"}},
		{"all", config.References(cma, placement, mca), []string{"placement edge", "placement edge", "placement edge-2", "installed logging-1.1.0", "installed base", "installed fast"}},
	} {
		var got []string
		for _, r := range c.got {
			got = append(got, r.Layer+" "+r.Name)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
	}
	last, ok := config.Last(config.References(cma, placement, mca), config.DeploymentKind())
	if !ok || last.Name != "edge-2" {
		t.Errorf("last AddOnDeploymentConfig is %v", last)
	}
	if _, ok := config.Last(nil, config.VersionKind()); ok {
		t.Error("there is a last of nothing")
	}
}

func TestInstallNamespace(t *testing.T) {
	t.Parallel()
	mca := &addon.ManagedClusterAddOn{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{addon.AnnotationInstallNamespace: "theirs"}}}
	for _, c := range []struct {
		mca  *addon.ManagedClusterAddOn
		spec *addon.AddOnDeploymentConfigSpec
		want string
	}{
		{nil, nil, "open-cluster-management-agent-addon"},
		{mca, nil, "theirs"},
		{mca, &addon.AddOnDeploymentConfigSpec{AgentInstallNamespace: "ours"}, "ours"},
		{mca, &addon.AddOnDeploymentConfigSpec{}, ""},
	} {
		if got := config.InstallNamespace(c.mca, c.spec); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

// TestHash: the sums are those of sha256sum over the JSON beside them.
func TestHash(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, object, json string }{
		{"keys are sorted and identity does not count", `
apiVersion: addon.open-cluster-management.io/v1beta1
kind: AddOnDeploymentConfig
metadata: {name: a, namespace: b, labels: {x: y}}
spec: {proxyConfig: {noProxy: "<local>"}, agentInstallNamespace: ns}
status: {x: 1}
`, `{"spec":{"agentInstallNamespace":"ns","proxyConfig":{"noProxy":"\u003clocal\u003e"}}}`},
		{"fields beside spec count", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {b: \"2\", a: \"1\"}\n", `{"data":{"a":"1","b":"2"}}`},
		{"nothing", "apiVersion: v1\nkind: Empty\n", `{}`},
	} {
		var obj map[string]any
		if err := yaml.Unmarshal([]byte(c.object), &obj); err != nil {
			t.Fatal(err)
		}
		got, err := config.Hash(obj)
		if want := sum(c.json); err != nil || got != want {
			t.Errorf("%s: %s, %v, want %s", c.name, got, err, want)
		}
	}
	// echo -n '{"spec":{"a":1}}' | sha256sum
	const want = "1613b96fbd3fe191bdebd51a1f15a567353b0890b63532d3d3362f3bf78ffcbb"
	if got, err := config.Hash(map[string]any{"kind": "X", "spec": map[string]any{"a": 1}}); err != nil || got != want {
		t.Errorf("%s, %v, want %s", got, err, want)
	}
}

func sum(text string) string {
	s := sha256.Sum256([]byte(text))
	return hex.EncodeToString(s[:])
}

func TestVersionHash(t *testing.T) {
	t.Parallel()
	base := fleet.AddOnVersionSpec{
		AddOn: "logging", Version: "1.0.0", Values: &runtime.RawExtension{Raw: []byte(`{"b": 1, "a": {"d": 2, "c": 3}}`)},
		Manifests: []runtime.RawExtension{{Raw: []byte(`{"kind":"ConfigMap","apiVersion":"v1"}`)}},
	}
	hash := func(change func(*fleet.AddOnVersionSpec)) string {
		t.Helper()
		spec := base
		change(&spec)
		h, err := config.VersionHash(&spec)
		if err != nil {
			t.Fatal(err)
		}
		// The same object without a struct has the same hash.
		data, err := json.Marshal(&fleet.AddOnVersion{TypeMeta: metav1.TypeMeta{APIVersion: "fleet.drover.io/v1alpha1", Kind: "AddOnVersion"}, ObjectMeta: metav1.ObjectMeta{Name: "x"}, Spec: spec})
		if err != nil {
			t.Fatal(err)
		}
		var obj map[string]any
		if err := yaml.Unmarshal(data, &obj); err != nil {
			t.Fatal(err)
		}
		if same, err := config.Hash(obj); err != nil || same != h {
			t.Errorf("hash of the object is %s, %v, not %s", same, err, h)
		}
		return h
	}
	before := hash(func(*fleet.AddOnVersionSpec) {})
	no := false
	for name, change := range map[string]func(*fleet.AddOnVersionSpec){
		"active": func(s *fleet.AddOnVersionSpec) { s.Active = &no }, "default": func(s *fleet.AddOnVersionSpec) { s.Default = true },
		"channel": func(s *fleet.AddOnVersionSpec) { s.Channel = "edge" }, "description": func(s *fleet.AddOnVersionSpec) { s.Description = "x" },
		"packages": func(s *fleet.AddOnVersionSpec) { s.Packages = []string{"x"} }, "upgrade": func(s *fleet.AddOnVersionSpec) { s.Upgrade = &fleet.Upgrade{From: "1.x"} },
		"manager by default": func(s *fleet.AddOnVersionSpec) { s.Manager = fleet.ManagerManifests },
		"order of keys": func(s *fleet.AddOnVersionSpec) {
			s.Values = &runtime.RawExtension{Raw: []byte(`{"a":{"c":3,"d":2},"b":1}`)}
		},
	} {
		if hash(change) != before {
			t.Errorf("%s changes the content", name)
		}
	}
	for name, change := range map[string]func(*fleet.AddOnVersionSpec){
		"manager":      func(s *fleet.AddOnVersionSpec) { s.Manager = fleet.ManagerHelm },
		"image":        func(s *fleet.AddOnVersionSpec) { s.Image = "sha256:0" },
		"values":       func(s *fleet.AddOnVersionSpec) { s.Values = nil },
		"configSchema": func(s *fleet.AddOnVersionSpec) { s.ConfigSchema = &runtime.RawExtension{Raw: []byte(`{}`)} },
		"dependencies": func(s *fleet.AddOnVersionSpec) { s.Dependencies = []fleet.AddOnRange{{AddOn: "a"}} },
		"conflicts":    func(s *fleet.AddOnVersionSpec) { s.Conflicts = []fleet.AddOnRange{{AddOn: "a"}} },
		"requirements": func(s *fleet.AddOnVersionSpec) { s.Requirements = &fleet.Requirements{Kubernetes: ">1"} },
		"health":       func(s *fleet.AddOnVersionSpec) { s.Health = []fleet.HealthRule{{Name: "a"}} },
		"protected":    func(s *fleet.AddOnVersionSpec) { s.Protected = []fleet.ObjectPattern{{Name: "a"}} },
		"manifests":    func(s *fleet.AddOnVersionSpec) { s.Manifests = nil },
	} {
		if hash(change) == before {
			t.Errorf("%s does not change the content", name)
		}
	}
}

func TestPath(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]string{
		"": nil, "a": {"a"}, "image.tag": {"image", "tag"}, `annotations["a.b/c"].x`: {"annotations", "a.b/c", "x"}, `["a b"]["c"]`: {"a b", "c"}, "a-b_c/d": {"a-b_c/d"},
	} {
		got, err := config.ParsePath(text)
		if err != nil || !cmp.Equal(got, want) {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
	for _, bad := range []string{".", "a.", ".a", "a..b", "a[0]", `a["b`, `a["b"]c`, "a b", `a"b`, "a[b]"} {
		if got, err := config.ParsePath(bad); err == nil {
			t.Errorf("%q is read as %q", bad, got)
		}
	}
	if got := config.FormatPath([]string{"a", "b.c", "", "d"}); got != `a["b.c"][""].d` {
		t.Error(got)
	}
}

func ExampleFormatPath() {
	fmt.Println(config.FormatPath([]string{"podAnnotations", "example.com/team"}))
	// Output: podAnnotations["example.com/team"]
}
