// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package versions_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/drover-io/drover/hub/catalog/versions"
	"github.com/drover-io/drover/shared/apis/fleet"
)

func version(t *testing.T, text string) versions.Version {
	t.Helper()
	v, err := versions.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func list(t *testing.T, texts ...string) []versions.Version {
	t.Helper()
	var out []versions.Version
	for _, text := range texts {
		out = append(out, version(t, text))
	}
	return out
}

func texts(list []versions.Version) []string {
	var out []string
	for _, v := range list {
		out = append(out, v.String())
	}
	return out
}

func TestParse(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"1.2.3": "1.2.3", "v1.2.3": "1.2.3", "1.2.3-rc.1+build.5": "1.2.3-rc.1+build.5",
		"1.2": "", "1": "", "": "", "01.2.3": "", "1.2.3-01": "", "vv1.2.3": "", "1.2.3 ": "", "latest": "",
		"1.2.99999999999999999999": "", "1.0.0-" + strings.Repeat("a", 300): "",
	} {
		v, err := versions.Parse(text)
		if v.String() != want || (err == nil) != (want != "") {
			t.Errorf("Parse(%q) = %q, %v, want %q", text, v, err, want)
		}
	}
	for text, want := range map[string]string{"v1.30.1-gke.100": "1.30.1", "v1.31.0+k3s1": "1.31.0", "v1.36.3": "1.36.3", "": "", "1.30": ""} {
		v, err := versions.ParseKubernetes(text)
		if v.String() != want || (err == nil) != (want != "") {
			t.Errorf("ParseKubernetes(%q) = %q, %v, want %q", text, v, err, want)
		}
	}
}

func TestCompare(t *testing.T) {
	t.Parallel()
	want := []string{"0.9.0", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-beta", "1.0.0", "1.0.0+a", "1.0.0+b", "1.2.0", "1.10.0", "2.0.0"}
	got := list(t, "2.0.0", "1.10.0", "1.0.0+b", "1.0.0-beta", "1.2.0", "1.0.0", "1.0.0-alpha.1", "0.9.0", "1.0.0+a", "1.0.0-alpha")
	versions.Sort(got)
	if diff := cmp.Diff(want, texts(got)); diff != "" {
		t.Error(diff)
	}
	if (versions.Version{}).Compare(got[0]) != -1 || got[0].Compare(versions.Version{}) != 1 {
		t.Error("no version is not before all others")
	}
}

func TestObjectName(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{"v1.14.2": "cert-manager-1.14.2", "1.0.0-RC.1+b5": "cert-manager-1.0.0-rc.1.b5"} {
		if got := versions.ObjectName("cert-manager", version(t, text)); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}

func TestRange(t *testing.T) {
	t.Parallel()
	all := []string{"1.0.0", "1.2.0", "1.4.0", "1.4.9", "1.5.0-rc.1", "1.5.0", "2.0.0-rc.1", "2.0.0"}
	for text, want := range map[string]string{
		"":                       "1.0.0 1.2.0 1.4.0 1.4.9 1.5.0-rc.1 1.5.0 2.0.0-rc.1 2.0.0",
		"*":                      "1.0.0 1.2.0 1.4.0 1.4.9 1.5.0 2.0.0",
		">=1.2.0 <2.0.0":         "1.2.0 1.4.0 1.4.9 1.5.0",
		">=1.2.0, <2.0.0":        "1.2.0 1.4.0 1.4.9 1.5.0",
		" >= 1.2.0 ":             "1.2.0 1.4.0 1.4.9 1.5.0 2.0.0",
		"^1.4":                   "1.4.0 1.4.9 1.5.0",
		"~1.4.2":                 "1.4.9",
		"1.x":                    "1.0.0 1.2.0 1.4.0 1.4.9 1.5.0",
		"1.4":                    "1.4.0 1.4.9",
		"1.2 - 1.4":              "1.2.0 1.4.0 1.4.9",
		"1.0.0 || >=2":           "1.0.0 2.0.0",
		"!=1.4.0 <1.5":           "1.0.0 1.2.0 1.4.9",
		">=1.5.0-0":              "1.5.0-rc.1 1.5.0 2.0.0-rc.1 2.0.0",
		">=1.5.0-0 <1.5.1 || ^2": "1.5.0-rc.1 1.5.0 2.0.0",
		"2.0.0-rc.1":             "2.0.0-rc.1",
		">3":                     "",
		"<0.0.1":                 "",
	} {
		r, err := versions.ParseRange(text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if got := strings.Join(texts(versions.In(list(t, all...), r)), " "); got != want {
			t.Errorf("%q has %s\nwant %s", text, got, want)
		}
	}
}

func TestRangeErrors(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		">=1.x <foo":                 `"<foo" at character 7`,
		"latest":                     `"latest" at character 1`,
		">=1.0.0 <<2":                `"<<2" at character 9`,
		">=1.0.0 || ":                "character 11",
		"|| 1.0":                     "nothing stands at character 1",
		">2.0.0 <1.0.0":              "no version can be in it",
		">=1.4 <1.4":                 "no version can be in it",
		"~1.2 ^2":                    "no version can be in it",
		"!=1.0.0 1.0.0":              "no version can be in it",
		"1.0.0 &&":                   `"&&" at character 7`,
		"1.99999999999999999999.0":   "at character 1",
		strings.Repeat("1.0.0 ", 99): "longer than 256",
	} {
		_, err := versions.ParseRange(text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want ...%s", text, err, want)
		}
	}
	for _, possible := range []string{">=1.0.0 !=1.0.0 !=1.0.1", ">1.0.0-rc.1 <1.0.0-rc.2", ">1 <3", ">1.2.3 <1.2.5", "<0.0.2 !=0.0.1", ">=1.2.3-a <1.2.3", "!=1.x >=1.0.0", "<1.0.0-rc.1"} {
		if _, err := versions.ParseRange(possible); err != nil {
			t.Errorf("%q: %v", possible, err)
		}
	}
}

func TestBest(t *testing.T) {
	t.Parallel()
	all := list(t, "1.0.0", "1.4.9", "2.0.0-rc.1", "1.5.0")
	for text, want := range map[string]string{"": "1.5.0", "^1": "1.5.0", ">=1-0": "2.0.0-rc.1", "1.4.x": "1.4.9", ">2": ""} {
		r, err := versions.ParseRange(text)
		if err != nil {
			t.Fatal(err)
		}
		got, ok := versions.Best(r, all)
		if got.String() != want || ok != (want != "") {
			t.Errorf("best in %q is %q, want %q", text, got, want)
		}
	}
	if got, _ := versions.Best(versions.Range{}, list(t, "2.0.0-rc.1", "2.0.0-rc.2")); got.String() != "2.0.0-rc.2" {
		t.Errorf("best prerelease is %s", got)
	}
}

func TestCheckChange(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, from, to     string
		fromRules, toRules *fleet.Upgrade
		want               string
	}{
		{name: "any older one", from: "1.0.0", to: "2.0.0"},
		{name: "in range", from: "1.5.0", to: "2.0.0", toRules: &fleet.Upgrade{From: ">=1.5"}},
		{name: "out of range", from: "1.4.0", to: "2.0.0", toRules: &fleet.Upgrade{From: ">=1.5"}, want: "1.4.0 cannot be upgraded to 2.0.0: spec.upgrade.from of 2.0.0 takes only >=1.5"},
		{name: "the same", from: "2.0.0", to: "2.0.0", toRules: &fleet.Upgrade{From: "<2"}},
		{name: "downgrade", from: "2.0.0", to: "1.0.0", toRules: &fleet.Upgrade{Downgrade: true}, want: "downgrade of 2.0.0"},
		{name: "downgrade allowed", from: "2.0.0", to: "1.0.0", fromRules: &fleet.Upgrade{Downgrade: true}},
		{name: "nothing there", to: "1.0.0", toRules: &fleet.Upgrade{From: ">=1.5"}},
		{name: "bad range", from: "1.0.0", to: "2.0.0", toRules: &fleet.Upgrade{From: "foo"}, want: "spec.upgrade.from of 2.0.0: range"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var from versions.Version
			if c.from != "" {
				from = version(t, c.from)
			}
			err := versions.CheckChange(from, c.fromRules, version(t, c.to), c.toRules)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

func FuzzRange(f *testing.F) {
	for _, s := range []string{"", ">=1.2.0 <2.0.0", "^1.4", "1.x", "1.2 - 1.4", "~>1 || !=2", ">=1.0.0-0", "||", "1|2", "x.x.x-", "0.0.9223372036854775807"} {
		f.Add(s, "1.4.0")
	}
	f.Fuzz(func(t *testing.T, text, number string) {
		r, err := versions.ParseRange(text)
		v, verr := versions.Parse(number)
		if err != nil || verr != nil {
			return
		}
		again, err := versions.ParseRange(r.String())
		if !r.Any() && (err != nil || again.Contains(v) != r.Contains(v)) {
			t.Errorf("%q: %v; the range is another one when it is read again", text, err)
		}
		best, ok := versions.Best(r, []versions.Version{v})
		if ok != r.Contains(v) || ok && best.Compare(v) != 0 {
			t.Errorf("best of %s in %q is %s", v, text, best)
		}
		if same, err := versions.Parse(v.String()); err != nil || same.Compare(v) != 0 {
			t.Errorf("%q does not read back: %v", number, err)
		}
	})
}
