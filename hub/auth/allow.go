// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"slices"
	"strings"

	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
)

// review is a kind that answers questions about the one who asks.
type review struct{ group, resource string }

func reviews() []review {
	return []review{
		{"authorization.k8s.io", "selfsubjectaccessreviews"},
		{"authorization.k8s.io", "selfsubjectrulesreviews"},
		{"authentication.k8s.io", "selfsubjectreviews"},
	}
}

// discoveryPaths are what everybody who logged in may read; a trailing * takes
// everything below.
func discoveryPaths() []string {
	return []string{"/api", "/api/*", "/apis", "/apis/*", "/openapi", "/openapi/*", "/version", "/version/"}
}

// Allow decides one request, from nothing but its arguments: the group
// system:masters may do everything, others who logged in may look at discovery
// and at themselves.
func Allow(u user.Info, a authorizer.Attributes) (decision authorizer.Decision, reason string) {
	if u == nil {
		return authorizer.DecisionDeny, ""
	}
	if inGroup(u, user.SystemPrivilegedGroup) {
		return authorizer.DecisionAllow, ""
	}
	if !inGroup(u, user.AllAuthenticated) {
		return authorizer.DecisionDeny, ""
	}
	if !a.IsResourceRequest() {
		if a.GetVerb() != "get" && a.GetVerb() != "head" {
			return authorizer.DecisionDeny, ""
		}
		for _, pattern := range discoveryPaths() {
			prefix, below := strings.CutSuffix(pattern, "*")
			if a.GetPath() == pattern || below && strings.HasPrefix(a.GetPath(), prefix) {
				return authorizer.DecisionAllow, ""
			}
		}
		return authorizer.DecisionDeny, ""
	}
	if a.GetVerb() == "create" && a.GetSubresource() == "" && slices.Contains(reviews(), review{a.GetAPIGroup(), a.GetResource()}) {
		return authorizer.DecisionAllow, ""
	}
	return authorizer.DecisionDeny, ""
}

func inGroup(u user.Info, group string) bool { return slices.Contains(u.GetGroups(), group) }
