// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/drover-io/drover/shared/apis/work"
	"github.com/drover-io/drover/shared/client"
	"github.com/drover-io/drover/test/kube"
	"github.com/drover-io/drover/test/local"
)

const clusterName = "shop-1"

// world is one hub, one agent, the network between them, and the cluster.
type world struct {
	hub     *local.Hub
	address string
	agent   *local.Process
	proxy   *proxy
	cluster *kube.Cluster

	works      dynamic.ResourceInterface
	contents   *client.Client
	kubernetes dynamic.Interface
	onHub      cache.Store
	onCluster  cache.Store

	met       map[string]int                      // see history
	histories atomic.Pointer[map[string]*history] // by namespace
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{cluster: shared.Cluster(t), met: map[string]int{}}
	w.histories.Store(&map[string]*history{})
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.address = free.Addr().String()
	free.Close()
	if w.proxy, err = newProxy(w.address); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.proxy.close)
	w.hub, err = local.Programs(binaries).StartHub(t.Context(), t.TempDir(), w.address, hubArgs(w.proxy)...)
	t.Cleanup(func() {
		if w.hub.Process != nil {
			w.hub.Process.Kill()
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.hub.Join(t.Context(), clusterName, "--kubeconfig", w.cluster.Kubeconfig); err != nil {
		t.Fatal(err)
	}
	w.startAgent(t)
	t.Cleanup(func() { w.agent.Kill() })
	if err := w.hub.Available(t.Context(), clusterName, w.agent); err != nil {
		t.Fatal(err)
	}
	w.watch(t)
	return w
}

func hubArgs(p *proxy) []string {
	return append(local.Unlimited(), "--advertise", p.url())
}

func (w *world) startAgent(t *testing.T) {
	t.Helper()
	agent, err := w.hub.StartAgent(clusterName, "--kubeconfig", w.cluster.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	w.agent = agent
}

// watch follows all works on the hub and all config maps on the cluster.
func (w *world) watch(t *testing.T) {
	t.Helper()
	cfg, err := clientcmd.BuildConfigFromFlags("", w.hub.Kubeconfig())
	if err != nil {
		t.Fatal(err)
	}
	cfg.Host = "https://" + w.address // people do not go through the network that fails
	cfg.QPS = -1
	cfg.WarningHandler = rest.NoWarnings{}
	hub, err := dynamic.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if w.contents, err = client.NewForConfig(cfg); err != nil {
		t.Fatal(err)
	}
	if w.kubernetes, err = dynamic.NewForConfig(w.cluster.RESTConfig()); err != nil {
		t.Fatal(err)
	}
	resource := schema.GroupVersionResource{Group: work.Group, Version: work.Version, Resource: "manifestworks"}
	w.works = hub.Resource(resource).Namespace(clusterName)
	w.onHub = w.inform(t, hub, resource, clusterName, "", func(u *unstructured.Unstructured, _ watch.EventType) {
		ns, name, _ := strings.Cut(u.GetName(), ".")
		if h := w.history(ns); h != nil {
			u = u.DeepCopy()
			u.SetName(name)
			h.status(u)
		}
	})
	w.onCluster = w.inform(t, w.kubernetes, corev1.SchemeGroupVersion.WithResource("configmaps"), "", "chaos=yes", func(u *unstructured.Unstructured, what watch.EventType) {
		if h := w.history(u.GetNamespace()); h != nil {
			h.object(watch.Event{Type: what}, u)
		}
	})
}

// prepare makes the namespace of one plan, with the executor that may write.
func (w *world) prepare(t *testing.T, ns string) {
	t.Helper()
	objects := []struct{ group, resource, body string }{
		{"", "namespaces", `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":%q}}`},
		{"", "serviceaccounts", `{"apiVersion":"v1","kind":"ServiceAccount","metadata":{"name":"writer","namespace":%q}}`},
		{rbacv1.GroupName, "roles", `{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"Role","metadata":{"name":"writer","namespace":%q},
			"rules":[{"apiGroups":[""],"resources":["configmaps"],"verbs":["*"]}]}`},
		{rbacv1.GroupName, "rolebindings", `{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"RoleBinding","metadata":{"name":"writer","namespace":%[1]q},
			"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"Role","name":"writer"},"subjects":[{"kind":"ServiceAccount","name":"writer","namespace":%[1]q}]}`},
	}
	for i, o := range objects {
		u := &unstructured.Unstructured{}
		if err := json.Unmarshal(fmt.Appendf(nil, o.body, ns), &u.Object); err != nil {
			t.Fatal(err)
		}
		c := w.kubernetes.Resource(schema.GroupVersionResource{Group: o.group, Version: "v1", Resource: o.resource})
		var in dynamic.ResourceInterface = c
		if i > 0 {
			in = c.Namespace(ns)
		}
		if _, err := in.Create(t.Context(), u, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
}

func (w *world) inform(t *testing.T, c dynamic.Interface, r schema.GroupVersionResource, namespace, selector string, on func(*unstructured.Unstructured, watch.EventType)) cache.Store {
	t.Helper()
	f := dynamicinformer.NewFilteredDynamicSharedInformerFactory(c, 0, namespace, func(o *metav1.ListOptions) { o.LabelSelector = selector })
	i := f.ForResource(r).Informer()
	handle := func(what watch.EventType) func(any) {
		return func(o any) {
			if gone, ok := o.(cache.DeletedFinalStateUnknown); ok {
				o = gone.Obj
			}
			on(o.(*unstructured.Unstructured), what)
		}
	}
	_, err := i.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: handle(watch.Added), DeleteFunc: handle(watch.Deleted),
		UpdateFunc: func(before, now any) {
			if before.(*unstructured.Unstructured).GetResourceVersion() != now.(*unstructured.Unstructured).GetResourceVersion() {
				handle(watch.Modified)(now)
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	f.Start(ctx.Done())
	t.Cleanup(func() {
		cancel()
		f.Shutdown()
	})
	if !cache.WaitForCacheSync(t.Context().Done(), i.HasSynced) {
		t.Fatal("the watch has not started")
	}
	return i.GetStore()
}

// disturbances is how often something fails in quick succession under one batch:
// often enough to meet every step. From then on failures become rarer and rarer, so
// that a batch gets somewhere also where programs take seconds to start.
const disturbances = 8

// disturb kills and cuts at random until ctx ends, and leaves everything running.
func (w *world) disturb(ctx context.Context, t *testing.T, r *rand.Rand, log func(string)) {
	for n := 0; ; n++ {
		pause := time.Duration(200+r.IntN(1000)) * time.Millisecond
		if n >= disturbances {
			pause *= time.Duration(3 + (n-disturbances)/3)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause): // when it happens is the point
		}
		d := time.Duration(r.IntN(1500)) * time.Millisecond
		switch n := r.IntN(10); {
		case n < 4:
			log("kill -9 of the agent")
			w.agent.Kill()
			w.startAgent(t)
		case n < 6:
			log("kill -9 of the hub")
			w.hub.Process.Kill()
			if err := w.hub.Start(t.Context(), w.address, hubArgs(w.proxy)...); err != nil {
				t.Error(err)
				return
			}
		case n < 8:
			log(fmt.Sprintf("network cut for %s", d))
			w.proxy.cut(d)
		default:
			log(fmt.Sprintf("network stalled for %s", d))
			w.proxy.stall(d)
		}
	}
}
