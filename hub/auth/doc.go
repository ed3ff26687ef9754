// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Package auth says who asks and whether they may. It knows client
// certificates of the hub's own CA, and Kubernetes' role-based access control.
//
// The group system:masters may do everything, whatever the roles say and even
// while they cannot be read. Everybody who logged in may look at discovery and at
// themselves. Everything else comes from Role, ClusterRole, RoleBinding and
// ClusterRoleBinding of rbac.authorization.k8s.io/v1, with Kubernetes' semantics:
// permissions only add up, and nothing is ever forbidden by a role. Four things
// differ. Subjects of kind ServiceAccount have no effect, since the accounts of
// the managed clusters are nobody here. The sum that an aggregationRule asks for
// is made when the roles are read and never written into the role, so the rules
// such a role holds itself have no effect. An empty string among resourceNames
// matches nothing. And lists can be filtered by Visible, where Kubernetes knows
// only all or nothing.
//
// # Virtual verbs
//
// These are asked for beside the verb of the request, for a part of a change that
// weighs more than the rest:
//
//	approve   joinrequests.fleet.drover.io       to set spec.approval of a JoinRequest, and to
//	                                             make a JoinToken with spec.autoApprove
//	revoke    agentidentities.fleet.drover.io    to change spec.revoked of an AgentIdentity, and to
//	                                             approve a JoinRequest with approval.replace, which
//	                                             revokes the identity of that name
//	accept    managedclusters.cluster.open-cluster-management.io
//	                                             to change spec.hubAcceptsClient, or to create a
//	                                             ManagedCluster that has it; update of
//	                                             managedclusters/accept is the same right
//	bind      roles, clusterroles                to bind a role without having its permissions
//	escalate  roles, clusterroles                to write a role with permissions one does not have
//
// As in Kubernetes the verb "*" stands for these too.
//
// # Built-in roles
//
// The hub makes these ClusterRoles when they are missing. At each start it sets
// their rules back to those below, unless their annotation
// rbac.authorization.kubernetes.io/autoupdate is no longer "true". It makes no
// bindings. "read" is get, list and watch; "write" is read and create, update,
// patch and delete; "change" is write without create and delete.
//
//	drover:viewer        looks at the fleet, and at nothing that may hold a secret:
//	                       read   namespaces, events
//	                       read   managedclusters, managedclustersets, managedclustersetbindings, placements,
//	                              placementdecisions, each with /status
//	                       read   clustermanagementaddons, managedclusteraddons, each with /status
//	                       read   clustermetrics, rolloutpolicies, alertrules, addonversions, addonrollouts, the
//	                              last two with /status
//	                     Manifests of a ManifestWork may hold Secrets, and configurations of addons
//	                     passwords: both take an operator.
//	drover:operator      runs the fleet: drover:viewer, and
//	                       change managedclusters (labels and taints)
//	                       write  managedclustersets, managedclustersetbindings, placements
//	                       write  managedclusteraddons, addondeploymentconfigs
//	                       write and deletecollection manifestworks, read manifestworks/status
//	                       write  addonconfigs, addonrollouts, alertrules
//	                       create and patch events
//	                     What an operator deploys runs on the clusters with the agent's permissions.
//	drover:addon-author  makes addons for others to deploy: drover:viewer, and
//	                       write  clustermanagementaddons, addontemplates, addondeploymentconfigs
//	                       write  addonversions, addonconfigs, rolloutpolicies
//	drover:approver      decides who belongs to the fleet:
//	                       write and deletecollection jointokens
//	                       change, delete and approve joinrequests
//	                       change and revoke agentidentities
//	                       write and accept managedclusters, update managedclusters/accept
//	                       read   namespaces, events
//	drover:admin         does everything, as Kubernetes' cluster-admin: "*" everywhere. Unlike membership in
//	                     system:masters it is taken away by deleting a binding.
package auth
