// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package login

import (
	"context"
	"net"
	"net/http"
	"strings"
	"time"

	"go.uber.org/zap"
	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	"k8s.io/apiserver/pkg/authentication/user"

	"github.com/drover-io/drover/hub/auth"
	"github.com/drover-io/drover/shared/apis/fleet"
)

// Annotations of the records of logins.
const (
	AnnotationMethod = "login.drover.io/method"
	AnnotationIssuer = "login.drover.io/issuer"
)

// recordTimeout bounds the writing of a record.
const recordTimeout = 10 * time.Second

// event is one thing to record.
type event struct {
	verb            string
	who             user.Info // nil while that is not known
	what            string    // resource, default sessions
	session, method string
	issuer, message string
	code            int32
}

// record stores an event before the answer is sent, so that nobody is logged in
// without a record of it.
func (l *Login) record(r *http.Request, e event) error {
	ev := requestEvent(r)
	ev.Verb = e.verb
	if e.who != nil {
		ev.User = authenticationv1.UserInfo{Username: e.who.GetName(), Groups: e.who.GetGroups()}
	}
	if e.what == "" {
		e.what = "sessions"
	}
	ev.ObjectRef = &auditv1.ObjectReference{APIGroup: fleet.Group, APIVersion: fleet.Version, Resource: e.what, Name: e.session}
	ev.ResponseStatus = &metav1.Status{Code: e.code, Message: e.message}
	ev.ResponseStatus.Status = metav1.StatusSuccess
	if e.code >= 400 {
		ev.ResponseStatus.Status, ev.ResponseStatus.Reason = metav1.StatusFailure, metav1.StatusReasonUnauthorized
	}
	for key, value := range map[string]string{AnnotationMethod: e.method, AnnotationIssuer: e.issuer} {
		if value != "" {
			if ev.Annotations == nil {
				ev.Annotations = map[string]string{}
			}
			ev.Annotations[key] = value
		}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), recordTimeout)
	defer cancel()
	if err := l.cfg.Auditor.Record(ctx, ev); err != nil {
		l.cfg.Log.Error("a login or logout cannot be recorded", zap.Error(err))
		return apierrors.NewServiceUnavailable("the audit log cannot be written, so nobody is logged in or out; the hub's log has the details")
	}
	return nil
}

// requestEvent is what a record says of any request. The URI goes without its
// query: a provider's code is in that.
func requestEvent(r *http.Request) *auditv1.Event {
	ev := &auditv1.Event{
		RequestURI: clip(r.URL.Path), UserAgent: clip(r.UserAgent()), RequestReceivedTimestamp: metav1.NowMicro(),
		User: authenticationv1.UserInfo{Username: user.Anonymous, Groups: []string{user.AllUnauthenticated}},
	}
	if ip := address(r); ip != "" {
		ev.SourceIPs = []string{ip}
	}
	return ev
}

// RecordRefused returns a function that records credentials which were refused
// although they look like the hub's own; see auth.Credentials.
func RecordRefused(a Auditor, log *zap.Logger) func(r *http.Request, err *auth.RefusedError) {
	return func(r *http.Request, err *auth.RefusedError) {
		ev := requestEvent(r)
		ev.Verb = "authenticate"
		text := err.Error()
		if err.Detail != "" {
			text = err.Detail
		}
		ev.ResponseStatus = &metav1.Status{
			Status: metav1.StatusFailure, Reason: metav1.StatusReasonUnauthorized, Code: http.StatusUnauthorized, Message: clip(text),
		}
		ev.Annotations = map[string]string{"login.drover.io/claimed-user": clip(err.User)}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), recordTimeout)
		defer cancel()
		if rerr := a.Record(ctx, ev); rerr != nil {
			log.Error("a refused credential is not recorded", zap.Error(rerr))
		}
	}
}

// start makes the session and hands out its cookie.
func (l *Login) start(w http.ResponseWriter, r *http.Request, who user.Info, facts fleet.SessionSpec, notAfter time.Time) error {
	facts.SourceAddress, facts.UserAgent = address(r), clip(r.UserAgent())
	obj, cookie, err := l.cfg.Sessions.Start(r.Context(), who, facts, notAfter)
	if err != nil {
		return err
	}
	if err := l.record(r, event{
		verb: "create", who: who, session: obj.Name, method: facts.Method, issuer: facts.Issuer, code: http.StatusCreated,
	}); err != nil {
		if eerr := l.cfg.Sessions.End(context.WithoutCancel(r.Context()), obj.Name); eerr != nil {
			l.cfg.Log.Error("a session that is not recorded could not be ended", zap.String("session", obj.Name), zap.Error(eerr))
		}
		return err
	}
	http.SetCookie(w, cookie)
	return nil
}

func address(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return ""
	}
	return host
}

// clip bounds what others wrote.
func clip(text string) string {
	text = strings.ToValidUTF8(strings.TrimSpace(text), "?")
	if len(text) > 256 {
		text = strings.ToValidUTF8(text[:256], "") + "..."
	}
	return text
}
