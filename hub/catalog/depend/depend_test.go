// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package depend

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/drover-io/drover/hub/catalog"
	"github.com/drover-io/drover/hub/catalog/versions"
	"github.com/drover-io/drover/shared/apis/fleet"
)

// v reads "logging@1.0.0 needs certs >=1.2, other; not old <2; default; inactive".
func v(t *testing.T, text string) Version {
	t.Helper()
	parts := strings.Split(text, "; ")
	head, needs, _ := strings.Cut(parts[0], " needs ")
	name, number, _ := strings.Cut(head, "@")
	spec := fleet.AddOnVersionSpec{AddOn: name, Version: number}
	ranges := func(list string) (out []fleet.AddOnRange) {
		for item := range strings.SplitSeq(list, ", ") {
			if item != "" {
				addOn, r, _ := strings.Cut(item, " ")
				out = append(out, fleet.AddOnRange{AddOn: addOn, VersionRange: r})
			}
		}
		return out
	}
	spec.Dependencies = ranges(needs)
	for _, p := range parts[1:] {
		switch word, rest, _ := strings.Cut(p, " "); word {
		case "not":
			spec.Conflicts = ranges(rest)
		case "default":
			spec.Default = true
		case "inactive":
			spec.Active = new(bool)
		case "from":
			spec.Upgrade = &fleet.Upgrade{From: rest}
		case "in":
			spec.Channel = rest
		}
	}
	out, err := Parse(&spec)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func vs(t *testing.T, texts ...string) []Version {
	t.Helper()
	out := make([]Version, 0, len(texts))
	for _, text := range texts {
		out = append(out, v(t, text))
	}
	return out
}

func cluster(t *testing.T, texts ...string) Installed {
	t.Helper()
	out := Installed{}
	for _, one := range vs(t, texts...) {
		out[one.AddOn] = one
	}
	return out
}

func TestParseErrors(t *testing.T) {
	t.Parallel()
	for want, spec := range map[string]fleet.AddOnVersionSpec{
		"spec.version":                      {AddOn: "a", Version: "1"},
		"spec.dependencies[0].versionRange": {AddOn: "a", Version: "1.0.0", Dependencies: []fleet.AddOnRange{{AddOn: "b", VersionRange: "new"}}},
		"spec.conflicts[1].versionRange":    {AddOn: "a", Version: "1.0.0", Conflicts: []fleet.AddOnRange{{AddOn: "b"}, {AddOn: "c", VersionRange: ">2 <1"}}},
	} {
		if _, err := Parse(&spec); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

func TestDefault(t *testing.T) {
	t.Parallel()
	c := NewCatalog(vs(t, "a@1.0.0; default; in stable", "a@2.0.0; default; in edge", "b@1.0.0; default", "b@2.0.0; default; in edge", "c@1.0.0", "d@1.0.0; default; inactive"))
	for name, want := range map[string]string{"a": "a@2.0.0", "b": "b@1.0.0", "c": "@", "d": "@", "e": "@"} {
		if got, _ := c.Default(name); got.String() != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	known := []string{
		"certs@1.0.0", "certs@1.4.0", "certs@2.0.0; inactive", "dns@1.0.0 needs certs >=1.4",
		"mesh@1.0.0 needs logging", "old@1.0.0 needs certs <1.2",
	}
	for _, c := range []struct{ name, version, want string }{
		{"fine", "logging@1.0.0 needs certs ^1.2, dns", ""},
		{"unknown addon", "logging@1.0.0 needs vault", "spec.dependencies[0].addOn: Invalid value: \"vault\": the catalog has no version"},
		{"no version in range", "logging@1.0.0 needs certs ^3", "no version of certs is in it; the catalog has 2.0.0, 1.4.0, 1.0.0"},
		{"only inactive", "logging@1.0.0 needs certs ^2", "only inactive versions of certs are in it: 2.0.0"},
		{"needs what it excludes", "logging@1.0.0 needs certs ^1; not certs >=1.0", "spec.conflicts excludes all versions of certs"},
		{"itself", "logging@1.0.0 needs logging", "an addon cannot need itself"},
		{"excludes itself", "logging@1.0.0; not logging <1", "spec.conflicts[0].addOn"},
		{"cycle", "logging@1.0.0 needs mesh", "logging@1.0.0 needs mesh@1.0.0 needs logging@1.0.0"},
		{"cannot be met together", "logging@1.0.0 needs old, dns", "cannot be met together"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			errs := NewCatalog(vs(t, known...)).Check(v(t, c.version))
			text := ""
			if err := errs.ToAggregate(); err != nil {
				text = err.Error()
			}
			if c.want == "" && text != "" || !strings.Contains(text, c.want) {
				t.Errorf("%s\nwant %s", text, c.want)
			}
		})
	}
}

func TestResolve(t *testing.T) {
	t.Parallel()
	known := []string{
		"certs@1.0.0", "certs@1.4.0; default", "certs@1.5.0", "certs@2.0.0; from >=1.4", "dns@1.0.0 needs certs", "dns@2.0.0 needs certs >=2",
		"logging@1.0.0 needs dns <2", "logging@2.0.0 needs dns, certs >=1.5", "vault@1.0.0 needs certs <1.5", "pki@1.0.0; not certs", "old@1.0.0; inactive",
	}
	for _, c := range []struct {
		name, want string
		installed  []string
		steps      []string
		why        string
	}{
		{name: "defaults first", want: "dns@1.0.0", steps: []string{"certs@1.4.0 for dns", "dns@1.0.0"}},
		{name: "what is there stays", want: "dns@1.0.0", installed: []string{"certs@1.0.0"}, steps: []string{"dns@1.0.0"}},
		{name: "newest without a default", want: "logging", steps: []string{"certs@2.0.0 for logging", "dns@2.0.0 for logging", "logging@2.0.0"}},
		{name: "is there", want: "dns", installed: []string{"certs@1.0.0", "dns@1.0.0 needs certs"}},
		{name: "upgrade first", want: "logging@2.0.0", installed: []string{"certs@1.4.0", "dns@1.0.0 needs certs"}, steps: []string{"certs@1.4.0 to certs@2.0.0 for logging", "logging@2.0.0"}},
		{name: "by the rules for upgrades", want: "dns@2.0.0", installed: []string{"certs@1.0.0"}, why: "1.0.0 cannot be upgraded to 2.0.0"},
		{name: "nobody is broken", want: "logging@2.0.0", installed: []string{"certs@1.4.0", "vault@1.0.0 needs certs <1.5"}, why: "not in <1.5, which vault@1.0.0 needs"},
		{name: "conflict", want: "dns@1.0.0", installed: []string{"pki@1.0.0; not certs"}, why: "pki@1.0.0 conflicts with certs@1.4.0"},
		{name: "inactive", want: "old@1.0.0", why: "1.0.0 is inactive"},
		{name: "inactive and there", want: "old@1.0.0", installed: []string{"old@1.0.0; inactive"}},
		{name: "no such version", want: "dns@9.0.0", why: "dns has no version 9.0.0"},
		{name: "no such addon", want: "nothing", why: "nothing has no version that can be installed"},
		{name: "no downgrade", want: "certs@1.0.0", installed: []string{"certs@1.4.0"}, why: "spec.upgrade.downgrade of 1.4.0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			name, number, _ := strings.Cut(c.want, "@")
			w := Want{AddOn: name}
			if number != "" {
				w.Version, _ = versions.Parse(number)
			}
			steps, err := NewCatalog(vs(t, known...)).Resolve([]Want{w}, cluster(t, c.installed...))
			var got []string
			for _, s := range steps {
				text := s.To.String()
				if !s.From.IsZero() {
					text = s.AddOn + "@" + s.From.String() + " to " + text
				}
				if s.By != "" {
					text += " for " + s.By
				}
				got = append(got, text)
			}
			if diff := cmp.Diff(c.steps, got); diff != "" {
				t.Error(diff)
			}
			if (err != nil) != (c.why != "") || err != nil && !strings.Contains(err.Error(), c.why) {
				t.Errorf("%v, want %q", err, c.why)
			}
		})
	}
}

func TestBreaks(t *testing.T) {
	t.Parallel()
	installed := cluster(t, "certs@1.4.0", "dns@1.0.0 needs certs ^1", "logging@1.0.0 needs dns", "sick@1.0.0 needs certs ^3")
	for _, c := range []struct {
		name    string
		changes []Version
		want    []string
	}{
		{"removal", []Version{{AddOn: "certs"}}, []string{"dns@1.0.0 needs certs in ^1, which would be removed"}},
		{"in range", vs(t, "certs@1.9.0"), nil},
		{"out of range", vs(t, "certs@2.0.0"), []string{"dns@1.0.0 needs certs in ^1, and 2.0.0 is not in it"}},
		{"together", append(vs(t, "certs@2.0.0"), v(t, "dns@2.0.0 needs certs ^2")), nil},
		{"dependents go too", []Version{{AddOn: "certs"}, {AddOn: "dns"}, {AddOn: "logging"}}, nil},
		{"some of them", []Version{{AddOn: "certs"}, {AddOn: "dns"}}, []string{"logging@1.0.0 needs dns in any version, which would be removed"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var got []string
			for _, b := range Breaks(installed, c.changes...) {
				got = append(got, b.String())
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
	if got := Missing(installed["sick"], installed); len(got) != 1 || got[0].AddOn != "certs" {
		t.Errorf("missing: %v", got)
	}
	excluded := Excluded(v(t, "new@1.0.0; not dns <2, logging >1"), installed)
	if got := fmt.Sprint(excluded); got != "[new@1.0.0 conflicts with dns@1.0.0]" {
		t.Errorf("excluded: %s", got)
	}
	excluded = Excluded(v(t, "certs@1.0.0"), cluster(t, "pki@1.0.0; not certs", "certs@9.0.0"))
	if got := fmt.Sprint(excluded); got != "[pki@1.0.0 conflicts with certs@1.0.0]" {
		t.Errorf("excluded: %s", got)
	}
}

func objects(t *testing.T, text string) []*unstructured.Unstructured {
	t.Helper()
	var out []*unstructured.Unstructured
	for doc := range strings.SplitSeq(text, "---\n") {
		obj := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(doc), &obj.Object); err != nil {
			t.Fatal(err)
		}
		out = append(out, obj)
	}
	return out
}

func TestClashes(t *testing.T) {
	t.Parallel()
	owners := NewOwners(Owned{"addon certs", objects(t, `
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: reader}
---
apiVersion: v1
kind: Namespace
metadata: {name: shared}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, namespace: shared}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: issuers.certs.io}
spec: {group: certs.io, names: {kind: Issuer, plural: issuers}, versions: [{name: v1}]}
`)})
	got := owners.Clashes(Owned{"addon vault", objects(t, `
apiVersion: rbac.authorization.k8s.io/v1beta1
kind: ClusterRole
metadata: {name: reader}
---
apiVersion: v1
kind: Namespace
metadata: {name: shared}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, namespace: other}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, namespace: shared}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: issuers.certs.io}
spec: {group: certs.io, names: {kind: Issuer, plural: issuers}, versions: [{name: v2}]}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: certissuers.certs.io}
spec: {group: certs.io, names: {kind: Issuer, plural: certissuers}, versions: [{name: v1}]}
`)})
	var texts []string
	for _, c := range got {
		texts = append(texts, c.String())
	}
	want := []string{
		"ClusterRole reader belongs to both addon certs and addon vault",
		"ConfigMap shared/settings belongs to both addon certs and addon vault",
		"CustomResourceDefinition issuers.certs.io (versions v1 and v2) belongs to both addon certs and addon vault",
		"the kind Issuer.certs.io (CustomResourceDefinitions issuers.certs.io and certissuers.certs.io) belongs to both addon certs and addon vault",
	}
	if diff := cmp.Diff(want, texts); diff != "" {
		t.Error(diff)
	}
	if again := owners.Clashes(Owned{"addon certs", objects(t, "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: reader}\n")}); again != nil {
		t.Errorf("an addon clashes with itself: %v", again)
	}
}

func TestRequire(t *testing.T) {
	t.Parallel()
	all := catalog.Facts{
		Name: "c1", Labels: map[string]string{"env": "prod"}, Kubernetes: "v1.30.2-gke.100", APIs: []string{"apps/v1", "apps/v1/Deployment", "v1"},
		Nodes: 3, Architectures: []string{"amd64", "arm64"}, Allocatable: map[string]string{"cpu": "4", "memory": "8Gi"},
	}
	for _, c := range []struct {
		name    string
		require fleet.Requirements
		facts   *catalog.Facts
		verdict Verdict
		text    string
	}{
		{name: "nothing", verdict: Met},
		{name: "all", verdict: Met, require: fleet.Requirements{
			Kubernetes: ">=1.28", APIs: []string{"v1", "apps/v1/Deployment"},
			Nodes:           &fleet.NodeRequirements{Minimum: 3, Architectures: []string{"amd64", "arm64"}, CPU: "4000m", Memory: "8Gi"},
			ClusterSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"env": "prod"}},
		}},
		{name: "kubernetes", verdict: NotMet, require: fleet.Requirements{Kubernetes: ">=1.31"}, text: "Kubernetes v1.30.2-gke.100 is not in >=1.31"},
		{name: "api", verdict: NotMet, require: fleet.Requirements{APIs: []string{"batch/v1"}}, text: "the cluster does not serve batch/v1"},
		{name: "nodes", verdict: NotMet, require: fleet.Requirements{Nodes: &fleet.NodeRequirements{Minimum: 4}}, text: "the cluster has 3 nodes, fewer than 4"},
		{name: "architecture", verdict: NotMet, require: fleet.Requirements{Nodes: &fleet.NodeRequirements{Architectures: []string{"amd64"}}}, text: "there are nodes of the architecture arm64, and only amd64 will do"},
		{name: "cpu", verdict: NotMet, require: fleet.Requirements{Nodes: &fleet.NodeRequirements{CPU: "8"}}, text: "the nodes offer 4 of cpu, less than 8"},
		{name: "memory", verdict: NotMet, require: fleet.Requirements{Nodes: &fleet.NodeRequirements{Memory: "16Gi"}}, text: "the nodes offer 8Gi of memory, less than 16Gi"},
		{name: "labels", verdict: NotMet, require: fleet.Requirements{ClusterSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"env": "test"}}}, text: "the labels of the cluster do not match env=test"},
		{name: "unknown", facts: &catalog.Facts{}, verdict: Unknown, require: fleet.Requirements{
			Kubernetes: ">=1.28", APIs: []string{"v1"}, Nodes: &fleet.NodeRequirements{Minimum: 1, Architectures: []string{"amd64"}, CPU: "1"},
		}, text: "the version of Kubernetes is not known yet; which APIs the cluster serves is not known yet; how many nodes the cluster has is not known yet; the architecture of the nodes is not known yet; how much cpu the nodes offer is not known yet"},
		{name: "missing beats unknown", facts: &catalog.Facts{}, verdict: NotMet, require: fleet.Requirements{
			Kubernetes: ">=1.28", ClusterSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"env": "prod"}},
		}, text: "the labels of the cluster do not match env=prod; the version of Kubernetes is not known yet"},
		{name: "no APIs at all", facts: &catalog.Facts{APIs: []string{}}, verdict: NotMet, require: fleet.Requirements{APIs: []string{"v1"}}, text: "the cluster does not serve v1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			facts := all
			if c.facts != nil {
				facts = *c.facts
			}
			f, err := Require(&c.require, facts)
			if err != nil || f.Verdict != c.verdict || f.String() != c.text {
				t.Errorf("%s %q, %v\nwant %s %q", f.Verdict, f, err, c.verdict, c.text)
			}
		})
	}
	for want, r := range map[string]fleet.Requirements{
		"spec.requirements.kubernetes: range":  {Kubernetes: "new"},
		"spec.requirements.nodes.memory: \"1X": {Nodes: &fleet.NodeRequirements{Memory: "1X"}},
		"spec.requirements.clusterSelector":    {ClusterSelector: &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Like"}}}},
	} {
		if err := CheckRequirements(&r); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

func TestOrder(t *testing.T) {
	t.Parallel()
	set := cluster(t, "app@1.0.0 needs dns, certs", "dns@1.0.0 needs certs", "certs@1.0.0", "zero@1.0.0", "alone@1.0.0 needs elsewhere")
	want := []string{"alone", "certs", "dns", "app", "zero"}
	if got := Order(set); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
