// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package wire_test

import (
	"testing"

	"github.com/drover-io/drover/shared/wire"
)

func TestClusterOf(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		subject string
		want    string
		ok      bool
	}{
		{wire.ServiceSubject("shop-1", wire.ServiceDesired), "shop-1", true},
		{wire.MetricsSubject("shop-1", wire.SampleHost), "shop-1", true},
		{wire.HintSubject("shop-1"), "shop-1", true},
		{"fm.shop-1", "shop-1", false},
		{"fm..up.svc.x", "", false},
		{"other.shop-1.up.x", "", false},
		{"", "", false},
	} {
		t.Run(tt.subject, func(t *testing.T) {
			t.Parallel()
			got, ok := wire.ClusterOf(tt.subject)
			if ok != tt.ok || (ok && got != tt.want) {
				t.Errorf("ClusterOf(%q) = %q, %v; want %q, %v", tt.subject, got, ok, tt.want, tt.ok)
			}
		})
	}
}
