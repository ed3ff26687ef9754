// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

// get asks the hub as a user and returns the status and the body.
func (r *running) get(ctx context.Context, c credential, path string) (int, string) {
	r.t.Helper()
	cfg := r.config()
	if c.chain != nil {
		cfg.CertData, cfg.KeyData = c.chain, c.key
	}
	hc, err := rest.HTTPClientFor(cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	defer hc.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, cfg.Host+path, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	resp, err := hc.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// Who may see a cluster's metrics sees them over time, and nobody else.
func TestSamples(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	who := signUsers(t, dir, map[string][]string{"ann": nil})
	r := start(t, dir, nil)
	ctx, admin := timeout(t), r.client()
	for name, set := range map[string]string{"a1": "blue", "b1": "red"} {
		o := object(t, fmt.Sprintf("{apiVersion: cluster.open-cluster-management.io/v1, kind: ManagedCluster, metadata: {name: %s, labels: {cluster.open-cluster-management.io/clusterset: %s}}, spec: {hubAcceptsClient: false}}", name, set))
		if _, err := admin.Resource(clusters()).Create(ctx, o, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	blue := object(t, "{apiVersion: cluster.open-cluster-management.io/v1beta2, kind: ManagedClusterSet, metadata: {name: blue}, spec: {}}")
	if _, err := admin.Resource(sets()).Create(ctx, blue, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for resource, text := range map[string]string{
		"clusterroles":        "{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: view-blue}, rules: [{apiGroups: [cluster.open-cluster-management.io], resources: [managedclustersets], resourceNames: [blue], verbs: [view]}]}",
		"clusterrolebindings": "{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, metadata: {name: view-blue}, roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view-blue}, subjects: [{kind: User, name: ann}]}",
	} {
		if _, err := admin.Resource(of("rbac.authorization.k8s.io", "v1", resource)).Create(ctx, object(t, text), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "ann may see a1", func() bool {
		code, body := r.get(ctx, who["ann"], "/v1/samples/a1")
		if code != http.StatusOK {
			t.Logf("%d %s", code, body)
		}
		return code == http.StatusOK
	})
	for _, tt := range []struct {
		user, path string
		code       int
		text       string
	}{
		{"ann", "a1?from=1m&step=30s", 200, `{"names":["t"],"columns":[[1`},
		{"ann", "b1", 403, `user \"ann\" cannot get clustermetrics \"b1\"`},
		{"ann", "none", 403, "Forbidden"},
		{"admin", "b1", 200, `"names":["t"]`},
		{"admin", "none", 404, "NotFound"},
		{"admin", "a1?step=fast", 400, `step=\"fast\": want a duration`},
	} {
		code, body := r.get(ctx, who[tt.user], "/v1/samples/"+tt.path)
		if code != tt.code || !strings.Contains(body, tt.text) {
			t.Errorf("%s %s: %d %s", tt.user, tt.path, code, body)
		}
	}
}

func TestReadSpan(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_700_000_000, 0).UTC()
	for _, tt := range []struct {
		from, step string
		ago, every time.Duration
		err        string
	}{
		{"", "", time.Hour, 10 * time.Second, ""},
		{"1699999100", "30", 15 * time.Minute, 30 * time.Second, ""},
		{"15m", "1m", 15 * time.Minute, time.Minute, ""},
		{"-15m", "", 15 * time.Minute, 10 * time.Second, ""},
		{"2023-11-14T22:13:10Z", "1s", 10 * time.Second, time.Second, ""},
		{"yesterday", "", 0, 0, `from="yesterday": want Unix seconds`},
		{"", "0", 0, 0, `step="0": want a duration from 1s`},
		{"", "2h", 0, 0, `step="2h": want a duration from 1s to 1h0m0s`},
		{"", "x", 0, 0, `step="x"`},
	} {
		from, step, err := readSpan(tt.from, tt.step, now)
		if tt.err != "" {
			if err == nil || !strings.HasPrefix(err.Error(), tt.err) {
				t.Errorf("%q %q: %v, want %s", tt.from, tt.step, err, tt.err)
			}
			continue
		}
		if err != nil || !from.Equal(now.Add(-tt.ago)) || step != tt.every {
			t.Errorf("%q %q: %s ago in steps of %s, %v", tt.from, tt.step, now.Sub(from), step, err)
		}
	}
}
