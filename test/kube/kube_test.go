// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package kube_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/drover-io/drover/test/kube"
)

var shared = kube.Shared{Metrics: true}

func TestMain(m *testing.M) {
	if dir := os.Getenv(parentDir); dir != "" {
		parent(dir)
	}
	code := shared.Main(m)
	if err := goleak.Find(); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func TestReady(t *testing.T) {
	t.Parallel()
	c := shared.Cluster(t)
	client := clientset(t, c)

	v, err := client.Discovery().ServerVersion()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(v.GitVersion, "v1.") || v.Major != "1" {
		t.Errorf("version = %+v, not one that clients can parse", v)
	}
	node, err := client.CoreV1().Nodes().Get(t.Context(), "node-0", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got := node.Status.Allocatable.Cpu().String(); got != "4" {
		t.Errorf("allocatable cpu = %s, want 4", got)
	}
	if got := node.Status.Allocatable.Memory().String(); got != "8Gi" {
		t.Errorf("allocatable memory = %s, want 8Gi", got)
	}
}

func TestDeploymentBecomesAvailable(t *testing.T) {
	t.Parallel()
	client := clientset(t, shared.Cluster(t))
	ns := namespace(t, client)

	labels := map[string]string{"app": "web"}
	replicas := int32(3)
	_, err := client.AppsV1().Deployments(ns).Create(t.Context(), &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas,
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "web", Image: "registry.invalid/web:1"}}},
			},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, func(ctx context.Context) error {
		d, err := client.AppsV1().Deployments(ns).Get(ctx, "web", metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, c := range d.Status.Conditions {
			if c.Type == appsv1.DeploymentAvailable && c.Status == corev1.ConditionTrue && d.Status.AvailableReplicas == 3 {
				return nil
			}
		}
		return fmt.Errorf("status %+v", d.Status)
	})
}

func TestApplyConflict(t *testing.T) {
	t.Parallel()
	client := clientset(t, shared.Cluster(t))
	ns := namespace(t, client)

	apply := func(manager, level string) error {
		body := fmt.Sprintf(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"settings"},"data":{"level":%q}}`, level)
		_, err := client.CoreV1().ConfigMaps(ns).Patch(t.Context(), "settings", types.ApplyPatchType, []byte(body), metav1.PatchOptions{FieldManager: manager})
		return err
	}
	if err := apply("hub-addon", "info"); err != nil {
		t.Fatal(err)
	}
	err := apply("local-admin", "debug")
	if !apierrors.IsConflict(err) {
		t.Fatalf("second apply: %v, want a conflict", err)
	}
	const want = `Apply failed with 1 conflict: conflict with "hub-addon": .data.level`
	if err.Error() != want {
		t.Errorf("conflict = %q, want %q", err, want)
	}
}

func TestKubectl(t *testing.T) {
	t.Parallel()
	c := shared.Cluster(t)

	tests := []struct {
		name string
		args []string
		want string
	}{
		{"get", []string{"get", "nodes", "-o", "name"}, "node/node-0\n"},
		{"dry run", []string{"create", "configmap", "x", "--from-literal=a=b", "--dry-run=server", "-o", "jsonpath={.data.a}"}, "b"},
		{"can-i", []string{"auth", "can-i", "list", "secrets", "--as", "system:kube-scheduler"}, "no\n"},
		{"metrics", []string{"top", "node", "--no-headers"}, "node-0   850m   21%   2048Mi   25%"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			eventually(t, func(context.Context) error { // a CRD takes a moment to be discovered
				// can-i exits with 1 for no: only the output counts here.
				out, err := kube.Kubectl(c.Kubeconfig, tt.args...).Output()
				if !strings.HasPrefix(string(out), tt.want) {
					return fmt.Errorf("kubectl %s: %q, %v", strings.Join(tt.args, " "), out, err)
				}
				return nil
			})
		})
	}
}

func TestTwoClustersKnowNothingOfEachOther(t *testing.T) {
	t.Parallel()
	clusters := kube.StartForTest(t, 2)
	testSeparate(t, clusters)
}

func TestManyClustersShareAnEtcd(t *testing.T) {
	if testing.Short() {
		t.Skip("starts four clusters")
	}
	testSeparate(t, kube.StartForTest(t, 4))
}

// testSeparate creates a namespace in the first cluster and looks for it in
// the others.
func testSeparate(t *testing.T, clusters []*kube.Cluster) {
	t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "only-here"}}
	if _, err := clientset(t, clusters[0]).CoreV1().Namespaces().Create(t.Context(), ns, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for i, c := range clusters[1:] {
		_, err := clientset(t, c).CoreV1().Namespaces().Get(t.Context(), "only-here", metav1.GetOptions{})
		if !apierrors.IsNotFound(err) {
			t.Errorf("cluster %d: get the first one's namespace: %v, want not found", i+1, err)
		}
	}
}

func clientset(t *testing.T, c *kube.Cluster) *kubernetes.Clientset {
	t.Helper()
	client, err := kubernetes.NewForConfig(c.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// namespace creates a namespace for the test and returns its name.
func namespace(t *testing.T, client kubernetes.Interface) string {
	t.Helper()
	ns, err := client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "test-"},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return ns.Name
}

// eventually tries f until it succeeds or a minute has passed.
func eventually(t *testing.T, f func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		err := f(ctx)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatal(err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}
