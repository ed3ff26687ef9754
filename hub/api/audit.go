// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"strings"

	"github.com/google/uuid"
	"go.uber.org/zap"
	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	"k8s.io/apiserver/pkg/authentication/user"

	"github.com/drover-io/drover/hub/auth"
	"github.com/drover-io/drover/hub/store"
)

// Auditor keeps a record of what was asked of the API, and what came of it.
type Auditor interface {
	// Ready returns nil while records can be stored. Otherwise writes are refused
	// before anything happens.
	Ready() error
	// Record stores one event; when it returns nil the event is as safe as an
	// object in the store. RequestObject holds the body as the client sent it,
	// secrets included: to decide what of it to keep is the auditor's part.
	Record(ctx context.Context, ev *auditv1.Event) error
}

// AnnotationDryRun marks the event of a request that was only tried.
const AnnotationDryRun = "audit.drover.io/dry-run"

// AnnotationRemoved lists the names that a deletion of many removed or marked,
// the first hundred.
const AnnotationRemoved = "audit.drover.io/removed"

// trail is what a call leaves for its event.
type trail struct {
	id       string
	received metav1.MicroTime
	done     bool
	dryRun   bool
	body     []byte
	name     string      // of an object that the path does not name
	stored   store.Entry // what the answer shows
	removed  []string
}

// audited says whether the answer to this call is recorded: writes, refused ones
// too, and whatever was refused because of who asked. What was refused because
// there is too much of it is not: the record would cost more than the refusal.
func (c *call) audited(code int) bool {
	if c.auditor == nil || c.audit.done || code == http.StatusTooManyRequests {
		return false
	}
	switch c.r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return code == http.StatusUnauthorized || code == http.StatusForbidden
	}
	return true
}

// record stores the event of this call, before its answer is sent: so no answer
// of success is without its record. When the record fails, the object is
// written already and the answer becomes 500; it says that, and the auditor stores
// the record as soon as it can.
func (c *call) record(status *metav1.Status) error {
	if !c.audited(int(status.Code)) {
		return nil
	}
	c.audit.done = true
	// Who goes away does not take the record along.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.r.Context()), requestTimeout)
	defer cancel()
	err := c.auditor.Record(ctx, c.event(status))
	if err == nil {
		return nil
	}
	c.log.Error("request without an audit record", zap.String("method", c.r.Method), zap.String("path", c.r.URL.Path),
		zap.Int32("code", status.Code), zap.String("auditID", c.audit.id), zap.Error(err))
	return statusError(http.StatusInternalServerError, metav1.StatusReasonInternalError,
		"The request was carried out, but it could not be recorded in the audit log. Read the object before you try again.")
}

func succeeded(code int) *metav1.Status {
	return &metav1.Status{Status: metav1.StatusSuccess, Code: int32(code)}
}

// recordable refuses a write that could not be recorded.
func (c *call) recordable() error {
	if c.auditor == nil {
		return nil
	}
	err := c.auditor.Ready()
	if err == nil {
		return nil
	}
	c.log.Debug("write refused", zap.Error(err))
	out := apierrors.NewServiceUnavailable("the audit log cannot be written, so nothing else is; the hub's log has the details")
	out.ErrStatus.Details = &metav1.StatusDetails{RetryAfterSeconds: 1}
	return out
}

func (c *call) beginAudit() {
	if c.auditor == nil {
		return
	}
	c.audit.id = uuid.NewString()
	c.audit.received = metav1.NowMicro()
	c.w.Header().Set("Audit-Id", c.audit.id)
}

func (c *call) event(status *metav1.Status) *auditv1.Event {
	ev := &auditv1.Event{
		AuditID: types.UID(c.audit.id), Stage: auditv1.StageResponseComplete,
		RequestReceivedTimestamp: c.audit.received, StageTimestamp: metav1.NowMicro(),
		RequestURI: c.r.URL.RequestURI(), Verb: strings.ToLower(c.r.Method),
		User:      authenticationv1.UserInfo{Username: user.Anonymous, Groups: []string{user.AllUnauthenticated}},
		UserAgent: c.r.UserAgent(), ResponseStatus: status,
	}
	if host, _, err := net.SplitHostPort(c.r.RemoteAddr); err == nil {
		ev.SourceIPs = []string{host}
	}
	if c.who != nil {
		by, acts := auth.Original(c.user())
		ev.User = userInfo(by)
		if acts {
			as := userInfo(c.user())
			ev.ImpersonatedUser = &as
		}
	}
	dryRun := c.audit.dryRun || c.r.URL.Query().Get("dryRun") != ""
	ev.Annotations = map[string]string{}
	if dryRun {
		ev.Annotations[AnnotationDryRun] = "true"
	}
	if n := len(c.audit.removed); n > 0 {
		ev.Annotations[AnnotationRemoved] = strings.Join(c.audit.removed[:min(n, 100)], ",")
	}
	info := c.info
	if info == nil {
		return ev
	}
	ev.Verb = info.Verb
	if !info.IsResourceRequest {
		return ev
	}
	ev.ObjectRef = &auditv1.ObjectReference{
		APIGroup: info.APIGroup, APIVersion: info.APIVersion, Resource: info.Resource, Subresource: info.Subresource,
		Namespace: info.Namespace, Name: info.Name,
	}
	if ev.ObjectRef.Name == "" {
		ev.ObjectRef.Name = c.audit.name
	}
	if s := c.audit.stored; s.Key.Name != "" {
		ev.ObjectRef.Name, ev.ObjectRef.UID = s.Key.Name, uidOf(s)
		if s.Revision > 0 && !dryRun {
			ev.ObjectRef.ResourceVersion = revisionText(s.Revision)
		}
	}
	if len(c.audit.body) > 0 {
		ev.RequestObject = &runtime.Unknown{Raw: c.audit.body, ContentType: c.bodyType()}
	}
	return ev
}

func uidOf(e store.Entry) types.UID {
	if e.Header.UID != "" {
		return types.UID(e.Header.UID)
	}
	var obj struct {
		Metadata struct {
			UID types.UID `json:"uid"`
		} `json:"metadata"`
	}
	// what cannot be read has none
	_ = json.Unmarshal(e.Data, &obj)
	return obj.Metadata.UID
}
