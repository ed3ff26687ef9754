// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package depend

import (
	"fmt"
	"testing"
)

// TestMemo: a catalog is that of the versions given, whatever was given before.
func TestMemo(t *testing.T) {
	t.Parallel()
	var m Memo
	stored := func(addOn, version string, revision uint64, more string) Stored {
		return Stored{addOn + "-" + version, revision, fmt.Appendf(nil, `{"spec":{"addOn":%q,"version":%q%s}}`, addOn, version, more)}
	}
	one, two := stored("a", "1.0.0", 1, ""), stored("a", "2.0.0", 2, "")
	newest := func(all ...Stored) string {
		t.Helper()
		v, ok := m.Catalog(all).Default("a")
		if !ok {
			return "none"
		}
		return v.String()
	}
	first := m.Catalog([]Stored{one, two})
	if m.Catalog([]Stored{two, one}) != first {
		t.Error("nothing changed, and it is another catalog")
	}
	for _, tt := range []struct {
		name string
		all  []Stored
		want string
	}{
		{"no default", []Stored{one, two}, "none"},
		{"one becomes the default", []Stored{stored("a", "1.0.0", 3, `,"default":true`), two}, "a@1.0.0"},
		{"the same text at the revision before", []Stored{one, two}, "none"},
		{"it goes", []Stored{two}, "none"},
		{"another takes its place", []Stored{two, stored("a", "3.0.0", 4, `,"default":true`)}, "a@3.0.0"},
		{"what cannot be read is left out", []Stored{{"a-1.0.0", 5, []byte(`{`)}, stored("a", "x", 6, ""), stored("a", "2.0.0", 7, `,"default":true`)}, "a@2.0.0"},
	} {
		if got := newest(tt.all...); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}
