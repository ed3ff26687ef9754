// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package replicate

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/drover-io/drover/shared/apis/cluster"
)

func at() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }

// groups reads "name: a b! c~ | ...": ! done, ~ running, x failed, ? offline.
func groups(text string) []Group {
	var out []Group
	for _, part := range strings.Split(text, "|") {
		var g Group
		if name, rest, ok := strings.Cut(part, ":"); ok {
			g.Name, part = strings.TrimSpace(name), rest
		}
		for _, word := range strings.Fields(part) {
			m := Member{Since: at().Add(-time.Minute)}
			m.Cluster = strings.TrimRight(word, "!~x?")
			switch flags := word[len(m.Cluster):]; {
			case strings.Contains(flags, "!"):
				m.Phase = Succeeded
			case strings.Contains(flags, "~"):
				m.Phase = Running
			case strings.Contains(flags, "x"):
				m.Phase = Failed
			}
			m.Offline = strings.Contains(word, "?")
			g.Members = append(g.Members, m)
		}
		out = append(out, g)
	}
	return out
}

func number(n int) *intstr.IntOrString { v := intstr.FromInt32(int32(n)); return &v }

func TestNext(t *testing.T) {
	t.Parallel()
	progressive := func(change func(*cluster.RolloutProgressiveConfig)) cluster.RolloutStrategy {
		c := &cluster.RolloutProgressiveConfig{MaxConcurrency: number(2)}
		if change != nil {
			change(c)
		}
		return cluster.RolloutStrategy{Type: cluster.RolloutProgressive, Progressive: c}
	}
	perGroup := func(change func(*cluster.RolloutPerGroupConfig)) cluster.RolloutStrategy {
		c := &cluster.RolloutPerGroupConfig{}
		if change != nil {
			change(c)
		}
		return cluster.RolloutStrategy{Type: cluster.RolloutProgressivePerGroup, ProgressivePerGroup: c}
	}
	tests := []struct {
		name     string
		groups   string
		strategy cluster.RolloutStrategy
		want     string
		again    time.Duration
		breached bool
	}{
		{name: "all", groups: "a b! c~ dx e? | f", want: "a e f"},
		{name: "two at a time", groups: "a b c", strategy: progressive(nil), want: "a b"},
		{name: "one slot left", groups: "a~ b c", strategy: progressive(nil), want: "b"},
		{name: "success frees", groups: "a! b! c d e", strategy: progressive(nil), want: "c d"},
		{name: "failure stops", groups: "ax b c", strategy: progressive(nil), breached: true},
		{name: "failure is seen behind the slots", groups: "a~ b~ cx d", strategy: progressive(nil), breached: true},
		{name: "tolerated failure frees", groups: "ax b c d", strategy: progressive(func(c *cluster.RolloutProgressiveConfig) { c.MaxFailures = *number(1) }), want: "b c"},
		{name: "offline holds nobody up", groups: "a~? b? c d e", strategy: progressive(nil), want: "c d"},
		{name: "soak", groups: "a! b! c", strategy: progressive(func(c *cluster.RolloutProgressiveConfig) {
			c.MinSuccessTime = metav1.Duration{Duration: 2 * time.Minute}
		}), again: time.Minute},
		{name: "deadline", groups: "a~ b", strategy: progressive(func(c *cluster.RolloutProgressiveConfig) { c.ProgressDeadline = "60s" }), breached: true},
		{name: "before the deadline", groups: "a~ b", strategy: progressive(func(c *cluster.RolloutProgressiveConfig) { c.ProgressDeadline = "90s" }), want: "b", again: 30 * time.Second},
		{name: "share", groups: "a b c d e", strategy: progressive(func(c *cluster.RolloutProgressiveConfig) {
			v := intstr.FromString("50%")
			c.MaxConcurrency = &v
		}), want: "a b c"},
		{name: "mandatory first", groups: "a b | canary: c d", strategy: progressive(func(c *cluster.RolloutProgressiveConfig) {
			c.MandatoryDecisionGroups = []cluster.MandatoryDecisionGroup{{GroupName: "canary"}}
		}), want: "c d"},
		{name: "mandatory failure stops", groups: "a b | canary: cx d!", strategy: progressive(func(c *cluster.RolloutProgressiveConfig) {
			c.MandatoryDecisionGroups = []cluster.MandatoryDecisionGroup{{GroupName: "canary"}}
			c.MaxFailures = *number(2)
		}), breached: true},
		{name: "after mandatory", groups: "a b | canary: c! d!", strategy: progressive(func(c *cluster.RolloutProgressiveConfig) {
			c.MandatoryDecisionGroups = []cluster.MandatoryDecisionGroup{{GroupIndex: 1}}
		}), want: "a b"},
		{name: "group by group", groups: "a b | c d", strategy: perGroup(nil), want: "a b"},
		{name: "barrier", groups: "a! b~ | c d", strategy: perGroup(nil)},
		{name: "barrier with a tolerated failure", groups: "a! bx c~ | d", strategy: perGroup(func(c *cluster.RolloutPerGroupConfig) { c.MaxFailures = *number(1) })},
		{name: "next group", groups: "a! b? | c d", strategy: perGroup(nil), want: "c d"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			next, again, breached := Next(groups(tt.groups), &tt.strategy, at())
			wait := time.Duration(0)
			if !again.IsZero() {
				wait = again.Sub(at())
			}
			if got := strings.Join(next, " "); got != tt.want || wait != tt.again || breached != tt.breached {
				t.Errorf("next %q after %v, breached %v; want %q, %v, %v", got, wait, breached, tt.want, tt.again, tt.breached)
			}
		})
	}
}
