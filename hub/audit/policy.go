// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"net/http"
	"slices"
	"strings"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	"k8s.io/apiserver/pkg/authentication/user"
)

// Level says how much of a request is recorded, from nothing but what it asks
// for: the object of a decision about a join request, of all other requests the
// metadata. Requests that only ask something of the hub in the form of a create
// are not recorded.
func Level(verb, group, resource string) auditv1.Level {
	switch {
	case group == "authorization.k8s.io" || group == "authentication.k8s.io":
		return auditv1.LevelNone
	case group == "fleet.drover.io" && resource == "joinrequests" && (verb == "patch" || verb == "update"):
		return auditv1.LevelRequest
	}
	return auditv1.LevelMetadata
}

// LevelOf is Level for an event; a refusal by reason of the user is recorded
// whatever was asked for.
func LevelOf(ev *auditv1.Event) auditv1.Level {
	var group, resource string
	if ev.ObjectRef != nil {
		group, resource = ev.ObjectRef.APIGroup, ev.ObjectRef.Resource
	}
	level := Level(ev.Verb, group, resource)
	if level == auditv1.LevelNone && denied(ev) {
		return auditv1.LevelMetadata
	}
	return level
}

func denied(ev *auditv1.Event) bool {
	s := ev.ResponseStatus
	return s != nil && (s.Code == http.StatusUnauthorized || s.Code == http.StatusForbidden)
}

// Anonymous is the user of requests whose user is not known.
func Anonymous() authenticationv1.UserInfo {
	return authenticationv1.UserInfo{Username: user.Anonymous, Groups: []string{user.AllUnauthenticated}}
}

// limited says whether an event costs its author nothing: anybody who reaches the
// port could fill the disk with those.
func limited(ev *auditv1.Event) bool {
	// Reads, and what agents try with a certificate that is over.
	cheap := slices.Contains([]string{"get", "list", "watch", "head", "join", "renew"}, strings.ToLower(ev.Verb))
	return ev.ResponseStatus != nil && ev.ResponseStatus.Code >= 400 && (cheap || ev.User.Username == user.Anonymous)
}

// refusals bounds the records of limited events in a minute.
type refusals struct {
	most       int
	minute     time.Time
	recorded   int
	suppressed uint64 // since the last record
}

func (r *refusals) allow(now time.Time) bool {
	if now.Sub(r.minute) >= time.Minute {
		r.minute, r.recorded = now, 0
	}
	if r.recorded >= r.most {
		r.suppressed++
		return false
	}
	r.recorded++
	return true
}
