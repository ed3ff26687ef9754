// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"net/http"
	"slices"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
)

// reviews are the kinds that answer a question and store nothing.
var reviews = map[schema.GroupVersionResource]func(*call) error{
	authorizationv1.SchemeGroupVersion.WithResource("selfsubjectaccessreviews"): (*call).reviewAccess,
	authorizationv1.SchemeGroupVersion.WithResource("selfsubjectrulesreviews"):  (*call).reviewRules,
	authenticationv1.SchemeGroupVersion.WithResource("selfsubjectreviews"):      (*call).reviewSelf,
}

var reviewKinds = map[string]string{
	"selfsubjectaccessreviews": "SelfSubjectAccessReview",
	"selfsubjectrulesreviews":  "SelfSubjectRulesReview",
	"selfsubjectreviews":       "SelfSubjectReview",
}

func singularOf(resource string) string { return strings.TrimSuffix(resource, "s") }

func (c *call) beginReview() error {
	if c.info.Verb != "create" || len(c.info.Parts) != 1 || c.info.Namespace != "" {
		return c.methodNotSupported()
	}
	return c.negotiate()
}

// reviewAccess answers "may I do this?".
func (c *call) reviewAccess() error {
	if err := c.beginReview(); err != nil {
		return err
	}
	gvk := authorizationv1.SchemeGroupVersion.WithKind("SelfSubjectAccessReview")
	var review authorizationv1.SelfSubjectAccessReview
	if err := c.readInto(&review, gvk); err != nil {
		return err
	}
	attrs := authorizer.AttributesRecord{User: c.user()}
	res, path := review.Spec.ResourceAttributes, review.Spec.NonResourceAttributes
	switch {
	case (res == nil) == (path == nil):
		return badRequest("spec: exactly one of resourceAttributes and nonResourceAttributes must be given")
	case res != nil:
		attrs.ResourceRequest = true
		attrs.Verb, attrs.Namespace, attrs.Name = res.Verb, res.Namespace, res.Name
		attrs.APIGroup, attrs.APIVersion = res.Group, res.Version
		attrs.Resource, attrs.Subresource = res.Resource, res.Subresource
	default:
		attrs.Verb, attrs.Path = path.Verb, path.Path
	}
	decision, reason, err := c.authorizer.Authorize(c.r.Context(), attrs)
	review.Status = authorizationv1.SubjectAccessReviewStatus{
		Allowed: decision == authorizer.DecisionAllow,
		Denied:  decision == authorizer.DecisionDeny,
		Reason:  reason,
	}
	if err != nil {
		review.Status.Allowed = false
		review.Status.EvaluationError = err.Error()
	}
	review.SetGroupVersionKind(gvk)
	return c.writeJSON(http.StatusCreated, &review)
}

// reviewRules answers "what may I do?".
func (c *call) reviewRules() error {
	if err := c.beginReview(); err != nil {
		return err
	}
	gvk := authorizationv1.SchemeGroupVersion.WithKind("SelfSubjectRulesReview")
	var review authorizationv1.SelfSubjectRulesReview
	if err := c.readInto(&review, gvk); err != nil {
		return err
	}
	if review.Spec.Namespace == "" {
		return badRequest("spec.namespace: no namespace on request")
	}
	review.Status = authorizationv1.SubjectRulesReviewStatus{
		ResourceRules: []authorizationv1.ResourceRule{}, NonResourceRules: []authorizationv1.NonResourceRule{},
	}
	if resolver, ok := c.authorizer.(authorizer.RuleResolver); ok {
		resources, paths, incomplete, err := resolver.RulesFor(c.r.Context(), c.user(), review.Spec.Namespace)
		for _, r := range resources {
			review.Status.ResourceRules = append(review.Status.ResourceRules, authorizationv1.ResourceRule{
				Verbs: r.GetVerbs(), APIGroups: r.GetAPIGroups(), Resources: r.GetResources(), ResourceNames: r.GetResourceNames(),
			})
		}
		for _, r := range paths {
			review.Status.NonResourceRules = append(review.Status.NonResourceRules, authorizationv1.NonResourceRule{
				Verbs: r.GetVerbs(), NonResourceURLs: r.GetNonResourceURLs(),
			})
		}
		review.Status.Incomplete = incomplete
		if err != nil {
			review.Status.EvaluationError = err.Error()
		}
	} else {
		review.Status.Incomplete = true
		review.Status.EvaluationError = "the hub's authorizer cannot list rules"
	}
	review.SetGroupVersionKind(gvk)
	return c.writeJSON(http.StatusCreated, &review)
}

// reviewSelf answers "who am I?".
func (c *call) reviewSelf() error {
	if err := c.beginReview(); err != nil {
		return err
	}
	gvk := authenticationv1.SchemeGroupVersion.WithKind("SelfSubjectReview")
	var review authenticationv1.SelfSubjectReview
	if err := c.readInto(&review, gvk); err != nil {
		return err
	}
	review.SetGroupVersionKind(gvk)
	review.CreationTimestamp = metav1.Now()
	review.Status.UserInfo = userInfo(c.user())
	return c.writeJSON(http.StatusCreated, &review)
}

func userInfo(u user.Info) authenticationv1.UserInfo {
	info := authenticationv1.UserInfo{Username: u.GetName(), UID: u.GetUID(), Groups: slices.Clone(u.GetGroups())}
	for k, v := range u.GetExtra() {
		if info.Extra == nil {
			info.Extra = map[string]authenticationv1.ExtraValue{}
		}
		info.Extra[k] = v
	}
	return info
}
