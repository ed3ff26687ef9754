// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package link

import (
	"testing"
	"time"

	"github.com/drover-io/drover/shared/wire"
)

func TestPaceNext(t *testing.T) {
	t.Parallel()
	p := DefaultPace()
	refused := func(reason string, retry time.Duration) *RefusedError {
		return &RefusedError{Refusal: wire.Refusal{Reason: reason}, RetryAfter: retry}
	}
	const s = time.Second
	for _, tt := range []struct {
		name      string
		err       *RefusedError
		failures  int
		low, high time.Duration // at random 0 and 1
	}{
		{"first", nil, 1, 1 * s, 5 * s},
		{"second", nil, 2, 2 * s, 10 * s},
		{"fourth", nil, 4, 8 * s, 40 * s},
		{"cap", nil, 5, 12 * s, 60 * s},
		{"for ever", nil, 1 << 30, 12 * s, 60 * s},
		{"revoked", refused(wire.ReasonRevoked, 0), 1, 240 * s, 300 * s},
		{"busy", refused(wire.ReasonBusy, 30*s), 1, 30 * s, 36 * s},
		{"busy for less", refused(wire.ReasonBusy, s), 5, 12 * s, 60 * s},
		{"internal", refused(wire.ReasonInternal, 0), 1, 1 * s, 5 * s},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if low, high := p.next(tt.err, tt.failures, 0), p.next(tt.err, tt.failures, 1); low != tt.low || high != tt.high {
				t.Errorf("%v to %v, want %v to %v", low, high, tt.low, tt.high)
			}
		})
	}
}

// The fleet comes back over agents/300 seconds.
func TestPaceFirst(t *testing.T) {
	t.Parallel()
	p := DefaultPace()
	for agents, want := range map[int]time.Duration{0: time.Second, 100: time.Second, 9900: 33 * time.Second} {
		if got := p.first(agents, 1); got != want {
			t.Errorf("%d agents: window %v, want %v", agents, got, want)
		}
	}
	if got := p.first(10000, 0); got != 0 {
		t.Errorf("least wait %v", got)
	}
}
