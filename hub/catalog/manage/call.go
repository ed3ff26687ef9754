// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package manage

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/drover-io/drover/hub/auth"
	"github.com/drover-io/drover/shared/apis/addon"
	"github.com/drover-io/drover/shared/apis/fleet"
)

// Verbs on AddOnVersions. Whoever may change them is who the specification calls
// an admin.
const (
	verbCreate = "create"
	verbChange = "patch"
	verbDelete = "delete"
)

const (
	apiVersions   = "/apis/" + fleet.Group + "/" + fleet.Version + "/addonversions"
	apiDatastores = "/apis/" + addon.Group + "/" + addon.Version + "/clustermanagementaddons"
	apiReviews    = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
)

// call is one request on its way.
type call struct {
	api http.Handler
	w   http.ResponseWriter // for the deadline of the body alone
	r   *http.Request
}

// recorder takes an answer of the API.
type recorder struct {
	header http.Header
	code   int
	body   bytes.Buffer
}

func (a *recorder) Header() http.Header { return a.header }

func (a *recorder) WriteHeader(code int) {
	if a.code == 0 && code >= 200 { // an informational one is not the answer
		a.code = code
	}
}

func (a *recorder) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.body.Write(p)
}

// send asks the API in the name of who sent the request. into, unless it is nil,
// takes the answer; one that is no success comes back as a *fault.
func (c *call) send(method, path string, query url.Values, body, into any) error {
	r := c.r.Clone(c.r.Context())
	r.Method, r.URL = method, &url.URL{Path: path, RawQuery: query.Encode()}
	r.RequestURI, r.Form, r.PostForm, r.MultipartForm = r.URL.RequestURI(), nil, nil, nil
	for name := range r.Header {
		if strings.HasPrefix(name, "Content-") || strings.HasPrefix(name, "Accept") || strings.HasPrefix(name, "If-") {
			delete(r.Header, name)
		}
	}
	r.Header.Set("Accept", "application/json")
	r.TransferEncoding, r.Trailer, r.Body, r.ContentLength = nil, nil, http.NoBody, 0
	if c.r.Method == http.MethodGet && method == http.MethodPost {
		// A review changes nothing, so it needs no more than the request that asks
		// for it: a page of another site cannot read what it sets off.
		r.Header.Set(auth.HeaderRequest, "review")
		r.Header.Del("Origin")
		r.Header.Del("Sec-Fetch-Site")
	}
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("encode request: %w", err)
		}
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(data)), int64(len(data))
		r.Header.Set("Content-Type", "application/json")
		if method == http.MethodPatch {
			r.Header.Set("Content-Type", "application/merge-patch+json")
		}
	}
	a := &recorder{header: http.Header{}}
	c.api.ServeHTTP(a, r)
	if a.code < 200 || a.code > 299 {
		return refusal(a)
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(a.body.Bytes(), into); err != nil {
		return fmt.Errorf("read answer to %s %s: %w", method, path, err)
	}
	return nil
}

// may reports whether the caller has the verb on all AddOnVersions.
func (c *call) may(verb string) (bool, error) {
	var review authorizationv1.SelfSubjectAccessReview
	err := c.send(http.MethodPost, apiReviews, nil, &authorizationv1.SelfSubjectAccessReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "authorization.k8s.io/v1", Kind: "SelfSubjectAccessReview"},
		Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &authorizationv1.ResourceAttributes{
			Group: fleet.Group, Version: fleet.Version, Resource: "addonversions", Verb: verb,
		}},
	}, &review)
	return review.Status.Allowed, err
}

// need refuses with 403 those who lack the verb, before they learn anything else.
func (c *call) need(verb string) error {
	ok, err := c.may(verb)
	if err != nil || ok {
		return err
	}
	if c.r.Method != http.MethodGet {
		// The API refuses it by the same rule, and notes who tried; a dry run, in
		// case the caller has been given the right this very moment.
		path := apiVersions
		if id := c.r.PathValue("id"); isName(id) {
			path += "/" + id
		}
		var f *fault
		err := c.send(c.r.Method, path, url.Values{"dryRun": {"All"}}, map[string]any{}, nil)
		if errors.As(err, &f) && f.code == http.StatusForbidden {
			return f
		}
	}
	return fail(http.StatusForbidden, "the management API is for administrators of the catalog: you lack the verb %q on addonversions.%s", verb, fleet.Group)
}
