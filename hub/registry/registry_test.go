// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/drover-io/drover/hub/broker"
	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/shared/apis/cluster"
	"github.com/drover-io/drover/shared/apis/clusterregistry"
	"github.com/drover-io/drover/test/leak"
)

func TestMain(m *testing.M) { leak.Main(m) }

func parse(t testing.TB, text string) map[string]any {
	t.Helper()
	data, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	obj, err := decode(data)
	if err != nil {
		t.Fatal(err)
	}
	return obj
}

func encoded(t testing.TB, obj any) []byte {
	t.Helper()
	data, err := json.Marshal(obj)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestView(t *testing.T) {
	t.Parallel()
	mc := parse(t, `
apiVersion: cluster.open-cluster-management.io/v1
kind: ManagedCluster
metadata:
  name: shop-1
  uid: u
  generation: 3
  labels: {region: eu}
  annotations: {note: x, kubectl.kubernetes.io/last-applied-configuration: of the managed cluster}
spec:
  hubAcceptsClient: true
  managedClusterClientConfigs:
  - {url: "https://10.0.0.1:6443/", caBundle: QUJD}
  - {url: "https://rancher.example.com/k8s/clusters/c-1"}
  - {url: "https://[fd00::1]:6443", caBundle: QUJD}
status:
  agent: {lastSeen: "2026-01-02T03:00:00Z"}
  conditions:
  - {type: ManagedClusterJoined, status: "True", reason: ManagedClusterJoined, message: "", lastTransitionTime: "2026-01-01T00:00:00Z"}
  - {type: ManagedClusterConditionAvailable, status: Unknown, reason: ManagedClusterLeaseUpdateStopped, message: gone, lastTransitionTime: "2026-01-02T03:04:05Z", observedGeneration: 1}
`)
	got := clusterOf(mc)
	want := parse(t, `
apiVersion: clusterregistry.k8s.io/v1alpha1
kind: Cluster
metadata: {name: shop-1, uid: u, generation: 3, labels: {region: eu}, annotations: {note: x}}
spec:
  kubernetesApiEndpoints:
    caBundle: QUJD
    serverEndpoints:
    - {clientCIDR: 0.0.0.0/0, serverAddress: "10.0.0.1:6443"}
    - {clientCIDR: 0.0.0.0/0, serverAddress: "[fd00::1]:6443"}
status:
  conditions:
  - {type: OK, status: Unknown, reason: ManagedClusterLeaseUpdateStopped, message: gone, lastTransitionTime: "2026-01-02T03:04:05Z", lastHeartbeatTime: "2026-01-02T03:00:00Z"}
`)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("view (-want +got):\n%s", diff)
	}
	// What nobody changed stays as it was, apart from the record.
	merged, err := merge(encoded(t, mc), encoded(t, got))
	if err != nil {
		t.Fatal(err)
	}
	back, err := decode(merged)
	if err != nil {
		t.Fatal(err)
	}
	delete(back["metadata"].(map[string]any)["annotations"].(map[string]any), AnnotationRecord)
	order := func(obj map[string]any) { // the view keeps what it cannot show at the end
		list := obj["spec"].(map[string]any)["managedClusterClientConfigs"].([]any)
		list[1], list[2] = list[2], list[1]
	}
	order(mc)
	if diff := cmp.Diff(mc, back); diff != "" {
		t.Errorf("merge of nothing (-before +after):\n%s", diff)
	}
}

// TestRoundTrip: what is registered comes back.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	for name, spec := range map[string]string{
		"empty":              `{}`,
		"authority only":     `{kubernetesApiEndpoints: {caBundle: QUJD}}`,
		"endpoints":          `{kubernetesApiEndpoints: {caBundle: QUJD, serverEndpoints: [{clientCIDR: 10.0.0.0/8, serverAddress: "10.1.1.1:443"}, {clientCIDR: 0.0.0.0/0, serverAddress: api.example.com}]}}`,
		"same address twice": `{kubernetesApiEndpoints: {serverEndpoints: [{clientCIDR: 10.0.0.0/8, serverAddress: a.example.com}, {clientCIDR: 192.168.0.0/16, serverAddress: a.example.com}]}}`,
		"bare IPv6":          `{kubernetesApiEndpoints: {serverEndpoints: [{serverAddress: "fd00::1"}]}}`,
		"network only":       `{kubernetesApiEndpoints: {serverEndpoints: [{clientCIDR: 10.0.0.0/8}]}}`,
		"references":         `{authInfo: {user: {kind: ServiceAccount, name: viewer, namespace: fleet}, controller: {name: c}}}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := parse(t, `{apiVersion: clusterregistry.k8s.io/v1alpha1, kind: Cluster, metadata: {name: a, labels: {x: "1"}, finalizers: [f], annotations: {kubectl.kubernetes.io/last-applied-configuration: mine}, managedFields: [{manager: m}]}, spec: `+spec+`, status: {conditions: [{type: OK, status: "True"}]}}`)
			stored, err := merge(nil, encoded(t, c))
			if err != nil {
				t.Fatal(err)
			}
			mc, err := decode(stored)
			if err != nil {
				t.Fatal(err)
			}
			if mc["spec"].(map[string]any)["hubAcceptsClient"] != false {
				t.Error("the agent of a registered cluster is accepted")
			}
			if diff := cmp.Diff(c, clusterOf(mc)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			again, err := merge(stored, encoded(t, c))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(stored), string(again)); diff != "" {
				t.Errorf("writing the same again changes something:\n%s", diff)
			}
		})
	}
}

// TestMergeKeeps: an edit of one address leaves the rest, and everything of the
// ManagedCluster that the registry does not know.
func TestMergeKeeps(t *testing.T) {
	t.Parallel()
	mc := parse(t, `{metadata: {name: a, annotations: {kubectl.kubernetes.io/last-applied-configuration: theirs}}, spec: {hubAcceptsClient: true, taints: [{key: k, effect: NoSelect}], managedClusterClientConfigs: [{url: "https://one", caBundle: QUJD}, {url: "https://two", caBundle: REVG}, {url: "https://three/path"}]}}`)
	c := clusterOf(mc)
	endpoints := c["spec"].(map[string]any)["kubernetesApiEndpoints"].(map[string]any)
	endpoints["serverEndpoints"] = []any{map[string]any{"serverAddress": "two"}, map[string]any{"serverAddress": "four"}}
	merged, err := merge(encoded(t, mc), encoded(t, c))
	if err != nil {
		t.Fatal(err)
	}
	got, err := decode(merged)
	if err != nil {
		t.Fatal(err)
	}
	want := parse(t, `{hubAcceptsClient: true, taints: [{key: k, effect: NoSelect}], managedClusterClientConfigs: [{url: "https://two", caBundle: REVG}, {url: "https://four", caBundle: QUJD}, {url: "https://three/path"}]}`)
	if diff := cmp.Diff(want, got["spec"]); diff != "" {
		t.Errorf("spec (-want +got):\n%s", diff)
	}
	if text := got["metadata"].(map[string]any)["annotations"].(map[string]any)[annotationLastApplied]; text != "theirs" {
		t.Errorf("kubectl's record of the ManagedCluster: %v", text)
	}
}

func certificate(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	text := func(kind string) string {
		return base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	return text("CERTIFICATE"), text("PRIVATE KEY")
}

func TestValidate(t *testing.T) {
	t.Parallel()
	cert, key := certificate(t)
	jwt := "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0." + strings.Repeat("x", 20)
	tests := []struct{ name, obj, want string }{
		{"nothing", `{}`, ""},
		{"references", `{spec: {authInfo: {user: {kind: Secret, name: shop-1-viewer, namespace: fleet-credentials-of-the-eu-region-1}, controller: {kind: User, name: "system:serviceaccount:kube-system:fleet-controller-Of-Shop1"}}}}`, ""},
		{"certificate", `{spec: {kubernetesApiEndpoints: {caBundle: ` + cert + `}}}`, ""},
		{"key", `{spec: {kubernetesApiEndpoints: {caBundle: ` + key + `}}}`, "spec.kubernetesApiEndpoints.caBundle"},
		{"no PEM", `{spec: {kubernetesApiEndpoints: {caBundle: QUJD}}}`, "spec.kubernetesApiEndpoints.caBundle"},
		{"token as name", `{spec: {authInfo: {user: {name: ` + jwt + `}}}}`, "spec.authInfo.user.name"},
		{"bearer", `{spec: {authInfo: {controller: {name: Bearer abc}}}}`, "spec.authInfo.controller.name"},
		{"password in URL", `{spec: {authInfo: {user: {name: "https://u:p@host"}}}}`, "spec.authInfo.user.name"},
		{"random", `{spec: {authInfo: {user: {namespace: 4hG7sPq2LmX9vB3nKc6TzR8wYd5JfA1e}}}}`, "spec.authInfo.user.namespace"},
		{"key in annotation", `{metadata: {annotations: {a: "-----BEGIN EC PRIVATE KEY-----"}}}`, "metadata.annotations[a]"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			errs := Validate(parse(t, tt.obj))
			got := ""
			if len(errs) > 0 {
				got = errs[0].Field
			}
			if got != tt.want || len(errs) > 1 {
				t.Errorf("%v, want %q", errs, tt.want)
			}
			if len(errs) > 0 && strings.Contains(errs[0].Error(), jwt) {
				t.Errorf("the message repeats the secret: %v", errs)
			}
		})
	}
}

func FuzzMerge(f *testing.F) {
	f.Add([]byte(`{"metadata":{"name":"a"},"spec":{"managedClusterClientConfigs":[{"url":"https://a"}]}}`), []byte(`{"metadata":{"name":"a"},"spec":{"kubernetesApiEndpoints":{"serverEndpoints":[{"serverAddress":"b"}]}}}`))
	f.Add([]byte(`{"metadata":{"annotations":{"fleet.drover.io/registry":"{}"}},"spec":[]}`), []byte(`{"metadata":7,"spec":{"kubernetesApiEndpoints":[]}}`))
	f.Fuzz(func(t *testing.T, mc, c []byte) {
		merged, err := merge(mc, c)
		if err != nil {
			return
		}
		if _, err := view(store.Entry{Data: merged}); err != nil {
			t.Fatal(err)
		}
	})
}

func TestStore(t *testing.T) {
	t.Parallel()
	b, err := broker.Open(broker.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	db, err := store.Open(ctx, b.JetStream(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	run, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); db.Run(run) }() //nolint:errcheck // ends by stop
	t.Cleanup(func() { stop(); <-done })
	s := Store{db}
	key := store.Key{Resource: clusterregistry.Resource, Name: "a"}
	w, err := s.Watch(ctx, store.WatchSelection{Resource: key.Resource})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	data := func(label string) []byte {
		return []byte(`{"apiVersion":"clusterregistry.k8s.io/v1alpha1","kind":"Cluster","metadata":{"name":"a","uid":"u","labels":{"x":"` + label + `"}},"spec":{}}`)
	}
	first, err := s.Create(ctx, key, data("1"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Create(ctx, key, data("1")); !errors.Is(err, store.ErrExists) {
		t.Errorf("again: %v", err)
	}
	if e, err := db.Get(ctx, store.Key{Resource: cluster.Resource, Name: "a"}); err != nil || e.Revision != first {
		t.Errorf("managed cluster: %v, %v", e, err)
	}
	second, err := s.Update(ctx, key, data("2"), first)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Update(ctx, key, data("3"), first); !errors.Is(err, store.ErrConflict) {
		t.Errorf("stale: %v", err)
	}
	page, err := s.List(ctx, store.Selection{Resource: key.Resource})
	if err != nil || len(page.Entries) != 1 || page.Entries[0].Key != key || page.Entries[0].Revision != second || !strings.Contains(string(page.Entries[0].Data), clusterregistry.Group) {
		t.Errorf("list: %+v, %v", page, err)
	}
	if _, err := s.Delete(ctx, key, second); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(ctx, key); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("deleted: %v", err)
	}
	for _, want := range []store.EventType{store.Added, store.Modified, store.Deleted} {
		for {
			ev, err := w.Next(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if ev.Type == store.Bookmark {
				continue
			}
			if ev.Type != want || ev.Entry.Key != key || !strings.Contains(string(ev.Entry.Data), `"kind":"Cluster"`) {
				t.Errorf("event %v of %v: %s, want %v", ev.Type, ev.Entry.Key, ev.Entry.Data, want)
			}
			break
		}
	}
}
