// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/drover-io/drover/shared/apis/clusterregistry"
)

func entry(name string, user *clusterregistry.ObjectReference, endpoints ...clusterregistry.ServerEndpoint) clusterregistry.Cluster {
	return clusterregistry.Cluster{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: clusterregistry.ClusterSpec{
		KubernetesAPIEndpoints: clusterregistry.KubernetesAPIEndpoints{ServerEndpoints: endpoints, CABundle: []byte("PEM")},
		AuthInfo:               clusterregistry.AuthInfo{User: user},
	}}
}

func TestBuildKubeconfig(t *testing.T) {
	t.Parallel()
	list := []clusterregistry.Cluster{
		entry("shop-1", &clusterregistry.ObjectReference{Kind: "ServiceAccount", Namespace: "fleet", Name: "viewer"}, clusterregistry.ServerEndpoint{ServerAddress: "10.1.1.1:6443"}),
		entry("shop-2", nil, clusterregistry.ServerEndpoint{ClientCIDR: "10.0.0.0/8", ServerAddress: "fd00::1"}),
	}
	o := &kubeconfigOptions{command: "get-credential"}
	config, skipped, err := o.build(list)
	if err != nil || len(skipped) != 0 {
		t.Fatalf("%v, %v", skipped, err)
	}
	// It must be one that clients can load, and name nothing but programs.
	if err := clientcmd.Validate(*config); err != nil {
		t.Fatal(err)
	}
	if got := config.Clusters["shop-2"].Server; got != "https://[fd00::1]" {
		t.Errorf("server %s", got)
	}
	if diff := cmp.Diff([]string{"shop-1", "ServiceAccount", "fleet", "viewer"}, config.AuthInfos["shop-1"].Exec.Args); diff != "" {
		t.Errorf("arguments (-want +got):\n%s", diff)
	}
	if got := config.AuthInfos["shop-2"].Exec; got.Command != "get-credential" || len(got.Args) != 1 {
		t.Errorf("user: %v", got)
	}
	if config.CurrentContext != "shop-1" || len(config.Contexts) != 2 || string(config.Clusters["shop-1"].CertificateAuthorityData) != "PEM" {
		t.Errorf("config: %+v", config)
	}

	list = append(list, entry("shop-3", nil))
	if _, _, err := o.build(list); err == nil || !strings.Contains(err.Error(), "cluster shop-3: the registry has no address") {
		t.Errorf("missing address: %v", err)
	}
	o.skip = true
	if config, skipped, err = o.build(list); err != nil || len(config.Contexts) != 2 || !cmp.Equal(skipped, []string{"shop-3"}) {
		t.Errorf("skip: %v, %v", skipped, err)
	}
	if _, _, err := o.build(list[2:]); err == nil {
		t.Error("a kubeconfig of nothing")
	}
}

func TestServerOf(t *testing.T) {
	t.Parallel()
	list := []clusterregistry.ServerEndpoint{
		{ClientCIDR: "10.0.0.0/8"}, {ClientCIDR: "10.0.0.0/8", ServerAddress: "inside:6443"}, {ClientCIDR: "0.0.0.0/0", ServerAddress: "outside"},
	}
	for from, want := range map[string]string{"": "https://inside:6443", "10.2.3.4": "https://inside:6443", "192.0.2.1": "https://outside", "2001:db8::1": "https://outside"} {
		var addr netip.Addr
		if from != "" {
			addr = netip.MustParseAddr(from)
		}
		if got := serverOf(list, addr); got != want {
			t.Errorf("from %q: %s, want %s", from, got, want)
		}
	}
}
