// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// difference is a command whose outputs are not the same, and why that is right.
type difference struct {
	command, reason, kubernetes, hub string
}

const (
	unreviewed      = "UNREVIEWED"
	differencesFile = "differences.txt"
	preamble        = "# Where the hub answers kubectl differently than a kube-apiserver, and why.\n" +
		"# Below each reason: what Kubernetes prints (-) and what the hub prints (+).\n"
)

func readDifferences(t *testing.T) (all []difference) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", differencesFile))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		last := len(all) - 1
		switch {
		case strings.HasPrefix(line, "$ "):
			all = append(all, difference{command: strings.TrimSpace(line[2:])})
		case last < 0 || line == "\n":
		case strings.HasPrefix(line, "reason: "):
			all[last].reason = strings.TrimSpace(line[len("reason: "):])
		case strings.HasPrefix(line, "-"):
			all[last].kubernetes += line[1:]
		case strings.HasPrefix(line, "+"):
			all[last].hub += line[1:]
		}
	}
	return all
}

func writeDifferences(t *testing.T, found, reviewed []difference) {
	t.Helper()
	reasons := map[string]string{}
	for _, d := range reviewed {
		reasons[d.command] = d.reason
	}
	var b strings.Builder
	b.WriteString(preamble)
	for _, d := range found {
		reason := reasons[d.command]
		if reason == "" {
			reason = unreviewed
		}
		b.WriteString("\n$ " + d.command + "\nreason: " + reason + "\n")
		for _, side := range []struct{ sign, text string }{{"-", d.kubernetes}, {"+", d.hub}} {
			for line := range strings.Lines(side.text) {
				b.WriteString(side.sign + line)
			}
		}
	}
	if err := os.WriteFile(filepath.Join("testdata", differencesFile), []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}
