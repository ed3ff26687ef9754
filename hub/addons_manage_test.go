// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"

	"github.com/drover-io/drover/hub/auth"
	"github.com/drover-io/drover/shared/wire"
)

// web is a client of the port, with the admin's certificate, a user's, or none.
func (r *running) web(change func(*rest.Config)) *http.Client {
	r.t.Helper()
	cfg := r.config()
	if change != nil {
		change(cfg)
	}
	c, err := rest.HTTPClientFor(cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(c.CloseIdleConnections)
	return c
}

// pushManifests stores a bundle and returns its digest.
func (r *running) pushManifests(c *http.Client, text string) string {
	r.t.Helper()
	req, err := http.NewRequestWithContext(timeout(r.t), http.MethodPut, r.url+wire.PathContent, strings.NewReader(text))
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-ndjson")
	resp, err := c.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	var info struct {
		Digest string `json:"digest"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&info); err != nil || info.Digest == "" {
		r.t.Fatalf("push: %s: %v", resp.Status, err)
	}
	return info.Digest
}

const configMap = `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"%s","namespace":"default"},"data":{"a":"b"}}` + "\n"

// TestManagement: the specification's requests and codes, over the real port, by an
// administrator, an author, somebody who may read, a stranger and nobody.
func TestManagement(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	who := signUsers(t, dir, map[string][]string{"ann": nil, "vic": nil, "eve": nil})
	r := start(t, dir, func(c *Config) { c.APIRate, c.APIBurst = 1000, 2000 })
	ctx, objects := timeout(t), r.client()
	for user, role := range map[string]string{"ann": auth.RoleAddonAuthor, "vic": auth.RoleViewer} {
		_, err := objects.Resource(of("rbac.authorization.k8s.io", "v1", "clusterrolebindings")).Create(ctx, object(t, fmt.Sprintf(
			"{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, metadata: {name: %s}, roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: %q}, subjects: [{kind: User, name: %s}]}", user, role, user)), metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
	}
	as := func(user string) *http.Client {
		return r.web(func(c *rest.Config) { c.CertData, c.KeyData = who[user].chain, who[user].key })
	}
	admin, ann, vic, eve := r.web(nil), as("ann"), as("vic"), as("eve")
	nobody := r.web(func(c *rest.Config) { c.CertData, c.KeyData = nil, nil })
	m := newManager(t, r.url)
	const versions, alias, public = "/v1.0/admin/mgmt/datastore-versions", "/v1.0/other/mgmt/addon-versions", "/v1.0/admin/datastores"
	one, two := r.pushManifests(admin, fmt.Sprintf(configMap, "one")), r.pushManifests(admin, fmt.Sprintf(configMap, "two"))
	register := func(datastore, name, more string) string {
		return fmt.Sprintf(`{"version":{"datastore":%q,"name":%q,"image":%q%s}}`, datastore, name, one, more)
	}
	until(t, "bindings count", func() bool {
		return m.do(ann, "GET", versions, "").code == 200 && m.do(vic, "GET", public, "").code == 200
	})

	// register
	a := m.expect(admin, "POST", versions, register("mysql", "5.6", `,"manager":"manifests","packages":["mysql-server-5.6"],"active":true,"default":true`), 202, "")
	if len(a.body) != 0 || a.header.Get("Location") != versions+"/mysql-5.6.0" {
		t.Errorf("registered: %v %q", a.body, a.header.Get("Location"))
	}
	if _, err := objects.Resource(of("addon.open-cluster-management.io", "v1beta1", "clustermanagementaddons")).Get(ctx, "mysql", metav1.GetOptions{}); err != nil {
		t.Errorf("the datastore that was missing: %v", err)
	}
	m.expect(admin, "POST", versions, register("mysql", "5.6", ""), 400, "Datastore Version Already Exists.")
	m.expect(admin, "POST", alias, register("mysql", "5.6.0", ""), 400, "Datastore Version Already Exists.")
	m.expect(ann, "POST", alias, register("vertica", "7.1", `,"default":true`), 202, "")
	missing := "sha256:" + strings.Repeat("0", 64)
	m.expect(admin, "POST", versions, strings.Replace(register("orphan", "1.0", ""), one, missing, 1), 404, "Image not found.")
	m.expect(admin, "POST", versions, strings.Replace(register("orphan", "1.0", ""), one, "154b350d-4d86-4214-9067-9c54b230c0da", 1), 404, "Image not found.")
	registry := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(registry.Close)
	m.expect(admin, "POST", versions, strings.Replace(register("orphan", "1.0", ""), one, strings.TrimPrefix(registry.URL, "http://")+"/mysql@"+missing, 1), 404, "Image not found.")
	m.expect(admin, "GET", public+"/orphan", "", 404, "Datastore not found.")
	m.expect(admin, "POST", versions, register("mysql", "5.6.1", `,"active":false,"default":true`), 400, "version.default")
	m.expect(admin, "POST", versions, register("mysql", "5.6.1", `,"colour":"red"`), 400, `"version.colour"`)
	m.expect(admin, "POST", versions, register("mysql", "latest", ""), 400, "version.name")
	m.expect(admin, "POST", versions, "", 400, "the body is empty")
	m.expect(admin, "POST", versions, `{"version":`+strings.Repeat(" ", 1<<20)+`{}}`, 413, "larger than")
	if a := m.do(admin, "POST", versions, register("mysql", "5.6.1", ""), "Content-Type", "text/plain"); a.code != 415 {
		t.Errorf("text/plain: %d", a.code)
	}
	m.expect(admin, "POST", versions, register("mysql", "5.7", `,"active":false`), 202, "")
	m.expect(admin, "POST", versions, register("upper", "1.0.0-RC.1+deb.2", ""), 202, "")
	m.expect(admin, "GET", versions+"/upper-1.0.0-rc.1.deb.2", "", 200, "")
	m.expect(admin, "DELETE", versions+"/upper-1.0.0-rc.1.deb.2", "", 202, "")

	// list and show
	a = m.expect(admin, "GET", versions, "", 200, "")
	if got, want := a.versions(), "mysql-5.6.0:5.6* mysql-5.7.0:5.7 vertica-7.1.0:7.1*"; got != want {
		t.Errorf("list: %s, want %s", got, want)
	}
	want := map[string]any{
		"datastore_id": "mysql", "datastore_name": "mysql", "id": "mysql-5.6.0", "name": "5.6", "manager": "manifests",
		"image": one, "packages": []any{"mysql-server-5.6"}, "active": true, "default": true,
	}
	if diff := cmp.Diff(want, m.expect(admin, "GET", alias+"/mysql-5.6.0", "", 200, "").body["version"]); diff != "" {
		t.Errorf("show: %s", diff)
	}
	if got := m.expect(admin, "GET", versions+"?datastore=vertica", "", 200, "").versions(); got != "vertica-7.1.0:7.1*" {
		t.Errorf("of one datastore: %s", got)
	}
	first := m.expect(admin, "GET", versions+"?limit=2", "", 200, "")
	links, _ := first.body["links"].([]any)
	if len(links) != 1 || first.versions() != "mysql-5.6.0:5.6* mysql-5.7.0:5.7" {
		t.Fatalf("first page: %v", first.body)
	}
	if got := m.expect(admin, "GET", links[0].(map[string]any)["href"].(string), "", 200, "").versions(); got != "vertica-7.1.0:7.1*" {
		t.Errorf("second page: %s", got)
	}
	for _, id := range []string{"mysql-5.9.0", "No Such", "mysql-5.6.0%2Fstatus", "..%2Fmysql-5.6.0", "%00"} {
		m.expect(admin, "GET", versions+"/"+strings.ReplaceAll(id, " ", "%20"), "", 404, "Datastore Version not found.")
	}
	for _, q := range []string{"limit=0", "limit=x", "limit=2000", "marker=x", "colour=red", "limit=1&limit=2", "%zz"} {
		m.expect(admin, "GET", versions+"?"+q, "", 400, "")
	}

	// patch
	m.expect(admin, "PATCH", versions+"/mysql-5.6.0", `{}`, 202, "")
	m.expect(admin, "PATCH", versions+"/mysql-5.6.0", `{"image":"`+two+`"}`, 202, "")
	want["image"] = two
	if diff := cmp.Diff(want, m.expect(admin, "GET", versions+"/mysql-5.6.0", "", 200, "").body["version"]); diff != "" {
		t.Errorf("after a change of the image alone: %s", diff)
	}
	m.expect(admin, "PATCH", versions+"/mysql-5.6.0", `{"packages":[]}`, 202, "")
	want["packages"] = []any{}
	m.expect(admin, "PATCH", versions+"/mysql-5.6.0", `{"image":"`+missing+`"}`, 404, "Image not found.")
	m.expect(admin, "PATCH", versions+"/mysql-5.6.0", `{"image":"tag"}`, 404, "Image not found.")
	m.expect(admin, "PATCH", versions+"/mysql-5.6.0", `{"active":"false"}`, 400, "active: must be true or false")
	m.expect(admin, "PATCH", versions+"/mysql-5.6.0", `{"colour":"red"}`, 400, `"colour"`)
	m.expect(admin, "PATCH", versions+"/mysql-5.6.0", `{"active":false}`, 409, "is the default")
	m.expect(admin, "PATCH", versions+"/mysql-5.9.0", `{"active":false}`, 404, "Datastore Version not found.")
	if diff := cmp.Diff(want, m.expect(admin, "GET", versions+"/mysql-5.6.0", "", 200, "").body["version"]); diff != "" {
		t.Errorf("after refusals: %s", diff)
	}
	if a := m.do(admin, "PATCH", versions+"/mysql-5.6.0", `{}`, "Content-Type", "text/plain"); a.code != 415 {
		t.Errorf("text/plain: %d", a.code)
	}
	m.expect(admin, "PATCH", versions+"/mysql-5.6.0", strings.Repeat(" ", 1<<20)+`{}`, 413, "larger than")

	// what users see: neither the list nor the version itself
	if got := m.expect(vic, "GET", public+"/mysql/versions", "", 200, "").versions(); got != "mysql-5.6.0:5.6*" {
		t.Errorf("a viewer's list: %s", got)
	}
	if got := m.expect(ann, "GET", public+"/mysql/versions", "", 200, "").versions(); got != "mysql-5.6.0:5.6* mysql-5.7.0:5.7" {
		t.Errorf("an author's list: %s", got)
	}
	m.expect(vic, "GET", public+"/mysql/versions/mysql-5.6.0", "", 200, "")
	m.expect(vic, "GET", public+"/mysql/versions/mysql-5.7.0", "", 404, "Datastore Version not found.")
	m.expect(vic, "GET", public+"/vertica/versions/mysql-5.6.0", "", 404, "Datastore Version not found.")
	m.expect(ann, "GET", public+"/mysql/versions/mysql-5.7.0", "", 200, "")
	m.expect(admin, "POST", versions, register("hidden", "1.0", `,"active":false`), 202, "")
	datastores := func(c *http.Client) string {
		return fmt.Sprint(m.expect(c, "GET", public, "", 200, "").body["datastores"])
	}
	if got, want := datastores(vic), "[map[default_version:mysql-5.6.0 id:mysql name:mysql] map[default_version:vertica-7.1.0 id:vertica name:vertica]]"; got != want {
		t.Errorf("a viewer's datastores: %s, want %s", got, want)
	}
	if got := datastores(ann); !strings.Contains(got, "hidden") {
		t.Errorf("an author's datastores: %s", got)
	}
	m.expect(vic, "GET", public+"/hidden", "", 404, "Datastore not found.")
	m.expect(vic, "GET", public+"/hidden/versions", "", 404, "Datastore not found.")
	m.expect(vic, "GET", public+"/mysql", "", 200, "")
	m.expect(vic, "GET", public+"?colour=red", "", 400, "colour")
	m.expect(vic, "GET", public+"/mysql/versions?limit=x", "", 400, "limit")

	// the pointer to the default
	m.expect(admin, "PATCH", versions+"/mysql-5.7.0", `{"default":true}`, 400, "inactive")
	m.expect(admin, "PATCH", versions+"/mysql-5.7.0", `{"active":true,"default":true}`, 202, "")
	if got := m.expect(admin, "GET", versions+"?datastore=mysql", "", 200, "").versions(); got != "mysql-5.6.0:5.6 mysql-5.7.0:5.7*" {
		t.Errorf("after the default moved: %s", got)
	}
	m.expect(admin, "PATCH", versions+"/mysql-5.6.0", `{"default":false}`, 202, "") // it is not: nothing happens
	m.expect(admin, "POST", versions, register("mysql", "5.8", `,"default":true`), 202, "")
	if got := m.expect(admin, "GET", versions+"?datastore=mysql", "", 200, "").versions(); got != "mysql-5.6.0:5.6 mysql-5.7.0:5.7 mysql-5.8.0:5.8*" {
		t.Errorf("after a new default: %s", got)
	}
	m.expect(admin, "PATCH", versions+"/mysql-5.8.0", `{"default":false}`, 202, "")
	if got := m.expect(admin, "GET", versions+"?datastore=mysql", "", 200, "").versions(); strings.Contains(got, "*") {
		t.Errorf("without a default: %s", got)
	}
	m.expect(admin, "PATCH", versions+"/mysql-5.8.0", `{"default":true}`, 202, "")

	// in use
	for _, o := range []struct {
		resource schema.GroupVersionResource
		text     string
	}{
		{clusters(), "{apiVersion: cluster.open-cluster-management.io/v1, kind: ManagedCluster, metadata: {name: shop}, spec: {hubAcceptsClient: false}}"},
		{of("addon.open-cluster-management.io", "v1beta1", "managedclusteraddons"), "{apiVersion: addon.open-cluster-management.io/v1beta1, kind: ManagedClusterAddOn, metadata: {name: mysql, namespace: shop}, spec: {configs: [{group: fleet.drover.io, resource: addonversions, name: mysql-5.6.0}]}}"},
	} {
		obj := object(t, o.text)
		until(t, "the namespace of the cluster", func() bool {
			_, err := objects.Resource(o.resource).Namespace(obj.GetNamespace()).Create(ctx, obj, metav1.CreateOptions{})
			if err != nil && !apierrors.IsNotFound(err) {
				t.Fatal(err)
			}
			return err == nil
		})
	}
	m.expect(admin, "DELETE", versions+"/mysql-5.6.0", "", 409, "Instance(s) exists for the datastore version.")
	if a := m.do(ann, "DELETE", alias+"/mysql-5.6.0", ""); a.code != 409 || !strings.Contains(a.message, "shop/mysql") {
		t.Errorf("deleted in use: %d %s", a.code, a.message)
	}

	// delete
	m.expect(admin, "DELETE", versions+"/mysql-5.8.0", "", 409, "is the default")
	m.expect(admin, "DELETE", versions+"/mysql-5.8.0?clear_default=maybe", "", 400, "clear_default")
	m.expect(admin, "DELETE", versions+"/mysql-5.8.0?clear_default=true", "", 202, "")
	m.expect(admin, "DELETE", versions+"/mysql-5.8.0", "", 404, "Datastore Version not found.")
	m.expect(ann, "DELETE", alias+"/mysql-5.7.0", "", 202, "")
	m.expect(admin, "DELETE", "/v1.0/admin/mgmt/datastores/vertica", "", 409, "vertica-7.1.0")
	m.expect(admin, "DELETE", versions+"/vertica-7.1.0", "", 202, "") // the default, but there is no other
	m.expect(admin, "GET", public+"/vertica", "", 200, "")
	m.expect(admin, "DELETE", "/v1.0/admin/mgmt/datastores/vertica", "", 202, "")
	until(t, "the datastore is gone", func() bool { return m.do(admin, "GET", public+"/vertica", "").code == 404 })
	m.expect(admin, "DELETE", "/v1.0/admin/mgmt/datastores/vertica", "", 404, "Datastore not found.")
	m.expect(admin, "GET", public+"/vertica/versions", "", 404, "Datastore not found.")

	// who may not
	requests := []struct{ method, path, body string }{
		{"POST", versions, register("mysql", "9.0", "")},
		{"GET", versions, ""},
		{"GET", versions + "/mysql-5.6.0", ""},
		{"GET", versions + "/none-1.0.0", ""},
		{"PATCH", versions + "/mysql-5.6.0", `{"active":false}`},
		{"PATCH", versions + "/mysql-5.6.0", `garbage`},
		{"DELETE", versions + "/mysql-5.6.0", ""},
		{"DELETE", "/v1.0/admin/mgmt/datastores/mysql", ""},
	}
	for _, q := range requests {
		m.expect(vic, q.method, q.path, q.body, 403, "")
		m.expect(eve, q.method, q.path, q.body, 403, "")
		m.expect(nobody, q.method, q.path, q.body, 401, "")
		if strings.HasPrefix(q.path, versions) {
			q.path = alias + strings.TrimPrefix(q.path, versions)
			m.expect(eve, q.method, q.path, q.body, 403, "")
			m.expect(nobody, q.method, q.path, q.body, 401, "")
		}
	}
	for _, path := range []string{public, public + "/mysql", public + "/mysql/versions", public + "/mysql/versions/mysql-5.6.0"} {
		m.expect(eve, "GET", path, "", 403, "")
		m.expect(nobody, "GET", path, "", 401, "")
	}
	if got := m.expect(admin, "GET", versions, "", 200, "").versions(); got != "hidden-1.0.0:1.0 mysql-5.6.0:5.6" {
		t.Errorf("after all that was refused: %s", got)
	}
	for method, path := range map[string]string{"PUT": versions, "POST": versions + "/mysql-5.6.0", "DELETE": versions} {
		if a := m.expect(admin, method, path, "", 405, ""); a.header.Get("Allow") == "" {
			t.Errorf("%s %s: no Allow", method, path)
		}
	}
	m.expect(admin, "GET", "/v1.0/admin/flavors", "", 404, "openapi.yaml")
	resp, err := nobody.Get(r.url + "/v1.0/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	file, err := os.ReadFile("catalog/manage/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(resp.Body); err != nil || !bytes.Equal(text, file) {
		t.Errorf("the document as it is served: %v", err)
	}

	// the audit log has what was done, and what was refused, by whom
	for _, query := range []string{"user=ann&verb=create&resource=addonversions", "user=vic&verb=create&resource=addonversions", "user=vic&verb=delete&resource=addonversions"} {
		events := r.records(query)
		if len(events) == 0 {
			t.Errorf("no record of %s", query)
		}
		for _, ev := range events {
			if refused := ev.ResponseStatus.Code == 403; refused != (ev.User.Username == "vic") {
				t.Errorf("%s: %d", query, ev.ResponseStatus.Code)
			}
		}
	}
	m.coverage()
}

// TestManagementReference: the table of the reference names the operations and
// answers of the document.
func TestManagementReference(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../docs/management-api.md")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(line, "|")
		if len(cells) < 5 || !strings.Contains(cells[2], "/v1.0/") {
			continue
		}
		codes := strings.Fields(strings.NewReplacer(",", " ").Replace(cells[3]))
		got = append(got, fmt.Sprint(strings.Trim(cells[1], " `"), " ", strings.Trim(cells[2], " `"), " ", codes))
	}
	doc, err := openapi3.NewLoader().LoadFromFile("catalog/manage/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			var codes []string
			for status := range op.Responses.Map() {
				if status != "5XX" {
					codes = append(codes, status)
				}
			}
			slices.Sort(codes)
			if !strings.Contains(path, "addon-versions") {
				want = append(want, fmt.Sprint(method, " ", path, " ", codes))
			} else if doc.Paths.Find(strings.Replace(path, "addon-versions", "datastore-versions", 1)) == nil {
				t.Errorf("%s is the alias of nothing", path)
			}
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the document, and the table of docs/management-api.md: %s", diff)
	}
}
