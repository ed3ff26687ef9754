// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Package auth says who asks and whether they may. It knows client
// certificates of the hub's own CA, access tokens, sessions of the dashboard, and
// Kubernetes' role-based access control; package openid knows the tokens of
// identity providers.
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
// matches nothing. And lists are filtered by Visible, where Kubernetes knows
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
//	impersonate  users, groups                   to act as another, and to make an AccessToken for one
//	bind      roles, clusterroles                to bind a role without having its permissions
//	escalate  roles, clusterroles                to write a role with permissions one does not have
//	view      managedclustersets.cluster.open-cluster-management.io
//	                                             to read what drover:viewer reads, of the clusters in the set
//	operate   managedclustersets                 to do what drover:operator does, with the clusters in the set
//	create    managedclustersets/join            to label a ManagedCluster into or out of the set, as in Open
//	                                             Cluster Management
//	create    managedclustersets/bind            to make a ManagedClusterSetBinding of the set
//
// As in Kubernetes the verb "*" stands for these too.
//
// # Sets of clusters
//
// A rule with view or operate on managedclustersets, with the set's name among
// its resourceNames or without any for all sets, bound by a ClusterRoleBinding,
// gives the rules of that built-in role for the members of the set: for
// ManagedClusters, ClusterMetrics, registry Clusters and Namespaces that are or
// bear the name of a member, and for everything in the namespaces of members. It
// does not give what the role has at the scope of the whole fleet, and it does not
// help to give permissions to others. A cluster belongs to a set by the set's
// clusterSelector and its labels alone; a set that does not exist gives nothing.
// Who may change the labels of a cluster may thus bring it into a set that selects
// by labels, and to make or change such a set needs the permission to list all
// ManagedClusters; into or out of one that selects by the label clusterset needs
// managedclustersets/join of both sets.
//
// # Lists
//
// A list or watch shows what its caller may see: everything with the permission to
// list the whole scope, as in Kubernetes, else each object that the caller may
// list or get by its namespace and name. Who may see nothing of a kind, whatever
// there is, gets Kubernetes' 403. A watch whose caller may see something else than
// when it began ends with 410, and the client lists again. Changes of roles,
// bindings and sets have effect within moments, not at once.
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
//	                              placementdecisions, and clusters of clusterregistry.k8s.io, each with /status
//	                       read   clustermanagementaddons, managedclusteraddons, each with /status
//	                       read   clustermetrics, apilists, rolloutpolicies, alertrules, addonversions,
//	                              addonrollouts, the last two with /status
//	                     Manifests of a ManifestWork may hold Secrets, and configurations of addons
//	                     passwords: both take an operator.
//	drover:operator      runs the fleet: drover:viewer, and
//	                       change managedclusters (labels and taints)
//	                       write  managedclustersets, managedclustersetbindings, placements
//	                       create managedclustersets/join, managedclustersets/bind
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
