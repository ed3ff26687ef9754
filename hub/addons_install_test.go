// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"

	"github.com/drover-io/drover/shared/apis/addon"
	"github.com/drover-io/drover/shared/apis/fleet"
)

func dishes() schema.GroupVersionResource {
	return of(addon.Group, addon.Version, "managedclusteraddons")
}

// An addon is installed through the API: the version is written down, the work is
// made, what is needed stays, and a preview shows it to who may see it.
func TestInstallThroughTheAPI(t *testing.T) {
	t.Parallel()
	r := start(t, t.TempDir(), nil)
	c, ctx := r.client(), timeout(t)
	create := func(gvr schema.GroupVersionResource, ns, text string) (*unstructured.Unstructured, error) {
		return c.Resource(gvr).Namespace(ns).Create(ctx, object(t, text), metav1.CreateOptions{})
	}
	must := func(obj *unstructured.Unstructured, err error) *unstructured.Unstructured {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return obj
	}
	must(c.Resource(versions()).Create(ctx, version(t, "base", "1.0.0", "default: true,"), metav1.CreateOptions{}))
	must(c.Resource(versions()).Create(ctx, version(t, "app", "1.0.0", "default: true, dependencies: [{addOn: base, versionRange: ^1.0.0}],"), metav1.CreateOptions{}))
	must(create(clusters(), "", `{apiVersion: cluster.open-cluster-management.io/v1, kind: ManagedCluster, metadata: {name: shop-1}, spec: {hubAcceptsClient: true}}`))
	until(t, "the namespace of the cluster", func() bool {
		_, err := c.Resource(of("", "v1", "namespaces")).Get(ctx, "shop-1", metav1.GetOptions{})
		return err == nil
	})
	dish := func(name, more string) string {
		return `{apiVersion: addon.open-cluster-management.io/v1beta1, kind: ManagedClusterAddOn, metadata: {name: ` + name + `, namespace: shop-1` + more + `}, spec: {}}`
	}
	_, err := create(dishes(), "shop-1", dish("none", ""))
	refused(t, "an addon that is not there", err, apierrors.IsInvalid, "there is no ClusterManagementAddOn of this name; there are: app, base")
	_, err = create(dishes(), "shop-1", dish("base", ", annotations: {addon.open-cluster-management.io/hosting-cluster-name: other}"))
	refused(t, "hosted mode", err, apierrors.IsInvalid, "hosted mode is not supported")

	made := must(create(dishes(), "shop-1", dish("base", "")))
	configs, _, _ := unstructured.NestedSlice(made.Object, "spec", "configs")
	if len(configs) != 1 || configs[0].(map[string]any)["name"] != "base-1.0.0" || len(made.GetOwnerReferences()) != 1 {
		t.Errorf("stored: %v, owners %v", configs, made.GetOwnerReferences())
	}
	until(t, "its work", func() bool {
		_, err := c.Resource(works()).Namespace("shop-1").Get(ctx, "addon-base-deploy-0", metav1.GetOptions{})
		return err == nil
	})
	// Its objects have the names of those of base.
	_, err = create(dishes(), "shop-1", dish("app", ""))
	refused(t, "what another has", err, apierrors.IsConflict, "is an object of addon base already, so addon app cannot have it")
	refused(t, "an AddOn in flight", func() error {
		_, err := patch(t, c, recipes(), "base", `{metadata: {annotations: {fleet.drover.io/max-in-flight: "0"}}}`)
		return err
	}(), apierrors.IsInvalid, "want a number of clusters, at least 1")

	ask := func(cfg *rest.Config, req fleet.PreviewRequest) (int, string) {
		t.Helper()
		hc, err := rest.HTTPClientFor(cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer hc.CloseIdleConnections()
		body, err := json.Marshal(req)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := hc.Post(cfg.Host+fleet.PathAddOnPreview, "application/json", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(text)
	}
	cfg := r.config()
	code, text := ask(cfg, fleet.PreviewRequest{AddOn: "base", Clusters: []string{"shop-1"}, Values: map[string]any{"level": "debug"}})
	var preview fleet.Preview
	if err := json.Unmarshal([]byte(text), &preview); err != nil || code != http.StatusOK || len(preview.Outcomes) != 1 {
		t.Fatalf("%d %s (%v)", code, text, err)
	}
	if o := preview.Outcomes[0]; len(o.Objects) != 1 || o.Objects[0].Fields[0].Desired != `"debug"` || strings.Contains(text, "hunter2") {
		t.Errorf("preview: %s", text)
	}
	for name, tt := range map[string]struct {
		req  fleet.PreviewRequest
		code int
	}{
		"no addon":     {fleet.PreviewRequest{AddOn: "none"}, http.StatusBadRequest},
		"no name":      {fleet.PreviewRequest{}, http.StatusBadRequest},
		"no version":   {fleet.PreviewRequest{AddOn: "base", Version: "9.0.0"}, http.StatusBadRequest},
		"no cluster":   {fleet.PreviewRequest{AddOn: "base", Clusters: []string{"other"}}, http.StatusNotFound},
		"bad selector": {fleet.PreviewRequest{AddOn: "base", Selector: "="}, http.StatusBadRequest},
	} {
		if code, text := ask(cfg, tt.req); code != tt.code {
			t.Errorf("%s: %d %s", name, code, text)
		}
	}
	stranger := rest.AnonymousClientConfig(cfg)
	stranger.BearerToken = r.accessToken(t, c)
	if code, text := ask(stranger, fleet.PreviewRequest{AddOn: "base"}); code != http.StatusForbidden {
		t.Errorf("a stranger: %d %s", code, text)
	}
	if code, _ := ask(rest.AnonymousClientConfig(cfg), fleet.PreviewRequest{AddOn: "base"}); code != http.StatusUnauthorized {
		t.Errorf("nobody: %d", code)
	}

	// It goes, with its work, since no agent has anything of it.
	if err := c.Resource(dishes()).Namespace("shop-1").Delete(ctx, "base", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	until(t, "all gone", func() bool {
		_, err := c.Resource(dishes()).Namespace("shop-1").Get(ctx, "base", metav1.GetOptions{})
		list, lerr := c.Resource(works()).Namespace("shop-1").List(ctx, metav1.ListOptions{})
		return apierrors.IsNotFound(err) && lerr == nil && len(list.Items) == 0
	})
}
