// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"net/http"
	goruntime "runtime"
	"strings"

	"k8s.io/apimachinery/pkg/version"

	"github.com/drover-io/drover/hub/api/openapi"
)

// kubernetesLevel is the version of the Kubernetes API whose behaviour this
// package reproduces, that of the libraries it is made of.
const kubernetesLevel = "v1.37.2"

func (c *call) serveNonResource() error {
	if c.r.Method != http.MethodGet && c.r.Method != http.MethodHead {
		return c.methodNotSupported()
	}
	path := strings.TrimSuffix(c.r.URL.Path, "/")
	switch path {
	case "/api", "/apis":
		return c.serveDiscovery(path)
	case "/openapi/v2":
		media, err := c.negotiateMedia(openapi.Accepted(2))
		if err != nil {
			return err
		}
		return c.openapi.ServeV2(c.w, c.r, media)
	case "/openapi/v3":
		return c.openapi.ServeIndex(c.w, c.r)
	}
	if group, ok := strings.CutPrefix(path, "/openapi/v3/"); ok && c.openapi.Has(group) {
		media, err := c.negotiateMedia(openapi.Accepted(3))
		if err != nil {
			return err
		}
		return c.openapi.ServeGroup(c.w, c.r, group, media)
	}
	if doc, ok := c.discovery.paths[path]; ok {
		if err := c.negotiate(); err != nil {
			return err
		}
		return c.writeData(http.StatusOK, doc)
	}
	return errNoSuchPath
}

// serveVersion answers /version, to anybody.
func (c *call) serveVersion() error {
	if c.r.Method != http.MethodGet && c.r.Method != http.MethodHead {
		return c.methodNotSupported()
	}
	if err := c.negotiate(); err != nil {
		return err
	}
	parts := strings.SplitN(strings.TrimPrefix(kubernetesLevel, "v"), ".", 3)
	return c.writeJSON(http.StatusOK, version.Info{
		Major: parts[0], Minor: parts[1], GitVersion: c.version, GitTreeState: "clean",
		GoVersion: goruntime.Version(), Compiler: goruntime.Compiler, Platform: goruntime.GOOS + "/" + goruntime.GOARCH,
	})
}
