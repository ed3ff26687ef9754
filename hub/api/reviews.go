// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"net/http"
	"slices"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	authenticationv1beta1 "k8s.io/api/authentication/v1beta1"
	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
)

// reviews are the kinds that answer a question and store nothing.
var reviews = map[schema.GroupVersionResource]func(*call) error{
	authorizationv1.SchemeGroupVersion.WithResource("selfsubjectaccessreviews"):  (*call).reviewOwnAccess,
	authorizationv1.SchemeGroupVersion.WithResource("subjectaccessreviews"):      (*call).reviewAccess,
	authorizationv1.SchemeGroupVersion.WithResource("localsubjectaccessreviews"): (*call).reviewLocalAccess,
	authorizationv1.SchemeGroupVersion.WithResource("selfsubjectrulesreviews"):   (*call).reviewRules,
	authenticationv1.SchemeGroupVersion.WithResource("selfsubjectreviews"):       (*call).reviewSelf,
	// kubectl up to 1.27 asks for this version
	authenticationv1beta1.SchemeGroupVersion.WithResource("selfsubjectreviews"): (*call).reviewSelf,
}

var reviewKinds = map[string]string{
	"selfsubjectaccessreviews":  "SelfSubjectAccessReview",
	"subjectaccessreviews":      "SubjectAccessReview",
	"localsubjectaccessreviews": "LocalSubjectAccessReview",
	"selfsubjectrulesreviews":   "SelfSubjectRulesReview",
	"selfsubjectreviews":        "SelfSubjectReview",
}

// localReview is the one review that is asked in a namespace.
const localReview = "localsubjectaccessreviews"

func singularOf(resource string) string { return strings.TrimSuffix(resource, "s") }

func (c *call) beginReview() error {
	if c.info.Verb != "create" || len(c.info.Parts) != 1 {
		return c.methodNotSupported()
	}
	if (c.info.Namespace != "") != (c.info.Resource == localReview) {
		return errNoSuchPath
	}
	return c.negotiate()
}

// reviewOwnAccess answers "may I do this?".
func (c *call) reviewOwnAccess() error {
	if err := c.beginReview(); err != nil {
		return err
	}
	gvk := authorizationv1.SchemeGroupVersion.WithKind("SelfSubjectAccessReview")
	var review authorizationv1.SelfSubjectAccessReview
	if err := c.readInto(&review, gvk); err != nil {
		return err
	}
	attrs, errs := reviewed(c.user(), review.Spec.ResourceAttributes, review.Spec.NonResourceAttributes)
	if len(errs) > 0 {
		return apierrors.NewInvalid(gvk.GroupKind(), "", errs)
	}
	review.Status = c.reviewStatus(attrs)
	review.SetGroupVersionKind(gvk)
	return c.writeJSON(http.StatusCreated, &review)
}

// reviewAccess answers "may they do this?".
func (c *call) reviewAccess() error {
	if err := c.beginReview(); err != nil {
		return err
	}
	gvk := authorizationv1.SchemeGroupVersion.WithKind("SubjectAccessReview")
	var review authorizationv1.SubjectAccessReview
	if err := c.readInto(&review, gvk); err != nil {
		return err
	}
	attrs, errs := reviewedSubject(&review.Spec)
	if len(errs) > 0 {
		return apierrors.NewInvalid(gvk.GroupKind(), "", errs)
	}
	review.Status = c.reviewStatus(attrs)
	review.SetGroupVersionKind(gvk)
	return c.writeJSON(http.StatusCreated, &review)
}

// reviewLocalAccess answers "may they do this in this namespace?".
func (c *call) reviewLocalAccess() error {
	if err := c.beginReview(); err != nil {
		return err
	}
	gvk := authorizationv1.SchemeGroupVersion.WithKind("LocalSubjectAccessReview")
	var review authorizationv1.LocalSubjectAccessReview
	if err := c.readInto(&review, gvk); err != nil {
		return err
	}
	if ns := review.Namespace; ns != "" && ns != c.info.Namespace {
		return badRequest("the namespace of the provided object does not match the namespace sent on the request: %q, %q", ns, c.info.Namespace)
	}
	attrs, errs := reviewedSubject(&review.Spec)
	spec := field.NewPath("spec")
	if review.Spec.NonResourceAttributes != nil {
		errs = append(errs, field.Invalid(spec.Child("nonResourceAttributes"), "", "disallowed on this kind of request"))
	}
	if res := review.Spec.ResourceAttributes; res != nil && res.Namespace != c.info.Namespace {
		errs = append(errs, field.Invalid(spec.Child("resourceAttributes", "namespace"), res.Namespace, "must match metadata.namespace: "+c.info.Namespace))
	}
	if len(errs) > 0 {
		return apierrors.NewInvalid(gvk.GroupKind(), "", errs)
	}
	review.Namespace = c.info.Namespace
	review.Status = c.reviewStatus(attrs)
	review.SetGroupVersionKind(gvk)
	return c.writeJSON(http.StatusCreated, &review)
}

// reviewedSubject is the request that a review of somebody asks about.
func reviewedSubject(spec *authorizationv1.SubjectAccessReviewSpec) (authorizer.AttributesRecord, field.ErrorList) {
	who := &user.DefaultInfo{Name: spec.User, UID: spec.UID, Groups: spec.Groups}
	for k, v := range spec.Extra {
		if who.Extra == nil {
			who.Extra = map[string][]string{}
		}
		who.Extra[strings.ToLower(k)] = v
	}
	attrs, errs := reviewed(who, spec.ResourceAttributes, spec.NonResourceAttributes)
	if spec.User == "" && len(spec.Groups) == 0 {
		errs = append(errs, field.Invalid(field.NewPath("spec", "user"), "", "at least one of user or group must be specified"))
	}
	return attrs, errs
}

// reviewed is the request that a review asks about.
func reviewed(who user.Info, res *authorizationv1.ResourceAttributes, path *authorizationv1.NonResourceAttributes) (authorizer.AttributesRecord, field.ErrorList) {
	attrs := authorizer.AttributesRecord{User: who}
	spec := field.NewPath("spec")
	switch {
	case res != nil && path != nil:
		return attrs, field.ErrorList{field.Invalid(spec.Child("nonResourceAttributes"), "", "cannot be specified in combination with resourceAttributes")}
	case res == nil && path == nil:
		return attrs, field.ErrorList{field.Invalid(spec.Child("resourceAttributes"), "", "exactly one of nonResourceAttributes or resourceAttributes must be specified")}
	case res != nil:
		attrs.ResourceRequest = true
		attrs.Verb, attrs.Namespace, attrs.Name = res.Verb, res.Namespace, res.Name
		attrs.APIGroup, attrs.APIVersion = res.Group, res.Version
		attrs.Resource, attrs.Subresource = res.Resource, res.Subresource
	default:
		attrs.Verb, attrs.Path = path.Verb, path.Path
	}
	return attrs, nil
}

// reviewStatus asks the authorizer. Denied stays false, since nothing here ever
// forbids what something else allows.
func (c *call) reviewStatus(attrs authorizer.AttributesRecord) authorizationv1.SubjectAccessReviewStatus {
	decision, reason, err := c.authorizer.Authorize(c.r.Context(), attrs)
	out := authorizationv1.SubjectAccessReviewStatus{Allowed: decision == authorizer.DecisionAllow, Reason: reason}
	if err != nil {
		out.Allowed, out.EvaluationError = false, err.Error()
	}
	return out
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
	gvk := schema.GroupVersionKind{Group: c.info.APIGroup, Version: c.info.APIVersion, Kind: "SelfSubjectReview"}
	var review authenticationv1.SelfSubjectReview // the same in both versions
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
