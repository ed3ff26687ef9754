// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/drover-io/drover/shared/apis/addon"
	"github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/shared/wire"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares with a file of testdata.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("%s (-want +got), -update writes it anew:\n%s", path, d)
	}
}

func TestPrintTable(t *testing.T) {
	t.Parallel()
	row := func(namespace string, cells ...any) metav1.TableRow {
		m, err := json.Marshal(metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Namespace: namespace}})
		if err != nil {
			t.Fatal(err)
		}
		return metav1.TableRow{Cells: cells, Object: runtime.RawExtension{Raw: m}}
	}
	table := &metav1.Table{
		ColumnDefinitions: []metav1.TableColumnDefinition{{Name: "Name"}, {Name: "Message"}, {Name: "Count"}, {Name: "Address", Priority: 1}},
		Rows: []metav1.TableRow{
			row("shop-1", "plain", "fine", float64(1000000), "192.0.2.1"),
			row("shop-2", "empty", "", nil, nil),
			row("shop-3", "hostile", "a\x1b[2J\x1b]0;title\x07b\r\nc\td\u202eevil\u200b\u009b1m", true, "x\x00y"),
			row("bücher", "short row"),
			row("shop-5", "numbers", 1.5, float64(-3), json.Number("7")),
		},
	}
	for _, tt := range []struct {
		name             string
		wide, namespaces bool
	}{{"table", false, false}, {"table-wide", true, false}, {"table-clusters", true, true}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			if err := printTable(&out, table, tt.wide, tt.namespaces); err != nil {
				t.Fatal(err)
			}
			for _, r := range out.String() {
				if r != '\n' && !unicode.IsPrint(r) {
					t.Errorf("prints %q", r)
				}
			}
			golden(t, tt.name, out.Bytes())
		})
	}
	if err := printTable(&bytes.Buffer{}, &metav1.Table{Rows: []metav1.TableRow{{}}}, false, true); err == nil {
		t.Error("a row without its object was printed")
	}
}

func TestPrintTop(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	samples := []fleet.ClusterMetrics{
		{
			ObjectMeta: metav1.ObjectMeta{Name: "full"}, Connected: true,
			Host: &wire.HostSample{Time: now.Add(-3 * time.Second), CPU: 1.234, Cores: 4, MemoryUsed: 3 << 30, MemoryTotal: 8 << 30},
			Kubernetes: &wire.KubernetesSample{
				Time: now.Add(-20 * time.Second), Nodes: 3, NodesReady: 2, PodsByPhase: map[string]int{"Running": 7, "Failed": 2}, PodsCapacity: 330,
				Allocatable: map[string]string{"cpu": "12", "memory": "48Gi"}, Requests: map[string]string{"cpu": "1", "memory": "1Gi"},
				Usage: map[string]string{"cpu": "6500m", "memory": "12Gi"},
			},
		},
		{
			ObjectMeta: metav1.ObjectMeta{Name: "requests"}, Connected: true,
			Kubernetes: &wire.KubernetesSample{
				Time: now.Add(time.Hour), Nodes: 1, NodesReady: 1,
				Allocatable: map[string]string{"cpu": "2", "memory": "much"}, Requests: map[string]string{"cpu": "many"},
			},
		},
		{ObjectMeta: metav1.ObjectMeta{Name: "node-agent"}, Host: &wire.HostSample{Time: now.Add(-90 * time.Minute), Cores: 1}},
		{ObjectMeta: metav1.ObjectMeta{Name: "silent"}, Connected: true},
	}
	var out bytes.Buffer
	if err := printTop(&out, samples, now); err != nil {
		t.Fatal(err)
	}
	golden(t, "top", out.Bytes())
}

func TestPrintAddOns(t *testing.T) {
	t.Parallel()
	cpu, memory := 0.125, int64(96<<20)
	samples := []fleet.ClusterMetrics{
		{ObjectMeta: metav1.ObjectMeta{Name: "none"}},
		{ObjectMeta: metav1.ObjectMeta{Name: "shop-1"}, AddOns: []fleet.AddOnUsage{
			{Name: "cert-manager", Pods: 3, Ready: 3, Restarts: 1, CPU: &cpu, Memory: &memory, Measured: 2},
			{Name: "not-measured", Pods: 1},
		}},
	}
	var out bytes.Buffer
	if err := printAddOns(&out, samples); err != nil {
		t.Fatal(err)
	}
	golden(t, "top-addons", out.Bytes())
}

func TestPrintAddOnList(t *testing.T) {
	t.Parallel()
	cpu, memory := 0.125, int64(96<<20)
	list := []addon.ManagedClusterAddOn{
		{ObjectMeta: metav1.ObjectMeta{Namespace: "shop-1", Name: "logging"}, Status: addon.ManagedClusterAddOnStatus{
			Content: &addon.Content{Version: "1.2.0", Revision: 3},
			Conditions: []metav1.Condition{
				{Type: addon.ConditionAvailable, Status: metav1.ConditionTrue, Message: "ready"},
				{Type: addon.ConditionProgressing, Status: metav1.ConditionFalse, Reason: addon.ReasonCompleted},
			},
		}},
		{ObjectMeta: metav1.ObjectMeta{Namespace: "shop-1", Name: "no-pods"}},
		{ObjectMeta: metav1.ObjectMeta{Namespace: "shop-2", Name: "logging"}},
		{ObjectMeta: metav1.ObjectMeta{Namespace: "shop-3", Name: "logging"}},
	}
	usage := usageOf([]fleet.ClusterMetrics{
		{ObjectMeta: metav1.ObjectMeta{Name: "shop-1"}, AddOns: []fleet.AddOnUsage{{Name: "logging", Pods: 3, Ready: 2, Restarts: 4, CPU: &cpu, Memory: &memory, Measured: 3}}},
		{ObjectMeta: metav1.ObjectMeta{Name: "shop-2"}, AddOns: []fleet.AddOnUsage{{Name: "logging", Pods: 1}}},
	})
	var out bytes.Buffer
	for _, u := range []map[[2]string]fleet.AddOnUsage{nil, usage} {
		if err := printAddOnList(&out, list, u); err != nil {
			t.Fatal(err)
		}
	}
	golden(t, "addon-list", out.Bytes())
}

func TestBytesText(t *testing.T) {
	t.Parallel()
	for v, want := range map[float64]string{
		0: "0 B", 1: "1 B", 1023: "1023 B", 1024: "1 KiB", 1536: "1.5 KiB", 1 << 20: "1 MiB", 5 << 30: "5 GiB", 1 << 40: "1 TiB", 1 << 50: "1024 TiB",
	} {
		if got := bytesText(v); got != want {
			t.Errorf("%v: %q, want %q", v, got, want)
		}
	}
}

func TestAge(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, tt := range []struct {
		t    time.Time
		want string
	}{
		{time.Time{}, "-"},
		{now, "now"},
		{now.Add(time.Hour), "now"},
		{now.Add(-499 * time.Millisecond), "now"},
		{now.Add(-500 * time.Millisecond), "1s ago"},
		{now.Add(-61 * time.Second), "1m1s ago"},
	} {
		if got := age(now, tt.t); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.t, got, tt.want)
		}
	}
}

func TestParseLabels(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		in       string
		removals bool
		set      map[string]string
		unset    []string
		fails    bool
	}{
		{in: "a=b", set: map[string]string{"a": "b"}},
		{in: "a=", set: map[string]string{"a": ""}},
		{in: "a=b=c", set: map[string]string{"a": "b=c"}},
		{in: "a=b-", removals: true, set: map[string]string{"a": "b-"}},
		{in: "a-", removals: true, set: map[string]string{}, unset: []string{"a"}},
		{in: "a-", fails: true},
		{in: "a", fails: true},
		{in: "a", removals: true, fails: true},
		{in: "=b", fails: true},
		{in: "-", removals: true, fails: true},
		{in: "", fails: true},
	} {
		set, unset, err := parseLabels([]string{tt.in}, tt.removals)
		if (err != nil) != tt.fails {
			t.Errorf("%q: %v", tt.in, err)
			continue
		}
		if d := cmp.Diff(tt.set, set) + cmp.Diff(tt.unset, unset); !tt.fails && d != "" {
			t.Errorf("%q:\n%s", tt.in, d)
		}
	}
}

func TestReadObjects(t *testing.T) {
	t.Parallel()
	const one = "apiVersion: v1\nkind: A\nmetadata: {name: a}\n"
	for _, tt := range []struct {
		name, text string
		want       []string
		fails      string
	}{
		{name: "one", text: one, want: []string{"a"}},
		{name: "several and empty ones", text: "---\n" + one + "---\n---\n# nothing\n---\n" + strings.ReplaceAll(one, "name: a", "name: b"), want: []string{"a", "b"}},
		{name: "JSON", text: `{"apiVersion":"v1","kind":"A","metadata":{"name":"a"}}`, want: []string{"a"}},
		{name: "list", text: "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: A, metadata: {name: a}}\n- {apiVersion: v1, kind: A, metadata: {name: b}}\n", want: []string{"a", "b"}},
		{name: "empty", text: "", fails: "-: no objects in it"},
		{name: "empty list", text: "{apiVersion: v1, kind: List, items: []}", fails: "-: no objects in it"},
		{name: "second has no kind", text: one + "---\nkind: B\n", fails: "-: document 2: apiVersion and kind are needed"},
		{name: "no map", text: "- a", fails: "-: document 1: "},
		{name: "broken", text: "a: b: c", fails: "-: document 1: "},
		{name: "list of no objects", text: "{apiVersion: v1, kind: List, items: [1]}", fails: "-: document 1: "},
		{name: "item without a kind", text: "{apiVersion: v1, kind: List, items: [{metadata: {name: a}}]}", fails: "-: document 1: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := readObjects("-", strings.NewReader(tt.text))
			if tt.fails != "" {
				if err == nil || !strings.HasPrefix(err.Error(), tt.fails) {
					t.Errorf("%v, want %q", err, tt.fails)
				}
				return
			}
			var names []string
			for _, o := range got {
				names = append(names, o.GetName())
			}
			if d := cmp.Diff(tt.want, names); err != nil || d != "" {
				t.Errorf("%v\n%s", err, d)
			}
		})
	}
	if _, err := readObjects(filepath.Join(t.TempDir(), "none"), nil); !os.IsNotExist(err) {
		t.Errorf("%v", err)
	}
}

func FuzzReadObjects(f *testing.F) {
	f.Add("apiVersion: v1\nkind: List\nitems: [{apiVersion: v1, kind: A}]")
	f.Add("---\n{}\n---\nnull\n")
	f.Add(`{"apiVersion":"v1","kind":"A","items":[null]}`)
	f.Fuzz(func(t *testing.T, text string) {
		got, err := readObjects("-", strings.NewReader(text))
		if (err == nil) != (len(got) > 0) {
			t.Errorf("%d objects and %v", len(got), err)
		}
		for _, o := range got {
			if o.GetKind() == "" || o.GetAPIVersion() == "" {
				t.Errorf("an object without a kind: %v", o)
			}
		}
	})
}
