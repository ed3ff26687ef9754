// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/drover-io/drover/shared/apis/fleet"
)

func TestReadDiff(t *testing.T) {
	t.Parallel()
	many, err := json.Marshal(fleet.DiffRequest{Works: make([]json.RawMessage, 0), Clusters: make([]string, fleet.MaxDiffClusters+1)})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, body, want string }{
		{"good", `{"works":[{}],"selector":"a=b"}`, ""},
		{"nothing", `{}`, "works: none given"},
		{"garbage", `[`, "not a DiffRequest"},
		{"both", `{"works":[{}],"selector":"a","clusters":["b"]}`, "clusters, selector: give one of them"},
		{"negative", `{"works":[{}],"timeoutSeconds":-1}`, "timeoutSeconds: must not be negative"},
		{"too many works", `{"works":[` + strings.Repeat("{},", fleet.MaxDiffWorks) + `{}]}`, "works: 51, at most 50"},
		{"too many clusters", strings.Replace(string(many), `"works":[]`, `"works":[{}]`, 1), "clusters: 20001, at most 20000"},
		{"too large", strings.Repeat(" ", maxDiffBody+1), "more than"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := readDiff(strings.NewReader(tt.body))
			if (err != nil) != (tt.want != "") || (err != nil && !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func FuzzReadDiff(f *testing.F) {
	f.Add([]byte(`{"works":[{"kind":"ManifestWork"}],"clusters":["a"],"timeoutSeconds":3}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		req, err := readDiff(bytes.NewReader(body))
		if err == nil && (len(req.Works) == 0 || len(req.Works) > fleet.MaxDiffWorks || req.TimeoutSeconds < 0) {
			t.Errorf("taken: %+v", req)
		}
	})
}
