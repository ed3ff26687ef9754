// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"context"
	"errors"
	"fmt"
	"slices"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/shared/apis/cluster"
	"github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/shared/apis/work"
)

// Names of the built-in ClusterRoles.
const (
	RoleViewer      = "drover:viewer"
	RoleOperator    = "drover:operator"
	RoleAddonAuthor = "drover:addon-author"
	RoleApprover    = "drover:approver"
	RoleAdmin       = "drover:admin"
)

// annotationAutoupdate with "true" lets the hub bring a built-in role back to
// what this version of it says.
const annotationAutoupdate = "rbac.authorization.kubernetes.io/autoupdate"

const (
	groupAddon    = "addon.open-cluster-management.io"
	groupRegistry = "clusterregistry.k8s.io"
)

// BuiltinRoles are the ClusterRoles that the hub brings with it; the package
// comment says what each is for.
func BuiltinRoles() []*rbacv1.ClusterRole {
	read := []string{"get", "list", "watch"}
	write := []string{"get", "list", "watch", "create", "update", "patch", "delete"}
	change := []string{"get", "list", "watch", "update", "patch"}
	rule := func(verbs []string, group string, resources ...string) rbacv1.PolicyRule {
		return rbacv1.PolicyRule{Verbs: verbs, APIGroups: []string{group}, Resources: resources}
	}
	viewer := []rbacv1.PolicyRule{
		rule(read, "", "namespaces", "events"),
		rule(read, cluster.Group, "managedclusters", "managedclusters/status", "managedclustersets", "managedclustersets/status",
			"managedclustersetbindings", "managedclustersetbindings/status", "placements", "placements/status",
			"placementdecisions", "placementdecisions/status"),
		rule(read, groupRegistry, "clusters", "clusters/status"),
		rule(read, groupAddon, "clustermanagementaddons", "clustermanagementaddons/status", "managedclusteraddons", "managedclusteraddons/status"),
		rule(read, fleet.Group, "clustermetrics", "apilists", "addonversions", "addonversions/status", "addonrollouts", "addonrollouts/status",
			"rolloutpolicies", "alertrules"),
	}
	operator := slices.Concat(viewer, []rbacv1.PolicyRule{
		rule(change, cluster.Group, "managedclusters"),
		rule(write, cluster.Group, "managedclustersets", "managedclustersetbindings", "placements"),
		rule([]string{"create"}, cluster.Group, "managedclustersets/join", "managedclustersets/bind"),
		rule(write, groupAddon, "managedclusteraddons", "addondeploymentconfigs"),
		rule(append(slices.Clone(write), "deletecollection"), work.Group, "manifestworks"),
		rule(read, work.Group, "manifestworks/status", "manifestworkreplicasets/status"),
		rule(write, work.Group, "manifestworkreplicasets"),
		rule(read, fleet.Group, "workrevisions", "configrevisions"),
		rule([]string{"create"}, fleet.Group, "bundles"),
		rule(write, fleet.Group, "addonconfigs", "addonrollouts", "alertrules"),
		rule([]string{"create", "patch"}, "", "events"),
	})
	author := slices.Concat(viewer, []rbacv1.PolicyRule{
		rule(write, groupAddon, "clustermanagementaddons", "addontemplates", "addondeploymentconfigs"),
		rule(write, fleet.Group, "addonversions", "addonconfigs", "rolloutpolicies"),
		rule(read, fleet.Group, "configrevisions"),
	})
	approver := []rbacv1.PolicyRule{
		rule(append(slices.Clone(write), "deletecollection"), fleet.Group, "jointokens"),
		rule([]string{"get", "list", "watch", "update", "patch", "delete", VerbApprove}, fleet.Group, "joinrequests"),
		rule([]string{"get", "list", "watch", "update", "patch", VerbRevoke}, fleet.Group, "agentidentities"),
		rule([]string{"get", "list", "watch", "create", "update", "patch", "delete", VerbAccept}, cluster.Group, "managedclusters"),
		// the same right in the words of Open Cluster Management
		rule([]string{"update"}, cluster.Group, "managedclusters/accept"),
		rule(read, "", "namespaces", "events"),
	}
	out := []*rbacv1.ClusterRole{}
	for _, r := range []struct {
		name  string
		rules []rbacv1.PolicyRule
	}{{RoleViewer, viewer}, {RoleOperator, operator}, {RoleAddonAuthor, author}, {RoleApprover, approver}, {RoleAdmin, everything()}} {
		out = append(out, &rbacv1.ClusterRole{
			ObjectMeta: metav1.ObjectMeta{
				Name:        r.name,
				Labels:      map[string]string{"kubernetes.io/bootstrapping": "rbac-defaults"},
				Annotations: map[string]string{annotationAutoupdate: "true"},
			},
			Rules: r.rules,
		})
	}
	return out
}

// ensureBuiltin makes the built-in roles that are missing, and brings those back
// to this version's rules whose annotation allows it. Bindings are not touched.
func ensureBuiltin(ctx context.Context, s *store.Store) error {
	roles := store.Of[rbacv1.ClusterRole](s, ResourceClusterRoles)
	for _, want := range BuiltinRoles() {
		_, err := roles.Update(ctx, "", want.Name, func(r *rbacv1.ClusterRole) error {
			if r.Annotations[annotationAutoupdate] != "true" || r.DeletionTimestamp != nil {
				return nil
			}
			if !equality.Semantic.DeepEqual(r.Rules, want.Rules) || r.AggregationRule != nil {
				r.Rules, r.AggregationRule = want.Rules, nil
			}
			return nil
		})
		if errors.Is(err, store.ErrNotFound) {
			if _, err = roles.Create(ctx, want); errors.Is(err, store.ErrExists) {
				err = nil // another hub was faster
			}
		}
		if err != nil {
			return fmt.Errorf("ensure ClusterRole %s: %w", want.Name, err)
		}
	}
	return nil
}
