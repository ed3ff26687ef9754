// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/drover-io/drover/shared/apis/addon"
	"github.com/drover-io/drover/shared/apis/fleet"
)

func versions() schema.GroupVersionResource {
	return of(fleet.Group, fleet.Version, "addonversions")
}

func recipes() schema.GroupVersionResource {
	return of(addon.Group, addon.Version, "clustermanagementaddons")
}

// version is an AddOnVersion with one ConfigMap and one Secret.
func version(t *testing.T, name, version, more string) *unstructured.Unstructured {
	t.Helper()
	return object(t, fmt.Sprintf(`{apiVersion: fleet.drover.io/v1alpha1, kind: AddOnVersion, metadata: {name: %s-%s}, spec: {addOn: %s, version: %s, %s
		values: {level: info},
		manifests: [{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, data: {level: "{{ .Values.level }}", version: "{{ .Version }}"}},
			{apiVersion: v1, kind: Secret, metadata: {name: s}, stringData: {password: hunter2}}]}}`, name, version, name, version, more))
}

func defaults(t *testing.T, c dynamic.Interface) []string {
	t.Helper()
	list, err := c.Resource(versions()).List(timeout(t), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, v := range list.Items {
		if is, _, _ := unstructured.NestedBool(v.Object, "spec", "default"); is {
			out = append(out, v.GetName())
		}
	}
	slices.Sort(out)
	return out
}

// TestPublish: one call makes addon and version, with the status filled in; a call
// that is refused, whoever refuses it, makes nothing.
func TestPublish(t *testing.T) {
	t.Parallel()
	r := start(t, t.TempDir(), nil)
	c, ctx := r.client(), timeout(t)
	create := func(v *unstructured.Unstructured, dry ...string) (*unstructured.Unstructured, error) {
		return c.Resource(versions()).Create(ctx, v, metav1.CreateOptions{DryRun: dry})
	}
	nothing := func(what string) {
		t.Helper()
		for _, kind := range []schema.GroupVersionResource{versions(), recipes()} {
			list, err := c.Resource(kind).List(ctx, metav1.ListOptions{})
			if err != nil || len(list.Items) != 0 {
				t.Errorf("after %s there are %d %s (%v)", what, len(list.Items), kind.Resource, err)
			}
		}
	}
	for what, tt := range map[string]struct{ more, want string }{
		"a template that is broken":       {"protected: [], description: x, health: [{name: a, object: {name: '*'}, expression: 'object.('}],", "spec.health[0].expression"},
		"a schema nothing fits":           {"configSchema: {type: object, properties: {level: {type: string, minLength: 9, maxLength: 3}}},", "is more than maxLength"},
		"a schema that is none":           {"configSchema: {type: strin},", "spec.configSchema"},
		"values that do not fit":          {"configSchema: {type: object, properties: {level: {type: integer}}},", "spec.values.level"},
		"a rule that does not compile":    {"configSchema: {type: object, properties: {level: {type: string}}, x-kubernetes-validations: [{rule: 'self.lvl == 1'}]},", "undefined field 'lvl'"},
		"a rule that the values break":    {"configSchema: {type: object, properties: {level: {type: string}}, x-kubernetes-validations: [{rule: 'self.level == \"debug\"', message: only debug}]},", "only debug"},
		"a range that is none":            {"dependencies: [{addOn: b, versionRange: '>>1'}],", "spec.dependencies[0].versionRange"},
		"itself as a dependency":          {"dependencies: [{addOn: a}],", "addon itself"},
		"a Kubernetes range that is none": {"requirements: {kubernetes: new},", "spec.requirements.kubernetes"},
		"an inactive default":             {"default: true, active: false,", "inactive version cannot be the default"},
		"the API's own schema":            {"channel: Not A Channel,", "spec.channel"},
		"image and manifests":             {"image: 'sha256:" + strings.Repeat("0", 64) + "',", ""},
	} {
		_, err := create(version(t, "a", "1.0.0", tt.more))
		if !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %s", what, err, tt.want)
		}
		nothing(what)
	}
	if _, err := create(version(t, "a", "1.0.0", ""), metav1.DryRunAll); err != nil {
		t.Errorf("dry run: %v", err)
	}
	nothing("a dry run")

	v, err := create(version(t, "a", "1.0.0", ""))
	if err != nil {
		t.Fatal(err)
	}
	manager, _, _ := unstructured.NestedString(v.Object, "spec", "manager")
	kinds, _, _ := unstructured.NestedStringSlice(v.Object, "status", "kinds")
	if n, _, _ := unstructured.NestedInt64(v.Object, "status", "objects"); n != 2 || manager != "manifests" || !slices.Equal(kinds, []string{"v1/ConfigMap", "v1/Secret"}) {
		t.Errorf("stored: %v", v.Object)
	}
	made, err := c.Resource(recipes()).Get(ctx, "a", metav1.GetOptions{})
	if err != nil || made.GetUID() == "" || made.GetGeneration() != 1 {
		t.Errorf("the addon: %v, %v", made, err)
	}
	if _, err := create(version(t, "a", "1.0.0", "")); !apierrors.IsAlreadyExists(err) {
		t.Errorf("again: %v", err)
	}
	_, err = patch(t, c, versions(), "a-1.0.0", "{status: {clusters: 7}}", "status")
	refused(t, "a status by a person", err, apierrors.IsForbidden, "kept by the hub")
	_, err = patch(t, c, versions(), "a-1.0.0", "{spec: {values: {level: null}}}")
	refused(t, "values the templates need", err, apierrors.IsInvalid, "map has no entry for key")
}

// TestDefaultVersion: there is one default a channel, whoever asks and however fast.
func TestDefaultVersion(t *testing.T) {
	t.Parallel()
	r := start(t, t.TempDir(), nil)
	c, ctx := r.client(), timeout(t)
	want := func(names ...string) {
		t.Helper()
		if got := defaults(t, c); !slices.Equal(got, names) {
			t.Errorf("defaults %v, want %v", got, names)
		}
	}
	set := func(name, spec string) error {
		_, err := patch(t, c, versions(), name, "{spec: "+spec+"}")
		return err
	}
	for _, v := range []*unstructured.Unstructured{version(t, "a", "1.0.0", "default: true,"), version(t, "a", "1.1.0", "default: true,"), version(t, "a", "2.0.0", "default: true, channel: edge,"), version(t, "b", "1.0.0", "default: true,")} {
		if _, err := c.Resource(versions()).Create(ctx, v, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	want("a-1.1.0", "a-2.0.0", "b-1.0.0")
	if err := set("a-1.0.0", "{default: false}"); err != nil {
		t.Error(err)
	}
	want("a-1.1.0", "a-2.0.0", "b-1.0.0")
	if err := set("a-1.0.0", "{active: false}"); err != nil {
		t.Error(err)
	}
	refused(t, "an inactive default", set("a-1.0.0", "{default: true}"), apierrors.IsInvalid, "inactive version cannot be the default")
	if err := set("a-1.0.0", "{active: true, default: true}"); err != nil {
		t.Error(err)
	}
	want("a-1.0.0", "a-2.0.0", "b-1.0.0")

	var wg sync.WaitGroup
	for i := range 12 {
		wg.Go(func() {
			if _, err := c.Resource(versions()).Create(ctx, version(t, "many", fmt.Sprintf("1.%d.0", i), "default: true,"), metav1.CreateOptions{}); err != nil {
				t.Errorf("version %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	n := 0
	for _, name := range defaults(t, c) {
		if strings.HasPrefix(name, "many-") {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d defaults after many were made at once", n)
	}
}

func TestVersionInUse(t *testing.T) {
	t.Parallel()
	r := start(t, t.TempDir(), nil)
	c, ctx := r.client(), timeout(t)
	if _, err := c.Resource(versions()).Create(ctx, version(t, "a", "1.0.0", ""), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	name := func(configs string) {
		t.Helper()
		if _, err := patch(t, c, recipes(), "a", "{spec: {defaultConfigs: "+configs+"}}"); err != nil {
			t.Fatal(err)
		}
	}
	name("[{group: fleet.drover.io, resource: addonversions, name: a-1.0.0}]")
	err := c.Resource(versions()).Delete(ctx, "a-1.0.0", metav1.DeleteOptions{})
	refused(t, "a version in use", err, apierrors.IsConflict, "in use by ClusterManagementAddOn a")
	name("null")
	err = c.Resource(recipes()).Delete(ctx, "a", metav1.DeleteOptions{})
	refused(t, "an addon with versions", err, apierrors.IsConflict, "delete the AddOnVersions a-1.0.0 first")
	until(t, "the version is gone", func() bool {
		return c.Resource(versions()).Delete(ctx, "a-1.0.0", metav1.DeleteOptions{}) == nil
	})
	if err := c.Resource(recipes()).Delete(ctx, "a", metav1.DeleteOptions{}); err != nil {
		t.Errorf("an addon without versions: %v", err)
	}
}

// TestContentOfVersions: who may read a version sees what it renders to, without the
// values of Secrets; others do not.
func TestContentOfVersions(t *testing.T) {
	t.Parallel()
	r := start(t, t.TempDir(), nil)
	c, ctx := r.client(), timeout(t)
	for _, v := range []string{"1.0.0", "1.1.0"} {
		if _, err := c.Resource(versions()).Create(ctx, version(t, "a", v, ""), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	cfg := r.config()
	get := func(cfg *rest.Config, path string) (int, string) {
		t.Helper()
		hc, err := rest.HTTPClientFor(cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer hc.CloseIdleConnections()
		resp, err := hc.Get(cfg.Host + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(text)
	}
	code, text := get(cfg, fleet.PathAddOnContent+"/a-1.0.0")
	var content fleet.VersionContent
	if err := json.Unmarshal([]byte(text), &content); err != nil || code != http.StatusOK || len(content.Manifests) != 2 {
		t.Fatalf("%d %s (%v)", code, text, err)
	}
	if strings.Contains(text, "hunter2") || !strings.Contains(text, `"password":"***"`) || !strings.Contains(text, `"level":"info"`) {
		t.Errorf("content: %s", text)
	}
	code, text = get(cfg, fleet.PathAddOnDiff+"?from=a-1.0.0&to=a-1.1.0")
	var diff fleet.VersionDiff
	if err := json.Unmarshal([]byte(text), &diff); err != nil || code != http.StatusOK || len(diff.Objects) != 1 {
		t.Fatalf("%d %s (%v)", code, text, err)
	}
	if d := diff.Objects[0]; d.Name != "a" || len(d.Fields) != 1 || d.Fields[0].Path != "data.version" || d.Fields[0].Live != `"1.0.0"` || d.Fields[0].Desired != `"1.1.0"` {
		t.Errorf("diff: %+v", d)
	}
	if code, _ := get(cfg, fleet.PathAddOnContent+"/none"); code != http.StatusNotFound {
		t.Errorf("a version that is not there: %d", code)
	}
	nobody := rest.AnonymousClientConfig(cfg)
	if code, _ := get(nobody, fleet.PathAddOnContent+"/a-1.0.0"); code != http.StatusUnauthorized {
		t.Errorf("nobody: %d", code)
	}
	stranger := rest.AnonymousClientConfig(cfg)
	stranger.BearerToken = r.accessToken(t, c)
	for _, path := range []string{fleet.PathAddOnContent + "/a-1.0.0", fleet.PathAddOnContent + "/none", fleet.PathAddOnDiff + "?from=a-1.0.0&to=a-1.1.0"} {
		if code, text := get(stranger, path); code != http.StatusForbidden {
			t.Errorf("a stranger, %s: %d %s", path, code, text)
		}
	}
}

// accessToken is one of a user who may nothing.
func (r *running) accessToken(t *testing.T, c dynamic.Interface) string {
	t.Helper()
	made, err := c.Resource(of(fleet.Group, fleet.Version, "accesstokens")).Create(timeout(t), object(t,
		`{apiVersion: fleet.drover.io/v1alpha1, kind: AccessToken, metadata: {name: stranger}, spec: {user: stranger}}`), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	token, _, _ := unstructured.NestedString(made.Object, "status", "token")
	return token
}
