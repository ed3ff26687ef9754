// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"github.com/drover-io/drover/hub/api"
	"github.com/drover-io/drover/hub/store"
)

// masters lets those of system:masters do everything, and others nothing.
type masters struct{}

func (masters) Authorize(_ context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
	if slices.Contains(a.GetUser().GetGroups(), user.SystemPrivilegedGroup) {
		return authorizer.DecisionAllow, "", nil
	}
	return authorizer.DecisionDeny, "", nil
}

const canary = "c4n4ry-in-a-coal-mine"

// revealer puts the canary into the answer to a create, as tokens are.
type revealer struct{}

func (revealer) Admit(_ context.Context, r *api.Admission) error {
	if r.Reveal != nil {
		r.Reveal([]string{"status", "token"}, canary)
	}
	return nil
}

func newHub(t testing.TB, b *testBroker, l *Log) *hub {
	t.Helper()
	h, err := startHub(timeout(t), b.js, l, map[string]api.Hook{"jointokens.fleet.drover.io": revealer{}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.stop)
	return h
}

// person is a client whose idle connections end with the test.
func (h *hub) person(t testing.TB, name string, groups ...string) *http.Client {
	t.Helper()
	c, err := h.client(name, groups...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.CloseIdleConnections)
	return c
}

func (h *hub) do(t testing.TB, c *http.Client, method, path, body string, contentType ...string) (int, string) {
	t.Helper()
	media := "application/json"
	if len(contentType) > 0 {
		media = contentType[0]
	}
	code, text, err := h.send(c, method, path, body, media)
	if err != nil {
		t.Fatal(err)
	}
	return code, text
}

// brief is what the table of TestVerbs compares of an event.
func brief(ev auditv1.Event) string {
	ref := auditv1.ObjectReference{}
	if ev.ObjectRef != nil {
		ref = *ev.ObjectRef
	}
	out := fmt.Sprintf("%s %s %s/%s %s %d", ev.User.Username, ev.Verb, ref.Resource, ref.Subresource, ref.Name, ev.ResponseStatus.Code)
	if ev.Annotations[api.AnnotationDryRun] != "" {
		out += " dry"
	}
	if names := ev.Annotations[api.AnnotationRemoved]; names != "" {
		out += " removed " + names
	}
	if ev.Level != auditv1.LevelMetadata {
		out += " " + string(ev.Level)
	}
	return out
}

// TestVerbs sends one request after the other and compares what each left behind.
func TestVerbs(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	l, _ := b.open(Options{})
	h := newHub(t, b, l)
	ann, bob, nobody := h.person(t, "ann", user.SystemPrivilegedGroup), h.person(t, "bob"), h.person(t, "")
	const merge, apply = "application/merge-patch+json", "application/apply-patch+yaml"
	label := `{"metadata":{"labels":{"a":"%d"}}}`
	tests := []struct {
		name               string
		who                *http.Client
		method, path, body string
		media              string
		want               string // empty: no record
	}{
		{"create", ann, "POST", clustersPath, clusterJSON("c1"), "", "ann create managedclusters/ c1 201"},
		{"create again", ann, "POST", clustersPath, clusterJSON("c1"), "", "ann create managedclusters/ c1 409"},
		{"create, invalid", ann, "POST", clustersPath, clusterJSON("C_1"), "", "ann create managedclusters/ C_1 422"},
		{"create, garbage", ann, "POST", clustersPath, "{", "", "ann create managedclusters/  400"},
		{"create, dry run", ann, "POST", clustersPath + "?dryRun=All", clusterJSON("c2"), "", "ann create managedclusters/ c2 201 dry"},
		{"get", ann, "GET", clustersPath + "/c1", "", "", ""},
		{"list", ann, "GET", clustersPath, "", "", ""},
		{"not found", ann, "GET", clustersPath + "/none", "", "", ""},
		{"patch", ann, "PATCH", clustersPath + "/c1", fmt.Sprintf(label, 1), merge, "ann patch managedclusters/ c1 200"},
		{"patch, unchanged", ann, "PATCH", clustersPath + "/c1", fmt.Sprintf(label, 1), merge, "ann patch managedclusters/ c1 200"},
		{"patch of nothing", ann, "PATCH", clustersPath + "/none", fmt.Sprintf(label, 1), merge, "ann patch managedclusters/ none 404"},
		{"patch of another type", ann, "PATCH", clustersPath + "/c1", "{}", "text/plain", "ann patch managedclusters/ c1 415"},
		{"patch of status", ann, "PATCH", clustersPath + "/c1/status", "{}", merge, "ann patch managedclusters/status c1 200"},
		{"apply", ann, "PATCH", clustersPath + "/c3?fieldManager=x", clusterJSON("c3"), apply, "ann patch managedclusters/ c3 201"},
		{"update, no revision", ann, "PUT", clustersPath + "/c1", clusterJSON("c1"), "", "ann update managedclusters/ c1 422"},
		{"delete, dry run", ann, "DELETE", clustersPath + "/c3", `{"dryRun":["All"]}`, "", "ann delete managedclusters/ c3 200 dry"},
		{"delete", ann, "DELETE", clustersPath + "/c3", "", "", "ann delete managedclusters/ c3 200"},
		{"delete again", ann, "DELETE", clustersPath + "/c3", "", "", "ann delete managedclusters/ c3 404"},
		{"delete all", ann, "DELETE", clustersPath, "", "", "ann deletecollection managedclusters/  200 removed c1"},
		{"not allowed", bob, "POST", clustersPath, clusterJSON("c9"), "", "bob create managedclusters/  403"},
		{"not allowed to read", bob, "GET", clustersPath + "/c1", "", "", "bob get managedclusters/ c1 403"},
		{"not known", nobody, "DELETE", clustersPath + "/c1", "", "", "system:anonymous delete managedclusters/ c1 401"},
		{"not known, read", nobody, "GET", clustersPath, "", "", "system:anonymous list managedclusters/  401"},
		{"version", nobody, "GET", "/version", "", "", ""},
		{"no such kind", ann, "POST", "/apis/x/v1/things", "{}", "", "ann create things/  404"},
		{"not a resource", ann, "POST", "/apis", "{}", "", "ann post /  405"},
		{"decision", ann, "PATCH", requestsPath + "/r1", `{"spec":{"approval":{"decision":"Approve"}}}`, merge, "ann patch joinrequests/ r1 404 Request"},
		{"review", ann, "POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", `{}`, "", ""},
		{"audit", ann, "GET", Path, "", "", ""},
		{"audit, not allowed", bob, "GET", Path, "", "", "bob get /  403"},
		{"audit, not known", nobody, "GET", VerifyPath, "", "", "system:anonymous get /  401"},
		{"audit is read only", ann, "DELETE", Path, "", "", "ann DELETE /  405"},
	}
	n := 0
	for _, tt := range tests {
		media := tt.media
		if media == "" {
			media = "application/json"
		}
		code, text := h.do(t, tt.who, tt.method, tt.path, tt.body, media)
		all := mustQuery(t, l, Filter{Limit: MaxLimit})
		got := []string{}
		for _, ev := range all[:len(all)-n] {
			got = append(got, brief(ev))
		}
		n = len(all)
		want := []string{}
		if tt.want != "" {
			want = append(want, tt.want)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: answer %d %s\nrecords (-want +got):\n%s", tt.name, code, text, diff)
		}
	}
	wantWhole(t, l, uint64(n))

	created := mustQuery(t, l, Filter{User: "ann", Verb: "create", Name: "c1"})
	ev := created[len(created)-1]
	if ev.ObjectRef.UID == "" || ev.ObjectRef.ResourceVersion == "" || ev.ObjectRef.APIGroup != "cluster.open-cluster-management.io" ||
		!slices.Equal(ev.SourceIPs, []string{"127.0.0.1"}) || ev.AuditID == "" || ev.RequestObject != nil ||
		ev.User.Extra["drover.io/certificate-serial"][0] != "7" || ev.StageTimestamp.IsZero() || ev.RequestURI != clustersPath {
		t.Errorf("event = %+v, ref %+v", ev, ev.ObjectRef)
	}
	decision := mustQuery(t, l, Filter{Resource: "joinrequests.fleet.drover.io"})[0]
	if got := string(decision.RequestObject.Raw); got != `{"spec":{"approval":{"decision":"Approve"}}}` {
		t.Errorf("object of the decision = %s", got)
	}
}

func TestHandler(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	l, _ := b.open(Options{})
	h := newHub(t, b, l)
	ann := h.person(t, "ann", user.SystemPrivilegedGroup)
	for i := range 3 {
		h.do(t, ann, "POST", clustersPath, clusterJSON(fmt.Sprint("c", i)))
	}
	code, text := h.do(t, ann, "GET", Path+"?user=ann&resource=managedclusters&limit=2&since="+time.Now().Add(-time.Hour).UTC().Format(time.RFC3339), "")
	var list auditv1.EventList
	if err := json.Unmarshal([]byte(text), &list); err != nil || code != 200 || list.Kind != "EventList" || len(list.Items) != 2 || list.Items[0].ObjectRef.Name != "c2" {
		t.Errorf("%d %s: %v", code, text, err)
	}
	if _, text := h.do(t, ann, "GET", Path+"?user=none", ""); !strings.Contains(text, `"items":[]`) {
		t.Errorf("an empty list is %s", text)
	}
	code, text = h.do(t, ann, "GET", VerifyPath, "")
	var r Report
	if err := json.Unmarshal([]byte(text), &r); err != nil || code != 200 || r.Records != 3 || r.Breaks != 0 || r.Head == "" {
		t.Errorf("%d %s: %v", code, text, err)
	}
	for _, bad := range []string{"since=yesterday", "until=1", "limit=0", "limit=x", "limit=5001"} {
		if code, text := h.do(t, ann, "GET", Path+"?"+bad, ""); code != 400 {
			t.Errorf("%s: %d %s", bad, code, text)
		}
	}
}

// TestCanary sends a secret in every way there is, and looks for it in the stream.
func TestCanary(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	l, _ := b.open(Options{})
	h := newHub(t, b, l)
	ann := h.person(t, "ann", user.SystemPrivilegedGroup)
	const merge, apply, patch = "application/merge-patch+json", "application/apply-patch+yaml", "application/json-patch+json"
	token := `{"apiVersion":"fleet.drover.io/v1alpha1","kind":"JoinToken","metadata":{"name":"t1"},"spec":{}}`
	code, text := h.do(t, ann, "POST", tokensPath, token)
	if code != 201 || !strings.Contains(text, canary) {
		t.Fatalf("the answer does not reveal: %d %s", code, text)
	}
	secret := `{"apiVersion":"v1","kind":"Secret","metadata":{"name":"s","annotations":{"kubectl.kubernetes.io/last-applied-configuration":"{\"data\":{\"x\":\"` +
		canary + `\"}}"}},"data":{"x":"` + canary + `"},"stringData":{"y":"` + canary + `"}}`
	for _, r := range []struct{ method, path, body, media string }{
		{"PATCH", requestsPath + "/r1", `{"spec":{"token":"` + canary + `","approval":{"decision":"Approve"}}}`, merge},
		{"PATCH", requestsPath + "/r1", `{"spec":{"deep":[{"clientSecret":{"value":"` + canary + `"}},{"API_KEY":"` + canary + `"}]}}`, merge},
		{"PATCH", requestsPath + "/r1", `{"spec":{"env":[{"name":"DB_PASSWORD","value":"` + canary + `"}],"manifests":[` + secret + `]}}`, merge},
		{"PATCH", requestsPath + "/r1", `[{"op":"add","path":"/spec/token","value":"` + canary + `"},{"op":"add","path":"/data/x","value":"` + canary + `"}]`, patch},
		{"PATCH", requestsPath + "/r1?fieldManager=x&access_token=" + canary, "spec:\n  password: " + canary + "\n", apply},
		{"PATCH", requestsPath + "/r1", `{"spec":{"token":"` + canary + `"`, merge},
		{"PUT", requestsPath + "/r1", canary, "application/vnd.kubernetes.protobuf"},
		{"POST", tokensPath, `{"apiVersion":"fleet.drover.io/v1alpha1","kind":"JoinToken","metadata":{"name":"t2"},"spec":{"clusterName":"` + canary + ` !"}}`, "application/json"},
		{"POST", tokensPath, `{"apiVersion":"fleet.drover.io/v1alpha1","kind":"JoinToken","metadata":{"name":"t2"},"spec":{"uses":"` + canary + `"}}`, "application/json"},
		{"POST", tokensPath, canary, "application/json"},
		{"POST", tokensPath, secret, "application/json"},
	} {
		code, text := h.do(t, ann, r.method, r.path, r.body, r.media)
		t.Log(r.method, r.path, code, text)
	}
	all := b.messages()
	if len(all) != 12 {
		t.Errorf("%d messages, want 12", len(all))
	}
	for _, data := range all {
		if bytes.Contains(data, []byte(canary)) {
			t.Errorf("the secret is in the log: %s", data)
		}
	}
	if !bytes.Contains(bytes.Join(all, nil), []byte(`"approval":{"decision":"Approve"}`)) {
		t.Error("a decision is not in the log")
	}
}

// TestNothingUnrecorded takes the log away under an API that serves.
func TestNothingUnrecorded(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	f := &flaky{JetStream: b.js}
	l, _ := (&testBroker{t: t, js: f}).open(Options{Patience: 100 * time.Millisecond})
	h := newHub(t, b, l)
	ann := h.person(t, "ann", user.SystemPrivilegedGroup)
	f.set(true, false)
	// The first write finds out: it is stored, and not acknowledged.
	if code, text := h.do(t, ann, "POST", clustersPath, clusterJSON("c1")); code != 500 || !strings.Contains(text, "could not be recorded") {
		t.Errorf("%d %s", code, text)
	}
	// The next ones are refused before anything happens. Reads go on.
	if code, text := h.do(t, ann, "POST", clustersPath, clusterJSON("c2")); code != 503 || !strings.Contains(text, "audit log") {
		t.Errorf("%d %s", code, text)
	}
	if code, _ := h.do(t, ann, "GET", clustersPath+"/c2", ""); code != 404 {
		t.Errorf("c2: %d", code)
	}
	f.set(false, false)
	eventually(t, "the log can be written", func() bool { return l.Ready() == nil })
	if code, text := h.do(t, ann, "POST", clustersPath, clusterJSON("c2")); code != 201 {
		t.Errorf("%d %s", code, text)
	}
	var got []string
	for _, ev := range mustQuery(t, l, Filter{}) {
		got = append(got, brief(ev))
	}
	want := []string{"ann create managedclusters/ c2 201", "ann create managedclusters/  503", "ann create managedclusters/ c1 201"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
}

func BenchmarkCreate(b *testing.B) {
	for _, clients := range []int{1, 8, 64} {
		for _, audited := range []bool{false, true} {
			b.Run(fmt.Sprintf("clients=%d/audit=%t", clients, audited), func(b *testing.B) {
				br := newBroker(b)
				var l *Log
				if audited {
					l, _ = br.open(Options{})
				}
				h := newHub(b, br, l)
				ann := h.person(b, "ann", user.SystemPrivilegedGroup)
				var next atomic.Int64
				create := func(i int64) {
					if code, text := h.do(b, ann, "POST", clustersPath, clusterJSON(fmt.Sprint("c", i))); code != 201 {
						b.Errorf("%d %s", code, text)
					}
				}
				create(0) // compiles the schema
				b.ResetTimer()
				var group sync.WaitGroup
				for range clients {
					group.Go(func() {
						for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
							create(i)
						}
					})
				}
				group.Wait()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "creates/s")
				if page, err := h.store.List(timeout(b), store.Selection{Resource: "managedclusters.cluster.open-cluster-management.io"}); err != nil || len(page.Entries) != b.N+1 {
					b.Errorf("%d objects: %v", len(page.Entries), err)
				}
			})
		}
	}
}
