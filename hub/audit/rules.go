// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"fmt"

	"k8s.io/apimachinery/pkg/runtime/schema"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	kubeaudit "k8s.io/apiserver/pkg/audit"
	"k8s.io/apiserver/pkg/audit/policy"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"github.com/drover-io/drover/shared/daemon"
)

// Policy decides the level of each event by the rules of a file of kind Policy,
// audit.k8s.io/v1, as of a kube-apiserver. Three things differ: what changes
// something, and what was refused because of who asked, is recorded at level
// Metadata at least; answers are never recorded, so RequestResponse means
// Request; and of reads only the refused ones are presented to the policy.
type Policy struct {
	rules kubeaudit.PolicyRuleEvaluator
}

// LoadPolicy reads a policy file.
func LoadPolicy(file string) (*Policy, error) {
	p, err := policy.LoadPolicyFromFile(file)
	if err != nil {
		return nil, daemon.Hint(fmt.Errorf("audit-policy-file: %w", err), "the file holds one object of kind Policy, apiVersion audit.k8s.io/v1")
	}
	return &Policy{rules: policy.NewPolicyRuleEvaluator(p)}, nil
}

// level is LevelOf without a policy.
func (p *Policy) level(ev *auditv1.Event) auditv1.Level {
	floor := LevelOf(ev)
	if p == nil || floor == auditv1.LevelNone {
		return floor
	}
	switch p.rules.EvaluatePolicyRule(attributesOf(ev)).Level {
	case "Request", "RequestResponse":
		return auditv1.LevelRequest
	}
	return auditv1.LevelMetadata
}

// attributesOf is the request of an event, as an authorizer saw it.
func attributesOf(ev *auditv1.Event) authorizer.Attributes {
	gv := schema.GroupVersion{}
	a := authorizer.AttributesRecord{
		User: &user.DefaultInfo{Name: ev.User.Username, UID: ev.User.UID, Groups: ev.User.Groups},
		Verb: ev.Verb, Path: ev.RequestURI,
	}
	if ref := ev.ObjectRef; ref != nil {
		gv.Group, gv.Version = ref.APIGroup, ref.APIVersion
		a.ResourceRequest = true
		a.APIGroup, a.APIVersion, a.Resource, a.Subresource = gv.Group, gv.Version, ref.Resource, ref.Subresource
		a.Namespace, a.Name = ref.Namespace, ref.Name
	}
	return a
}
