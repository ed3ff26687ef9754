// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"go.uber.org/zap"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/drover-io/drover/hub/store"
)

var (
	errInternal = &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusInternalServerError, Reason: metav1.StatusReasonInternalError,
		Message: "Internal error. The hub's log has the details.",
	}}
	errNoSuchPath = &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusNotFound, Reason: metav1.StatusReasonNotFound,
		Details: &metav1.StatusDetails{}, Message: "the server could not find the requested resource",
	}}
)

func badRequest(format string, args ...any) error {
	return apierrors.NewBadRequest(fmt.Sprintf(format, args...))
}

func statusError(code int, reason metav1.StatusReason, message string) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: int32(code), Reason: reason, Message: message,
	}}
}

// statusOf turns any error into the one that the client sees.
func (c *call) statusOf(err error) *metav1.Status {
	var known apierrors.APIStatus
	if errors.As(err, &known) {
		s := known.Status()
		return &s
	}
	gr, name := c.groupResource(), ""
	if c.info != nil {
		name = c.info.Name
	}
	var out *apierrors.StatusError
	var tooLarge *http.MaxBytesError
	switch {
	case errors.Is(err, store.ErrNotFound):
		out = apierrors.NewNotFound(gr, name)
	case errors.Is(err, store.ErrExists):
		out = apierrors.NewAlreadyExists(gr, name)
	case errors.Is(err, store.ErrConflict):
		out = apierrors.NewConflict(gr, name, errModified)
	case errors.Is(err, store.ErrExpired):
		out = apierrors.NewResourceExpired("the revision or continue token is too old: list again")
	case errors.Is(err, store.ErrFuture):
		out = apierrors.NewTimeoutError("Too large resource version: it is not reached yet", 1)
		out.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: metav1.CauseTypeResourceVersionTooLarge, Message: "Too large resource version"}}
	case errors.Is(err, store.ErrTooLarge):
		out = apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("the object is larger than %d bytes", store.MaxObject))
	case errors.As(err, &tooLarge):
		out = apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("the body is larger than %d bytes", tooLarge.Limit))
	case errors.Is(err, store.ErrInvalid):
		out = apierrors.NewBadRequest(err.Error())
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded), errors.Is(err, store.ErrStopped):
		out = apierrors.NewTimeoutError("the request was not completed in time", 1)
	default:
		c.log.Error("request failed", zap.String("method", c.r.Method), zap.String("path", c.r.URL.Path), zap.Error(err))
		out = errInternal
	}
	s := out.Status()
	return &s
}

var errModified = errors.New("the object has been modified; please apply your changes to the latest version and try again")

// fail answers with an error.
func (c *call) fail(err error) {
	status := c.statusOf(err)
	status.TypeMeta = metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}
	h := c.w.Header()
	if status.Details != nil && status.Details.RetryAfterSeconds > 0 {
		h.Set("Retry-After", strconv.Itoa(int(status.Details.RetryAfterSeconds)))
	}
	code := int(status.Code)
	if code < 400 || code > 599 {
		code = http.StatusInternalServerError
	}
	// A refusal changed nothing: it stands when it cannot be recorded, which the
	// log says.
	_ = c.record(status)
	for _, name := range []string{"Etag", "Expires", "Content-Length", "Content-Encoding"} {
		h.Del(name)
	}
	c.writeWarnings()
	// a Status always encodes
	data, _ := json.Marshal(status)
	if c.accept.yaml {
		data = toYAML(data)
	}
	h.Set("Content-Type", c.accept.contentType())
	h.Set("Content-Length", strconv.Itoa(len(data)))
	c.w.WriteHeader(code)
	_, _ = c.w.Write(data)
}

// invalid is 422, or nil without errors.
func (c *call) invalid(name string, errs field.ErrorList) error {
	if len(errs) == 0 {
		return nil
	}
	return apierrors.NewInvalid(c.res.GVK.GroupKind(), name, errs)
}

func (c *call) methodNotSupported() error {
	return apierrors.NewMethodNotSupported(c.groupResource(), c.info.Verb)
}
