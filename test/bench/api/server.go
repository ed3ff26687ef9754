// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/yaml"

	"github.com/drover-io/drover/shared/apis/schemas"
	"github.com/drover-io/drover/test/kube"
	"github.com/drover-io/drover/test/local"
)

// namespace of all works. It is not that of a managed cluster.
const namespace = "bench"

// server is one of the two that are compared.
type server interface {
	name() string
	// start starts it anew after stop or kill, with its data and at its address.
	// It may return before, or after, requests are answered.
	start(ctx context.Context) error
	stop() error
	kill()
	config() (*rest.Config, error)
	pid() int
}

type hubServer struct {
	bin, dir string
	hub      *local.Hub
}

func (h *hubServer) name() string { return "hub" }

func (h *hubServer) start(ctx context.Context) (err error) {
	if h.hub != nil {
		return h.hub.Start(ctx, h.hub.Address(), local.Unlimited()...)
	}
	if err := os.MkdirAll(h.dir, 0o700); err != nil {
		return err
	}
	if h.hub, err = local.Programs(h.bin).StartHub(ctx, h.dir, "127.0.0.1:0", local.Unlimited()...); err != nil {
		return err
	}
	c, err := newClient(h)
	if err != nil {
		return err
	}
	defer c.close()
	return addNamespace(ctx, c.dynamic)
}

func (h *hubServer) stop() error {
	if h.hub != nil && h.hub.Process != nil {
		h.hub.Process.Stop(20 * time.Second)
	}
	return nil
}

func (h *hubServer) kill()    { h.hub.Process.Kill() }
func (h *hubServer) pid() int { return h.hub.Process.Pid() }

func (h *hubServer) config() (*rest.Config, error) {
	return clientcmd.BuildConfigFromFlags("", h.hub.Kubeconfig())
}

// kubeServer is etcd and kube-apiserver in one process, with Go's usual garbage
// collection.
type kubeServer struct {
	dir     string
	port    int
	cluster *kube.Cluster
}

func (k *kubeServer) name() string { return "kube" }

func (k *kubeServer) start(ctx context.Context) (err error) {
	first := k.port == 0
	if first {
		// Its port must stay the same over restarts.
		if k.port, err = freePort(); err != nil {
			return err
		}
	}
	k.cluster, err = kube.Start(ctx, kube.Options{Dir: k.dir, Port: k.port, Sync: true, APIOnly: true, Env: []string{"GOGC=100"}})
	if err != nil || !first {
		return err
	}
	return k.addKinds(ctx)
}

func (k *kubeServer) stop() error {
	if k.cluster == nil {
		return nil
	}
	return k.cluster.Stop()
}

func (k *kubeServer) kill() {
	_ = syscall.Kill(k.pid(), syscall.SIGKILL) // our own child, alive
	<-k.cluster.Done()
}

func (k *kubeServer) pid() int                      { return k.cluster.Pid() }
func (k *kubeServer) config() (*rest.Config, error) { return k.cluster.RESTConfig(), nil }

func freePort() (int, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// addKinds makes CustomResourceDefinitions of the hub's own documents.
func (k *kubeServer) addKinds(ctx context.Context) error {
	c, err := dynamic.NewForConfig(k.cluster.RESTConfig())
	if err != nil {
		return err
	}
	docs, err := schemas.Documents()
	if err != nil {
		return err
	}
	crds := c.Resource(schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"})
	for _, doc := range docs {
		var crd unstructured.Unstructured
		if err := yaml.Unmarshal(doc, &crd.Object); err != nil {
			return err
		}
		if name := crd.GetName(); name != works.name() && name != clusters.name() {
			continue
		}
		if _, err := crds.Create(ctx, &crd, metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("create kind: %w", err)
		}
	}
	if err := addNamespace(ctx, c); err != nil {
		return err
	}
	return eventually(ctx, "the kinds are served", func() bool {
		for _, kind := range []kind{works, clusters} {
			if _, err := kind.of(c).List(ctx, metav1.ListOptions{Limit: 1}); err != nil {
				return false
			}
		}
		return true
	})
}

func addNamespace(ctx context.Context, c dynamic.Interface) error {
	ns := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": namespace}}}
	_, err := c.Resource(schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}).Create(ctx, ns, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

func eventually(ctx context.Context, what string, ok func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	t := time.NewTicker(5 * time.Millisecond)
	defer t.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", what, ctx.Err())
		case <-t.C:
		}
	}
	return nil
}

// client is one program that talks to a server: it has a connection of its own.
type client struct {
	http    *http.Client
	base    string
	dynamic dynamic.Interface
}

func newClient(s server) (*client, error) {
	cfg, err := s.config()
	if err != nil {
		return nil, err
	}
	cfg = rest.CopyConfig(cfg)
	cfg.QPS = -1
	cfg.WarningHandler = rest.NoWarnings{} // the works are for nobody on purpose
	tlsConfig, err := rest.TLSConfigFor(cfg)
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{TLSClientConfig: tlsConfig, ForceAttemptHTTP2: true, IdleConnTimeout: time.Minute}
	hc := &http.Client{Transport: transport}
	d, err := dynamic.NewForConfigAndClient(cfg, hc)
	if err != nil {
		return nil, err
	}
	return &client{http: hc, base: strings.TrimSuffix(cfg.Host, "/"), dynamic: d}, nil
}

func (c *client) close() { c.http.CloseIdleConnections() }

func (c *client) get(ctx context.Context, path string) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+path, nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept", "application/json")
	resp, err := c.http.Do(r)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		return nil, errors.New(resp.Status)
	}
	return resp, nil
}

// rss is the resident memory of a process in bytes.
func rss(pid int) (int64, error) {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		var kib int64
		if _, err := fmt.Sscanf(line, "VmRSS: %d kB", &kib); err == nil {
			return kib << 10, nil
		}
	}
	return 0, errors.New("no VmRSS")
}
