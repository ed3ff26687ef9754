// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Package fleet holds the kinds of fleet.drover.io/v1alpha1, what none of the
// APIs that Drover takes over has, as Go structs for controllers.
package fleet

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/drover-io/drover/shared/wire"
)

// Group, Version and the resources as the store and the API name them.
const (
	Group   = "fleet.drover.io"
	Version = "v1alpha1"

	KindJoinToken      = "JoinToken"
	KindJoinRequest    = "JoinRequest"
	KindAgentIdentity  = "AgentIdentity"
	KindClusterMetrics = "ClusterMetrics"

	ResourceJoinTokens      = "jointokens." + Group
	ResourceJoinRequests    = "joinrequests." + Group
	ResourceAgentIdentities = "agentidentities." + Group
	ResourceClusterMetrics  = "clustermetrics." + Group
)

// JoinToken is permission to ask to join. The object's name is the token's
// public id unless the creator chose one; the secret exists in the answer to
// the create call and nowhere else.
type JoinToken struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   JoinTokenSpec   `json:"spec"`
	Status JoinTokenStatus `json:"status,omitempty"`
}

// JoinTokenSpec cannot be changed after creation, but for Revoked.
type JoinTokenSpec struct {
	// ClusterName binds the token to one name; empty lets the agent choose.
	ClusterName string `json:"clusterName,omitempty"`
	// TTLSeconds is the life of the token, default 3600, at most 604800.
	TTLSeconds int64 `json:"ttlSeconds,omitempty"`
	// Uses is how many keys may join with it, default 1.
	Uses int32 `json:"uses,omitempty"`
	// AutoApprove lets a request through without a person. It needs ClusterName,
	// and works only while that name is not in use.
	AutoApprove bool `json:"autoApprove,omitempty"`
	// Labels are put on the ManagedCluster.
	Labels map[string]string `json:"labels,omitempty"`
	// Revoked ends the token at once.
	Revoked bool `json:"revoked,omitempty"`
}

// JoinTokenStatus is kept by the hub.
type JoinTokenStatus struct {
	// Token is the whole token, only ever present in the answer to create.
	Token string `json:"token,omitempty"`
	// ID is the public id inside the token.
	ID string `json:"id,omitempty"`
	// SecretHash is the lower-hex SHA-256 of the secret.
	SecretHash string       `json:"secretHash,omitempty"`
	Expires    *metav1.Time `json:"expires,omitempty"`
	// Used lists the keys that joined with the token, by fingerprint: a key
	// that asks again gets its request back and costs no use.
	Used []TokenUse `json:"used,omitempty"`
}

// TokenUse is one use of a token.
type TokenUse struct {
	Fingerprint string      `json:"fingerprint"`
	Request     string      `json:"request"` // name of the JoinRequest
	Time        metav1.Time `json:"time"`
}

// Decisions on a JoinRequest.
const (
	Approve = "Approve"
	Deny    = "Deny"
)

// Phases of a JoinRequest.
const (
	PhasePending  = "Pending"
	PhaseApproved = "Approved" // a person or a token said yes; being signed
	PhaseJoined   = "Joined"   // certificate issued
	PhaseDenied   = "Denied"
	PhaseExpired  = "Expired"
)

// JoinRequest is one agent that asks to join. The hub creates it; a person
// decides by setting spec.approval.
type JoinRequest struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   JoinRequestSpec   `json:"spec"`
	Status JoinRequestStatus `json:"status,omitempty"`
}

// JoinRequestSpec cannot be changed, but for Approval while it is empty.
type JoinRequestSpec struct {
	ClusterName string `json:"clusterName"`
	// Fingerprint is the lower-hex SHA-256 of the key's SubjectPublicKeyInfo.
	Fingerprint string `json:"fingerprint"`
	CSR         string `json:"csr"` // PEM
	// Token is the name of the JoinToken.
	Token         string            `json:"token"`
	SourceAddress string            `json:"sourceAddress,omitempty"`
	Labels        map[string]string `json:"labels,omitempty"`
	Facts         wire.JoinFacts    `json:"facts,omitempty"`
	// Rejoin is set when the name is in use: approving needs Replace.
	Rejoin   bool      `json:"rejoin,omitempty"`
	Approval *Approval `json:"approval,omitempty"`
}

// Approval is a person's decision.
type Approval struct {
	Decision string `json:"decision"` // Approve or Deny
	// Fingerprint is the one the person compared: at least the first 16 hex
	// digits of spec.fingerprint. Needed to approve.
	Fingerprint string `json:"fingerprint,omitempty"`
	// Replace revokes the identity that uses the name now.
	Replace bool   `json:"replace,omitempty"`
	Reason  string `json:"reason,omitempty"`
	By      string `json:"by,omitempty"` // set by the hub
}

// JoinRequestStatus is kept by the hub.
type JoinRequestStatus struct {
	Phase   string `json:"phase,omitempty"`
	Message string `json:"message,omitempty"`
	// Chain is the signed certificate, PEM, leaf first.
	Chain   string       `json:"chain,omitempty"`
	Serial  string       `json:"serial,omitempty"` // decimal
	Expires *metav1.Time `json:"expires,omitempty"`
}

// ClusterMetrics is the last sample of one cluster. It is read only and not
// stored with the objects; see the METRICS stream.
type ClusterMetrics struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Connected says whether the agent is connected now.
	Connected  bool                   `json:"connected"`
	Host       *wire.HostSample       `json:"host,omitempty"`
	Kubernetes *wire.KubernetesSample `json:"kubernetes,omitempty"`
	// AddOns are the addons of the cluster that have pods, by name.
	AddOns []AddOnUsage `json:"addOns,omitempty"`
}

// AddOnUsage is what the pods of one addon on one cluster are and use.
type AddOnUsage struct {
	Name     string `json:"name"`
	Pods     int    `json:"pods"` // that did not succeed and end
	Ready    int    `json:"ready"`
	Restarts int    `json:"restarts"` // of containers, since the pods exist
	// CPU in cores and Memory in bytes are of the Measured pods; absent when the
	// cluster does not serve metrics.k8s.io.
	CPU      *float64 `json:"cpu,omitempty"`
	Memory   *int64   `json:"memory,omitempty"`
	Measured int      `json:"measured,omitempty"`
}

// ClusterMetricsList is a list of ClusterMetrics.
type ClusterMetricsList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []ClusterMetrics `json:"items"`
}

// AgentIdentity is the hub's record of who may speak for a cluster: the serial
// of the certificate in use and of the one that will replace it. Its name is
// the cluster's. The hub creates it when a join is approved; a person bans the
// holder by setting spec.revoked.
type AgentIdentity struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   AgentIdentitySpec   `json:"spec,omitempty"`
	Status AgentIdentityStatus `json:"status,omitempty"`
}

// AgentIdentitySpec is a person's word.
type AgentIdentitySpec struct {
	// Revoked bans the holder at once and for good: the name needs a new join,
	// approved with Replace.
	Revoked bool   `json:"revoked,omitempty"`
	Reason  string `json:"reason,omitempty"`
}

// AgentIdentityStatus is kept by the hub.
type AgentIdentityStatus struct {
	// Serial is the certificate in use, NextSerial the one issued by the last
	// renewal and not seen yet; its first use retires Serial. Decimal.
	Serial     string `json:"serial,omitempty"`
	NextSerial string `json:"nextSerial,omitempty"`
	// Fingerprint is of the key that joined.
	Fingerprint string `json:"fingerprint,omitempty"`
	// Request is the JoinRequest that made the identity, Chain its certificate.
	Request string `json:"request,omitempty"`
	Chain   string `json:"chain,omitempty"`
	// Expires is the end of the newest certificate.
	Expires *metav1.Time `json:"expires,omitempty"`
}
