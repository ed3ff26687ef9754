// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package apply

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/drover-io/drover/agent/apply/manifest"
	"github.com/drover-io/drover/shared/wire"
)

const (
	retryFirst     = time.Second
	retryPermanent = 16 * time.Second // first retry of what will hardly succeed by itself
	retryMax       = time.Minute
	retryUnserved  = 10 * time.Second // longest wait for a kind that is not served

	pollFirst  = 250 * time.Millisecond
	pollMax    = 5 * time.Second  // while something is not Current
	pollSteady = 30 * time.Second // when all is Current

	// repairsForgotten is how long an object must stay before its next
	// disappearance counts as the first.
	repairsForgotten = 10 * time.Minute
)

// retryDelay is the wait after the failures-th failure in a row, before jitter.
func retryDelay(failures int, permanent bool) time.Duration {
	first := retryFirst
	if permanent {
		first = retryPermanent
	}
	return doubled(first, failures-1, retryMax)
}

// nextInterval is the wait before the next poll, given the previous one.
func nextInterval(previous time.Duration, settled bool) time.Duration {
	switch {
	case settled:
		return pollSteady
	case previous < pollFirst || previous >= pollSteady:
		return pollFirst
	default:
		return min(2*previous, pollMax)
	}
}

func doubled(d time.Duration, times int, limit time.Duration) time.Duration {
	for ; times > 0 && d < limit; times-- {
		d *= 2
	}
	return min(d, limit)
}

// permanent says that the server refuses the request for what it is: repeating
// it helps only after somebody changed something. Forbidden is not among them:
// it also says that a namespace has no ServiceAccount yet or is being deleted.
func permanent(err error) bool {
	switch apierrors.ReasonForError(err) {
	case metav1.StatusReasonInvalid, metav1.StatusReasonBadRequest,
		metav1.StatusReasonMethodNotAllowed, metav1.StatusReasonNotAcceptable,
		metav1.StatusReasonRequestEntityTooLarge, metav1.StatusReasonUnsupportedMediaType:
		return true
	case metav1.StatusReasonConflict:
		return apierrors.HasStatusCause(err, metav1.CauseTypeFieldManagerConflict)
	}
	return false
}

// unreachable says that the API server gave no answer at all, so that asking
// for the next object is pointless.
func unreachable(err error) bool {
	var answered apierrors.APIStatus
	var unknown *noMatchError
	var own *manifest.Error
	var overtaken *overtakenError
	return err != nil && !errors.As(err, &answered) && !errors.As(err, &unknown) && !errors.As(err, &own) && !errors.As(err, &overtaken)
}

// gone says that an object, or its whole kind, does not exist.
func gone(err error) bool {
	var unknown *noMatchError
	return apierrors.IsNotFound(err) || errors.As(err, &unknown)
}

// kindGone says that the server does not serve the resource of a request any
// more: a 404 that does not name an object.
func kindGone(err error) bool {
	var answered apierrors.APIStatus
	if !errors.As(err, &answered) || answered.Status().Code != http.StatusNotFound {
		return false
	}
	details := answered.Status().Details
	for _, cause := range detailCauses(details) {
		if cause.Type == metav1.CauseTypeUnexpectedServerResponse {
			return true
		}
	}
	return details == nil || details.Name == ""
}

func detailCauses(details *metav1.StatusDetails) []metav1.StatusCause {
	if details == nil {
		return nil
	}
	return details.Causes
}

// conflicting says that other field managers own what the request would change.
func conflicting(err error) bool {
	return apierrors.HasStatusCause(err, metav1.CauseTypeFieldManagerConflict)
}

// conflictsOnlyWith says that manager is the only one in the way.
func conflictsOnlyWith(err error, manager string) bool {
	var answered apierrors.APIStatus
	if !conflicting(err) || !errors.As(err, &answered) {
		return false
	}
	for _, cause := range detailCauses(answered.Status().Details) {
		if !strings.HasPrefix(cause.Message, fmt.Sprintf("conflict with %q", manager)) {
			return false
		}
	}
	return true
}

// forbidden recognises an answer that the executor lacks a right. Quotas and
// admission answer with the same code.
func forbidden(err error, user string) error {
	if user == "" || !apierrors.IsForbidden(err) {
		return err
	}
	message := err.Error()
	switch {
	case strings.Contains(message, fmt.Sprintf("User %q cannot", user)):
	case strings.Contains(message, "cannot impersonate"):
		message += " (the agent needs the right to impersonate service accounts)"
	default:
		return err
	}
	return &manifest.Error{Reason: wire.ApplyForbidden, Message: message}
}

// otherUID says that the object has another UID than the request.
func otherUID(err error) bool {
	var answered apierrors.APIStatus
	if !apierrors.IsInvalid(err) || !errors.As(err, &answered) {
		return false
	}
	return slices.ContainsFunc(detailCauses(answered.Status().Details), func(c metav1.StatusCause) bool { return c.Field == "metadata.uid" })
}

// refusesVersion says that the server takes no resource version where it creates:
// some servers that are not Kubernetes' own.
func refusesVersion(err error) bool {
	return err != nil && strings.Contains(err.Error(), "resourceVersion should not be set")
}
