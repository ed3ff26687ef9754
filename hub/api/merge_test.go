// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	kjson "sigs.k8s.io/json"
)

// FuzzMergePatch: a merge patch does what it does in Kubernetes, whose library
// works on encoded documents.
func FuzzMergePatch(f *testing.F) {
	for _, tt := range [][2]string{
		{`{"a":1}`, `{"a":null}`},
		{`{"a":{"b":1,"c":2}}`, `{"a":{"b":null,"d":{"e":null,"f":1}}}`},
		{`{"a":[1]}`, `{"a":{"b":null,"c":[{"d":null}]}}`},
		{`{"a":{"b":1}}`, `{"a":[{"b":null},null]}`},
		{`{"a":null}`, `{"a":{"b":null}}`},
		{`{}`, `{"a":[{"b":null,"c":[null,{"d":null}]}]}`},
		{`{"a":"x"}`, `{"a":{"b":{"c":null}}}`},
		{`{"a":1.5,"b":9007199254740993}`, `{"c":9007199254740993}`},
	} {
		f.Add([]byte(tt[0]), []byte(tt[1]))
	}
	f.Fuzz(func(t *testing.T, doc, patch []byte) {
		var obj, change, want map[string]any
		for data, into := range map[*[]byte]*map[string]any{&doc: &obj, &patch: &change} {
			if problems, err := kjson.UnmarshalStrict(*data, into); err != nil || len(problems) > 0 || *into == nil {
				t.Skip()
			}
		}
		merged, err := jsonpatch.MergePatch(doc, patch)
		if err != nil || kjson.UnmarshalCaseSensitivePreserveInts(merged, &want) != nil {
			t.Skip()
		}
		applyMergePatch(obj, change)
		got, err := json.Marshal(obj)
		if err != nil {
			t.Fatal(err)
		}
		wanted, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(string(wanted), string(got)); d != "" {
			t.Errorf("%s patched with %s: library (-), ours (+):\n%s", doc, patch, d)
		}
	})
}

func TestLines(t *testing.T) {
	t.Parallel()
	var l lines
	for i := range uint64(3 * linesMost) {
		k := lineKey{kind: "MODIFIED", revision: i}
		l.put(k, make([]byte, 10))
		if _, ok := l.get(k); !ok {
			t.Fatalf("line %d is not there", i)
		}
	}
	if len(l.known) != linesMost || len(l.order) != linesMost || l.bytes != 10*linesMost {
		t.Errorf("%d lines, %d in order, %d bytes", len(l.known), len(l.order), l.bytes)
	}
	if _, ok := l.get(lineKey{kind: "MODIFIED", revision: 0}); ok {
		t.Error("the oldest line is still there")
	}
	l.put(lineKey{kind: "huge"}, make([]byte, linesBytes))
	if _, ok := l.get(lineKey{kind: "huge"}); ok {
		t.Error("a huge line took the place of all others")
	}
	for i := range uint64(100) {
		l.put(lineKey{kind: "large", revision: i}, make([]byte, linesBytes/10))
	}
	if l.bytes > linesBytes {
		t.Errorf("%d bytes", l.bytes)
	}
}
