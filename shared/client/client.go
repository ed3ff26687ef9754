// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Package client talks to a hub's API on behalf of a person: it finds the
// credential as kubectl does, asks for tables or objects, and turns refusals
// into errors that say what to do.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/drover-io/drover/shared/daemon"
)

// FieldManager is the name under which people's changes are recorded.
const FieldManager = "drover-cli"

// Client is a connection to one hub.
type Client struct {
	dynamic.Interface
	config *rest.Config
	http   *http.Client
}

// New uses the kubeconfig at path, or when path is empty $KUBECONFIG and then
// ~/.kube/config, with the named context or the current one.
func New(path, contextName string) (*Client, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = path
	cfg, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(
		rules, &clientcmd.ConfigOverrides{CurrentContext: contextName}).ClientConfig()
	if err != nil {
		return nil, daemon.Hint(fmt.Errorf("kubeconfig: %w", err),
			"name the hub's credential with --kubeconfig or $KUBECONFIG; the hub keeps one in DATA-DIR/admin.kubeconfig")
	}
	return NewForConfig(cfg)
}

// NewForConfig uses a configuration, which it changes.
func NewForConfig(cfg *rest.Config) (*Client, error) {
	cfg.QPS, cfg.Burst, cfg.Timeout = 50, 100, 0
	cfg.UserAgent = "drover/" + daemon.Version()
	cfg.WarningHandler = rest.NewWarningWriter(os.Stderr, rest.WarningWriterOptions{Deduplicate: true})
	hc, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return nil, fmt.Errorf("kubeconfig: %w", err)
	}
	dyn, err := dynamic.NewForConfigAndClient(cfg, hc)
	if err != nil {
		return nil, err
	}
	return &Client{Interface: dyn, config: cfg, http: hc}, nil
}

// Server is the hub's address.
func (c *Client) Server() string { return c.config.Host }

const tableAccept = "application/json;as=Table;v=v1;g=meta.k8s.io"

// Table asks the hub to lay out a list, or one object when name is not empty,
// as kubectl would.
func (c *Client) Table(ctx context.Context, gvr schema.GroupVersionResource, namespace, name string, opts metav1.ListOptions) (*metav1.Table, error) {
	return c.table(ctx, gvr, namespace, name, opts, metav1.IncludeMetadata)
}

// TableOfObjects is Table, with the whole object beside each row.
func (c *Client) TableOfObjects(ctx context.Context, gvr schema.GroupVersionResource, opts metav1.ListOptions) (*metav1.Table, error) {
	return c.table(ctx, gvr, "", "", opts, metav1.IncludeObject)
}

func (c *Client) table(ctx context.Context, gvr schema.GroupVersionResource, namespace, name string, opts metav1.ListOptions, include metav1.IncludeObjectPolicy) (*metav1.Table, error) {
	path := "/apis/" + gvr.Group + "/" + gvr.Version
	if namespace != "" {
		path += "/namespaces/" + url.PathEscape(namespace)
	}
	path += "/" + gvr.Resource
	if name != "" {
		path += "/" + url.PathEscape(name)
	}
	query := url.Values{}
	if include != metav1.IncludeMetadata { // the default
		query.Set("includeObject", string(include))
	}
	if opts.LabelSelector != "" {
		query.Set("labelSelector", opts.LabelSelector)
	}
	if opts.Limit > 0 {
		query.Set("limit", strconv.FormatInt(opts.Limit, 10))
	}
	var t metav1.Table
	if err := c.get(ctx, path+"?"+query.Encode(), tableAccept, &t); err != nil {
		return nil, err
	}
	return &t, nil
}

// Get reads a path of the hub that is no kind of its API, as JSON.
func (c *Client) Get(ctx context.Context, path string, into any) error {
	return c.get(ctx, path, "application/json", into)
}

func (c *Client) get(ctx context.Context, path, accept string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(c.config.Host, "/")+path, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", accept)
	return c.do(req, into)
}

// HeaderRequest must be on what is posted to a path that is no kind of the API:
// the hub takes it for a sign that no other site's page sent the request.
const HeaderRequest = "X-Drover-Request"

// Post sends JSON to a path of the hub that is no kind of its API, and reads JSON.
func (c *Client) Post(ctx context.Context, path string, body, into any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(c.config.Host, "/")+path, bytes.NewReader(text))
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set(HeaderRequest, "1")
	return c.do(req, into)
}

// do reads the answer; any but success is an *apierrors.StatusError.
func (c *Client) do(req *http.Request, into any) error {
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	dec := json.NewDecoder(resp.Body)
	if resp.StatusCode >= 300 {
		var st metav1.Status
		if err := dec.Decode(&st); err != nil || st.Kind != "Status" {
			return fmt.Errorf("%s answered %s: not the API of a hub", c.config.Host, resp.Status)
		}
		return &apierrors.StatusError{ErrStatus: st}
	}
	if err := dec.Decode(into); err != nil {
		return fmt.Errorf("read the hub's answer: %w", err)
	}
	return nil
}

// Apply stores objects by server-side apply, in order, and calls done after each.
func (c *Client) Apply(ctx context.Context, objects []*unstructured.Unstructured, namespace string, force bool, done func(*unstructured.Unstructured)) error {
	disco, err := discovery.NewDiscoveryClientForConfigAndClient(c.config, c.http)
	if err != nil {
		return err
	}
	groups, err := restmapper.GetAPIGroupResources(disco)
	if err != nil {
		return err
	}
	mapper := restmapper.NewDiscoveryRESTMapper(groups)
	for i, obj := range objects {
		gvk := obj.GroupVersionKind()
		mapping, err := mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
		if err != nil {
			return daemon.Hint(fmt.Errorf("object %d, %s %s: %w", i+1, gvk.Kind, obj.GetName(), err),
				"this hub does not serve the kind; wrap objects for a cluster into a ManifestWork")
		}
		if obj.GetName() == "" {
			return fmt.Errorf("object %d, %s: metadata.name is missing", i+1, gvk.Kind)
		}
		var target dynamic.ResourceInterface = c.Resource(mapping.Resource)
		if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
			ns := obj.GetNamespace()
			if ns == "" {
				ns = namespace
			}
			if ns == "" {
				return daemon.Hint(fmt.Errorf("object %d, %s %s: metadata.namespace is missing", i+1, gvk.Kind, obj.GetName()),
					"a work's namespace is the name of its cluster; set it in the file or with -n")
			}
			target = c.Resource(mapping.Resource).Namespace(ns)
		}
		out, err := target.Apply(ctx, obj.GetName(), obj, metav1.ApplyOptions{FieldManager: FieldManager, Force: force})
		if err != nil {
			return fmt.Errorf("%s %s: %w", gvk.Kind, obj.GetName(), err)
		}
		done(out)
	}
	return nil
}

// Explain turns an error of the API into one for a person, with hint and exit code.
func Explain(err error, server string) error {
	var de *daemon.Error
	var netErr net.Error
	switch {
	case err == nil, errors.As(err, &de), errors.Is(err, context.Canceled):
		return err
	case apierrors.IsConflict(err), apierrors.IsAlreadyExists(err):
		return &daemon.Error{Err: err, Code: daemon.ExitConflict}
	case apierrors.IsUnauthorized(err):
		return daemon.Hint(err, "the hub does not know this credential; is the kubeconfig of this hub, and not expired?")
	case apierrors.IsForbidden(err), apierrors.IsNotFound(err), apierrors.IsInvalid(err):
		return err
	case errors.As(err, &netErr):
		return daemon.Hint(fmt.Errorf("reach the hub at %s: %w", server, unwrapURL(err)), "is the hub running, and is this its address?")
	}
	return err
}

func unwrapURL(err error) error {
	var ue *url.Error
	if errors.As(err, &ue) {
		return ue.Err
	}
	return err
}

// Poll calls f every interval until it says done, fails, or ctx ends.
func Poll(ctx context.Context, interval time.Duration, f func() (done bool, err error)) error {
	t := time.NewTicker(interval)
	defer t.Stop()
	for {
		if done, err := f(); done || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
	}
}
