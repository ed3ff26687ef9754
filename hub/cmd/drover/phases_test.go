// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// TestAddPhases: clusters are in the phases that the dashboard shows, before the age.
func TestAddPhases(t *testing.T) {
	t.Parallel()
	table := &metav1.Table{
		ColumnDefinitions: []metav1.TableColumnDefinition{{Name: "Name"}, {Name: "Age"}},
		Rows: []metav1.TableRow{
			{Cells: []any{"a", "3m"}, Object: runtime.RawExtension{Raw: []byte(`{"spec":{"hubAcceptsClient":true},"status":{"conditions":[
				{"type":"ManagedClusterConditionAvailable","status":"Unknown","reason":"R","message":"away","lastTransitionTime":"2026-01-02T03:04:05Z"}]}}`)}},
			{Cells: nil, Object: runtime.RawExtension{Raw: []byte(`{}`)}},
		},
	}
	if err := addPhases(table); err != nil {
		t.Fatal(err)
	}
	var got [][]any
	for _, r := range table.Rows {
		got = append(got, r.Cells)
	}
	want := [][]any{{"a", "Offline", "away", "3m"}, {nil, "NotAccepted", "No agent was approved for it."}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if c := table.ColumnDefinitions; len(c) != 4 || c[1].Name != "Phase" || c[2].Priority != 1 || c[3].Name != "Age" {
		t.Errorf("columns %v", c)
	}
}
