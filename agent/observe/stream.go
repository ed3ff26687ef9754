// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	kjson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/client-go/rest"
)

const (
	pageSize       = 100
	requestTimeout = 30 * time.Second
	// A watch is asked to end after streamTime to twice that, so that none lives
	// for ever on a server that others have left; when it is overdue by
	// streamGrace the connection is dead.
	streamTime  = 5 * time.Minute
	streamGrace = time.Minute
)

// head is what is read of every object, so that others are dropped cheaply.
type head struct {
	Metadata struct {
		Name            string `json:"name"`
		Namespace       string `json:"namespace"`
		ResourceVersion string `json:"resourceVersion"`
	} `json:"metadata"`
}

func (h head) name() types.NamespacedName {
	return types.NamespacedName{Namespace: h.Metadata.Namespace, Name: h.Metadata.Name}
}

func headOf(raw []byte) (head, error) {
	var h head
	if err := json.Unmarshal(raw, &h); err != nil {
		return head{}, fmt.Errorf("decode metadata of an object: %w", err)
	}
	return h, nil
}

type typeMeta struct{ apiVersion, kind string }

// decode reads an object whole. Items of a list do not say what they are: kind does.
func decode(raw []byte, kind typeMeta) (*unstructured.Unstructured, error) {
	u := &unstructured.Unstructured{}
	if err := kjson.Unmarshal(raw, &u.Object); err != nil {
		return nil, fmt.Errorf("decode an object: %w", err)
	}
	if u.Object == nil {
		return nil, errors.New("decode an object: it is null")
	}
	if u.GetKind() == "" {
		u.SetAPIVersion(kind.apiVersion)
		u.SetKind(kind.kind)
	}
	return u, nil
}

// page is one page of a list.
type page struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		ResourceVersion    string `json:"resourceVersion"`
		Continue           string `json:"continue"`
		RemainingItemCount int64  `json:"remainingItemCount"`
	} `json:"metadata"`
	Items []json.RawMessage `json:"items"`
}

// kind is that of the items: a list of Widgets is a WidgetList.
func (p page) kind() typeMeta {
	kind, _ := strings.CutSuffix(p.Kind, "List")
	return typeMeta{p.APIVersion, kind}
}

func (p page) names() names {
	present := make(names, len(p.Items))
	for _, item := range p.Items {
		if h, err := headOf(item); err == nil {
			present[h.name()] = true
		}
	}
	return present
}

func resourcePath(resource schema.GroupVersionResource, namespace string, more ...string) []string {
	segments := []string{"api", resource.Version}
	if resource.Group != "" {
		segments = []string{"apis", resource.Group, resource.Version}
	}
	if namespace != "" {
		segments = append(segments, "namespaces", namespace)
	}
	return append(append(segments, resource.Resource), more...)
}

// quiet asks for the metadata of Secrets alone, so that what they hold never
// comes into the process. as is the kind of the answer.
func quiet(req *rest.Request, resource schema.GroupVersionResource, as string) *rest.Request {
	if resource.Group == "" && resource.Resource == "secrets" {
		req.SetHeader("Accept", "application/json;as="+as+";g=meta.k8s.io;v=v1")
	}
	return req
}

const (
	asObject = "PartialObjectMetadata"
	asList   = "PartialObjectMetadataList"
)

func (o *Observer) page(ctx context.Context, s scope, next string, limit int) (page, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	req := o.cluster.Get().AbsPath(resourcePath(s.resource, s.namespace)...).Param("limit", strconv.Itoa(limit))
	if s.name != "" {
		req.Param("fieldSelector", "metadata.name="+s.name)
	}
	if next != "" {
		req.Param("continue", next)
	}
	raw, err := quiet(req, s.resource, asList).Do(ctx).Raw()
	if err != nil {
		return page{}, fmt.Errorf("list %s: %w", s.resource.GroupResource(), err)
	}
	var p page
	if err := json.Unmarshal(raw, &p); err != nil {
		return page{}, fmt.Errorf("decode list of %s: %w", s.resource.GroupResource(), err)
	}
	return p, nil
}

func (o *Observer) get(ctx context.Context, resource schema.GroupVersionResource, name types.NamespacedName) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	req := o.cluster.Get().AbsPath(resourcePath(resource, name.Namespace, name.Name)...)
	raw, err := quiet(req, resource, asObject).Do(ctx).Raw()
	if err != nil {
		return nil, fmt.Errorf("get %s %s: %w", resource.GroupResource(), name, err)
	}
	return raw, nil
}

// stream follows the watch from version on and returns the last version it saw.
// The end of a stream is no error.
func (w *watch) stream(ctx context.Context, version string) (string, error) {
	limit := streamTime + rand.N(streamTime)
	ctx, cancel := context.WithTimeout(ctx, limit+streamGrace)
	defer cancel()
	s := w.scope
	req := w.observer.cluster.Get().AbsPath(resourcePath(s.resource, s.namespace)...).
		Param("watch", "true").Param("allowWatchBookmarks", "true").
		Param("resourceVersion", version).Param("timeoutSeconds", strconv.Itoa(int(limit.Seconds())))
	if s.name != "" {
		req.Param("fieldSelector", "metadata.name="+s.name)
	}
	body, err := quiet(req, s.resource, asObject).Stream(ctx)
	if err != nil {
		return version, fmt.Errorf("watch %s: %w", s.resource.GroupResource(), err)
	}
	defer body.Close()
	decoder := json.NewDecoder(body)
	for {
		var event struct {
			Type   string          `json:"type"`
			Object json.RawMessage `json:"object"`
		}
		if err := decoder.Decode(&event); err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || ctx.Err() != nil {
				return version, nil
			}
			return version, fmt.Errorf("watch %s: %w", s.resource.GroupResource(), err)
		}
		if event.Type == "ERROR" {
			return version, fmt.Errorf("watch %s: %w", s.resource.GroupResource(), statusOf(event.Object))
		}
		h, err := headOf(event.Object)
		if err != nil || h.Metadata.ResourceVersion == "" {
			return "", fmt.Errorf("watch %s: %w", s.resource.GroupResource(), errUnordered)
		}
		switch event.Type {
		case "ADDED", "MODIFIED":
			err = w.present(event.Object, typeMeta{})
		case "DELETED":
			w.deleted(h)
		}
		if err != nil {
			return "", fmt.Errorf("watch %s: %w", s.resource.GroupResource(), err)
		}
		version = h.Metadata.ResourceVersion
	}
}

// statusOf is the error that an ERROR event carries.
func statusOf(raw []byte) error {
	var status metav1.Status
	if err := json.Unmarshal(raw, &status); err != nil || status.Status == "" {
		return errUnordered
	}
	if status.Code == http.StatusGone && status.Reason == "" {
		status.Reason = metav1.StatusReasonExpired
	}
	return &apierrors.StatusError{ErrStatus: status}
}
