// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// FuzzFastHeader: what checkObject accepts and reads is what a real parser accepts
// and reads.
func FuzzFastHeader(f *testing.F) {
	for _, text := range []string{
		`{}`, `null`, `[]`, `{"metadata":null}`, `{"metadata":{}}`, `{"metadata":7}`, ` { "metadata" : { } } `,
		`{"metadata":{"uid":"a","generation":3,"labels":{"a":"b","c":"\"}"},"finalizers":["x"]}}`,
		`{"metadata":{"uid":"a"},"metadata":{"generation":1}}`, `{"m\u0065tadata":{"uid":"a"}}`, `{"metadata":{"\u0075id":"a"}}`,
		`{"metadata":{"uid":null,"labels":null,"generation":null,"creationTimestamp":null}}`,
		`{"metadata":{"creationTimestamp":"2026-01-02T03:04:05Z","deletionTimestamp":"2026-01-02T03:04:06Z"}}`,
		`{"metadata":{"uid":7}}`, `{"metadata":{"labels":{"a":1}}}`, `{"metadata":{"creationTimestamp":"x"}}`,
		`{"a":"\\","metadata":{"uid":"\\\"","name":"\\\\"},"spec":{"a":[{}],"metadata":{"uid":"no"}}}`,
		`{"metadata":{"uid":"a"}`, `{"metadata":{"uid":"a"}}x`, `{"metadata":{"uid":"a",}}`, `{"a":tru,"metadata":{}}`, `{"a" "b"}`,
		`{"Metadata":{"uid":"a"}}`, `{"metadata":{"UID":"a"}}`, `{"metadata":{"generation":1.0}}`, `{"a":"` + "\x00" + `"}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := checkObject(data)
		var want Header
		var wantErr error
		if startsObject(data) {
			want, wantErr = parseWhole(data)
		} else if err == nil {
			t.Fatalf("%q is taken for an object", data)
		} else {
			return
		}
		if (err != nil) != (wantErr != nil) {
			t.Fatalf("%q: error %v, a real parser says %v", data, err, wantErr)
		}
		if _, again := parseHeader(data); err == nil && again != nil {
			t.Fatalf("%q: accepted, then refused: %v", data, again)
		}
		if d := cmp.Diff(want, got); err == nil && d != "" {
			t.Fatalf("%q: real (-), fast (+):\n%s", data, d)
		}
	})
}

func BenchmarkHeader(b *testing.B) {
	data := sized("object-000001", 1)
	for b.Loop() {
		if _, err := parseHeader(data); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkHeaderWhole(b *testing.B) {
	data := sized("object-000001", 1)
	for b.Loop() {
		if _, err := parseWhole(data); err != nil {
			b.Fatal(err)
		}
	}
}
