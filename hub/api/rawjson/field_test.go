// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package rawjson_test

import (
	"bytes"
	"encoding/json"
	"testing"
	"unicode/utf8"

	"github.com/drover-io/drover/hub/api/rawjson"
)

func TestField(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		data, want string
		ok         bool
	}{
		{`{"spec":{"addOn":"a"}}`, "a", true},
		{` { "other" : [1,{"addOn":"}"}], "spec" : { "x" : "\"" , "addOn" : "b" } } `, "b", true},
		{`{"spec":{"addOn":""}}`, "", true},
		{`{"spec":{}}`, "", true},
		{`{}`, "", true},
		{`{"spec":null}`, "", true},
		{`{"spec":{"addOn":null}}`, "", true},
		{`{"spec":{"addOn":7}}`, "", false},
		{`{"spec":{"addOn":"a\u0062"}}`, "", false},
		{`{"sp\u0065c":{"addOn":"a"}}`, "", false},
		{`{"spec":["addOn"]}`, "", false},
		{`{"spec":{"addOn":`, "", false},
		{``, "", false},
	} {
		if got, ok := rawjson.Field([]byte(tt.data), "spec", "addOn"); got != tt.want || ok != tt.ok {
			t.Errorf("%s: got %q, %v, want %q, %v", tt.data, got, ok, tt.want, tt.ok)
		}
	}
}

// FuzzField: what is found without decoding is what the decoder finds.
func FuzzField(f *testing.F) {
	for _, s := range []string{`{"spec":{"addOn":"a"}}`, `{"a":[1,"}"],"spec":{"addOn":null}}`, `{"spec":{"b":{"addOn":"x"}}}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var obj map[string]any
		if !utf8.Valid(data) || json.Unmarshal(data, &obj) != nil || obj == nil || bytes.Count(data, []byte(`"spec"`)) > 1 || bytes.Count(data, []byte(`"addOn"`)) > 1 {
			t.Skip()
		}
		got, ok := rawjson.Field(data, "spec", "addOn")
		if !ok {
			return
		}
		spec, _ := obj["spec"].(map[string]any)
		want, _ := spec["addOn"].(string)
		if got != want {
			t.Errorf("%s: got %q, want %q", data, got, want)
		}
	})
}
