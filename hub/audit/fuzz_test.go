// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"encoding/json"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
)

func TestLevel(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, verb, group, resource string
		want                        auditv1.Level
	}{
		{"write", "create", "cluster.open-cluster-management.io", "managedclusters", auditv1.LevelMetadata},
		{"approval", "patch", "fleet.drover.io", "joinrequests", auditv1.LevelRequest},
		{"approval by update", "update", "fleet.drover.io", "joinrequests", auditv1.LevelRequest},
		{"removal of a request", "delete", "fleet.drover.io", "joinrequests", auditv1.LevelMetadata},
		{"another group's", "patch", "x", "joinrequests", auditv1.LevelMetadata},
		{"token", "create", "fleet.drover.io", "jointokens", auditv1.LevelMetadata},
		{"review", "create", "authorization.k8s.io", "selfsubjectaccessreviews", auditv1.LevelNone},
		{"not a resource", "post", "", "", auditv1.LevelMetadata},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := Level(tt.verb, tt.group, tt.resource); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestMask(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, in, contentType, want string }{
		{"nothing secret", `{"spec":{"a":1}}`, "application/json", `{"spec":{"a":1}}`},
		{"large numbers", `{"n":9007199254740993}`, "", `{"n":9007199254740993}`},
		{"names", `{"joinToken":{"a":1},"SECRET":2,"my-api-key":"x","passwordHash":null}`, "", `{"SECRET":"(masked)","joinToken":"(masked)","my-api-key":"(masked)","passwordHash":"(masked)"}`},
		{"YAML", "spec:\n  token: x\n", "application/apply-patch+yaml", `{"spec":{"token":"(masked)"}}`},
		{"JSON patch", `[{"op":"replace","path":"/spec/clientSecret","value":{"a":1}},{"op":"add","path":"/spec/a","value":{"token":1}}]`, "application/json-patch+json", `[{"op":"replace","path":"/spec/clientSecret","value":"(masked)"},{"op":"add","path":"/spec/a","value":{"token":"(masked)"}}]`},
		{"not an object", `"x"`, "", `"x"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := maskObject([]byte(tt.in), tt.contentType)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, string(got)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	if _, err := maskObject([]byte(`"`+strings.Repeat("x", maxObject)+`"`), ""); err == nil {
		t.Error("a large object is recorded")
	}
	if got := maskURI("/a?x=1&access%5Ftoken=c&Password=d&%zz=e"); got != "/a?x=1&access%5Ftoken=%28masked%29&Password=%28masked%29&%zz=%28masked%29" {
		t.Errorf("URI = %s", got)
	}
}

// FuzzParseLine checks that a record which is taken for good is exactly the one
// that its hash was made of.
func FuzzParseLine(f *testing.F) {
	text, _ := appendRecord(nil, head{}, []byte(`{"kind":"Event","user":{"username":"ann"}}`))
	f.Add(bytes.TrimSuffix(text, []byte("\n")))
	f.Add([]byte(`{"sequence":1}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		l, err := parseLine(text)
		if err != nil {
			return
		}
		again, h := appendRecord(nil, head{l.Sequence - 1, l.Previous}, l.Event)
		if !bytes.Equal(again, append(bytes.Clone(text), '\n')) || h.Hash != l.Hash {
			t.Errorf("%q is taken for %q", text, again)
		}
	})
}

// FuzzMask checks that what is recorded of any body is JSON without the value of
// a field named token.
func FuzzMask(f *testing.F) {
	f.Add([]byte(`{"spec":{"token":"x"}}`), false)
	f.Add([]byte("a: &x {token: y}\nb: *x\n"), true)
	f.Fuzz(func(t *testing.T, data []byte, yaml bool) {
		contentType := "application/json"
		if yaml {
			contentType = "application/yaml"
		}
		out, err := maskObject(data, contentType)
		if err != nil {
			return
		}
		var v any
		if err := json.Unmarshal(out, &v); err != nil {
			t.Fatalf("%q: %v", out, err)
		}
		var walk func(v any)
		walk = func(v any) {
			switch v := v.(type) {
			case []any:
				for _, x := range v {
					walk(x)
				}
			case map[string]any:
				for k, x := range v {
					if strings.EqualFold(k, "token") && x != masked {
						t.Fatalf("%q shows %v", out, x)
					}
					walk(x)
				}
			}
		}
		walk(v)
	})
}

func FuzzFilter(f *testing.F) {
	f.Add("user=a&limit=3&since=2026-01-02T03:04:05Z")
	f.Fuzz(func(t *testing.T, query string) {
		q, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		if got, err := parseFilter(q); err == nil && (got.limit() < 1 || got.limit() > MaxLimit) {
			t.Errorf("limit %d", got.limit())
		}
	})
}
