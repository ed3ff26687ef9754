// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/drover-io/drover/shared/apis/clusterregistry"
	"github.com/drover-io/drover/shared/apis/schemas"
	"github.com/drover-io/drover/test/kube"
)

// terminal runs kubectl with the credential of a cluster.
type terminal struct {
	t      *testing.T
	config string
}

func (r *running) kubectl() *terminal {
	r.t.Helper()
	needKubetest(r.t)
	return &terminal{r.t, r.cfg.AdminKubeconfig()}
}

func needKubetest(t *testing.T) {
	t.Helper()
	if _, err := kube.Binary(); err != nil {
		if errors.Is(err, kube.ErrNotBuilt) && os.Getenv("CI") != "true" {
			t.Skipf("needs a kubectl, but %v", err)
		}
		t.Fatal(err)
	}
}

func (k *terminal) try(in string, args ...string) (string, error) {
	cmd := kube.Kubectl(k.config, args...)
	cmd.Stdin = strings.NewReader(in)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}

func (k *terminal) run(in string, args ...string) string {
	k.t.Helper()
	out, err := k.try(in, args...)
	if err != nil {
		k.t.Fatalf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(out)
}

func (k *terminal) until(want string, args ...string) {
	k.t.Helper()
	out := ""
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if out, _ = k.try("", args...); strings.TrimSpace(out) == want {
			return
		}
	}
	k.t.Fatalf("kubectl %s: %q, want %q", strings.Join(args, " "), out, want)
}

// TestPlacementsWithKubectl: sets, bindings, placements and replica sets, as a
// user of Open Cluster Management writes them.
func TestPlacementsWithKubectl(t *testing.T) {
	t.Parallel()
	k := start(t, t.TempDir(), nil).kubectl()
	k.run("", "create", "namespace", "apps")
	k.run(`
{apiVersion: cluster.open-cluster-management.io/v1, kind: ManagedCluster, metadata: {name: shop-1, labels: {env: prod, cluster.open-cluster-management.io/clusterset: shops}}, spec: {hubAcceptsClient: false}}
---
{apiVersion: cluster.open-cluster-management.io/v1, kind: ManagedCluster, metadata: {name: shop-2, labels: {env: test, cluster.open-cluster-management.io/clusterset: shops}}, spec: {hubAcceptsClient: false}}
---
{apiVersion: cluster.open-cluster-management.io/v1, kind: ManagedCluster, metadata: {name: lab-1, labels: {env: prod}}, spec: {hubAcceptsClient: false}}
---
{apiVersion: cluster.open-cluster-management.io/v1beta2, kind: ManagedClusterSet, metadata: {name: shops}}
---
{apiVersion: cluster.open-cluster-management.io/v1beta2, kind: ManagedClusterSetBinding, metadata: {name: shops, namespace: apps}, spec: {clusterSet: shops}}
---
apiVersion: cluster.open-cluster-management.io/v1beta1
kind: Placement
metadata: {name: prod, namespace: apps}
spec:
  predicates: [{requiredClusterSelector: {labelSelector: {matchLabels: {env: prod}}}}]
  tolerations: [{key: cluster.open-cluster-management.io/unreachable, operator: Exists}]
---
apiVersion: work.open-cluster-management.io/v1alpha1
kind: ManifestWorkReplicaSet
metadata: {name: hello, namespace: apps}
spec:
  placementRefs: [{name: prod}]
  manifestWorkTemplate:
    workload: {manifests: [{apiVersion: v1, kind: ConfigMap, metadata: {name: hello, namespace: default}, data: {a: b}}]}
`, "apply", "-f", "-")
	k.until("2 ManagedClusters selected", "get", "mclset", "shops", "-o", `jsonpath={.status.conditions[?(@.type=="ClusterSetEmpty")].message}`)
	k.until("True", "get", "mclsetbinding", "shops", "-n", "apps", "-o", `jsonpath={.status.conditions[?(@.type=="Bound")].status}`)
	k.until("default", "get", "mcl", "lab-1", "-o", `jsonpath={.metadata.labels.cluster\.open-cluster-management\.io/clusterset}`)
	k.until("cluster.open-cluster-management.io/unreachable", "get", "mcl", "shop-1", "-o", "jsonpath={.spec.taints[*].key}")
	k.until("shop-1", "get", "placementdecisions", "-n", "apps", "-l", "cluster.open-cluster-management.io/placement=prod", "-o", "jsonpath={.items[*].status.decisions[*].clusterName}")
	k.until("shop-1", "get", "manifestworks", "-A", "-l", "work.open-cluster-management.io/manifestworkreplicaset=apps.hello", "-o", "jsonpath={.items[*].metadata.namespace}")
	k.until("1", "get", "mwrs", "hello", "-n", "apps", "-o", "jsonpath={.status.summary.total}")
	if out := k.run("", "get", "placement", "-n", "apps"); !strings.Contains(out, "AllDecisionsScheduled") {
		t.Errorf("table:\n%s", out)
	}
	k.run("", "patch", "mcl", "shop-1", "--subresource=status", "--type=merge", "-p",
		`{"status":{"conditions":[{"type":"ManagedClusterConditionAvailable","status":"Unknown","reason":"Away","message":"","lastTransitionTime":"2026-01-02T03:04:05Z"}]}}`)
	// The cluster cannot be reached: it keeps its work although it is not chosen.
	k.run("", "label", "mcl", "shop-2", "env=prod", "--overwrite")
	k.run("", "label", "mcl", "shop-1", "env=test", "--overwrite")
	k.until("shop-2", "get", "placementdecisions", "-n", "apps", "-o", "jsonpath={.items[*].status.decisions[*].clusterName}")
	k.until("shop-1 shop-2", "get", "manifestworks", "-A", "-o", "jsonpath={.items[*].metadata.namespace}")
	k.run("", "delete", "mwrs", "hello", "-n", "apps")
	k.until("", "get", "manifestworks", "-A", "-o", "name")
}

// TestRegistryFile: what the registry answers can be stored in a file, which a
// Kubernetes with the same kind accepts, and the other way round.
func TestRegistryFile(t *testing.T) {
	t.Parallel()
	needKubetest(t)
	first, second := start(t, t.TempDir(), nil).kubectl(), start(t, t.TempDir(), nil).kubectl()
	real, err := kube.Start(timeout(t), kube.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := real.Stop(); err != nil {
			t.Error(err)
		}
	})
	kubernetes := &terminal{t, real.Kubeconfig}
	docs, err := schemas.Documents()
	if err != nil {
		t.Fatal(err)
	}
	for _, doc := range docs {
		if bytes.Contains(doc, []byte("name: "+clusterregistry.Resource+"\n")) {
			// Kubernetes wants to hear that it did not approve of a k8s.io group.
			doc = bytes.Replace(doc, []byte("annotations: {"), []byte("annotations: {api-approved.kubernetes.io: unapproved, "), 1)
			kubernetes.run(string(doc), "apply", "-f", "-")
		}
	}
	kubernetes.run("", "wait", "--for=condition=Established", "crd/"+clusterregistry.Resource)

	const resource = clusterregistry.Resource
	first.run(`
apiVersion: clusterregistry.k8s.io/v1alpha1
kind: Cluster
metadata: {name: shop-1, labels: {region: eu}, annotations: {owner: team-blue}}
spec:
  kubernetesApiEndpoints:
    serverEndpoints: [{clientCIDR: 10.0.0.0/8, serverAddress: "10.1.1.1:6443"}, {clientCIDR: 0.0.0.0/0, serverAddress: api.shop-1.example.com}]
  authInfo: {user: {kind: ServiceAccount, name: viewer, namespace: fleet}}
---
{apiVersion: clusterregistry.k8s.io/v1alpha1, kind: Cluster, metadata: {name: shop-2}}
`, "apply", "-f", "-")
	if out := first.run("", "get", resource); !strings.Contains(out, "10.0.0.0/8   10.1.1.1:6443") {
		t.Errorf("table:\n%s", out)
	}
	first.until("https://10.1.1.1:6443 https://api.shop-1.example.com false", "get", "mcl", "shop-1", "-o", "jsonpath={.spec.managedClusterClientConfigs[*].url} {.spec.hubAcceptsClient}")

	const fields = "jsonpath={range .items[*]}{.metadata.name} {.metadata.labels.region} {.metadata.annotations.owner} {.spec}{\"\\n\"}{end}"
	want := first.run("", "get", resource, "-o", fields)
	dir := t.TempDir()
	carry := func(from, to *terminal, name string) {
		t.Helper()
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(from.run("", "get", resource, "-o", "yaml")), 0o600); err != nil {
			t.Fatal(err)
		}
		to.run("", "apply", "-f", file)
		if got := to.run("", "get", resource, "-o", fields); got != want {
			t.Errorf("%s:\n%s, want\n%s", name, got, want)
		}
	}
	carry(first, kubernetes, "hub.yaml")
	carry(kubernetes, second, "kubernetes.yaml")
	first.run("", "delete", resource, "shop-2")
	if out, err := first.try("", "get", "mcl", "shop-2"); err == nil {
		t.Errorf("shop-2 is still there: %s", out)
	}
}
