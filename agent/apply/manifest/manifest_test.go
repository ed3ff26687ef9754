// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"io"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/drover-io/drover/shared/apis/work"
)

func TestParseManifest(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, raw, problem string }{
		{"good", `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","namespace":"n"}}`, ""},
		{"no apiVersion", `{"kind":"ConfigMap","metadata":{"name":"a"}}`, "apiVersion is missing"},
		{"bad apiVersion", `{"apiVersion":"a/b/c","kind":"X","metadata":{"name":"a"}}`, `apiVersion "a/b/c": want GROUP/VERSION or VERSION`},
		{"no kind", `{"apiVersion":"v1","metadata":{"name":"a"}}`, "kind is missing"},
		{"no name", `{"apiVersion":"v1","kind":"ConfigMap"}`, "metadata.name is missing"},
		{"generateName", `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"generateName":"a-"}}`, "metadata.generateName is not supported: set metadata.name"},
		{"list", `{"apiVersion":"v1","kind":"List","items":[]}`, "List is a list: put its items into the work one by one"},
		{"not an object", `[1]`, "not a JSON object: json: cannot unmarshal array into Go value of type map[string]interface {}"},
		{"null", `null`, "apiVersion is missing"},
		{"name of wrong type", `{"apiVersion":"v1","kind":"X","metadata":{"name":1}}`, "wrong type of field: .metadata.name accessor error: 1 is of the type int64, expected string"},
		{"metadata of wrong type", `{"apiVersion":"v1","kind":"X","metadata":"m"}`, "wrong type of field: .metadata.name accessor error: m is of the type string, expected map[string]interface{}"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := parseManifest(3, []byte(tt.raw))
			if diff := cmp.Diff(tt.problem, m.Problem); diff != "" {
				t.Error(diff)
			}
			if m.Ordinal != 3 {
				t.Errorf("ordinal %d", m.Ordinal)
			}
		})
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	cm := `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","namespace":"n","uid":"x","managedFields":[]}}`
	for _, tt := range []struct{ name, spec, err string }{
		{"empty", `{}`, ""},
		{"not JSON", `{`, "decode spec of the work"},
		{"executor", `{"executor":{"subject":{}}}`, `spec.executor.subject.type "" is not supported: use ServiceAccount`},
		{"executor without a name", `{"executor":{"subject":{"type":"ServiceAccount","serviceAccount":{"namespace":"n"}}}}`, "namespace and name are required"},
		{"null executor", `{"executor":null}`, ""},
		{"policy", `{"deleteOption":{"propagationPolicy":"Background"}}`, `spec.deleteOption.propagationPolicy "Background" is not supported`},
		{"duplicate", `{"workload":{"manifests":[` + cm + `,` + cm + `]}}`, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c, err := Parse([]byte(tt.spec))
			if tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
				t.Fatalf("got %v, want %q", err, tt.err)
			}
			if tt.name != "duplicate" {
				return
			}
			if got := c.Manifests[1].Problem; got != "ConfigMap n/a is also manifest 0 of this work: remove one of them" {
				t.Errorf("duplicate: got %q", got)
			}
			want := map[string]any{"name": "a", "namespace": "n"}
			u, err := c.Object(&c.Manifests[0])
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, u.Object["metadata"]); diff != "" {
				t.Errorf("server fields stay: %s", diff)
			}
		})
	}
}

func TestProtection(t *testing.T) {
	t.Parallel()
	type facts struct{ Protected, Undeletable, ExistenceOnly, Secretive, Namespace bool }
	for _, tt := range []struct {
		name string
		id   Identity
		want facts
	}{
		{"namespace", Identity{Kind: "Namespace", Name: "web"}, facts{Protected: true, Namespace: true}},
		{"system namespace", Identity{Kind: "Namespace", Name: "kube-system"}, facts{Protected: true, Undeletable: true, Namespace: true}},
		{"claim", Identity{Kind: "PersistentVolumeClaim", Namespace: "n", Name: "data"}, facts{Protected: true}},
		{"definition", Identity{Group: groupExtensions, Kind: kindCRD, Name: "c"}, facts{Protected: true}},
		{"secret", Identity{Kind: "Secret", Namespace: "n", Name: "s"}, facts{ExistenceOnly: true, Secretive: true}},
		{"secret of another group", Identity{Group: "example.com", Kind: "Secret", Namespace: "n", Name: "s"}, facts{}},
		{"role", Identity{Group: groupRBAC, Kind: "Role", Namespace: "n", Name: "r"}, facts{ExistenceOnly: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := facts{tt.id.Protected(), tt.id.Undeletable(), tt.id.ExistenceOnly(), tt.id.Secretive(), tt.id.IsNamespace()}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A bundle that is not what its digest says is refused, and closed.
func TestOpenBundle(t *testing.T) {
	t.Parallel()
	line := `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","namespace":"n"}}`
	data := line + "\n\n" + strings.Replace(line, `"a"`, `"b"`, 1) + "\n"
	for _, tt := range []struct{ name, bundle, err string }{
		{"whole", data, ""},
		{"damaged", data[:len(data)-10], "its content is damaged"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c, err := Parse([]byte(`{"workload":{"manifests":[` + line + `]},"bundle":{"digest":"` + Digest([]byte(data)) + `"}}`))
			if err != nil {
				t.Fatal(err)
			}
			rc := &closing{Reader: strings.NewReader(tt.bundle)}
			err = c.OpenBundle(rc)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) || !rc.closed {
					t.Errorf("got %v, closed %v", err, rc.closed)
				}
				return
			}
			if err != nil || rc.closed || len(c.Manifests) != 3 {
				t.Fatalf("%d manifests, closed %v, %v", len(c.Manifests), rc.closed, err)
			}
			if !strings.HasPrefix(c.Manifests[1].Problem, "ConfigMap n/a is also manifest 0") {
				t.Errorf("duplicate: got %q", c.Manifests[1].Problem)
			}
			u, err := c.Object(&c.Manifests[2])
			if err != nil || u.GetName() != "b" {
				t.Errorf("got %v, %v", u, err)
			}
			if err := c.Close(); err != nil || !rc.closed {
				t.Errorf("close: %v", err)
			}
			ids, err := BundleIdentities(strings.NewReader(tt.bundle))
			if diff := cmp.Diff([]Identity{c.Manifests[1].ID, c.Manifests[2].ID}, ids); diff != "" || err != nil {
				t.Error(diff, err)
			}
		})
	}
}

// closing is a stream that cannot be read at an offset.
type closing struct {
	io.Reader
	closed bool
}

func (c *closing) Close() error { c.closed = true; return nil }

func TestStrategyFor(t *testing.T) {
	t.Parallel()
	c, err := Parse([]byte(`{"manifestConfigs":[
		{"resourceIdentifier":{"group":"*","resource":"*","namespace":"*","name":"feedback"}},
		{"resourceIdentifier":{"resource":"configmaps","namespace":"n","name":"ssa"},"updateStrategy":{"type":"ServerSideApply"}},
		{"resourceIdentifier":{"resource":"configmaps","namespace":"n","name":"force"},"updateStrategy":{"type":"ServerSideApply","serverSideApply":{"force":true,"fieldManager":"x"}}},
		{"resourceIdentifier":{"resource":"configmaps","namespace":"n","name":"ignore"},"updateStrategy":{"type":"ServerSideApply","serverSideApply":{"ignoreFields":[{"jsonPaths":[".a[?(@.b)]"]}]}}},
		{"resourceIdentifier":{"resource":"configmaps","namespace":"n","name":"once"},"updateStrategy":{"type":"CreateOnly"}},
		{"resourceIdentifier":{"resource":"configmaps","namespace":"n","name":"look"},"updateStrategy":{"type":"ReadOnly"}},
		{"resourceIdentifier":{"resource":"configmaps","namespace":"n","name":"odd"},"updateStrategy":{"type":"Replace"}},
		{"resourceIdentifier":{"resource":"*","namespace":"*","name":"*"},"updateStrategy":{"type":"ServerSideApply"}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		group, name string
		want        Strategy
		err         string
	}{
		{"", "ssa", Strategy{Kind: work.StrategyServerSide}, ""},
		{"", "force", Strategy{Kind: work.StrategyServerSide, Force: true, Manager: "x"}, ""},
		{"", "ignore", Strategy{}, "want field names and positions"},
		{"", "once", Strategy{Kind: work.StrategyCreateOnly}, ""},
		{"", "look", Strategy{Kind: work.StrategyReadOnly}, ""},
		{"", "odd", Strategy{}, `updateStrategy.type "Replace" is not supported`},
		{"", "feedback", Strategy{Kind: work.StrategyServerSide}, ""},
		{"apps", "no match", Strategy{Kind: work.StrategyUpdate, Force: true}, ""},
	} {
		got, err := c.StrategyFor(Identity{Group: tt.group, Namespace: "n", Name: tt.name}, "configmaps")
		if !reflect.DeepEqual(got, tt.want) || (tt.err == "") != (err == nil) || (err != nil && !strings.Contains(err.Error(), tt.err)) {
			t.Errorf("%s: got %+v, %v", tt.name, got, err)
		}
	}
}

func FuzzContent(f *testing.F) {
	f.Add([]byte(`{"workload":{"manifests":[{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"}},null,1,[]]}}`))
	f.Add([]byte(`{"workload":{"manifests":[{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","metadata":{"name":"a"},"spec":{"versions":1}}]}}`))
	f.Add([]byte(`{"manifestConfigs":[{"updateStrategy":{}}],"deleteOption":{"propagationPolicy":"SelectivelyOrphan"}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		Identities(data)
		c, err := Parse(data)
		if err != nil {
			return
		}
		c.Promises()
		for i := range c.Manifests {
			m := &c.Manifests[i]
			if m.Problem != "" {
				continue
			}
			if m.ID.Name == "" || m.ID.Kind == "" {
				t.Errorf("manifest %d passed without name or kind: %s", i, data)
			}
			u, err := c.Object(m)
			if err != nil {
				t.Errorf("manifest %d passed and cannot be decoded: %v", i, err)
				continue
			}
			for _, config := range c.configs {
				_ = config.ignore.Withhold(t.Context(), u.DeepCopy(), u, "drover")
			}
			Orphaned(c.Delete, m.ID, "")
		}
	})
}
