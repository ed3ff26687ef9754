// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
)

// VerbImpersonate on users, groups, uids.authentication.k8s.io and
// userextras.authentication.k8s.io/KEY lets somebody act as another.
const VerbImpersonate = "impersonate"

// maxImpersonated bounds the groups and extra values of one request.
const maxImpersonated = 64

// Impersonated is a user as whom somebody else acts.
type Impersonated struct {
	user.Info
	// By is who really asks.
	By user.Info
}

// Original returns who really asks, and whether that is somebody else than u.
func Original(u user.Info) (user.Info, bool) {
	if i, ok := u.(*Impersonated); ok {
		return i.By, true
	}
	return u, false
}

// ImpersonationError says that somebody who is known may not act as another. It
// is the *apierrors.StatusError inside.
type ImpersonationError struct {
	By  user.Info
	Err error
}

// Error implements error.
func (e *ImpersonationError) Error() string { return e.Err.Error() }

// Unwrap returns the answer that the client gets.
func (e *ImpersonationError) Unwrap() error { return e.Err }

// Impersonation reads Kubernetes' Impersonate-* headers of requests that next
// recognises, and checks that the user may impersonate each of the user, groups,
// uid and extra values they name. The User of its answer is then an *Impersonated.
//
// A user who is impersonated has the groups that the headers name, and
// system:authenticated; not those they have when they log in themselves.
func Impersonation(next authenticator.Request, authz authorizer.UnconditionalAuthorizer) authenticator.Request {
	return authenticator.RequestFunc(func(r *http.Request) (*authenticator.Response, bool, error) {
		who, ok, err := next.AuthenticateRequest(r)
		if err != nil || !ok || who == nil || who.User == nil {
			return who, ok, err
		}
		as, err := impersonated(r.Header)
		if err == nil && as != nil {
			err = mayImpersonate(r, who.User, as, authz)
		}
		if err != nil {
			return nil, false, &ImpersonationError{By: who.User, Err: err}
		}
		if as == nil {
			return who, true, nil
		}
		switch {
		case as.Name == user.Anonymous:
			as.Groups = append(as.Groups, user.AllUnauthenticated)
		case !slices.Contains(as.Groups, user.AllAuthenticated) && !slices.Contains(as.Groups, user.AllUnauthenticated):
			as.Groups = append(as.Groups, user.AllAuthenticated)
		}
		return &authenticator.Response{User: &Impersonated{Info: as, By: who.User}, Audiences: who.Audiences}, true, nil
	})
}

// impersonated is who the headers name, or nil.
func impersonated(h http.Header) (*user.DefaultInfo, error) {
	var as user.DefaultInfo
	given := 0
	for header, values := range h {
		rest, ok := strings.CutPrefix(header, "Impersonate-")
		if !ok {
			continue
		}
		given += len(values)
		key, isExtra := strings.CutPrefix(header, authenticationv1.ImpersonateUserExtraHeaderPrefix)
		switch {
		case header == authenticationv1.ImpersonateGroupHeader:
			as.Groups = slices.Clone(values)
		case isExtra:
			name, err := url.PathUnescape(strings.ToLower(key))
			if err != nil || name == "" {
				return nil, apierrors.NewBadRequest(fmt.Sprintf("header %s: not a name of an extra value", header))
			}
			if as.Extra == nil {
				as.Extra = map[string][]string{}
			}
			as.Extra[name] = append(as.Extra[name], values...)
		case len(values) != 1 || values[0] == "":
			return nil, apierrors.NewBadRequest(fmt.Sprintf("header %s: want one value", header))
		case header == authenticationv1.ImpersonateUserHeader:
			as.Name = values[0]
		case header == http.CanonicalHeaderKey(authenticationv1.ImpersonateUIDHeader):
			as.UID = values[0]
		default:
			return nil, apierrors.NewBadRequest(fmt.Sprintf("header Impersonate-%s is not known: want Impersonate-User, -Group, -Uid or -Extra-KEY", rest))
		}
	}
	switch {
	case given == 0:
		return nil, nil
	case given > maxImpersonated:
		return nil, apierrors.NewBadRequest(fmt.Sprintf("too many Impersonate- headers: at most %d", maxImpersonated))
	case as.Name == "":
		return nil, apierrors.NewBadRequest("groups, uid or extra values are impersonated without a user: add the header Impersonate-User")
	}
	return &as, nil
}

// mayImpersonate asks for each of what as holds.
func mayImpersonate(r *http.Request, u user.Info, as *user.DefaultInfo, authz authorizer.UnconditionalAuthorizer) error {
	attrs := func(group, resource, sub, name string) authorizer.AttributesRecord {
		return authorizer.AttributesRecord{
			User: u, Verb: VerbImpersonate, APIGroup: group, APIVersion: "v1",
			Resource: resource, Subresource: sub, Name: name, ResourceRequest: true,
		}
	}
	wanted := []authorizer.AttributesRecord{attrs("", "users", "", as.Name)}
	if rest, ok := strings.CutPrefix(as.Name, "system:serviceaccount:"); ok {
		ns, name, found := strings.Cut(rest, ":")
		if !found || ns == "" || name == "" {
			return apierrors.NewBadRequest("header Impersonate-User: want system:serviceaccount:NAMESPACE:NAME")
		}
		wanted[0] = attrs("", "serviceaccounts", "", name)
		wanted[0].Namespace = ns
	}
	for _, g := range as.Groups {
		wanted = append(wanted, attrs("", "groups", "", g))
	}
	if as.UID != "" {
		wanted = append(wanted, attrs(authenticationv1.GroupName, "uids", "", as.UID))
	}
	for key, values := range as.Extra {
		for _, v := range values {
			wanted = append(wanted, attrs(authenticationv1.GroupName, "userextras", key, v))
		}
	}
	for _, a := range wanted {
		decision, _, err := authz.Authorize(r.Context(), a)
		if err != nil {
			var known apierrors.APIStatus
			if errors.As(err, &known) {
				return err
			}
			return fmt.Errorf("authorize impersonation: %w", err)
		}
		if decision != authorizer.DecisionAllow {
			//lint:ignore ST1005 Kubernetes' text
			return apierrors.NewForbidden(schema.GroupResource{Group: a.APIGroup, Resource: a.Resource}, a.Name, fmt.Errorf(
				"User %q cannot impersonate resource %q in API group %q at the cluster scope", u.GetName(), a.Resource, a.APIGroup))
		}
	}
	return nil
}
