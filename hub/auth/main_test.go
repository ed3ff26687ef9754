// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"strings"
	"testing"

	"github.com/drover-io/drover/test/leak"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
)

func TestMain(m *testing.M) { leak.Main(m) }

// person logs in with groups.
func person(name string, groups ...string) *user.DefaultInfo {
	return &user.DefaultInfo{Name: name, Groups: append(groups, user.AllAuthenticated)}
}

// words of a test: "a,b" is a list, "-" the empty string, "" no list.
func list(s string) []string {
	if s == "" {
		return nil
	}
	out := strings.Split(s, ",")
	for i := range out {
		if out[i] == "-" {
			out[i] = ""
		}
	}
	return out
}

func rule(verbs, groups, resources string, names ...string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{Verbs: list(verbs), APIGroups: list(groups), Resources: list(resources), ResourceNames: names}
}

func urls(verbs string, urls ...string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{Verbs: list(verbs), NonResourceURLs: urls}
}

func clusterRole(name string, rules ...rbacv1.PolicyRule) *rbacv1.ClusterRole {
	return &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name}, Rules: rules}
}

func nsRole(ns, name string, rules ...rbacv1.PolicyRule) *rbacv1.Role {
	return &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name}, Rules: rules}
}

// ref is "ClusterRole/name" or "Role/name".
func ref(s string) rbacv1.RoleRef {
	kind, name, _ := strings.Cut(s, "/")
	return rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: kind, Name: name}
}

// sub is "User/name", "Group/name" or "ServiceAccount/ns/name".
func sub(s string) rbacv1.Subject {
	kind, name, _ := strings.Cut(s, "/")
	if kind == rbacv1.ServiceAccountKind {
		ns, name, _ := strings.Cut(name, "/")
		return rbacv1.Subject{Kind: kind, Namespace: ns, Name: name}
	}
	return rbacv1.Subject{Kind: kind, APIGroup: rbacv1.GroupName, Name: name}
}

func everywhere(role string, subjects ...string) *rbacv1.ClusterRoleBinding {
	b := &rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: "b-" + role + "-" + strings.Join(subjects, "-")}, RoleRef: ref(role)}
	for _, s := range subjects {
		b.Subjects = append(b.Subjects, sub(s))
	}
	return b
}

func in(ns, role string, subjects ...string) *rbacv1.RoleBinding {
	b := &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "b-" + role + "-" + strings.Join(subjects, "-")}, RoleRef: ref(role)}
	for _, s := range subjects {
		b.Subjects = append(b.Subjects, sub(s))
	}
	return b
}

// granted gives somebody rules everywhere.
func granted(who string, rules ...rbacv1.PolicyRule) *Policy {
	return NewPolicy(Objects{
		ClusterRoles:        []*rbacv1.ClusterRole{clusterRole("r", rules...)},
		ClusterRoleBindings: []*rbacv1.ClusterRoleBinding{everywhere("ClusterRole/r", who)},
	})
}

// ask reads "verb [group/]resource[/sub] [namespace/name]" or "verb /path";
// group, namespace and name may be "-" for none.
func ask(u user.Info, s string) authorizer.AttributesRecord {
	parts := strings.Fields(s)
	a := authorizer.AttributesRecord{User: u, Verb: parts[0]}
	if len(parts) == 3 {
		ns, name, _ := strings.Cut(parts[2], "/")
		a.Namespace, a.Name = strings.TrimPrefix(ns, "-"), strings.TrimPrefix(name, "-")
	}
	if strings.HasPrefix(parts[1], "/") {
		a.Path = parts[1]
		return a
	}
	a.ResourceRequest = true
	what := strings.SplitN(parts[1], "/", 3)
	a.APIGroup, a.Resource = strings.TrimPrefix(what[0], "-"), what[1]
	if len(what) == 3 {
		a.Subresource = what[2]
	}
	return a
}

// fixed is a Source that never changes.
type fixed struct{ p *Policy }

func (f fixed) Policy() *Policy { return f.p }
