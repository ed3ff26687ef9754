// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package rawjson

import (
	"encoding/json"
	"errors"
	"reflect"
	"testing"
)

func TestAppend(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, in, want, partial string
	}{
		{
			"whole", `{"apiVersion":"v1","kind":"K","metadata":{"name":"a"},"spec":{}}`,
			`{"apiVersion":"g/v","kind":"K","metadata":{"resourceVersion":"7","name":"a"},"spec":{}}`,
			`{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{"resourceVersion":"7","name":"a"}}`,
		},
		{
			"no type", ` { "metadata" : { } } `,
			`{"apiVersion":"g/v","kind":"N","metadata" : {"resourceVersion":"7" } } `,
			`{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{"resourceVersion":"7" }}`,
		},
		{
			"traps", `{"a":"\"metadata\":{","b":[{"metadata":{}},"}"],"kind":"K","metadata":{"x":"}\\"},"z":-1e5}`,
			`{"apiVersion":"g/v","a":"\"metadata\":{","b":[{"metadata":{}},"}"],"kind":"K","metadata":{"resourceVersion":"7","x":"}\\"},"z":-1e5}`,
			`{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{"resourceVersion":"7","x":"}\\"}}`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o, err := Parse([]byte(tt.in))
			if err != nil {
				t.Fatal(err)
			}
			if got := string(o.Append(nil, "g/v", "N", 7)); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			if got := string(o.AppendPartial(nil, "v1", 7)); got != tt.partial {
				t.Errorf("partial: got  %s\nwant %s", got, tt.partial)
			}
		})
	}
}

func TestMalformed(t *testing.T) {
	t.Parallel()
	for _, in := range []string{``, `x`, `{`, `[]`, `{}`, `{"metadata":"x"}`, `{"metadata":{`, `{"metadata"}`, `{"a":}`, `{"metadata":{} "b":1}`, `{"a":"`, `{"metadata":{},"a":"\`} {
		if _, err := Parse([]byte(in)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%q: %v", in, err)
		}
	}
}

// FuzzAppend compares with decoding and encoding, for all that is valid JSON.
func FuzzAppend(f *testing.F) {
	f.Add([]byte(`{"kind":"K","metadata":{"name":"a","labels":{"a":"\u0041"}},"x":[1,{"metadata":{}},"\\"]}`))
	f.Add([]byte(`{"metadata":{}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		o, err := Parse(data)
		var before map[string]any
		if json.Unmarshal(data, &before) != nil {
			return // anything, but no panic
		}
		meta, ok := before["metadata"].(map[string]any)
		if err != nil || !ok {
			return
		}
		out := o.Append(nil, "g/v", "K", 7)
		var after map[string]any
		if err := json.Unmarshal(out, &after); err != nil {
			t.Fatalf("%s: %v", out, err)
		}
		if _, ok := meta["resourceVersion"]; ok {
			return // the store never holds it
		}
		meta["resourceVersion"] = "7"
		for _, name := range []string{"apiVersion", "kind"} {
			if _, ok := before[name]; !ok {
				delete(after, name)
			}
		}
		if !reflect.DeepEqual(before, after) {
			t.Errorf("%s became %s", data, out)
		}
	})
}
