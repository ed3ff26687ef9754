// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Package wire is the protocol between agent and hub: subjects, messages and
// limits. Both sides link it, and an old agent may meet a new hub, so it
// changes only by adding, and every change raises Version.
//
// Everything here travels as JSON over NATS inside one mutual-TLS websocket.
// The hub takes the cluster's identity from the subject, which the tunnel
// guarantees, and never from a payload.
package wire

import (
	"strings"
	"time"
)

// Version is the protocol version this build speaks. The agent names its own
// in Hello; the hub answers with the one both will use, or refuses.
//
// Version history:
//
//	1  hello, desired, content, status, report; samples; hint
//	2  the desired state is signed and comes in pages, items carry a policy and
//	   may name a bundle; reports carry drift, feedback, events and plans; diff
//	3  content may carry health rules and protected patterns; the status has claims
//	   and facts of nodes, and names the cluster's APIs, which are a service of their
//	   own; samples of works
const Version = 3

// MinVersion is the oldest protocol version the hub still accepts.
const MinVersion = 1

// Limits. A message larger than MaxPayload is never sent: the sender refuses
// it first, so that one poisonous object cannot break the connection.
const (
	// MaxPayload is the largest NATS message in bytes, headers included.
	MaxPayload = 1 << 20
	// MaxContent is the largest content blob in bytes that travels in one message.
	MaxContent = 900 << 10
)

// Paths of the agents' side of the hub's port.
const (
	PathAgent = "/v1/agent" // websocket
	PathJoin  = "/v1/join"  // POST; GET PathJoin/{id}
	PathRenew = "/v1/renew" // POST
	PathCRL   = "/v1/crl"   // GET
	// GET PathContent/{digest}: a bundle one of the cluster's items names. Ranges
	// (RFC 9110), Accept-Encoding zstd.
	PathContent = "/v1/content"
)

// Names of the services below "fm.<cluster>.up.svc.", each a NATS request
// answered by one of the hub's replicas.
const (
	ServiceHello   = "hello"
	ServiceDesired = "desired"
	ServiceContent = "content"
	ServiceStatus  = "status"
	ServiceReport  = "report"
	ServiceReports = "reports" // several at once, version 2
	ServiceAPIs    = "apis"    // version 3
)

// DownDiff is the service of an agent that compares a change with the cluster by
// server-side dry-run: the hub requests DownSubject(cluster, DownDiff).
const DownDiff = "diff"

// DownSubject is the subject on which the hub asks the agent of cluster for service.
func DownSubject(cluster, service string) string { return DownPrefix(cluster) + "svc." + service }

// ReplyPrefix is the prefix of the subjects on which the agent of cluster answers
// requests of the hub: agents may publish below UpPrefix only, and the hub's own
// inboxes are not there.
func ReplyPrefix(cluster string) string { return UpPrefix(cluster) + "reply." }

// Kinds of samples below "fm.<cluster>.up.metrics.".
const (
	SampleHost       = "host"
	SampleKubernetes = "kubernetes"
	SampleWorks      = "works" // version 3; the hub keeps the last one only
)

const prefix = "fm."

// ServiceSubject is the subject on which the agent of cluster asks service.
func ServiceSubject(cluster, service string) string {
	return prefix + cluster + ".up.svc." + service
}

// MetricsSubject is the subject on which the agent of cluster publishes samples of kind.
func MetricsSubject(cluster, kind string) string {
	return prefix + cluster + ".up.metrics." + kind
}

// UpPrefix is the prefix of every subject the agent of cluster may publish to.
func UpPrefix(cluster string) string { return prefix + cluster + ".up." }

// DownPrefix is the prefix of every subject the hub publishes to the agent of cluster.
func DownPrefix(cluster string) string { return prefix + cluster + ".down." }

// HintSubject is where the hub tells the agent of cluster to ask for its desired state.
func HintSubject(cluster string) string { return DownPrefix(cluster) + "hint" }

// InboxPrefix is the prefix of the inboxes of the agent of cluster; an inbox
// is the prefix, a dot and more tokens.
func InboxPrefix(cluster string) string { return "_INBOX_" + cluster }

// AllServices is the hub's subscription for service of every cluster.
func AllServices(service string) string { return prefix + "*.up.svc." + service }

// AllMetrics are the subjects of the stream that keeps every cluster's samples.
// They name the kinds: with a wildcard one agent could fill the stream's index.
func AllMetrics() []string {
	return []string{MetricsSubject("*", SampleHost), MetricsSubject("*", SampleKubernetes)}
}

// ClusterOf returns the cluster token of a subject of this protocol.
func ClusterOf(subject string) (cluster string, ok bool) {
	rest, found := strings.CutPrefix(subject, prefix)
	if !found {
		return "", false
	}
	cluster, _, found = strings.Cut(rest, ".")
	return cluster, found && cluster != ""
}

// Hello is the first request of a session.
type Hello struct {
	Version           int    `json:"version"`           // highest protocol version the agent speaks
	AgentVersion      string `json:"agentVersion"`      // the agent's build
	Hostname          string `json:"hostname"`          // where the agent runs
	KubernetesVersion string `json:"kubernetesVersion"` // empty for a node agent
	ClusterUID        string `json:"clusterUID"`        // UID of namespace kube-system, empty for a node agent
}

// Welcome answers Hello.
type Welcome struct {
	Version int `json:"version"` // protocol version of this session
	// Error refuses the session; the agent reports it and tries again later.
	Error string `json:"error,omitempty"`
	// Pacing, the hub's word, in seconds. Zero leaves the agent's default.
	SampleSeconds int `json:"sampleSeconds,omitempty"`
	StatusSeconds int `json:"statusSeconds,omitempty"`
	// Agents is the number of connected agents, from which an agent derives the
	// window of its first reconnect attempt.
	Agents int `json:"agents,omitempty"`
}

// Hint says that the desired state of the cluster may have changed. It carries
// no authority: losing or forging one changes nothing but the time of the next look.
type Hint struct {
	Generation uint64 `json:"generation"`
}

// ContentRequest asks for content by digest.
type ContentRequest struct {
	Digest string `json:"digest,omitempty"`
	// Digests, from version 2 on and in the place of Digest, asks for several at
	// once, at most MaxContents; the answer is Contents.
	Digests []string `json:"digests,omitempty"`
}

// MaxContents is how many digests one ContentRequest may have.
const MaxContents = 64

// Contents answers the first of the Digests of a ContentRequest, as many as fit one
// message, in their order. The others are to be asked for again, and when there is
// no answer at all the first of them alone, as a Digest.
type Contents struct {
	Contents []Content `json:"contents"`
}

// Content is what one digest names, or why there is none.
type Content struct {
	Digest string `json:"digest"`
	Data   []byte `json:"data,omitempty"` // base64 in JSON
	Error  string `json:"error,omitempty"`
}

// HeaderError marks the answer to a ContentRequest that failed and says why. An
// answer without it is the content itself: the spec of the ManifestWork
// (work.open-cluster-management.io/v1) as the JSON that the digest names.
const HeaderError = "Drover-Error"

// JoinRequest is the body of POST PathJoin. The key of CSR is the key of the
// TLS client certificate.
type JoinRequest struct {
	ID      string            `json:"id"`      // of the join token
	Secret  string            `json:"secret"`  // of the join token
	Cluster string            `json:"cluster"` // name asked for
	CSR     string            `json:"csr"`     // PEM
	Labels  map[string]string `json:"labels,omitempty"`
	// Facts help the operator recognise the cluster; they grant nothing.
	Facts JoinFacts `json:"facts"`
}

// JoinFacts is what an agent says of itself before it is trusted.
type JoinFacts struct {
	Hostname          string `json:"hostname,omitempty"`
	AgentVersion      string `json:"agentVersion,omitempty"`
	KubernetesVersion string `json:"kubernetesVersion,omitempty"`
	ClusterUID        string `json:"clusterUID,omitempty"`
}

// JoinState answers POST PathJoin (202) and GET PathJoin/{id} (200), and with
// Chain and Roots also POST PathRenew (200).
type JoinState struct {
	ID      string `json:"id"`
	State   string `json:"state"` // one of the Join constants
	Message string `json:"message,omitempty"`
	Chain   string `json:"chain,omitempty"` // PEM, leaf first; when approved
	Roots   string `json:"roots,omitempty"` // PEM, the trust bundle; when approved
}

// States of a join.
const (
	JoinPending  = "Pending"
	JoinApproved = "Approved"
	JoinDenied   = "Denied"
)

// RenewRequest is the body of POST PathRenew: a new key under the identity of
// the TLS client certificate.
type RenewRequest struct {
	CSR string `json:"csr"` // PEM
}

// Refusal is the body of every answer with status 4xx or 5xx on the agents' side.
type Refusal struct {
	Reason  string `json:"reason"`
	Message string `json:"message,omitempty"`
}

// Reasons of a refusal, and what the agent does.
const (
	ReasonExpired    = "expired"    // beyond grace: needs a new token
	ReasonRemoved    = "removed"    // evicted by an operator: needs a new token
	ReasonRevoked    = "revoked"    // banned: stops for good
	ReasonSuperseded = "superseded" // another holder of the identity is newer: stops for good
	// ReasonNotAccepted: spec.hubAcceptsClient is false; the agent tries again slowly.
	ReasonNotAccepted = "not-accepted"
	ReasonRefused     = "refused"     // join refused; the hub's audit has the reason
	ReasonBadRequest  = "bad-request" // Message names the field
	ReasonBusy        = "busy"        // too many attempts: Retry-After says when
	ReasonInternal    = "internal"
)

// Status is the agent's view of its cluster, sent when it changes and every
// StatusSeconds. The hub writes it to ManagedCluster.status on change only.
type Status struct {
	ObservedAt time.Time `json:"observedAt"`
	// Kubernetes is nil for a node agent.
	Kubernetes *KubernetesStatus `json:"kubernetes,omitempty"`
	// Epoch and Generation name the desired state that the agent holds.
	Epoch      string `json:"epoch,omitempty"`
	Generation uint64 `json:"generation,omitempty"`
	// CertificateNotAfter is the end of the agent's current certificate.
	CertificateNotAfter time.Time `json:"certificateNotAfter"`
}

// KubernetesStatus is the health and size of one Kubernetes cluster.
type KubernetesStatus struct {
	Version    string `json:"version,omitempty"`    // "v1.36.3"
	ClusterUID string `json:"clusterUID,omitempty"` // UID of namespace kube-system
	// Healthy is the answer of /livez (or /healthz), HealthMessage what was wrong.
	Healthy       bool   `json:"healthy"`
	HealthMessage string `json:"healthMessage,omitempty"`
	// Capacity and Allocatable are sums over nodes, as Kubernetes quantities by
	// resource name; Requests the sum over pods that are not finished.
	Capacity    map[string]string `json:"capacity,omitempty"`
	Allocatable map[string]string `json:"allocatable,omitempty"`
	Requests    map[string]string `json:"requests,omitempty"`
	Nodes       int               `json:"nodes"`
	NodesReady  int               `json:"nodesReady"`

	// What follows is of version 3.

	// Architectures, operating systems and container runtimes of the nodes, sorted,
	// each at most MaxWords.
	Architectures     []string `json:"architectures,omitempty"`
	OperatingSystems  []string `json:"operatingSystems,omitempty"`
	ContainerRuntimes []string `json:"containerRuntimes,omitempty"`
	// Product and Platform are what the cluster seems to be and to run on, in the
	// words of Open Cluster Management's claims; empty when nothing tells.
	Product  string `json:"product,omitempty"`
	Platform string `json:"platform,omitempty"`
	// Claims are the ClusterClaims of the cluster, at most MaxClaims; nil when it has
	// no such kind or they cannot be read.
	Claims map[string]string `json:"claims"`
	// APIs is the digest of what the cluster serves, see DigestAPIs.
	APIs string `json:"apis,omitempty"`
}

// Ack answers Status and Report: the hub has stored it, or says why not.
type Ack struct {
	Error string `json:"error,omitempty"`
	// Retry is true when the same message may succeed later.
	Retry bool `json:"retry,omitempty"`
	// APIs, in the answer to a Status, asks for the list that it names: the hub does
	// not have it. Version 3.
	APIs bool `json:"apis,omitempty"`
}
