// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package enroll

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"go.uber.org/zap"
	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"

	"github.com/drover-io/drover/shared/apis/fleet"
)

// Auditor keeps the record of joins, renewals and revocations.
type Auditor interface {
	// Record returns when ev is on the disk, or with the reason why it is not yet.
	Record(ctx context.Context, ev *auditv1.Event) error
}

// Verbs of the records.
const (
	VerbJoin   = "join"
	VerbRenew  = "renew"
	VerbRevoke = "revoke"
)

// Annotations of the records.
const (
	AnnotationCluster     = "enroll.drover.io/cluster"
	AnnotationFingerprint = "enroll.drover.io/fingerprint"
	AnnotationSerial      = "enroll.drover.io/serial"
	AnnotationToken       = "enroll.drover.io/token"
	AnnotationRequest     = "enroll.drover.io/request"
	// AnnotationApprovedBy is a person, or "token NAME" for a token that approves.
	AnnotationApprovedBy = "enroll.drover.io/approved-by"
)

// Users of the records. All names that begin with "system:" are reserved, so
// nobody can log in as one of them.
const (
	agentUser = "system:agent:"
	// hubUser carries out what people decided: they are named in the records of
	// their own requests.
	hubUser = "system:hub"
)

// recordTimeout bounds the writing of a record.
const recordTimeout = 10 * time.Second

// event is one thing to record.
type event struct {
	verb string
	// user is empty for whoever has no identity of this hub yet.
	user, resource, name string
	code                 int
	message              string
	notes                map[string]string
	request              *http.Request // nil: nobody waits for an answer
}

// record stores an event. An agent must not lose its identity because the log is
// full, so a failure is only logged; the audit log catches up when it can.
func (e *Enroll) record(ctx context.Context, ev event) {
	if e.cfg.Audit == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
	defer cancel()
	if err := e.cfg.Audit.Record(ctx, ev.build()); err != nil {
		e.log.Error("what an agent was given or refused is not in the audit log yet", zap.String("verb", ev.verb),
			zap.String("resource", ev.resource), zap.String("name", ev.name), zap.Any("notes", ev.notes), zap.Error(err))
	}
}

func (ev event) build() *auditv1.Event {
	resource, _, _ := strings.Cut(ev.resource, ".") // without its group
	out := &auditv1.Event{
		Verb: ev.verb,
		User: authenticationv1.UserInfo{Username: ev.user},
		ObjectRef: &auditv1.ObjectReference{
			APIGroup: fleet.Group, APIVersion: fleet.Version, Resource: resource, Name: ev.name,
		},
		ResponseStatus: &metav1.Status{Status: metav1.StatusSuccess, Code: int32(ev.code), Message: ev.message},
	}
	if ev.user == "" {
		out.User = authenticationv1.UserInfo{Username: "system:anonymous", Groups: []string{"system:unauthenticated"}}
	}
	if ev.code >= http.StatusBadRequest {
		out.ResponseStatus.Status = metav1.StatusFailure
		switch ev.code {
		case http.StatusUnauthorized:
			out.ResponseStatus.Reason = metav1.StatusReasonUnauthorized
		case http.StatusForbidden:
			out.ResponseStatus.Reason = metav1.StatusReasonForbidden
		}
	}
	for name, value := range ev.notes {
		if value == "" {
			continue
		}
		if out.Annotations == nil {
			out.Annotations = map[string]string{}
		}
		out.Annotations[name] = value
	}
	if r := ev.request; r != nil {
		out.RequestURI, out.UserAgent = r.URL.Path, r.UserAgent()
		out.SourceIPs = []string{host(r.RemoteAddr)}
	}
	return out
}

// recordRequest tells of a new join request, which a token may have approved.
func (e *Enroll) recordRequest(r *http.Request, jr *fleet.JoinRequest) {
	ev := event{
		verb: VerbJoin, resource: fleet.ResourceJoinRequests, name: jr.Name, code: http.StatusAccepted, request: r,
		message: "asks to join; waits for a decision",
		notes: map[string]string{
			AnnotationCluster: jr.Spec.ClusterName, AnnotationFingerprint: jr.Spec.Fingerprint, AnnotationToken: jr.Spec.Token,
		},
	}
	if a := jr.Spec.Approval; a != nil {
		ev.message = "asks to join; approved by its token"
		ev.notes[AnnotationApprovedBy] = a.By
	}
	e.record(r.Context(), ev)
}

// recordRefusedJoin tells of a key that was refused. The audit log bounds how many
// of these it keeps.
func (e *Enroll) recordRefusedJoin(r *http.Request, cluster, token, fingerprint string, reason error) {
	if errors.Is(reason, errUnknownToken) {
		token = "" // it can be any text, also one that was not meant to be kept
	}
	e.record(r.Context(), event{
		verb: VerbJoin, resource: fleet.ResourceJoinRequests, code: http.StatusForbidden, request: r,
		message: "join refused: " + reason.Error(),
		notes:   map[string]string{AnnotationCluster: cluster, AnnotationFingerprint: fingerprint, AnnotationToken: token},
	})
}

// recordIssued tells of the certificate that an approval made.
func (e *Enroll) recordIssued(ctx context.Context, jr *fleet.JoinRequest, serial string) {
	message := "certificate issued"
	if jr.Spec.Approval.Replace {
		message = "certificate issued; a former holder of the name is replaced"
	}
	e.record(ctx, event{
		verb: VerbJoin, user: agentUser + jr.Spec.ClusterName, resource: fleet.ResourceAgentIdentities, name: jr.Spec.ClusterName,
		code: http.StatusCreated, message: message,
		notes: map[string]string{
			AnnotationRequest: jr.Name, AnnotationSerial: serial, AnnotationFingerprint: jr.Spec.Fingerprint,
			AnnotationToken: jr.Spec.Token, AnnotationApprovedBy: jr.Spec.Approval.By,
		},
	})
}

// recordRenewed tells of a certificate that takes the place of the present one.
func (e *Enroll) recordRenewed(ctx context.Context, r *http.Request, cluster, serial, message string) {
	e.record(ctx, event{
		verb: VerbRenew, user: agentUser + cluster, resource: fleet.ResourceAgentIdentities, name: cluster,
		code: http.StatusOK, message: message, request: r, notes: map[string]string{AnnotationSerial: serial},
	})
}

// recordRefusedRenewal tells of a renewal that was refused because of who asked.
// cluster is empty while the certificate proves no identity.
func (e *Enroll) recordRefusedRenewal(r *http.Request, cluster string, reason error) {
	var ref *Refused
	if !errors.As(reason, &ref) || (ref.Status != http.StatusUnauthorized && ref.Status != http.StatusForbidden) {
		return
	}
	ev := event{
		verb: VerbRenew, resource: fleet.ResourceAgentIdentities, name: cluster,
		code: ref.Status, message: ref.Error(), request: r,
	}
	if cluster != "" {
		ev.user = agentUser + cluster
	}
	e.record(r.Context(), ev)
}

// recordRevoked tells of a certificate that the hub does not let in any more.
func (e *Enroll) recordRevoked(ctx context.Context, cluster, serial, reason string) {
	e.record(ctx, event{
		verb: VerbRevoke, user: hubUser, resource: fleet.ResourceAgentIdentities, name: cluster, code: http.StatusOK,
		message: strings.TrimSuffix("certificate revoked: "+reason, ": "), notes: map[string]string{AnnotationSerial: serial},
	})
}
