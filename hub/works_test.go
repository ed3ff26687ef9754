// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"context"
	"strings"
	"testing"

	"k8s.io/apiserver/pkg/authentication/user"

	"github.com/drover-io/drover/hub/api"
	"github.com/drover-io/drover/shared/apis/work"
)

// keeper has every bundle and keeps nothing.
type keeper struct{}

func (keeper) Size(context.Context, string) (int64, error) { return 1, nil }

func (keeper) KeepRevision(context.Context, map[string]any, map[string]any, string) error { return nil }

// Another bundle is another generation, as another spec is: what a status says of a
// generation is about one content.
func TestBundleIsPartOfTheGeneration(t *testing.T) {
	t.Parallel()
	digest := func(c string) string { return "sha256:" + strings.Repeat(c, 64) }
	object := func(annotations map[string]any) map[string]any {
		return map[string]any{"metadata": map[string]any{"name": "w", "generation": int64(4), "annotations": annotations}}
	}
	for _, tt := range []struct {
		name     string
		old, new map[string]any
		want     int64
	}{
		{"other", map[string]any{work.AnnotationBundle: digest("a")}, map[string]any{work.AnnotationBundle: digest("b")}, 5},
		{"first", nil, map[string]any{work.AnnotationBundle: digest("a")}, 5},
		{"none any more", map[string]any{work.AnnotationBundle: digest("a")}, nil, 5},
		{"same", map[string]any{work.AnnotationBundle: digest("a")}, map[string]any{work.AnnotationBundle: digest("a")}, 4},
		{"policy alone", nil, map[string]any{work.AnnotationDrift: "Report"}, 4},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := &api.Admission{Operation: api.Update, Object: object(tt.new), Old: object(tt.old), User: &user.DefaultInfo{Name: "alice"}}
			rules := &workRules{bundles: keeper{}, history: keeper{}}
			if err := rules.admit(t.Context(), r); err != nil {
				t.Fatal(err)
			}
			if got := r.Object["metadata"].(map[string]any)["generation"]; got != tt.want {
				t.Errorf("generation %v, want %d", got, tt.want)
			}
		})
	}
}
