// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package placement

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/shared/apis/cluster"
)

func now() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }

// member reads a cluster as "name key=value ...".
func member(t testing.TB, text string, change func(*cluster.ManagedCluster)) *Cluster {
	t.Helper()
	words := strings.Fields(text)
	mc := &cluster.ManagedCluster{ObjectMeta: metav1.ObjectMeta{Name: words[0], Labels: map[string]string{}}}
	for _, w := range words[1:] {
		k, v, _ := strings.Cut(w, "=")
		switch {
		case k == "cpu" || k == "memory":
			if mc.Status.Allocatable == nil {
				mc.Status.Allocatable, mc.Status.Capacity = map[string]string{}, map[string]string{}
			}
			mc.Status.Allocatable[k], mc.Status.Capacity[k] = v, v
		case strings.HasPrefix(k, "@"):
			mc.Status.ClusterClaims = append(mc.Status.ClusterClaims, cluster.Claim{Name: k[1:], Value: v})
		case strings.HasPrefix(k, "!"):
			mc.Spec.Taints = append(mc.Spec.Taints, cluster.Taint{Key: k[1:], Effect: v, TimeAdded: metav1.NewTime(now())})
		default:
			mc.Labels[k] = v
		}
	}
	if change != nil {
		change(mc)
	}
	data, err := json.Marshal(mc)
	if err != nil {
		t.Fatal(err)
	}
	e := store.Entry{Key: store.Key{Name: mc.Name}, Data: data, Header: store.Header{Labels: mc.Labels}}
	if mc.DeletionTimestamp != nil {
		e.Header.DeletionTimestamp = mc.DeletionTimestamp.Time
	}
	c, err := NewCluster(e)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func members(t testing.TB, list ...string) []*Cluster {
	t.Helper()
	var out []*Cluster
	for _, text := range list {
		out = append(out, member(t, text, nil))
	}
	return out
}

func spec(t testing.TB, text string) *cluster.Placement {
	t.Helper()
	p := &cluster.Placement{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p"}}
	if err := yaml.UnmarshalStrict([]byte(text), &p.Spec); err != nil {
		t.Fatal(err)
	}
	return p
}

// names shows the groups as "name: a b | c".
func names(out *Output) string {
	var groups []string
	for _, g := range out.Groups {
		var list []string
		for _, d := range g.Decisions {
			list = append(list, d.ClusterName)
		}
		text := strings.Join(list, " ")
		if g.Name != "" {
			text = g.Name + ": " + text
		}
		groups = append(groups, text)
	}
	return strings.Join(groups, " | ")
}

func set(list ...string) map[string]bool {
	out := map[string]bool{}
	for _, n := range list {
		out[n] = true
	}
	return out
}

func TestSchedule(t *testing.T) {
	t.Parallel()
	fleet := []string{"a env=prod region=eu cpu=4 memory=8Gi @platform=aws", "b env=prod region=us cpu=8 memory=4Gi @platform=gcp", "c env=dev region=eu cpu=16 memory=2Gi", "d env=dev region=eu"}
	tests := []struct {
		name     string
		spec     string
		clusters []string
		previous []string
		decided  map[string]int
		scores   map[ScoreKey]*Scores
		after    time.Duration
		want     string
		again    time.Duration
	}{
		{name: "empty is all", spec: `{}`, want: "a b c d"},
		{name: "label", spec: `{predicates: [{requiredClusterSelector: {labelSelector: {matchLabels: {env: prod}}}}]}`, want: "a b"},
		{name: "predicates are or", spec: `{predicates: [{requiredClusterSelector: {labelSelector: {matchLabels: {env: prod}}}}, {requiredClusterSelector: {claimSelector: {matchExpressions: [{key: platform, operator: DoesNotExist}]}, labelSelector: {matchLabels: {region: eu}}}}]}`, want: "a b c d"},
		{name: "parts are and", spec: `{predicates: [{requiredClusterSelector: {labelSelector: {matchLabels: {env: prod}}, claimSelector: {matchExpressions: [{key: platform, operator: In, values: [aws]}]}}}]}`, want: "a"},
		{name: "cel", spec: `{predicates: [{requiredClusterSelector: {celSelector: {celExpressions: ['managedCluster.metadata.labels["region"] == "eu"', 'quantity(managedCluster.status.allocatable["cpu"]).isGreaterThan(quantity("4"))']}}}]}`, want: "c"},
		{name: "cel scores", spec: `{predicates: [{requiredClusterSelector: {celSelector: {celExpressions: ['managedCluster.scores("s").exists(x, x.name == "n" && x.value > 3)']}}}]}`, scores: map[ScoreKey]*Scores{{"b", "s"}: {Values: map[string]int32{"n": 4}}, {"a", "s"}: {Values: map[string]int32{"n": 3}}}, want: "b"},
		{name: "number by name among equals", spec: `{numberOfClusters: 2}`, want: "a b"},
		{name: "steady", spec: `{numberOfClusters: 1}`, previous: []string{"c"}, decided: map[string]int{"c": 1}, want: "c"},
		{name: "balance", spec: `{numberOfClusters: 2}`, decided: map[string]int{"a": 2, "b": 1}, want: "c d"},
		{name: "exact forgets steady", spec: `{numberOfClusters: 1, prioritizerPolicy: {mode: Exact, configurations: [{scoreCoordinate: {builtIn: ResourceAllocatableCPU}, weight: 1}]}}`, previous: []string{"a"}, want: "c"},
		{name: "memory", spec: `{numberOfClusters: 1, prioritizerPolicy: {mode: Exact, configurations: [{scoreCoordinate: {type: BuiltIn, builtIn: ResourceAllocatableMemory}, weight: 1}]}}`, want: "a"},
		{name: "negative weight", spec: `{numberOfClusters: 1, prioritizerPolicy: {mode: Exact, configurations: [{scoreCoordinate: {builtIn: ResourceAllocatableMemory}, weight: -1}]}}`, want: "c"},
		{name: "addon score", spec: `{numberOfClusters: 1, prioritizerPolicy: {mode: Exact, configurations: [{scoreCoordinate: {type: AddOn, addOn: {resourceName: s, scoreName: free}}, weight: 1}]}}`, scores: map[ScoreKey]*Scores{{"b", "s"}: {Values: map[string]int32{"free": 50}, ValidUntil: now().Add(time.Hour)}, {"c", "s"}: {Values: map[string]int32{"free": 90}, ValidUntil: now().Add(-time.Second)}}, want: "b", again: time.Hour},
		{name: "sort by score", spec: `{sortBy: Score, prioritizerPolicy: {mode: Exact, configurations: [{scoreCoordinate: {builtIn: ResourceAllocatableCPU}, weight: 1}]}}`, want: "c d b a"},
		{name: "taint keeps out", spec: `{}`, clusters: []string{"a !x=NoSelect", "b !x=PreferNoSelect", "c !x=NoSelectIfNew", "d !x=NoSelectIfNew"}, previous: []string{"d"}, want: "b d"},
		{name: "toleration", spec: `{tolerations: [{key: x, operator: Exists}]}`, clusters: []string{"a !x=NoSelect", "b !y=NoSelect"}, want: "a"},
		{name: "toleration of any key", spec: `{tolerations: [{operator: Exists, effect: NoSelect}]}`, clusters: []string{"a !x=NoSelect", "b !y=NoSelectIfNew"}, want: "a"},
		{name: "toleration for a while", spec: `{tolerations: [{key: x, operator: Exists, tolerationSeconds: 60}]}`, clusters: []string{"a !x=NoSelect", "b"}, after: 59 * time.Second, want: "a b", again: time.Minute},
		{name: "toleration is over", spec: `{tolerations: [{key: x, operator: Exists, tolerationSeconds: 60}]}`, clusters: []string{"a !x=NoSelect", "b"}, after: time.Minute, want: "b"},
		{name: "groups", spec: `{decisionStrategy: {groupStrategy: {clustersPerDecisionGroup: 1, decisionGroups: [{groupName: canary, groupClusterSelector: {labelSelector: {matchLabels: {env: dev}}}}]}}}`, want: "canary: c | canary: d | a | b"},
		{name: "share rounds up", spec: `{decisionStrategy: {groupStrategy: {clustersPerDecisionGroup: 30%}}}`, want: "a b | c d"},
		{name: "none is one empty group", spec: `{numberOfClusters: 0}`, want: ""},
		{name: "spread must", spec: `{numberOfClusters: 3, spreadPolicy: {spreadConstraints: [{topologyKey: region, topologyKeyType: Label, maxSkew: 1, whenUnsatisfiable: DoNotSchedule}]}}`, want: "a b c"},
		{name: "spread must, over", spec: `{spreadPolicy: {spreadConstraints: [{topologyKey: region, topologyKeyType: Label, maxSkew: 1, whenUnsatisfiable: DoNotSchedule}]}}`, want: "a b c"},
		{name: "spread should", spec: `{numberOfClusters: 2, spreadPolicy: {spreadConstraints: [{topologyKey: env, topologyKeyType: Label}]}}`, want: "a c"},
		{name: "spread by claim leaves out those without", spec: `{spreadPolicy: {spreadConstraints: [{topologyKey: platform, topologyKeyType: Claim, whenUnsatisfiable: DoNotSchedule}]}}`, want: "a b"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			list := tt.clusters
			if list == nil {
				list = fleet
			}
			in := &Input{Placement: spec(t, tt.spec), Bound: map[string][]*Cluster{"s": members(t, list...)}, Previous: set(tt.previous...), Decided: tt.decided, Scores: tt.scores}
			out := NewScheduler().Schedule(in, now().Add(tt.after))
			if got := names(out); got != tt.want || out.Keep {
				t.Errorf("chose %q (keep %v, %v), want %q", got, out.Keep, out.Conditions, tt.want)
			}
			again := time.Duration(0)
			if !out.Again.IsZero() {
				again = out.Again.Sub(now())
			}
			if again != tt.again {
				t.Errorf("again after %v, want %v", again, tt.again)
			}
		})
	}
}

func TestConditions(t *testing.T) {
	t.Parallel()
	some := map[string][]*Cluster{"s": members(t, "a", "b")}
	tests := []struct {
		name  string
		spec  string
		bound map[string][]*Cluster
		want  string // status/reason message
		bad   string
	}{
		{"no bindings", `{}`, nil, "False/NoManagedClusterSetBindings No valid ManagedClusterSetBindings found in placement namespace", ""},
		{"no intersection", `{clusterSets: [x, z]}`, some, "False/NoIntersection None of ManagedClusterSets [x,z] is bound to placement namespace", ""},
		{"sets empty", `{}`, map[string][]*Cluster{"s": nil, "r": {member(t, "z", func(mc *cluster.ManagedCluster) { mc.DeletionTimestamp = &metav1.Time{Time: now()} })}}, "False/AllManagedClusterSetsEmpty All ManagedClusterSets [r,s] have no member ManagedCluster", ""},
		{"none matches", `{predicates: [{requiredClusterSelector: {labelSelector: {matchLabels: {x: "y"}}}}]}`, some, "False/NoManagedClusterMatched No ManagedCluster matches any of the cluster predicate", ""},
		{"all", `{numberOfClusters: 2}`, some, "True/AllDecisionsScheduled All cluster decisions scheduled", ""},
		{"too few", `{numberOfClusters: 5}`, some, "False/NotAllDecisionsScheduled 3 cluster decisions unscheduled", ""},
		{"bad expression", `{predicates: [{requiredClusterSelector: {celSelector: {celExpressions: ['1 + 1']}}}]}`, some, "False/NotAllDecisionsScheduled Predicate:compilation failed: \"1 + 1\" gives a value of type int, want bool; the decisions made before are kept", "Predicate:compilation failed: \"1 + 1\" gives a value of type int, want bool"},
		{"bad toleration", `{tolerations: [{value: x}]}`, some, "False/NotAllDecisionsScheduled TaintToleration:If the key is empty, operator must be Exists.; the decisions made before are kept", "TaintToleration:If the key is empty, operator must be Exists."},
		{"bad toleration value", `{tolerations: [{key: k, operator: Exists, value: x}]}`, some, "False/NotAllDecisionsScheduled TaintToleration:If the operator is Exists, the value should be empty.; the decisions made before are kept", "TaintToleration:If the operator is Exists, the value should be empty."},
		{"bad prioritizer", `{prioritizerPolicy: {configurations: [{scoreCoordinate: {builtIn: Magic}, weight: 1}]}}`, some, "False/NotAllDecisionsScheduled Prioritizer:incorrect builtin prioritizer: Magic; the decisions made before are kept", "Prioritizer:incorrect builtin prioritizer: Magic"},
		{"bad group size", `{decisionStrategy: {groupStrategy: {clustersPerDecisionGroup: many}}}`, some, "False/NotAllDecisionsScheduled DecisionStrategy:many invalid type: string is not a percentage; the decisions made before are kept", "DecisionStrategy:many invalid type: string is not a percentage"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			out := NewScheduler().Schedule(&Input{Placement: spec(t, tt.spec), Bound: tt.bound}, now())
			c := meta.FindStatusCondition(out.Conditions, cluster.ConditionPlacementSatisfied)
			if got := fmt.Sprintf("%s/%s %s", c.Status, c.Reason, c.Message); got != tt.want {
				t.Errorf("satisfied:\n%s, want\n%s", got, tt.want)
			}
			want := "False/Succeedconfigured Placement configurations check pass"
			if tt.bad != "" {
				want = "True/Misconfigured " + tt.bad
			}
			c = meta.FindStatusCondition(out.Conditions, cluster.ConditionPlacementMisconfigured)
			if got := fmt.Sprintf("%s/%s %s", c.Status, c.Reason, c.Message); got != want || out.Keep != (tt.bad != "") {
				t.Errorf("misconfigured: %s (keep %v), want %s", got, out.Keep, want)
			}
		})
	}
}

// TestScheduleProperties: the order of the input does not matter, and what was
// chosen is chosen again when nothing changes.
func TestScheduleProperties(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	s := NewScheduler()
	for round := range 200 {
		var list []*Cluster
		decided := map[string]int{}
		for i := range 1 + r.IntN(30) {
			text := fmt.Sprintf("c%02d zone=z%d cpu=%d memory=%dGi", i, r.IntN(4), 1+r.IntN(8), 1+r.IntN(8))
			if r.IntN(6) == 0 {
				text += " !x=" + []string{"NoSelect", "PreferNoSelect", "NoSelectIfNew"}[r.IntN(3)]
			}
			c := member(t, text, nil)
			list = append(list, c)
			if n := r.IntN(4); n > 0 {
				decided[c.Name] = n
			}
		}
		p := spec(t, []string{
			`{}`, `{sortBy: Score}`,
			`{decisionStrategy: {groupStrategy: {clustersPerDecisionGroup: 3, decisionGroups: [{groupName: g0, groupClusterSelector: {labelSelector: {matchLabels: {zone: z0}}}}]}}}`,
			`{spreadPolicy: {spreadConstraints: [{topologyKey: zone, topologyKeyType: Label, maxSkew: 1, whenUnsatisfiable: DoNotSchedule}]}}`,
			`{prioritizerPolicy: {configurations: [{scoreCoordinate: {builtIn: ResourceAllocatableCPU}, weight: 2}]}}`,
		}[r.IntN(5)])
		n := int32(r.IntN(12))
		p.Spec.NumberOfClusters = &n
		in := &Input{Placement: p, Bound: map[string][]*Cluster{"s": list, "t": list[:len(list)/2]}, Decided: decided}
		first := s.Schedule(in, now())
		shuffled := slices.Clone(list)
		r.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		second := s.Schedule(&Input{Placement: p, Bound: map[string][]*Cluster{"t": shuffled}, Decided: decided}, now())
		if diff := cmp.Diff(first.Groups, second.Groups); diff != "" {
			t.Fatalf("round %d: the order matters:\n%s", round, diff)
		}
		in.Previous, in.Decided = map[string]bool{}, map[string]int{}
		for k, v := range decided {
			in.Decided[k] = v
		}
		for _, g := range first.Groups {
			for _, d := range g.Decisions {
				in.Previous[d.ClusterName] = true
				in.Decided[d.ClusterName]++
			}
		}
		third := s.Schedule(in, now())
		if got, want := strings.Fields(names(third)), strings.Fields(names(first)); len(p.Spec.SpreadPolicy.SpreadConstraints) == 0 && !cmp.Equal(sorted(got), sorted(want)) {
			t.Fatalf("round %d: not steady: %v, then %v", round, want, got)
		}
		if first.Selected > int(n) {
			t.Fatalf("round %d: %d chosen of %d wanted", round, first.Selected, n)
		}
	}
}

func sorted(s []string) []string { slices.Sort(s); return s }

// BenchmarkSchedule is one placement over 1,000 clusters.
func BenchmarkSchedule(b *testing.B) {
	list := fleetOf(b, 1000)
	for name, text := range map[string]string{
		"labels": `{predicates: [{requiredClusterSelector: {labelSelector: {matchExpressions: [{key: zone, operator: In, values: [z1, z2, z3]}]}}}]}`,
		"cel":    `{predicates: [{requiredClusterSelector: {celSelector: {celExpressions: ['managedCluster.metadata.labels["zone"] == "z1"']}}}]}`,
		"spread": `{numberOfClusters: 100, spreadPolicy: {spreadConstraints: [{topologyKey: zone, topologyKeyType: Label}]}}`,
	} {
		b.Run(name, func(b *testing.B) {
			s := NewScheduler()
			in := &Input{Placement: spec(b, text), Bound: map[string][]*Cluster{"s": list}}
			for b.Loop() {
				s.Schedule(in, now())
			}
		})
	}
}

func fleetOf(t testing.TB, n int) []*Cluster {
	var out []*Cluster
	for i := range n {
		out = append(out, member(t, fmt.Sprintf("c%05d zone=z%d cpu=%d memory=8Gi", i, i%10, 1+i%16), nil))
	}
	return out
}
