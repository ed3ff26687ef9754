// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"

	"go.uber.org/zap"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/endpoints/request"

	"github.com/drover-io/drover/hub/store"
)

// TestStatusOf maps every error of the store to what clients act on.
func TestStatusOf(t *testing.T) {
	t.Parallel()
	c := &call{
		API: &API{log: zap.NewNop()}, r: httptest.NewRequest("GET", "/", nil),
		info: &request.RequestInfo{APIGroup: "g", Resource: "things", Name: "x"},
	}
	tests := []struct {
		name   string
		err    error
		code   int32
		reason metav1.StatusReason
		retry  bool
	}{
		{"not found", store.ErrNotFound, 404, metav1.StatusReasonNotFound, false},
		{"exists", store.ErrExists, 409, metav1.StatusReasonAlreadyExists, false},
		{"conflict", store.ErrConflict, 409, metav1.StatusReasonConflict, false},
		{"expired", store.ErrExpired, 410, metav1.StatusReasonExpired, false},
		{"future", store.ErrFuture, 504, metav1.StatusReasonTimeout, true},
		{"too large", store.ErrTooLarge, 413, metav1.StatusReasonRequestEntityTooLarge, false},
		{"malformed", store.ErrInvalid, 400, metav1.StatusReasonBadRequest, false},
		{"stopped", store.ErrStopped, 504, metav1.StatusReasonTimeout, true},
		{"canceled", context.Canceled, 504, metav1.StatusReasonTimeout, true},
		{"a status", apierrors.NewUnauthorized("no"), 401, metav1.StatusReasonUnauthorized, false},
		{"anything else", errors.New("disk /dev/sda1 is full"), 500, metav1.StatusReasonInternalError, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := c.statusOf(fmt.Errorf("verb object: %w", tt.err))
			if s.Code != tt.code || s.Reason != tt.reason {
				t.Errorf("got %d %s, want %d %s", s.Code, s.Reason, tt.code, tt.reason)
			}
			if (s.Details != nil && s.Details.RetryAfterSeconds > 0) != tt.retry {
				t.Errorf("retry: %+v, want %t", s.Details, tt.retry)
			}
			if strings.Contains(s.Message, "sda1") {
				t.Errorf("message %q shows internals", s.Message)
			}
		})
	}
	if s := c.statusOf(store.ErrFuture); !apierrors.HasStatusCause(&apierrors.StatusError{ErrStatus: *s}, metav1.CauseTypeResourceVersionTooLarge) {
		t.Error("reflectors look for the cause ResourceVersionTooLarge")
	}
}
