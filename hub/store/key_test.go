// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestKey(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		key  Key
		want string
	}{
		{"namespaced", Key{"manifestworks.work.open-cluster-management.io", "c1", "w"}, "manifestworks/work/open-cluster-management/io.c1.w"},
		{"cluster-scoped", Key{"namespaces", "", "c1"}, "namespaces._.c1"},
		{"rbac name", Key{"clusterroles.rbac.authorization.k8s.io", "", "system:x"}, "clusterroles/rbac/authorization/k8s/io._.system=3Ax"},
		{"dotted name", Key{"a.b", "n", "x.y"}, "a/b.n.x/y"},
		{"underscore namespace", Key{"a", "_", "_x_"}, "a.=5F.=5Fx_"},
		{"reserved resource", Key{"_meta", "", "x"}, "=5Fmeta._.x"},
		{"wildcards", Key{"a", "*", ">"}, "a.=2A.=3E"},
		{"escapes", Key{"a/b", "=", "ü"}, "a=2Fb.=3D.=C3=BC"},
		{"dots only", Key{"a", ".", ".."}, "a././/"},
	} {
		got, err := encodeKey(tt.key)
		if err != nil || got != tt.want {
			t.Errorf("%s: encode = %q, %v, want %q", tt.name, got, err, tt.want)
		}
		back, err := decodeKey(got)
		if err != nil || back != tt.key {
			t.Errorf("%s: decode = %v, %v", tt.name, back, err)
		}
	}
	for _, bad := range []string{"", "a", "a.b", "a.b.c.d", "..", "a..b", "a._.=", "a._.=4", "a._.=41", "a._.=c3", "a._.=ZZ", "_.b.c", "_meta.identity", "a._b.c", "a.b."} {
		if k, err := decodeKey(bad); err == nil {
			t.Errorf("decode %q = %v, want an error", bad, k)
		}
	}
}

func FuzzKey(f *testing.F) {
	f.Add("a.b", "ns", "name", "things/example/io.ns.a")
	f.Add("a", "", "x:y", "a._.=3D")
	f.Add("a.b", "c", "d", "a.b.c")
	f.Fuzz(func(t *testing.T, resource, namespace, name, encoded string) {
		k := Key{resource, namespace, name}
		if s, err := encodeKey(k); err == nil {
			for _, c := range []byte(s) {
				if c <= ' ' || c >= 0x7f || c == '*' || c == '>' {
					t.Fatalf("encode %q = %q: not a subject", k, s)
				}
			}
			back, err := decodeKey(s)
			if err != nil || back != k {
				t.Fatalf("decode(encode(%q)) = %q, %v", k, back, err)
			}
		}
		if k, err := decodeKey(encoded); err == nil {
			if again, err := encodeKey(k); err != nil || again != encoded {
				t.Fatalf("encode(decode(%q)) = %q, %v", encoded, again, err)
			}
		}
	})
}

func FuzzHeader(f *testing.F) {
	f.Add([]byte(`{"metadata":{"uid":"u","generation":3,"labels":{"a":"b"},"creationTimestamp":"2026-01-02T03:04:05Z","deletionTimestamp":null,"finalizers":["x"]}}`))
	f.Add([]byte(`{"metadata":null}`))
	f.Add([]byte(` {`))
	f.Fuzz(func(t *testing.T, data []byte) {
		h, err := parseHeader(data)
		if err != nil && !cmp.Equal(h, Header{}) {
			t.Errorf("error %v with a header %+v", err, h)
		}
	})
}

func FuzzContinue(f *testing.F) {
	f.Add(position{1, 7, "ns", "a"}.String())
	f.Add("e30")
	f.Fuzz(func(t *testing.T, token string) {
		p, err := parsePosition(token)
		if err != nil {
			return
		}
		if again, err := parsePosition(p.String()); err != nil || again != p {
			t.Errorf("%q: %+v, again %+v, %v", token, p, again, err)
		}
	})
}
