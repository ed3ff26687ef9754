// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/drover-io/drover/hub/store"
)

const (
	mergePatch = "application/merge-patch+json"
	jsonPatchT = "application/json-patch+json"
	applyPatch = "application/apply-patch+yaml"
)

func (h *hub) patch(form, path, body string) answered {
	h.t.Helper()
	return h.do(http.MethodPatch, path, body, "Content-Type", form)
}

// TestRefusals goes through everything that must be refused, with its status
// code, reason and a part of its text.
func TestRefusals(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	h.create(clustersPath, clusterJSON("c1", ``))
	c1 := clustersPath + "/c1"
	big := strings.Repeat("x", 950<<10)
	tests := []struct {
		name    string
		method  string
		path    string
		body    string
		headers []string
		code    int
		reason  string
		want    string
	}{
		{"unknown path", "GET", "/apis/nope/v1/things", "", nil, 404, "NotFound", "could not find"},
		{"unknown object", "GET", clustersPath + "/c9", "", nil, 404, "NotFound", `managedclusters.cluster.open-cluster-management.io "c9" not found`},
		{"unknown subresource", "GET", c1 + "/scale", "", nil, 404, "NotFound", ""},
		{"status of a kind without", "GET", "/apis/fleet.drover.io/v1alpha1/clustermetrics/c1/status", "", nil, 404, "NotFound", ""},
		{"namespace of a cluster-scoped kind", "GET", "/apis/cluster.open-cluster-management.io/v1/namespaces/c1/managedclusters", "", nil, 404, "NotFound", ""},
		{"create without namespace", "POST", "/apis/work.open-cluster-management.io/v1/manifestworks", `{}`, nil, 400, "BadRequest", "a namespace is needed"},
		{"post to an object", "POST", c1, clusterJSON("c1", ""), nil, 405, "MethodNotAllowed", ""},
		{"delete of status", "DELETE", c1 + "/status", "", nil, 405, "MethodNotAllowed", ""},
		{"exists", "POST", clustersPath, clusterJSON("c1", ``), nil, 409, "AlreadyExists", `"c1" already exists`},
		{"empty body", "POST", clustersPath, "", nil, 400, "BadRequest", "body"},
		{"null", "POST", clustersPath, "null", nil, 400, "BadRequest", "empty"},
		{"array", "POST", clustersPath, "[]", nil, 400, "BadRequest", "not a JSON object"},
		{"broken", "POST", clustersPath, `{"a":`, nil, 400, "BadRequest", "not a JSON object"},
		{"no kind", "POST", clustersPath, `{"apiVersion":"cluster.open-cluster-management.io/v1"}`, nil, 400, "BadRequest", `kind is missing: want "ManagedCluster"`},
		{"kind is a number", "POST", clustersPath, `{"apiVersion":"x","kind":3}`, nil, 400, "BadRequest", ""},
		{"other kind", "POST", clustersPath, tokenJSON("t"), nil, 400, "BadRequest", "cannot be handled as a ManagedCluster"},
		{"other version", "POST", clustersPath, strings.Replace(clusterJSON("x", ""), "/v1", "/v1beta9", 1), nil, 400, "BadRequest", "does not match the expected API version"},
		{"metadata is text", "POST", clustersPath, `{"apiVersion":"cluster.open-cluster-management.io/v1","kind":"ManagedCluster","metadata":"x","spec":{}}`, nil, 400, "BadRequest", "metadata"},
		{"labels of a wrong type", "POST", clustersPath, `{"apiVersion":"cluster.open-cluster-management.io/v1","kind":"ManagedCluster","metadata":{"name":"x","labels":{"a":1}},"spec":{}}`, nil, 400, "BadRequest", "metadata"},
		{"no name", "POST", clustersPath, clusterJSON("", ""), nil, 422, "Invalid", "metadata.name"},
		{"bad name", "POST", clustersPath, clusterJSON("a/b", ""), nil, 422, "Invalid", "metadata.name"},
		{"bad cluster name", "POST", clustersPath, clusterJSON("a.b", ""), nil, 422, "Invalid", "a cluster name is 1 to 63 characters"},
		{"revision on create", "POST", clustersPath, `{"apiVersion":"cluster.open-cluster-management.io/v1","kind":"ManagedCluster","metadata":{"name":"x","resourceVersion":"3"},"spec":{}}`, nil, 400, "BadRequest", "resourceVersion should not be set"},
		{"wrong type", "POST", clustersPath, clusterJSON("x", `"hubAcceptsClient":"yes"`), nil, 422, "Invalid", "spec.hubAcceptsClient"},
		{"wrong enum", "POST", clustersPath, clusterJSON("x", `"taints":[{"key":"a","effect":"b"}]`), nil, 422, "Invalid", `supported values: "NoSelect"`},
		{"required", "POST", clustersPath, clusterJSON("x", `"taints":[{"key":"a"}]`), nil, 422, "Invalid", "spec.taints[0].effect: Required value"},
		{"unknown field, strict", "POST", clustersPath + "?fieldValidation=Strict", clusterJSON("x", `"nope":1`), nil, 400, "BadRequest", `strict decoding error: unknown field "spec.nope"`},
		{"unknown metadata, strict", "POST", clustersPath + "?fieldValidation=Strict", `{"apiVersion":"cluster.open-cluster-management.io/v1","kind":"ManagedCluster","metadata":{"name":"x","nope":1},"spec":{}}`, nil, 400, "BadRequest", `unknown field "metadata.nope"`},
		{"duplicate field, strict", "POST", clustersPath + "?fieldValidation=Strict", clusterJSON("x", `"hubAcceptsClient":true,"hubAcceptsClient":false`), nil, 400, "BadRequest", `duplicate field "spec.hubAcceptsClient"`},
		{"bad fieldValidation", "POST", clustersPath + "?fieldValidation=Perhaps", clusterJSON("x", ""), nil, 422, "Invalid", "fieldValidation"},
		{"bad dryRun", "POST", clustersPath + "?dryRun=Some", clusterJSON("x", ""), nil, 422, "Invalid", "dryRun"},
		{"unknown content", "POST", clustersPath, "x", []string{"Content-Type", "text/plain"}, 415, "UnsupportedMediaType", "application/json"},
		{"broken protobuf", "POST", nsPath, "k8s\x00garbage", []string{"Content-Type", mediaProtobuf}, 400, "BadRequest", "decode protobuf"},
		{"broken protobuf review", "POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", "k8s\x00\x01", []string{"Content-Type", mediaProtobuf}, 400, "BadRequest", "decode protobuf"},
		{"empty review", "POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", "{}", nil, 422, "Invalid", "exactly one of"},
		{"review by GET", "GET", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", "", nil, 405, "MethodNotAllowed", ""},
		{"unacceptable", "GET", c1, "", []string{"Accept", "text/html"}, 406, "NotAcceptable", "application/json"},
		{"object too large", "POST", clustersPath, `{"apiVersion":"cluster.open-cluster-management.io/v1","kind":"ManagedCluster","metadata":{"name":"x"},"spec":{"managedClusterClientConfigs":[{"url":"a","caBundle":"` + big + `"}]}}`, nil, 413, "RequestEntityTooLarge", "larger than 921600 bytes"},
		{"body too large", "POST", clustersPath, strings.Repeat(" ", 4<<20), nil, 413, "RequestEntityTooLarge", "larger than 3145728 bytes"},
		{"put without revision", "PUT", c1, clusterJSON("c1", ""), nil, 422, "Invalid", "metadata.resourceVersion"},
		{"put with an old revision", "PUT", c1, strings.Replace(clusterJSON("c1", ""), `"name"`, `"resourceVersion":"1","name"`, 1), nil, 409, "Conflict", "the object has been modified"},
		{"put with another uid", "PUT", c1, strings.Replace(clusterJSON("c1", ""), `"name"`, `"uid":"1","name"`, 1), nil, 409, "Conflict", "UID in precondition"},
		{"put of another name", "PUT", c1, clusterJSON("c2", ""), nil, 400, "BadRequest", "does not match the name on the URL"},
		{"put of a missing object", "PUT", clustersPath + "/c9", clusterJSON("c9", ""), nil, 404, "NotFound", ""},
		{"patch in an unknown form", "PATCH", c1, "{}", []string{"Content-Type", "application/json"}, 415, "UnsupportedMediaType", "application/apply-patch+yaml"},
		{"strategic patch of a custom kind", "PATCH", c1, "{}", []string{"Content-Type", "application/strategic-merge-patch+json"}, 415, "UnsupportedMediaType", "application/merge-patch+json"},
		{"merge patch with a nameless finalizer", "PATCH", c1, `{"metadata":{"finalizers":["a.b/c",""]}}`, []string{"Content-Type", mergePatch}, 422, "Invalid", "metadata.finalizers"},
		{"merge patch is an array", "PATCH", c1, "[]", []string{"Content-Type", mergePatch}, 400, "BadRequest", "error decoding patch"},
		{"merge patch is empty", "PATCH", c1, "", []string{"Content-Type", mergePatch}, 400, "BadRequest", ""},
		{"merge patch takes metadata away", "PATCH", c1, `{"metadata":null}`, []string{"Content-Type", mergePatch}, 422, "Invalid", "must be specified for an update"},
		{"merge patch changes the kind", "PATCH", c1, `{"kind":"X"}`, []string{"Content-Type", mergePatch}, 400, "BadRequest", "cannot be handled"},
		{"merge patch with an old revision", "PATCH", c1, `{"metadata":{"resourceVersion":"1"}}`, []string{"Content-Type", mergePatch}, 409, "Conflict", ""},
		{"JSON patch is an object", "PATCH", c1, "{}", []string{"Content-Type", jsonPatchT}, 400, "BadRequest", "not a JSON patch"},
		{"JSON patch of a missing path", "PATCH", c1, `[{"op":"remove","path":"/spec/nope"}]`, []string{"Content-Type", jsonPatchT}, 422, "Invalid", "cannot be applied"},
		{"JSON patch test fails", "PATCH", c1, `[{"op":"test","path":"/spec/hubAcceptsClient","value":true}]`, []string{"Content-Type", jsonPatchT}, 422, "Invalid", ""},
		{"JSON patch too long", "PATCH", c1, "[" + strings.Repeat(`{"op":"test","path":"/kind","value":"x"},`, maxJSONPatch) + `{"op":"test","path":"/kind","value":"x"}]`, []string{"Content-Type", jsonPatchT}, 413, "RequestEntityTooLarge", "10000"},
		{"JSON patch doubles itself", "PATCH", c1, doubling(40), []string{"Content-Type", jsonPatchT}, 422, "Invalid", "too much is copied"},
		{"apply without a manager", "PATCH", c1, clusterJSON("c1", ""), []string{"Content-Type", applyPatch}, 400, "BadRequest", "fieldManager is required"},
		{"apply with managedFields", "PATCH", c1 + "?fieldManager=m", strings.Replace(clusterJSON("c1", ""), `"name"`, `"managedFields":[{"manager":"x"}],"name"`, 1), []string{"Content-Type", applyPatch}, 400, "BadRequest", "managedFields must be nil"},
		{"apply of status to nothing", "PATCH", clustersPath + "/c9/status?fieldManager=m", clusterJSON("c9", ""), []string{"Content-Type", applyPatch}, 404, "NotFound", ""},
		{"apply with a wrong type", "PATCH", c1 + "?fieldManager=m", clusterJSON("c1", `"hubAcceptsClient":"x"`), []string{"Content-Type", applyPatch}, 422, "Invalid", "spec.hubAcceptsClient"},
		{"apply with a key twice", "PATCH", c1 + "/status?fieldManager=m", strings.Replace(clusterJSON("c1", ""), `"spec":{}`, `"status":{"conditions":[{"type":"a"},{"type":"a"}]}`, 1), []string{"Content-Type", applyPatch}, 400, "BadRequest", "apply: "},
		{"force without apply", "PATCH", c1 + "?force=true", "{}", []string{"Content-Type", mergePatch}, 422, "Invalid", "force"},
		{"delete with another uid", "DELETE", c1, `{"kind":"DeleteOptions","apiVersion":"v1","preconditions":{"uid":"x"}}`, nil, 409, "Conflict", "UID in precondition"},
		{"delete with an old revision", "DELETE", c1, `{"preconditions":{"resourceVersion":"1"}}`, nil, 409, "Conflict", "ResourceVersion in precondition"},
		{"delete with a bad policy", "DELETE", c1, `{"propagationPolicy":"Sometimes"}`, nil, 422, "Invalid", "propagationPolicy"},
		{"delete with another kind of options", "DELETE", c1, `{"kind":"Pod","apiVersion":"v1"}`, nil, 400, "BadRequest", "want DeleteOptions"},
		{"bad selector", "GET", clustersPath + "?labelSelector=a%3D%3D%3Db", "", nil, 400, "BadRequest", ""},
		{"unknown field of a selector", "GET", clustersPath + "?fieldSelector=spec.x%3D1", "", nil, 400, "BadRequest", "field label not supported: spec.x"},
		{"bad continue", "GET", clustersPath + "?continue=zzz", "", nil, 400, "BadRequest", ""},
		{"bad revision", "GET", clustersPath + "?resourceVersion=abc", "", nil, 400, "BadRequest", "must be a decimal number"},
		{"revision match without revision", "GET", clustersPath + "?resourceVersionMatch=Exact", "", nil, 422, "Invalid", "resourceVersionMatch"},
		{"initial events of a list", "GET", clustersPath + "?sendInitialEvents=true", "", nil, 422, "Invalid", "sendInitialEvents"},
		{"watch from the future", "GET", clustersPath + "?watch=1&resourceVersion=99999", "", nil, 504, "Timeout", "Too large resource version"},
		{"list from the future", "GET", clustersPath + "?resourceVersion=99999", "", nil, 504, "Timeout", "Too large resource version"},
		{"impersonation", "GET", c1, "", []string{"Impersonate-User", "root"}, 403, "Forbidden", "impersonation is not supported"},
		{"post to discovery", "POST", "/apis", "{}", nil, 405, "MethodNotAllowed", ""},
		{"unknown OpenAPI group", "GET", "/openapi/v3/apis/nope/v1", "", nil, 404, "NotFound", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := h.do(tt.method, tt.path, tt.body, tt.headers...)
			want := strings.ReplaceAll(tt.want, `"`, `\"`)
			if a.code != tt.code || !strings.Contains(a.body, want) {
				t.Fatalf("%s %s: %d %.600s\nwant %d with %q", tt.method, tt.path, a.code, a.body, tt.code, tt.want)
			}
			if tt.reason == "" {
				return
			}
			status := a.object(t)
			if status["kind"] != "Status" || status["reason"] != tt.reason || status["code"] != int64(tt.code) {
				t.Errorf("got %s, want a Status with reason %s", a.body, tt.reason)
			}
			if tt.code == http.StatusGatewayTimeout && a.header.Get("Retry-After") == "" {
				t.Error("no Retry-After")
			}
		})
	}
}

// doubling is a JSON patch whose every operation doubles the document.
func doubling(n int) string {
	ops := make([]string, n)
	for i := range ops {
		ops[i] = fmt.Sprintf(`{"op":"copy","from":"/metadata","path":"/metadata/x%d"}`, i)
	}
	return "[" + strings.Join(ops, ",") + "]"
}

func tokenJSON(name string) string {
	return `{"apiVersion":"fleet.drover.io/v1alpha1","kind":"JoinToken","metadata":{"name":"` + name + `"}}`
}

// TestGeneration follows metadata of one object through its life.
func TestGeneration(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	h.create(clustersPath, clusterJSON("c1", ``))
	c1 := clustersPath + "/c1"
	last := ""
	steps := []struct {
		name       string
		do         func() answered
		generation int64
		same       bool // the revision stays
	}{
		{"label", func() answered { return h.patch(mergePatch, c1, `{"metadata":{"labels":{"a":"b"}}}`) }, 1, false},
		{"same label", func() answered { return h.patch(mergePatch, c1, `{"metadata":{"labels":{"a":"b"}}}`) }, 1, true},
		{"spec", func() answered { return h.patch(mergePatch, c1, `{"spec":{"hubAcceptsClient":true}}`) }, 2, false},
		{"same spec", func() answered { return h.patch(mergePatch, c1, `{"spec":{"hubAcceptsClient":true}}`) }, 2, true},
		{"status through the object", func() answered { return h.patch(mergePatch, c1, `{"status":{"version":{"kubernetes":"v1"}}}`) }, 2, true},
		{"status", func() answered {
			return h.patch(mergePatch, c1+"/status", `{"status":{"version":{"kubernetes":"v1"}},"spec":{"hubAcceptsClient":false},"metadata":{"labels":{"a":"c"}}}`)
		}, 2, false},
		{"apply", func() answered {
			return h.patch(applyPatch, c1+"?fieldManager=m", clusterJSON("c1", `"leaseDurationSeconds":5`))
		}, 0, false},
		{"forced apply", func() answered {
			return h.patch(applyPatch, c1+"?fieldManager=m&force=true", clusterJSON("c1", `"leaseDurationSeconds":5`))
		}, 3, false},
		{"same apply", func() answered {
			return h.patch(applyPatch, c1+"?fieldManager=m&force=true", clusterJSON("c1", `"leaseDurationSeconds":5`))
		}, 3, true},
		{"finalizer", func() answered { return h.patch(mergePatch, c1, `{"metadata":{"finalizers":["drover.io/x"]}}`) }, 3, false},
		{"delete", func() answered { return h.do(http.MethodDelete, c1, "") }, 4, false},
		{"delete again", func() answered { return h.do(http.MethodDelete, c1, "") }, 4, true},
		{"no finalizer", func() answered { return h.patch(mergePatch, c1, `{"metadata":{"finalizers":[]}}`) }, 4, false},
	}
	for _, s := range steps {
		a := s.do()
		if s.generation == 0 {
			if a.code != http.StatusConflict || !strings.Contains(a.body, "spec.leaseDurationSeconds") {
				t.Fatalf("%s: %d %s, want a conflict", s.name, a.code, a.body)
			}
			continue
		}
		if a.code != http.StatusOK {
			t.Fatalf("%s: %d %s", s.name, a.code, a.body)
		}
		obj := a.object(t)
		if g := generation(obj); g != s.generation {
			t.Errorf("%s: generation %d, want %d", s.name, g, s.generation)
		}
		rv := metaString(obj, "resourceVersion")
		if (rv == last) != s.same {
			t.Errorf("%s: revision %s after %s, same = %t", s.name, rv, last, s.same)
		}
		last = rv
		if s.name == "status" {
			spec := obj["spec"].(map[string]any)
			if spec["hubAcceptsClient"] != true || meta(obj)["labels"].(map[string]any)["a"] != "b" {
				t.Errorf("status changed more than status: %s", a.body)
			}
		}
	}
	if a := h.do(http.MethodGet, c1, ""); a.code != http.StatusNotFound {
		t.Errorf("after the last finalizer: %d %s", a.code, a.body)
	}
}

// secretHook plays the part of the join tokens' owner.
type secretHook struct{ calls []Operation }

func (s *secretHook) Admit(_ context.Context, r *Admission) error {
	s.calls = append(s.calls, r.Operation)
	switch r.Operation {
	case Create:
		setPath(r.Object, []string{"status", "secretHash"}, "hash")
		r.Reveal([]string{"status", "token"}, "secret")
		r.Warn("keep it safe")
	case Update:
		if metaString(r.Object, "name") == "boom" {
			return errors.New("database password is hunter2")
		}
		return field.Forbidden(field.NewPath("spec"), "not today")
	case Delete:
		return apierrors.NewForbidden(schema.GroupResource{Resource: "jointokens"}, "x", fmt.Errorf("kept"))
	}
	return nil
}

func TestHook(t *testing.T) {
	t.Parallel()
	hook := &secretHook{}
	h := newHub(t, func(c *Config) { c.Hooks = map[string]Hook{"jointokens.fleet.drover.io": hook} })
	a := h.do(http.MethodPost, tokensPath, tokenJSON("t1"))
	if a.code != http.StatusCreated || !strings.Contains(a.body, `"token":"secret"`) || !strings.Contains(a.body, `"secretHash":"hash"`) {
		t.Fatalf("create: %d %s", a.code, a.body)
	}
	if w := a.header.Get("Warning"); w != `299 - "keep it safe"` {
		t.Errorf("warning = %q", w)
	}
	entry, err := h.store.Get(t.Context(), store.Key{Resource: "jointokens.fleet.drover.io", Name: "t1"})
	if err != nil || strings.Contains(string(entry.Data), `"secret"`) || !strings.Contains(string(entry.Data), "hash") {
		t.Errorf("stored %s, %v: want the hash and not the secret", entry.Data, err)
	}
	if a := h.do(http.MethodPost, tokensPath+"?dryRun=All", tokenJSON("t2")); a.code != http.StatusCreated || strings.Contains(a.body, `"secret"`) {
		t.Errorf("dry run: %d %s", a.code, a.body)
	}
	if a := h.do(http.MethodGet, tokensPath+"/t2", ""); a.code != http.StatusNotFound {
		t.Errorf("dry run stored: %s", a.body)
	}
	if a := h.patch(mergePatch, tokensPath+"/t1", `{"spec":{"revoked":true}}`); a.code != 422 || !strings.Contains(a.body, "spec: Forbidden: not today") {
		t.Errorf("field error: %d %s", a.code, a.body)
	}
	if a := h.do(http.MethodDelete, tokensPath+"/t1", ""); a.code != 403 || !strings.Contains(a.body, "kept") {
		t.Errorf("delete: %d %s", a.code, a.body)
	}
	h.create(tokensPath, tokenJSON("boom"))
	if a := h.patch(mergePatch, tokensPath+"/boom", `{"spec":{"revoked":true}}`); a.code != 500 || strings.Contains(a.body, "hunter2") {
		t.Errorf("internal error: %d %s", a.code, a.body)
	}
	if a := h.patch(mergePatch, tokensPath+"/t1", `{"spec":{"uses":"many"}}`); a.code != 422 || !strings.Contains(a.body, "spec.uses") {
		t.Errorf("wrong type before the hook: %d %s", a.code, a.body)
	}
	want := []Operation{Create, Create, Update, Delete, Create, Update}
	if diff := cmp.Diff(want, hook.calls); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
}

func TestGenerateName(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	body := `{"apiVersion":"fleet.drover.io/v1alpha1","kind":"JoinToken","metadata":{"generateName":"jt-"}}`
	first, second := h.create(tokensPath, body), h.create(tokensPath, body)
	a, b := metaString(first, "name"), metaString(second, "name")
	if a == b || !strings.HasPrefix(a, "jt-") || len(a) != len("jt-")+5 {
		t.Errorf("names %q and %q", a, b)
	}
}

// TestManifestRules covers what the schema of ManifestWork cannot say.
func TestManifestRules(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	cm := func(name, data string) string {
		return `{"apiVersion":"v1","kind":"ConfigMap","metadata":{` + name + `},"data":{"x":"` + data + `"}}`
	}
	tests := []struct {
		name, manifests, want string
	}{
		{"good", cm(`"name":"a"`, "") + "," + cm(`"name":"b"`, ""), ""},
		{"duplicate", cm(`"name":"a"`, "") + "," + cm(`"name":"a"`, "y"), "spec.workload.manifests[1]: Duplicate value"},
		{"other namespace", cm(`"name":"a","namespace":"x"`, "") + "," + cm(`"name":"a","namespace":"y"`, ""), ""},
		{"generateName", cm(`"generateName":"a"`, ""), "a manifest needs a fixed name"},
		{"no name", cm(``, ""), "manifests[0].metadata.name"},
		{"no kind", `{"apiVersion":"v1","metadata":{"name":"a"}}`, "manifests[0].kind"},
		{"too large", cm(`"name":"a"`, strings.Repeat("x", 300<<10)) + "," + cm(`"name":"b"`, strings.Repeat("x", 300<<10)), "bytes which exceeds the 512000 limit"},
	}
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			body := fmt.Sprintf(`{"apiVersion":"work.open-cluster-management.io/v1","kind":"ManifestWork","metadata":{"name":"w%d"},"spec":{"workload":{"manifests":[%s]}}}`, i, tt.manifests)
			a := h.do(http.MethodPost, worksPath, body)
			if tt.want == "" && a.code != http.StatusCreated || tt.want != "" && (a.code != 422 || !strings.Contains(a.body, tt.want)) {
				t.Errorf("%d %.600s, want %q", a.code, a.body, tt.want)
			}
		})
	}
}
