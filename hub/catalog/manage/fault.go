// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package manage

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// fault is an answer that says why something was not done.
type fault struct {
	code       int
	message    string
	retryAfter string
	// stale says that the object changed meanwhile: the same may work on a new look.
	stale bool
}

func (f *fault) Error() string { return f.message }

func fail(code int, format string, args ...any) *fault {
	return &fault{code: code, message: fmt.Sprintf(format, args...)}
}

// Messages of the specification.
const (
	msgVersionExists   = "Datastore Version Already Exists."
	msgImageNotFound   = "Image not found."
	msgVersionNotFound = "Datastore Version not found."
	msgInUse           = "Instance(s) exists for the datastore version."
)

// body is the fault as OpenStack's APIs show it: {"itemNotFound": {"code": 404, ...}}.
func (f *fault) body() map[string]any {
	return map[string]any{faultName(f.code): map[string]any{"code": f.code, "message": f.message}}
}

func faultName(code int) string {
	switch code {
	case http.StatusBadRequest:
		return "badRequest"
	case http.StatusUnauthorized:
		return "unauthorized"
	case http.StatusForbidden:
		return "forbidden"
	case http.StatusNotFound:
		return "itemNotFound"
	case http.StatusMethodNotAllowed:
		return "badMethod"
	case http.StatusConflict:
		return "conflict"
	case http.StatusRequestEntityTooLarge:
		return "overLimit"
	case http.StatusUnsupportedMediaType:
		return "badMediaType"
	case http.StatusTooManyRequests:
		return "overLimit"
	case http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return "serviceUnavailable"
	}
	return "internalServerError"
}

// refusal makes a fault of an answer of the API that is no success. Whatever is
// wrong with the request is 400, as the specification has no 422.
func refusal(a *recorder) *fault {
	var s metav1.Status
	if err := json.Unmarshal(a.body.Bytes(), &s); err != nil || s.Message == "" {
		s.Message = http.StatusText(a.code)
	}
	f := &fault{code: a.code, message: s.Message, retryAfter: a.header.Get("Retry-After")}
	switch {
	case a.code == http.StatusConflict && s.Reason == metav1.StatusReasonAlreadyExists:
		f.code, f.message = http.StatusBadRequest, msgVersionExists
	case a.code == http.StatusConflict:
		f.stale = strings.Contains(s.Message, "the object has been modified") || strings.Contains(s.Message, "Precondition failed: ")
	case a.code == http.StatusUnprocessableEntity:
		f.code = http.StatusBadRequest
		if s.Details != nil && len(s.Details.Causes) > 0 {
			f.message = explain(s.Details.Causes)
		}
		if missesImage(s.Details) {
			f.code, f.message = http.StatusNotFound, msgImageNotFound+" "+f.message
		}
	case a.code == http.StatusGone:
		f.code, f.message = http.StatusBadRequest, "marker: it is too old; start again without one"
	}
	return f
}

// explain lists what is wrong, by the names that fields have here.
func explain(causes []metav1.StatusCause) string {
	lines := make([]string, 0, len(causes))
	for _, c := range causes {
		lines = append(lines, strings.TrimPrefix(fieldName(c.Field)+": "+c.Message, ": "))
	}
	return strings.Join(lines, "; ")
}

func fieldName(path string) string {
	rest, ok := strings.CutPrefix(path, "spec.")
	if !ok {
		return path
	}
	switch rest {
	case "addOn":
		return "datastore"
	case "version":
		return "name"
	}
	return rest
}

// How the catalog says that an image does not exist: here, and in a registry.
const (
	noSuchBundle   = "no such bundle"
	noSuchArtifact = ": not found"
)

// missesImage says whether a refusal is about an image that does not exist.
func missesImage(d *metav1.StatusDetails) bool {
	if d == nil {
		return false
	}
	for _, c := range d.Causes {
		if c.Field == "spec.image" && (c.Type == metav1.CauseTypeFieldValueNotFound ||
			strings.Contains(c.Message, noSuchBundle) || strings.HasSuffix(c.Message, noSuchArtifact)) {
			return true
		}
	}
	return false
}
