// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"testing"
	"time"
)

func TestNextPause(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name        string
		pause, left time.Duration
		refused     bool
		want        time.Duration
	}{
		{name: "doubles while there is time", pause: 4 * time.Second, left: 8 * time.Hour, want: 8 * time.Second},
		{name: "capped", pause: 9 * time.Minute, left: 8 * time.Hour, want: renewRetryLast},
		{name: "shorter near the end", pause: 5 * time.Minute, left: 4 * time.Minute, want: 30 * time.Second},
		{name: "never shorter than the first", pause: 5 * time.Minute, left: time.Second, want: renewRetryFirst},
		{name: "in the grace, hub away: a minute", pause: 5 * time.Minute, left: -time.Hour, want: time.Minute},
		{name: "in the grace, refused: slows down", pause: time.Minute, left: -time.Hour, refused: true, want: 2 * time.Minute},
		{name: "refused for long: capped", pause: renewRetryLast, left: -time.Hour, refused: true, want: renewRetryLast},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := nextPause(tt.pause, tt.left, tt.refused); got != tt.want {
				t.Errorf("nextPause(%s, %s, %v) = %s, want %s", tt.pause, tt.left, tt.refused, got, tt.want)
			}
		})
	}
}
