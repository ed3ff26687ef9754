// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package manage

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/drover-io/drover/shared/apis/fleet"
)

var image = "sha256:" + strings.Repeat("ab", 32)

// code of an error, 0 without one.
func code(t testing.TB, err error) int {
	t.Helper()
	var f *fault
	switch {
	case err == nil:
		return 0
	case !errors.As(err, &f):
		t.Fatalf("not a fault: %v", err)
	}
	return f.code
}

func TestReadNew(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, body string
		code       int
		want       string
	}{
		{"as specified", `{"version":{"datastore":"mysql","name":"5.6","manager":"helm","image":"` + image + `","packages":["mysql-server-5.6"],"active":true,"default":true}}`, 0, ""},
		{"the names of later releases", `{"version":{"datastore_name":"mysql","name":"5.6","datastore_manager":"helm","image":"` + image + `"}}`, 0, ""},
		{"nothing", ``, 400, "the body is empty"},
		{"blanks", " \n", 400, "the body is empty"},
		{"a list", `[]`, 400, "not a JSON object"},
		{"half", `{"version":{"datastore":`, 400, "not JSON"},
		{"more after it", `{"version":{}} {}`, 400, "something follows"},
		{"not text", "{\"version\":{\"name\":\"\xff\"}}", 400, "not UTF-8"},
		{"not wrapped", `{"datastore":"mysql"}`, 400, `"datastore": not a key of the body`},
		{"wrapped in nothing", `{}`, 400, "version: missing"},
		{"null", `{"version":null}`, 400, "version is not a JSON object"},
		{"unknown", `{"version":{"flavour":"x"}}`, 400, `"version.flavour": not a field`},
		{"unknown and long", `{"version":{"` + strings.Repeat("x", 1000) + `":"x"}}`, 400, "…"},
		{"twice", `{"version":{"name":"1.0.0","name":"1.0.1"}}`, 400, `"version.name": there twice`},
		{"both names", `{"version":{"datastore":"a","datastore_name":"b"}}`, 400, "version.datastore_name: another name of datastore"},
		{"no datastore", `{"version":{"name":"5.6","image":"x"}}`, 400, "version.datastore: missing"},
		{"no name", `{"version":{"datastore":"x","image":"x"}}`, 400, "version.name: missing"},
		{"no image", `{"version":{"datastore":"x","name":"5.6"}}`, 400, "version.image: missing"},
		{"empty image", `{"version":{"image":""}}`, 400, "version.image: must not be empty"},
		{"a number", `{"version":{"name":5.6}}`, 400, "version.name: must be a string"},
		{"active null", `{"version":{"active":null}}`, 400, "version.active: must be true or false"},
		{"active text", `{"version":{"active":"true"}}`, 400, "version.active: must be true or false"},
		{"packages text", `{"version":{"packages":"a"}}`, 400, "version.packages: must be a list of strings"},
		{"packages null", `{"version":{"packages":[null]}}`, 400, "version.packages: must be a list of strings"},
		{"packages twice", `{"version":{"packages":["a","a"]}}`, 400, `version.packages[1]: "a" is in the list already`},
		{"packages empty", `{"version":{"packages":[""]}}`, 400, "version.packages[0]: must have 1 to 255 characters"},
		{"manager", `{"version":{"manager":"mysql"}}`, 400, `manager: "mysql" is none`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := readNew([]byte(tt.body))
			if got := code(t, err); got != tt.code || (err != nil && !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("%d %v, want %d %q", got, err, tt.code, tt.want)
			}
		})
	}
}

func TestReadChange(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ body, want string }{
		{`{}`, ""},
		{`{"image":"x","manager":"helm","packages":[],"active":false,"default":false}`, ""},
		{`{"version":{"active":false}}`, `"version": not a field`},
		{`{"name":"x"}`, "name: cannot be changed"},
		{`{"datastore_name":"x"}`, "datastore: cannot be changed"},
		{`null`, "not a JSON object"},
	} {
		_, err := readChange([]byte(tt.body))
		if (err != nil) != (tt.want != "") || (err != nil && !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v, want %q", tt.body, err, tt.want)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(`{"version":{"datastore":"mysql","name":"5.6","image":"` + image + `","packages":["a"],"active":true,"default":false}}`))
	f.Add([]byte(`{"image":"x","active":null}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		if v, err := readNew(body); err == nil {
			if _, err := newVersion(v); err != nil {
				code(t, err)
			}
		} else if code(t, err) != http.StatusBadRequest {
			t.Errorf("new: %v", err)
		}
		if c, err := readChange(body); err == nil {
			if _, err := change(&fleet.AddOnVersion{}, c); err != nil {
				code(t, err)
			}
		} else if code(t, err) != http.StatusBadRequest {
			t.Errorf("change: %v", err)
		}
	})
}

func ptr[T any](v T) *T { return &v }

func TestNewVersion(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name           string
		version, image string
		active         *bool
		standard       *bool
		code           int
		want, object   string
	}{
		{"two numbers", "5.6", image, nil, nil, 0, "5.6.0", "mysql-5.6.0"},
		{"one number", "5", image, nil, nil, 0, "5.0.0", "mysql-5.0.0"},
		{"three", "5.6.1", image, nil, nil, 0, "5.6.1", "mysql-5.6.1"},
		{"a prerelease of two", "5.6-RC.1", image, nil, nil, 0, "5.6.0-RC.1", "mysql-5.6.0-rc.1"},
		{"metadata", "v5.6.1+deb11", image, nil, nil, 0, "5.6.1+deb11", "mysql-5.6.1.deb11"},
		{"from a registry", "5.6.1", "registry.example/mysql@" + image, nil, nil, 0, "5.6.1", "mysql-5.6.1"},
		{"no version", "latest", image, nil, nil, 400, "version.name", ""},
		{"four", "1.2.3.4", image, nil, nil, 400, "version.name", ""},
		{"an image of another kind", "5.6", "154b350d-4d86-4214-9067-9c54b230c0da", nil, nil, 404, "Image not found.", ""},
		{"a tag", "5.6", "registry.example/mysql:5.6", nil, nil, 404, "Image not found.", ""},
		{"an inactive default", "5.6", image, ptr(false), ptr(true), 400, "version.default", ""},
		{"inactive", "5.6.0", image, ptr(false), ptr(false), 0, "5.6.0", "mysql-5.6.0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			v, err := newVersion(&fields{Datastore: ptr("mysql"), Name: &tt.version, Image: &tt.image, Active: tt.active, Default: tt.standard})
			if got := code(t, err); got != tt.code || (err != nil && !strings.Contains(err.Error(), tt.want)) {
				t.Fatalf("%d %v, want %d %s", got, err, tt.code, tt.want)
			}
			if err != nil {
				return
			}
			if v.Spec.Version != tt.want || v.Name != tt.object {
				t.Errorf("%s %s, want %s %s", v.Name, v.Spec.Version, tt.object, tt.want)
			}
			if got := viewOf(v).Name; strings.TrimPrefix(tt.version, "v") != got && tt.version != got {
				t.Errorf("shown as %s, was called %s", got, tt.version)
			}
		})
	}
	if _, err := newVersion(&fields{Datastore: ptr("My SQL"), Name: ptr("5.6"), Image: &image}); code(t, err) != 400 || !strings.Contains(err.Error(), "version.datastore") {
		t.Errorf("a datastore of no name: %v", err)
	}
}

func TestChange(t *testing.T) {
	t.Parallel()
	other := "sha256:" + strings.Repeat("cd", 32)
	now := func(isDefault bool) *fleet.AddOnVersion {
		return &fleet.AddOnVersion{
			ObjectMeta: metav1.ObjectMeta{Name: "mysql-5.6.0"},
			Spec:       fleet.AddOnVersionSpec{AddOn: "mysql", Version: "5.6.0", Image: image, Packages: []string{"a"}, Default: isDefault},
		}
	}
	for _, tt := range []struct {
		name string
		of   *fleet.AddOnVersion
		f    fields
		code int
		want map[string]any
	}{
		{"nothing", now(true), fields{}, 0, map[string]any{}},
		{"what it is already", now(true), fields{Image: &image, Manager: ptr("manifests"), Packages: &[]string{"a"}, Active: ptr(true), Default: ptr(true)}, 0, map[string]any{}},
		{"each", now(false), fields{Image: &other, Manager: ptr("helm"), Packages: &[]string{}, Active: ptr(false)}, 0, map[string]any{"image": other, "manifests": nil, "manager": "helm", "packages": []string{}, "active": false}},
		{"default of one that is not", now(false), fields{Default: ptr(false)}, 0, map[string]any{}},
		{"no default any more", now(true), fields{Default: ptr(false)}, 0, map[string]any{"default": false}},
		{"the default", now(false), fields{Default: ptr(true)}, 0, map[string]any{"default": true}},
		{"both at once", now(true), fields{Default: ptr(false), Active: ptr(false)}, 0, map[string]any{"default": false, "active": false}},
		{"the default goes", now(true), fields{Active: ptr(false)}, 409, nil},
		{"an inactive default", now(false), fields{Active: ptr(false), Default: ptr(true)}, 400, nil},
		{"no image", now(false), fields{Image: ptr("x")}, 404, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := change(tt.of, &tt.f)
			if c := code(t, err); c != tt.code {
				t.Fatalf("%v, want %d", err, tt.code)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}
