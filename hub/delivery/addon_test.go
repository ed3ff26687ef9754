// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/drover-io/drover/shared/apis/work"
	"github.com/drover-io/drover/shared/wire"
)

// What an addon says of its objects is part of the content, whoever formatted it,
// and an agent that would not keep to it does not get the work.
func TestContentOfAddon(t *testing.T) {
	t.Parallel()
	const rules, patterns = ` [ {"name":"up", "expression":"true"} ]`, `[{"name":"*","kind":"Widget"}]`
	d := listing(t,
		event("shop-1", "plain", 1, nil, "{}"),
		event("shop-1", "judged", 2, map[string]string{work.AnnotationHealthRules: rules}, "{}"),
		event("shop-1", "guarded", 3, map[string]string{work.AnnotationProtected: patterns, work.AnnotationHealthRules: "[]"}, "{}"),
		event("shop-1", "broken", 4, map[string]string{work.AnnotationProtected: "["}, "{}"),
	)
	digest := func(content string) string { return digestOf([]byte(content)) }
	all := map[string]string{
		"plain":   digest(`{"n":"plain"}`),
		"judged":  digest(`{"health":[{"expression":"true","name":"up"}],"n":"judged"}`),
		"guarded": digest(`{"n":"guarded","protected":[{"kind":"Widget","name":"*"}]}`),
	}
	for version, want := range map[int]map[string]string{
		2: {"plain": all["plain"], "judged": all["judged"]},
		3: all,
	} {
		got := map[string]string{}
		answer := d.answer(t, "shop-1", wire.DesiredRequest{Version: version})
		var p wire.SignedDesired
		if err := json.Unmarshal(answer.Envelope.Payload, &p); err != nil {
			t.Fatal(err)
		}
		for _, item := range p.Items {
			got[item.Name] = item.Digest
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("version %d:\n%s", version, diff)
		}
	}
}
