// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package collect

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"

	"github.com/drover-io/drover/shared/wire"
)

const (
	callTimeout = 10 * time.Second

	// Objects a page. A page is decoded whole, so pods, which are large, come in
	// smaller ones.
	nodePage = 500
	podPage  = 200

	protobuf = "application/vnd.kubernetes.protobuf"
)

// Kubernetes measures one cluster through its API server.
type Kubernetes struct {
	client rest.Interface
	http   *http.Client

	mu     sync.Mutex
	last   wire.KubernetesStatus // what is known of a cluster that does not answer
	served discovery
	workOf func(group, kind, namespace, name string) string
	works  wire.WorksSample
}

// NewKubernetes returns a collector for the cluster of cfg. It contacts nothing
// yet.
func NewKubernetes(cfg *rest.Config) (*Kubernetes, error) {
	// Only core/v1 is known to the scheme: client-go's own knows every built-in
	// kind, which costs an edge machine megabytes.
	scheme := runtime.NewScheme()
	if err := corev1.AddToScheme(scheme); err != nil {
		return nil, fmt.Errorf("make client of the cluster: %w", err)
	}
	cfg = rest.CopyConfig(cfg)
	cfg.GroupVersion = &corev1.SchemeGroupVersion
	cfg.APIPath = "/api"
	cfg.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	cfg.ContentType = protobuf
	cfg.AcceptContentTypes = protobuf + ",application/json"
	if cfg.QPS == 0 {
		cfg.QPS = 20
	}
	if cfg.Burst == 0 {
		cfg.Burst = 50
	}
	if cfg.UserAgent == "" {
		cfg.UserAgent = rest.DefaultKubernetesUserAgent()
	}
	hc, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return nil, fmt.Errorf("make client of the cluster: %w", err)
	}
	client, err := rest.RESTClientForConfigAndClient(cfg, hc)
	if err != nil {
		return nil, fmt.Errorf("make client of the cluster: %w", err)
	}
	return &Kubernetes{client: client, http: hc}, nil
}

// Collect takes one measurement. Sample and status are good even when the error
// is not nil: it names the parts that could not be read. When the API server
// does not answer, the sample says so and is otherwise empty, and the status
// keeps the sizes that were read last.
func (k *Kubernetes) Collect(ctx context.Context) (wire.KubernetesSample, wire.KubernetesStatus, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	sample := wire.KubernetesSample{Time: time.Now()}
	status := k.last
	answered := false
	status.Healthy, status.HealthMessage, answered = k.health(ctx)
	k.works = wire.WorksSample{}
	sample.Healthy = status.Healthy
	if !answered {
		return sample, status, ctx.Err()
	}

	var errs []error
	read := func(what string, err error) bool {
		if err != nil {
			errs = append(errs, fmt.Errorf("read %s: %w", what, err))
		}
		return err == nil
	}
	if version, err := k.version(ctx); read("version of the cluster", err) {
		status.Version = version
	}
	if uid, err := k.uid(ctx); read("namespace kube-system", err) {
		status.ClusterUID = uid
	}
	if n, err := k.nodes(ctx); read("nodes", err) {
		status.Nodes, status.NodesReady = n.count, n.ready
		status.Capacity, status.Allocatable = n.capacity.strings(), n.allocatable.strings()
		sample.Nodes, sample.NodesReady = status.Nodes, status.NodesReady
		sample.Capacity, sample.Allocatable = status.Capacity, status.Allocatable
		status.Architectures, status.OperatingSystems, status.ContainerRuntimes = n.architectures.sorted(), n.systems.sorted(), n.runtimes.sorted()
		status.Platform = n.platform
		pods := n.capacity[corev1.ResourcePods]
		sample.PodsCapacity = pods.Value()
	}
	tally := newTally(k.workOf)
	if p, err := k.pods(ctx, tally); read("pods", err) {
		status.Requests = p.requests.strings()
		sample.Requests, sample.PodsByPhase = status.Requests, p.byPhase
		if tally != nil {
			read("metrics of pods", k.measure(ctx, tally))
			k.works = tally.sample(sample.Time)
		}
	}
	if usage, err := k.usage(ctx); read("metrics of nodes", err) {
		sample.Usage = usage.strings()
	}
	if read("APIs of the cluster", k.discover(ctx, sample.Time)) {
		status.APIs = k.served.digest
		if claims, err := k.claims(ctx); read("ClusterClaims", err) {
			status.Claims = claims
		}
	}
	status.Product = product(status.Version, k.served.apis)
	k.last = status
	return sample, status, errors.Join(errs...)
}

// health asks /livez, and /healthz where /livez is unknown or forbidden, and
// words the answer as Open Cluster Management does. answered is false when the
// API server gave no answer at all.
func (k *Kubernetes) health(ctx context.Context) (ok bool, message string, answered bool) {
	code, err := k.probe(ctx, "/livez")
	if code == http.StatusNotFound || code == http.StatusForbidden {
		code, err = k.probe(ctx, "/healthz")
	}
	if err == nil && code == http.StatusOK {
		return true, "", true
	}
	return false, fmt.Sprintf("The kube-apiserver is not ok, status code: %d, %v", code, err), code != 0
}

func (k *Kubernetes) probe(ctx context.Context, path string) (code int, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	// Retrying is for the next sample: a server that says 429 or 5xx is not ok now.
	result := k.client.Get().AbsPath(path).MaxRetries(0).Do(ctx)
	result.StatusCode(&code)
	return code, result.Error()
}

func (k *Kubernetes) version(ctx context.Context) (string, error) {
	var info struct {
		GitVersion string `json:"gitVersion"`
	}
	if err := k.readJSON(ctx, "/version", &info); err != nil {
		return "", err
	}
	return info.GitVersion, nil
}

func (k *Kubernetes) uid(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var ns corev1.Namespace
	err := k.client.Get().Resource("namespaces").Name(metav1.NamespaceSystem).Do(ctx).Into(&ns)
	return string(ns.UID), err
}

func (k *Kubernetes) nodes(ctx context.Context) (nodeTotals, error) {
	var totals nodeTotals
	err := k.pages(ctx, "nodes", nodePage, func(result rest.Result) (string, error) {
		var list corev1.NodeList
		if err := result.Into(&list); err != nil {
			return "", err
		}
		for i := range list.Items {
			totals.add(&list.Items[i])
		}
		return list.Continue, nil
	})
	return totals, err
}

func (k *Kubernetes) pods(ctx context.Context, works *tally) (podTotals, error) {
	var totals podTotals
	err := k.pages(ctx, "pods", podPage, func(result rest.Result) (string, error) {
		var list corev1.PodList
		if err := result.Into(&list); err != nil {
			return "", err
		}
		for i := range list.Items {
			works.add(&list.Items[i])
			totals.add(&list.Items[i])
		}
		return list.Continue, nil
	})
	return totals, err
}

// pages lists a resource of all namespaces page by page. Totals of a list that
// changed while it was read are off by what changed.
func (k *Kubernetes) pages(ctx context.Context, resource string, size int, add func(rest.Result) (string, error)) error {
	token := ""
	for {
		pageCtx, cancel := context.WithTimeout(ctx, callTimeout)
		request := k.client.Get().Resource(resource).Param("limit", fmt.Sprint(size))
		if token != "" {
			request = request.Param("continue", token)
		}
		next, err := add(request.Do(pageCtx))
		cancel()
		if err != nil || next == "" {
			return err
		}
		token = next
	}
}

// usage sums what metrics.k8s.io says of the nodes; nil when it is not served.
func (k *Kubernetes) usage(ctx context.Context) (amounts, error) {
	var list struct {
		Items []struct {
			Usage map[string]string `json:"usage"`
		} `json:"items"`
	}
	err := k.readJSON(ctx, "/apis/metrics.k8s.io/v1beta1/nodes", &list)
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, err
	}
	var sum amounts
	for _, item := range list.Items {
		if err := sum.addStrings(item.Usage); err != nil {
			return nil, err
		}
	}
	return sum, nil
}

func (k *Kubernetes) readJSON(ctx context.Context, path string, into any) error {
	return k.readList(ctx, path, 0, into)
}

// readList reads at most limit objects, all with 0.
func (k *Kubernetes) readList(ctx context.Context, path string, limit int, into any) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	request := k.client.Get().AbsPath(path)
	if limit > 0 {
		request = request.Param("limit", strconv.Itoa(limit))
	}
	raw, err := request.SetHeader("Accept", "application/json").Do(ctx).Raw()
	if err != nil {
		return err
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return fmt.Errorf("decode answer of %s: %w", path, err)
	}
	return nil
}
