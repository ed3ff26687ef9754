// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"strings"
	"testing"
	"time"
)

func TestReadSpan(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_700_000_000, 0).UTC()
	for _, tt := range []struct {
		from, step string
		ago, every time.Duration
		err        string
	}{
		{"", "", time.Hour, 10 * time.Second, ""},
		{"1699999100", "30", 15 * time.Minute, 30 * time.Second, ""},
		{"15m", "1m", 15 * time.Minute, time.Minute, ""},
		{"-15m", "", 15 * time.Minute, 10 * time.Second, ""},
		{"2023-11-14T22:13:10Z", "1s", 10 * time.Second, time.Second, ""},
		{"yesterday", "", 0, 0, `from="yesterday": want Unix seconds`},
		{"", "0", 0, 0, `step="0": want a duration from 1s`},
		{"", "2h", 0, 0, `step="2h": want a duration from 1s to 1h0m0s`},
		{"", "x", 0, 0, `step="x"`},
	} {
		from, step, err := readSpan(tt.from, tt.step, now)
		if tt.err != "" {
			if err == nil || !strings.HasPrefix(err.Error(), tt.err) {
				t.Errorf("%q %q: %v, want %s", tt.from, tt.step, err, tt.err)
			}
			continue
		}
		if err != nil || !from.Equal(now.Add(-tt.ago)) || step != tt.every {
			t.Errorf("%q %q: %s ago in steps of %s, %v", tt.from, tt.step, now.Sub(from), step, err)
		}
	}
}
