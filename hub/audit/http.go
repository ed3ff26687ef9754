// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"go.uber.org/zap"
	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"github.com/drover-io/drover/hub/auth"
)

// Paths of the log for people. They are outside /apis, since what they serve is
// no stored kind: the permission they need is "get" on the path.
const (
	Path       = "/audit"
	VerifyPath = "/audit/verify"
)

// Handler serves the log to those who may get the paths, read only:
//
//	GET /audit          an EventList of audit.k8s.io/v1, the newest first; parameters
//	                    user, verb, resource, namespace, name, since, until
//	                    (RFC 3339), limit
//	GET /audit/verify   a Report
//
// Refusals are recorded.
func (l *Log) Handler(authn authenticator.Request, authz authorizer.UnconditionalAuthorizer) http.Handler {
	return &handler{l, authn, authz}
}

type handler struct {
	log   *Log
	authn authenticator.Request
	authz authorizer.UnconditionalAuthorizer
}

// ServeHTTP implements http.Handler.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	received := metav1.NowMicro()
	w.Header().Set("Cache-Control", "no-store")
	who, err := h.admit(r)
	if err != nil {
		h.refuse(w, r, who, received, err)
		return
	}
	var answer any
	switch r.URL.Path {
	case Path:
		f, ferr := parseFilter(r.URL.Query())
		if ferr != nil {
			respond(w, http.StatusBadRequest, ferr.ErrStatus)
			return
		}
		var events []auditv1.Event
		events, err = h.log.Query(r.Context(), f)
		answer = &auditv1.EventList{
			TypeMeta: metav1.TypeMeta{APIVersion: auditv1.SchemeGroupVersion.String(), Kind: "EventList"}, Items: events,
		}
	case VerifyPath:
		answer, err = h.log.Verify(r.Context())
	default:
		respond(w, http.StatusNotFound, apierrors.NewNotFound(schema.GroupResource{Resource: "path"}, clip(r.URL.Path, maxText)).Status())
		return
	}
	if err != nil {
		h.log.log.Error("reading the audit log failed", zap.Error(err))
		respond(w, http.StatusInternalServerError,
			apierrors.NewInternalError(fmt.Errorf("the audit log cannot be read; the hub's log has the details")).Status())
		return
	}
	respond(w, http.StatusOK, answer)
}

// admit says who asks, and an *apierrors.StatusError if they may not.
func (h *handler) admit(r *http.Request) (user.Info, error) {
	who, ok, err := h.authn.AuthenticateRequest(r)
	var impersonation *auth.ImpersonationError
	var answer apierrors.APIStatus
	if errors.As(err, &impersonation) && errors.As(err, &answer) {
		return impersonation.By, &apierrors.StatusError{ErrStatus: answer.Status()}
	}
	if err != nil || !ok || who == nil || who.User == nil {
		return nil, apierrors.NewUnauthorized("Unauthorized: the request carries no credentials that the hub knows")
	}
	if r.Method != http.MethodGet {
		return who.User, apierrors.NewMethodNotSupported(schema.GroupResource{Resource: "audit"}, r.Method)
	}
	decision, _, err := h.authz.Authorize(r.Context(), authorizer.AttributesRecord{User: who.User, Verb: "get", Path: r.URL.Path})
	if err != nil || decision != authorizer.DecisionAllow {
		return who.User, apierrors.NewForbidden(schema.GroupResource{}, "", fmt.Errorf("user %q cannot get path %q", who.User.GetName(), r.URL.Path))
	}
	return who.User, nil
}

func (h *handler) refuse(w http.ResponseWriter, r *http.Request, who user.Info, received metav1.MicroTime, refusal error) {
	status := refusal.(apierrors.APIStatus).Status()
	ev := &auditv1.Event{
		Verb: "get", RequestURI: r.URL.RequestURI(), UserAgent: r.UserAgent(),
		User: Anonymous(), RequestReceivedTimestamp: received, ResponseStatus: &status,
	}
	if r.Method != http.MethodGet {
		ev.Verb = clip(r.Method, 16)
	}
	if who != nil {
		by, acts := auth.Original(who)
		ev.User = authenticationv1.UserInfo{Username: by.GetName(), Groups: by.GetGroups()}
		if acts {
			ev.ImpersonatedUser = &authenticationv1.UserInfo{Username: who.GetName(), Groups: who.GetGroups()}
		}
	}
	if host, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		ev.SourceIPs = []string{host}
	}
	if err := h.log.Record(r.Context(), ev); err != nil {
		h.log.log.Error("a refused request is not recorded", zap.Error(err))
	}
	respond(w, int(status.Code), status)
}

func parseFilter(q url.Values) (Filter, *apierrors.StatusError) {
	f := Filter{
		User: q.Get("user"), Verb: q.Get("verb"),
		Resource: q.Get("resource"), Namespace: q.Get("namespace"), Name: q.Get("name"),
	}
	for name, into := range map[string]*time.Time{"since": &f.Since, "until": &f.Until} {
		if text := q.Get(name); text != "" {
			at, err := time.Parse(time.RFC3339, text)
			if err != nil {
				return f, apierrors.NewBadRequest(fmt.Sprintf("%s: %q is not a time; want 2006-01-02T15:04:05Z", name, clip(text, 64)))
			}
			*into = at
		}
	}
	if text := q.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > MaxLimit {
			return f, apierrors.NewBadRequest(fmt.Sprintf("limit: want a number from 1 to %d", MaxLimit))
		}
		f.Limit = n
	}
	return f, nil
}

// respond writes JSON. A client that went away needs no answer.
func respond(w http.ResponseWriter, code int, body any) {
	if s, ok := body.(metav1.Status); ok {
		s.TypeMeta = metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}
		body = s
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body)
}
