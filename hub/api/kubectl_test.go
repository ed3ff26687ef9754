// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"bytes"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/drover-io/drover/test/kube"
)

// step is one run of kubectl.
type step struct {
	args string   // split at spaces; DIR stands for the directory of files
	in   string   // standard input
	want []string // parts of the output, both streams
	not  []string // what must not be in it
	code int
}

// kubectl is a real kubectl on a hub.
type kubectl struct {
	config string
	dir    string
}

func newKubectl(t *testing.T, h *hub) *kubectl {
	t.Helper()
	if _, err := kube.Binary(); err != nil {
		if errors.Is(err, kube.ErrNotBuilt) && os.Getenv("CI") != "true" {
			t.Skipf("needs a kubectl, but %v", err)
		}
		t.Fatal(err)
	}
	k := &kubectl{config: h.kubeconfig(), dir: t.TempDir()}
	return k
}

func (k *kubectl) file(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(k.dir, name), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (k *kubectl) run(args []string, in string) (string, int, error) {
	cmd := kube.Kubectl(k.config, args...)
	cmd.Env = append(cmd.Environ(), "EDITOR=sed -i s/blue/green/", "KUBE_EDITOR=sed -i s/blue/green/")
	cmd.Dir = k.dir
	cmd.Stdin = strings.NewReader(in)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return out.String(), exit.ExitCode(), nil
	}
	return out.String(), 0, err
}

func (k *kubectl) steps(t *testing.T, steps []step) {
	t.Helper()
	for _, s := range steps {
		out, code, err := k.run(strings.Fields(s.args), s.in)
		if err != nil {
			t.Fatalf("kubectl %s: %v", s.args, err)
		}
		if code != s.code {
			t.Errorf("kubectl %s: exit code %d, want %d\n%s", s.args, code, s.code, out)
		}
		for _, want := range s.want {
			if !strings.Contains(out, want) {
				t.Errorf("kubectl %s: no %q in\n%s", s.args, want, out)
			}
		}
		for _, not := range s.not {
			if strings.Contains(out, not) {
				t.Errorf("kubectl %s: %q in\n%s", s.args, not, out)
			}
		}
	}
}

const clusterYAML = `apiVersion: cluster.open-cluster-management.io/v1
kind: ManagedCluster
metadata:
  name: c1
  labels: {env: prod, color: blue}
spec:
  hubAcceptsClient: true
  managedClusterClientConfigs:
  - url: https://10.0.0.1:6443
`

const workYAML = `apiVersion: work.open-cluster-management.io/v1
kind: ManifestWork
metadata: {name: web, namespace: c1}
spec:
  workload:
    manifests:
    - apiVersion: v1
      kind: ConfigMap
      metadata: {name: settings, namespace: default}
      data: {color: blue}
`

const listYAML = `apiVersion: v1
kind: List
items:
- apiVersion: cluster.open-cluster-management.io/v1
  kind: ManagedCluster
  metadata: {name: l1, labels: {batch: list}}
  spec: {hubAcceptsClient: false}
- apiVersion: cluster.open-cluster-management.io/v1
  kind: ManagedCluster
  metadata: {name: l2, labels: {batch: list}}
  spec: {hubAcceptsClient: true}
`

// TestKubectl runs what people type, in one order on one hub.
func TestKubectl(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	k := newKubectl(t, h)
	k.file(t, "cluster.yaml", clusterYAML)
	k.file(t, "work.yaml", workYAML)
	k.file(t, "list.yaml", listYAML)
	k.file(t, "misspelt.yaml", strings.Replace(clusterYAML, "hubAcceptsClient", "hubAcceptClient", 1))
	k.file(t, "changed.yaml", strings.Replace(clusterYAML, "hubAcceptsClient: true", "hubAcceptsClient: false", 1))
	k.file(t, "ssa.yaml", strings.ReplaceAll(clusterYAML, "c1", "s1"))
	k.file(t, "ssa2.yaml", strings.Replace(strings.ReplaceAll(clusterYAML, "c1", "s1"), "env: prod", "env: test", 1))

	for _, group := range []struct {
		name  string
		steps []step
	}{
		{"discovery", []step{
			{args: "version", want: []string{"Server Version: v1.", "-drover-0.1.0"}},
			{args: "api-resources", want: []string{"managedclusters", "mcl,mcls", "manifestworks", "jointokens", "namespaces", "selfsubjectreviews"}},
			{args: "api-resources --categories=drover -o name", want: []string{"joinrequests.fleet.drover.io"}, not: []string{"namespaces"}},
			{args: "api-versions", want: []string{"cluster.open-cluster-management.io/v1\n", "v1\n"}},
			{args: "explain mcl", want: []string{"KIND:       ManagedCluster", "identity"}},
			{args: "explain managedclusters.spec.taints.effect", want: []string{"PreferNoSelect", "without a toleration"}},
			{args: "explain jointoken --recursive", want: []string{"ttlSeconds\t<integer>", "revoked\t<boolean>"}},
			{args: "explain manifestwork.metadata.ownerReferences", want: []string{"blockOwnerDeletion"}},
			{args: "get --raw /version", want: []string{`"gitVersion"`}},
		}},
		{"access", []step{
			{args: "auth whoami", want: []string{"admin", "system:masters"}},
			{args: "auth can-i delete managedclusters", want: []string{"yes"}},
			{args: "auth can-i --list", want: []string{"*.*"}},
		}},
		{"create and get", []step{
			{args: "create ns c1", want: []string{"namespace/c1 created"}},
			{args: "get ns", want: []string{"NAME   STATUS   AGE", "c1     Active"}},
			{args: "get mcl", want: []string{"No resources found"}},
			{args: "create -f cluster.yaml", want: []string{"managedcluster.cluster.open-cluster-management.io/c1 created"}},
			{args: "create -f cluster.yaml", want: []string{"AlreadyExists"}, code: 1},
			{args: "get mcl", want: []string{"HUB ACCEPTED   MANAGED CLUSTER URLS", "https://10.0.0.1:6443"}, not: []string{"VERSION"}},
			{args: "get mcl -o wide", want: []string{"VERSION", "NODES"}},
			{args: "get mcl c1 -o yaml", want: []string{"leaseDurationSeconds: 60", "generation: 1"}, not: []string{"managedFields"}},
			{args: "get mcl c1 -o yaml --show-managed-fields", want: []string{"manager: kubectl-create"}},
			{args: "get mcl c1 -o json", want: []string{`"hubAcceptsClient": true`}},
			{args: "get mcl c1 -o name", want: []string{"managedcluster.cluster.open-cluster-management.io/c1"}},
			{args: "get mcl c1 -o jsonpath={.metadata.labels.env}", want: []string{"prod"}},
			{args: "get mcl -o custom-columns=N:.metadata.name,E:.metadata.labels.env", want: []string{"c1", "prod"}},
			{args: "get mcl --show-labels", want: []string{"color=blue,env=prod"}},
			{args: "get mcl -l env=prod", want: []string{"c1"}},
			{args: "get mcl -l env!=prod", want: []string{"No resources found"}},
			{args: "get mcl --field-selector metadata.name=c1 -o name", want: []string{"/c1"}},
			{args: "get mcl --sort-by=.metadata.name", want: []string{"c1"}},
			{args: "get mcl nope", want: []string{`managedclusters.cluster.open-cluster-management.io "nope" not found`}, code: 1},
			{args: "get drover", want: []string{"managedcluster.cluster.open-cluster-management.io/c1"}},
			{args: "describe mcl c1", want: []string{"Hub Accepts Client:", "Events:", "<none>"}},
		}},
		{"apply", []step{
			{args: "apply -f cluster.yaml", want: []string{"configured"}},
			{args: "apply -f cluster.yaml", want: []string{"unchanged"}},
			{args: "diff -f cluster.yaml"},
			{args: "diff -f changed.yaml", want: []string{"-  hubAcceptsClient: true", "+  hubAcceptsClient: false"}, code: 1},
			{args: "apply -f changed.yaml --dry-run=server", want: []string{"configured (server dry run)"}},
			{args: "get mcl c1 -o jsonpath={.spec.hubAcceptsClient}", want: []string{"true"}},
			{args: "apply -f changed.yaml", want: []string{"configured"}},
			{args: "get mcl c1 -o jsonpath={.metadata.generation}", want: []string{"2"}},
			{args: "apply -f misspelt.yaml", want: []string{`unknown field "spec.hubAcceptClient"`}, code: 1},
			{args: "apply -f misspelt.yaml --validate=warn --dry-run=server", want: []string{`Warning: unknown field "spec.hubAcceptClient"`}},
			{args: "apply -f work.yaml", want: []string{"manifestwork.work.open-cluster-management.io/web created"}},
			{args: "get manifestwork -A", want: []string{"NAMESPACE   NAME   APPLIED   AVAILABLE   HEALTHY   AGE", "c1          web"}},
			{args: "apply -f list.yaml", want: []string{"/l1 created", "/l2 created"}},
			{args: "apply -f list.yaml", want: []string{"/l1 unchanged", "/l2 unchanged"}},
			{args: "apply -f - ", in: "apiVersion: v1\nkind: Namespace\nmetadata: {name: n1, labels: {a: b}}\n", want: []string{"namespace/n1 created"}},
			{args: "apply -f - ", in: "apiVersion: v1\nkind: Namespace\nmetadata: {name: n1, labels: {a: c}}\n", want: []string{"namespace/n1 configured"}},
		}},
		{"server-side apply", []step{
			{args: "apply --server-side -f ssa.yaml", want: []string{"s1 serverside-applied"}},
			{args: "apply --server-side -f ssa.yaml", want: []string{"s1 serverside-applied"}},
			{args: "apply --server-side -f ssa2.yaml --field-manager=other", want: []string{"conflict with \"kubectl\"", ".metadata.labels.env"}, code: 1},
			{args: "apply --server-side -f ssa2.yaml --field-manager=other --force-conflicts", want: []string{"serverside-applied"}},
			{args: "get mcl s1 -o jsonpath={.metadata.labels.env}", want: []string{"test"}},
			{args: "apply --server-side -f cluster.yaml --force-conflicts", want: []string{"c1 serverside-applied"}},
			{args: "diff --server-side -f ssa2.yaml --field-manager=other --force-conflicts"},
		}},
		{"change", []step{
			{args: `patch mcl c1 --type=merge -p {"spec":{"hubAcceptsClient":true}}`, want: []string{"patched"}},
			{args: `patch mcl c1 --type=merge -p {"spec":{"hubAcceptsClient":true}}`, want: []string{"patched (no change)"}},
			{args: `patch mcl c1 --type=json -p [{"op":"add","path":"/metadata/labels/zone","value":"a"}]`, want: []string{"patched"}},
			{args: `patch mcl c1 -p {"spec":{}}`, want: []string{"application/merge-patch+json"}, code: 1},
			{args: `patch mcl c1 --type=merge -p {"spec":{"leaseDurationSeconds":"x"}}`, want: []string{"spec.leaseDurationSeconds", "integer"}, code: 1},
			{args: `patch ns c1 -p {"metadata":{"labels":{"x":"y"}}}`, want: []string{"patched"}},
			{args: `patch mcl c1 --subresource=status --type=merge -p {"status":{"version":{"kubernetes":"v1.36.3"}},"spec":{"hubAcceptsClient":false}}`, want: []string{"patched"}},
			{args: "get mcl c1 -o jsonpath={.spec.hubAcceptsClient}/{.status.version.kubernetes}", want: []string{"true/v1.36.3"}},
			{args: "get mcl c1 --subresource=status -o name", want: []string{"c1"}},
			{args: "label mcl c1 tier=gold", want: []string{"labeled"}},
			{args: "label mcl c1 tier=silver", want: []string{"already has a value"}, code: 1},
			{args: "label mcl c1 tier-", want: []string{"unlabeled"}},
			{args: "annotate mcl c1 note=hello", want: []string{"annotated"}},
			{args: "edit mcl c1", want: []string{"edited"}},
			{args: "get mcl c1 -o jsonpath={.metadata.labels.color}", want: []string{"green"}},
			{args: "replace -f cluster.yaml", want: []string{"replaced"}},
			{args: "get mcl c1 -o jsonpath={.metadata.labels.color}", want: []string{"blue"}},
			{args: "create -f - --dry-run=server -o name", in: strings.ReplaceAll(clusterYAML, "c1", "dry"), want: []string{"/dry"}},
			{args: "get mcl dry", want: []string{"not found"}, code: 1},
		}},
		{"bad input", []step{
			{args: "create -f -", in: strings.ReplaceAll(clusterYAML, "name: c1", "name: UPPER"), want: []string{"a lowercase RFC 1123 subdomain"}, code: 1},
			{args: "create -f -", in: strings.ReplaceAll(clusterYAML, "name: c1", "name: a.b"), want: []string{"a cluster name is 1 to 63 characters"}, code: 1},
			{args: "create -f -", in: strings.ReplaceAll(workYAML, "name: settings", "generateName: s-"), want: []string{"a manifest needs a fixed name"}, code: 1},
			{args: "create -f -", in: tokenYAML("t1", "autoApprove: true"), want: []string{"autoApprove needs clusterName"}, code: 1},
			{args: "create -f -", in: tokenYAML("t1", "ttlSeconds: 10"), want: []string{"spec.ttlSeconds", "greater than or equal to 60"}, code: 1},
			{args: "create -f -", in: tokenYAML("t1", "uses: 2"), want: []string{"created"}},
			{args: `patch jt t1 --type=merge -p {"spec":{"uses":3}}`, want: []string{"spec.uses", "cannot be changed; create another token"}, code: 1},
			{args: `patch jt t1 --type=merge -p {"spec":{"revoked":true}}`, want: []string{"patched"}},
			{args: "get jt", want: []string{"ID", "CLUSTER", "USES", "EXPIRES", "REVOKED", "true"}},
		}},
		{"wait and watch", []step{
			{args: "wait mcl/c1 --for=jsonpath={.spec.hubAcceptsClient}=true --timeout=20s", want: []string{"condition met"}},
			{args: `patch mcl c1 --subresource=status --type=merge -p {"status":{"conditions":[{"type":"ManagedClusterJoined","status":"True","reason":"Joined","message":"","lastTransitionTime":"2026-01-01T00:00:00Z"}]}}`, want: []string{"patched"}},
			{args: "wait mcl/c1 --for=condition=ManagedClusterJoined --timeout=20s", want: []string{"condition met"}},
			{args: "get mcl -w --output-watch-events --request-timeout=2s", want: []string{"ADDED", "c1"}},
			{args: "get mcl c1 -w --request-timeout=2s", want: []string{"c1"}},
			{args: "get mcl --chunk-size=2 -o name", want: []string{"/c1", "/l1", "/l2", "/s1"}},
			{args: "get events -A", want: []string{"No resources found"}},
			{args: "create -f -", in: "apiVersion: v1\nkind: Event\nmetadata: {name: e1, namespace: default}\ninvolvedObject: {kind: ManagedCluster, name: c1}\ntype: Warning\nreason: Lost\nmessage: agent is gone\n", want: []string{"event/e1 created"}},
			{args: "get events -n default", want: []string{"LAST SEEN", "ManagedCluster/c1", "agent is gone"}},
			{args: "events -n default", want: []string{"agent is gone"}},
		}},
		{"delete", []step{
			{args: "delete mcl l1", want: []string{"deleted"}},
			{args: "delete mcl l1", want: []string{"not found"}, code: 1},
			{args: "delete mcl l1 --ignore-not-found"},
			{args: "delete mcl -l batch=list", want: []string{`"l2" deleted`}},
			{args: `patch mcl s1 --type=merge -p {"metadata":{"finalizers":["drover.io/test"]}}`, want: []string{"patched"}},
			{args: "delete mcl s1 --wait=false", want: []string{"deleted"}},
			{args: "get mcl s1 -o jsonpath={.metadata.deletionTimestamp}/{.metadata.generation}", want: []string{"T", "/2"}},
			{args: `patch mcl s1 --type=merge -p {"metadata":{"finalizers":["drover.io/test","drover.io/more"]}}`, want: []string{"no new finalizers can be added"}, code: 1},
			{args: `patch mcl s1 --type=merge -p {"metadata":{"finalizers":null}}`, want: []string{"patched"}},
			{args: "wait mcl/s1 --for=delete --timeout=20s"},
			{args: "get mcl s1", want: []string{"not found"}, code: 1},
			{args: "delete manifestwork --all -n c1", want: []string{`"web" deleted`}},
			{args: "delete ns n1", want: []string{"deleted"}},
		}},
	} {
		if !t.Run(group.name, func(t *testing.T) { k.steps(t, group.steps) }) {
			break
		}
	}
}

func tokenYAML(name, spec string) string {
	return "apiVersion: fleet.drover.io/v1alpha1\nkind: JoinToken\nmetadata: {name: " + name + "}\nspec: {" + spec + "}\n"
}

// TestKubectlDeleteWaits deletes an object that a finalizer holds for a while.
func TestKubectlDeleteWaits(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	k := newKubectl(t, h)
	h.create(clustersPath, clusterJSON("c1", ``))
	h.patch(mergePatch, clustersPath+"/c1", `{"metadata":{"finalizers":["drover.io/test"]}}`)
	next := h.follow("")
	freed := make(chan struct{})
	go func() {
		defer close(freed)
		for l := next(); !deleting(l.Object); l = next() {
			if l.Type == "EOF" {
				return
			}
		}
		h.patch(mergePatch, clustersPath+"/c1", `{"metadata":{"finalizers":null}}`)
	}()
	k.steps(t, []step{
		{args: "delete mcl c1 --timeout=50s", want: []string{`"c1" deleted`}},
		{args: "get mcl c1", want: []string{"not found"}, code: 1},
	})
	<-freed
}

// TestKubectlEvents describes a cluster that something happened to.
func TestKubectlEvents(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	k := newKubectl(t, h)
	c1 := h.create(clustersPath, clusterJSON("c1", ``))
	h.create(nsPath+"/default/events", `{"apiVersion":"v1","kind":"Event","metadata":{"name":"e1"},"type":"Warning","reason":"Lost","message":"agent is gone",
		"involvedObject":{"kind":"ManagedCluster","name":"c1","uid":"`+metaString(c1, "uid")+`"}}`)
	k.steps(t, []step{{args: "describe mcl c1", want: []string{"Warning  Lost", "agent is gone"}}})
}

// TestKubectlSavedFile brings back what was saved and deleted.
func TestKubectlSavedFile(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	k := newKubectl(t, h)
	h.create(clustersPath, clusterJSON("c1", `"hubAcceptsClient":true`))
	h.create(clustersPath, clusterJSON("c2", ``))
	saved, code, err := k.run([]string{"get", "mcl", "-o", "yaml"}, "")
	if err != nil || code != 0 {
		t.Fatalf("%d %v\n%s", code, err, saved)
	}
	k.file(t, "saved.yaml", saved)
	k.steps(t, []step{
		{args: "delete mcl --all", want: []string{`"c1" deleted`}},
		{args: "apply -f saved.yaml", want: []string{"/c1 created", "/c2 created"}},
		{args: "get mcl c1 -o jsonpath={.spec.hubAcceptsClient}", want: []string{"true"}},
	})
}

// TestKubectlStale replaces an object with one that somebody changed meanwhile.
func TestKubectlStale(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	k := newKubectl(t, h)
	h.create(clustersPath, clusterJSON("c1", ``))
	old := h.do(http.MethodGet, clustersPath+"/c1", "").body
	h.do(http.MethodPatch, clustersPath+"/c1", `{"spec":{"hubAcceptsClient":true}}`, "Content-Type", "application/merge-patch+json")
	k.steps(t, []step{{args: "replace -f -", in: old, want: []string{"Conflict", "the object has been modified"}, code: 1}})
}
