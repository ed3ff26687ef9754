// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package typescript

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/drover-io/drover/shared/apis/addon"
	"github.com/drover-io/drover/shared/apis/cluster"
	"github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/shared/apis/live"
	"github.com/drover-io/drover/shared/apis/work"
	"github.com/drover-io/drover/shared/words"
)

// Files are the generated sources of the dashboard, by their name in src.
func Files() (map[string][]byte, error) {
	text, err := phases()
	return map[string][]byte{"api.ts": []byte(api()), "phases.ts": []byte(text)}, err
}

// api are the types of all that pages read or send.
func api() string {
	rows := live.Rows()
	values := []any{
		cluster.ManagedCluster{},
		cluster.ManagedClusterSet{},
		work.ManifestWork{},
		addon.ClusterManagementAddOn{},
		addon.ManagedClusterAddOn{},
		fleet.JoinToken{},
		fleet.JoinRequest{},
		fleet.AgentIdentity{},
		fleet.ClusterMetrics{},
		fleet.Session{},
		fleet.AccessToken{},
		fleet.AddOnVersion{},
		fleet.AddOnConfig{},
		fleet.AddOnRollout{},
		fleet.RolloutPolicy{},
		fleet.AlertRule{},
		fleet.WorkRevision{},
		fleet.DiffRequest{},
		fleet.Diff{},
		fleet.Explanation{},
		fleet.PreviewRequest{},
		fleet.Preview{},
		fleet.VersionDiff{},
		fleet.VersionContent{},
		live.Frame{},
		live.Table{},
		live.Identity{},
		live.Hub{},
		live.Samples{},
	}
	var tables strings.Builder
	tables.WriteString("/** Tables are the rows of each table of the hub. */\nexport type Tables = {\n")
	for _, name := range slices.Sorted(maps.Keys(rows)) {
		values = append(values, rows[name])
		fmt.Fprintf(&tables, "  %s: %s;\n", name, reflect.TypeOf(rows[name]).Name())
	}
	return header + Types(values...) + tables.String() + "};\n"
}

// phases are the words of states and actions, as values.
func phases() (string, error) {
	var out strings.Builder
	out.WriteString(header)
	out.WriteString("export type Tone = \"ok\" | \"busy\" | \"none\" | \"warn\" | \"bad\";\n")
	out.WriteString("export type Phase = { name: string; tone: Tone; meaning: string };\n")
	out.WriteString("export type Action = { id: string; verb: string; consequence?: string; typed?: boolean };\n\n")
	for _, v := range []struct {
		name, typ, about string
		value            any
	}{
		{"PHASES", "Record<string, Phase[]>", "PHASES of each kind of thing, those that need somebody first.", words.AllPhases()},
		{"ACTIONS", "Action[]", "ACTIONS that people do; {name} stands for the thing's name.", words.Actions()},
	} {
		text, err := json.MarshalIndent(v.value, "", "  ")
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&out, "/** %s */\nexport const %s: %s = %s;\n\n", v.about, v.name, v.typ, text)
	}
	return strings.TrimSuffix(out.String(), "\n"), nil
}
