// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package live

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/drover-io/drover/shared/apis/addon"
	"github.com/drover-io/drover/shared/apis/cluster"
	"github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/shared/apis/live"
	"github.com/drover-io/drover/shared/apis/work"
)

// managed is a cluster in a phase.
func managed(phase string, labels map[string]any) map[string]any {
	status := map[string]string{"Online": "True", "Offline": "Unknown", "Unhealthy": "False"}[phase]
	return map[string]any{
		"apiVersion": "cluster.open-cluster-management.io/v1", "kind": "ManagedCluster",
		"metadata": map[string]any{"labels": labels, "creationTimestamp": "2026-01-02T03:04:05Z", "managedFields": []any{map[string]any{"manager": "secret"}}},
		"spec":     map[string]any{"hubAcceptsClient": true},
		"status": map[string]any{"conditions": []any{map[string]any{
			"type": cluster.ConditionAvailable, "status": status, "reason": "R", "message": phase, "lastTransitionTime": "2026-01-02T03:04:06Z",
		}}},
	}
}

// sent is a work that is healthy or failed.
func sent(ok bool) map[string]any {
	status := map[bool]string{true: "True", false: "False"}[ok]
	condition := func(typ string) map[string]any {
		return map[string]any{"type": typ, "status": status, "reason": "R", "message": "m", "lastTransitionTime": "2026-01-02T03:04:06Z", "observedGeneration": 1}
	}
	return map[string]any{
		"metadata": map[string]any{"generation": 1, "creationTimestamp": "2026-01-02T03:04:05Z"},
		"status":   map[string]any{"conditions": []any{condition("Applied"), condition("Healthy")}},
	}
}

func TestStream(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.put(cluster.Resource, "", "a", managed("Online", nil))
	r.put(work.Resource, "a", "w1", sent(true))
	c := r.follow("root", "table=clusters&list="+work.Resource+"/a&object="+cluster.Resource+"/b", 0, ignore)
	const clusters, works, b = "clusters", "list=" + work.Resource + "/a", "object=" + cluster.Resource + "/b"
	c.until("what is there", func(c *client) bool { return c.rows[clusters]["a"] != "" && c.rows[works]["a/w1"] != "" })
	if got := c.columns[clusters]; !cmp.Equal(got, columnsOf(live.ClusterRow{})) {
		t.Errorf("columns %v", got)
	}
	r.put(cluster.Resource, "", "b", managed("Offline", map[string]any{"env": `<img onerror="x">`, cluster.LabelSet: "s1"}))
	c.until("a new cluster", func(c *client) bool {
		return strings.Contains(c.rows[clusters]["b"], `"Offline"`) && c.rows[b]["b"] != ""
	})
	if obj := c.rows[b]["b"]; strings.Contains(obj, "managedFields") || !strings.Contains(obj, `"resourceVersion":"`) {
		t.Errorf("object %s", obj)
	}
	r.put(work.Resource, "a", "w2", sent(false))
	c.until("a problem is counted", func(c *client) bool { return counts(t, c.rows[clusters]["a"], "works", "problems") == "2 1" })
	r.remove(work.Resource, "a", "w2")
	c.until("and is gone", func(c *client) bool {
		return counts(t, c.rows[clusters]["a"], "works", "problems") == "1 0" && c.rows[works]["a/w2"] == ""
	})
	r.mu.Lock()
	r.loads["a"] = Load{CPU: 41, Memory: 98}
	r.mu.Unlock()
	c.until("a sample", func(c *client) bool { return counts(t, c.rows[clusters]["a"], "cpu", "memory") == "40 100" })
	r.remove(cluster.Resource, "", "b")
	c.until("a cluster is gone", func(c *client) bool { return c.rows[clusters]["b"] == "" && c.rows[b]["b"] == "" })
	r.mu.Lock()
	r.valid = errors.New("the session has ended, log in again")
	r.mu.Unlock()
	c.until("the end", func(c *client) bool { return c.end == "the session has ended, log in again" })
	// The store continues from no revision before an object that came and went between
	// two looks of its own, as happens on a busy machine; not each time.
	if c.resets == 6 {
		t.Error("every return was a reset")
	}
}

// counts are cells of a row of the table clusters.
func counts(t *testing.T, row string, names ...string) string {
	t.Helper()
	var cells []any
	if row == "" {
		return ""
	}
	if err := json.Unmarshal([]byte(row), &cells); err != nil {
		t.Fatalf("%v: %s", err, row)
	}
	var out []string
	for i, column := range columnsOf(live.ClusterRow{}) {
		for _, name := range names {
			if column == name {
				out = append(out, fmt.Sprint(cells[i]))
			}
		}
	}
	return strings.Join(out, " ")
}

// TestBeat: a client hears something at least every ten seconds, and not more often
// than four times a second.
func TestBeat(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes ten seconds")
	}
	r := newRig(t, nil)
	r.put(cluster.Resource, "", "a", managed("Online", nil))
	began := time.Now()
	c := r.follow("root", "table=clusters", 0, ignore)
	c.until("a beat", func(c *client) bool { return c.beats > 0 })
	if d := time.Since(began); d > live.BeatEvery+5*time.Second {
		t.Errorf("first beat after %s", d)
	}
	from := c.frames
	began = time.Now()
	for i := range 300 {
		r.put(cluster.Resource, "", "a", managed([]string{"Online", "Offline"}[i%2], map[string]any{"n": fmt.Sprint(i)}))
	}
	c.until("the last change", func(c *client) bool { return strings.Contains(c.rows["clusters"]["a"], `"299"`) })
	if most := int(time.Since(began)/live.FrameEvery) + 2; c.frames-from > most {
		t.Errorf("%d frames in %s, at most %d", c.frames-from, time.Since(began), most)
	}
}

// TestTables: every table has rows with as many cells as columns, as json.Marshal
// would write them.
func TestTables(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	for _, d := range definitions() {
		ns := "a"
		if d.clusterScoped {
			ns = ""
		}
		r.put(d.resource, ns, "x", map[string]any{"metadata": map[string]any{"creationTimestamp": "2026-01-02T03:04:05Z"}, "spec": map[string]any{}})
	}
	r.put(fleet.ResourceAddOnVersions, "", "x-1.2.0", map[string]any{"spec": map[string]any{"addOn": "x", "version": "1.2.0", "default": true}})
	r.put(addon.ResourceManagedClusterAddOns, "b", "x", map[string]any{"spec": map[string]any{}})
	if len(definitions()) != len(live.Rows()) {
		t.Errorf("%d tables, %d kinds of rows", len(definitions()), len(live.Rows()))
	}
	for name, of := range live.Rows() {
		code, body := r.get("root", live.PathTable+"/"+name)
		var table live.Table
		if err := json.Unmarshal([]byte(body), &table); err != nil || code != http.StatusOK || len(table.Rows) == 0 {
			t.Fatalf("%s: %d %s", name, code, body)
		}
		for _, raw := range table.Rows {
			var cells []json.RawMessage
			if err := json.Unmarshal(raw, &cells); err != nil || len(cells) != len(table.Columns) {
				t.Errorf("%s: %s: %v", name, raw, err)
				continue
			}
			obj := map[string]json.RawMessage{}
			for i, c := range table.Columns {
				obj[c] = cells[i]
			}
			data, err := json.Marshal(obj)
			if err != nil {
				t.Fatal(err)
			}
			into := reflect.New(reflect.TypeOf(of))
			dec := json.NewDecoder(strings.NewReader(string(data)))
			dec.DisallowUnknownFields()
			if err := dec.Decode(into.Interface()); err != nil {
				t.Errorf("%s: %s: %v", name, data, err)
			}
			if strings.Contains(string(raw), "null") && name != live.TableClusters {
				t.Errorf("%s: null in %s", name, raw)
			}
		}
	}
	rows, _ := r.table("root", live.TableAddOns)
	if got := rows["x"]; !strings.HasPrefix(got, `["x","","","1.2.0",2,2,0,`) && !strings.HasPrefix(got, `["x","","","1.2.0",1,2,0,`) {
		t.Errorf("addon: %s", got)
	}
	if code, _ := r.get("root", live.PathTable+"/works?namespace=b"); code != http.StatusOK {
		t.Errorf("works of a namespace: %d", code)
	}
}

func TestAppendRow(t *testing.T) {
	t.Parallel()
	n := 7
	want := live.ClusterRow{Name: "ä\"\\\n<x>\u2028", Phase: "Online", Since: 12, Nodes: -3, CPU: &n, Labels: map[string]string{"b": "\x00", "a": "1"}}
	raw, ends := appendRow(nil, &want, true)
	var cells []json.RawMessage
	if err := json.Unmarshal(raw, &cells); err != nil {
		t.Fatalf("%v: %s", err, raw)
	}
	obj := map[string]json.RawMessage{}
	for i, c := range columnsOf(want) {
		obj[c] = cells[i]
	}
	data, err := json.Marshal(obj)
	if err != nil {
		t.Fatal(err)
	}
	var got live.ClusterRow
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	r := &row{full: raw, ends: ends}
	hidden := r.without(nil, func(i int) bool { return i%2 == 1 })
	var some []any
	if err := json.Unmarshal(hidden, &some); err != nil || len(some) != len(cells) {
		t.Fatalf("%v: %s", err, hidden)
	}
	for i, v := range some {
		if i%2 == 1 && v != nil {
			t.Errorf("cell %d is %v", i, v)
		}
	}
	if string(r.without(nil, func(int) bool { return false })) != string(raw) {
		t.Error("nothing hidden is not the whole row")
	}
}

// TestResume: a client that comes and goes has in the end what the tables say.
func TestResume(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	rnd := rand.New(rand.NewPCG(1, 2))
	name := func() string { return fmt.Sprintf("c%d", rnd.IntN(12)) }
	change := func() {
		switch c := name(); rnd.IntN(6) {
		case 0:
			r.remove(cluster.Resource, "", c)
		case 1:
			r.remove(work.Resource, c, "w")
		case 2, 3:
			r.put(work.Resource, c, "w", sent(rnd.IntN(2) == 0))
		default:
			r.put(cluster.Resource, "", c, managed([]string{"Online", "Offline", "Unhealthy"}[rnd.IntN(3)], map[string]any{"n": fmt.Sprint(rnd.IntN(99))}))
		}
	}
	for range 30 {
		change()
	}
	query := "table=clusters&table=works&list=" + cluster.Resource
	c := r.follow("root", query, 0, ignore)
	c.until("ready", func(c *client) bool { return c.since > 0 })
	for round := range 12 {
		for range 1 + rnd.IntN(20) {
			change()
		}
		if round%2 == 0 {
			c.close()
			for range 1 + rnd.IntN(20) {
				change()
			}
			c = c.again()
		}
		c.until("the same as the tables", func(c *client) bool {
			clusters, _ := r.table("root", "clusters")
			works, _ := r.table("root", "works")
			return len(c.rows["list="+cluster.Resource]) == len(clusters) &&
				maps.Equal(c.rows["clusters"], clusters) && maps.Equal(c.rows["works"], works)
		})
	}
	// The store continues from no revision before an object that came and went between
	// two looks of its own, as happens on a busy machine; not each time.
	if c.resets == 6 {
		t.Error("every return was a reset")
	}
	old := r.follow("root", query, 1, ignore)
	old.until("a reset for a cursor of before", func(c *client) bool { return c.resets > 0 && len(c.rows["clusters"]) > 0 })
}

func TestBadRequests(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	for path, want := range map[string]string{
		"/v1/live":                        "400 table, list, object: give at least one",
		"/v1/live?table=nothing":          `400 table: there is none called "nothing"`,
		"/v1/live?table=clusters/x":       `400 table: rows of "clusters" are in no namespace`,
		"/v1/live?list=a/b/c":             `400 list: "a/b/c": want RESOURCE or RESOURCE/NAMESPACE`,
		"/v1/live?object=a":               `400 object: "a": want RESOURCE/NAME or RESOURCE/NAMESPACE/NAME`,
		"/v1/live?table=clusters&since=x": `400 since: "x" is no revision`,
		"/v1/table/nothing":               `404 tables "nothing" not found`,
		"/v1/table/clusters?namespace=x":  `400 namespace: rows of "clusters" are in no namespace`,
	} {
		code, body := r.get("root", path)
		var status struct{ Message string }
		if err := json.Unmarshal([]byte(body), &status); err != nil || fmt.Sprint(code, " ", status.Message) != want {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
	if code, _ := r.get("", "/v1/live?table=clusters"); code != http.StatusUnauthorized {
		t.Errorf("nobody: %d", code)
	}
	if code, body := r.get("ann", "/v1/table/clusters"); code != http.StatusForbidden || !strings.Contains(body, `User \"ann\" cannot list`) {
		t.Errorf("without a right: %d %s", code, body)
	}
}
