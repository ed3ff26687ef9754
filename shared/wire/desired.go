// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package wire

// DesiredRequest asks for all that the cluster should run now.
type DesiredRequest struct {
	// Epoch and Generation name the desired state the agent holds already, zero
	// values for none.
	Epoch      string `json:"epoch,omitempty"`
	Generation uint64 `json:"generation,omitempty"`
	Page       int    `json:"page,omitempty"` // of a signed list, from 0
	// Version is the protocol version of the session; 0 and 1 get a plain list.
	Version int `json:"version,omitempty"`
}

// Desired answers DesiredRequest.
type Desired struct {
	// Epoch changes only when the hub was restored or the cluster joined anew.
	// Within one epoch an agent ignores a lower Generation.
	Epoch      string `json:"epoch"`
	Generation uint64 `json:"generation"`
	// Unchanged is set, and Items left out, when the agent holds this state.
	Unchanged bool   `json:"unchanged,omitempty"`
	Items     []Item `json:"items,omitempty"`
	Error     string `json:"error,omitempty"`
	// Envelope, from version 2 on, holds the same answer signed by the hub; Items
	// is then empty. Only what verifies is applied.
	Envelope *Envelope `json:"envelope,omitempty"`
}

// PayloadDesired is the payload type of a signed list: a SignedDesired as JSON.
const PayloadDesired = "application/vnd.drover.desired.v1+json"

// Envelope is a DSSE envelope (secure-systems-lab/dsse v1.0). The signer is the
// leaf of Chain, a certificate for URI spiffe://<trust-domain>/desired below the
// pinned root.
type Envelope struct {
	PayloadType string      `json:"payloadType"`
	Payload     []byte      `json:"payload"` // base64 in JSON
	Signatures  []Signature `json:"signatures"`
	Chain       string      `json:"chain"` // PEM, leaf first
}

// Signature is one signature over the pre-authentication encoding of an Envelope.
type Signature struct {
	KeyID string `json:"keyid,omitempty"`
	Sig   []byte `json:"sig"` // ASN.1 ECDSA over SHA-256
}

// SignedDesired is the payload of a signed list. It names its cluster, so that
// one cluster's list is nothing to another. A list that does not fit one message
// comes in pages: page i of Pages, from 0, asked for by DesiredRequest.Page. An
// agent takes over a list only when it has all pages of one generation.
type SignedDesired struct {
	Cluster    string `json:"cluster"`
	Epoch      string `json:"epoch"`
	Generation uint64 `json:"generation"`
	Page       int    `json:"page"`
	Pages      int    `json:"pages"`
	Items      []Item `json:"items"`
}

// Item is one work the cluster should run, or give up. It is comparable.
type Item struct {
	Name       string `json:"name"`       // of the ManifestWork
	UID        string `json:"uid"`        // of the ManifestWork: a new object of an old name is another item
	Generation int64  `json:"generation"` // metadata.generation of the ManifestWork
	Digest     string `json:"digest"`     // "sha256:<hex>" of the content
	// Deleting is the explicit tombstone: remove what was applied for this item.
	// An item that is merely missing from the list is never removed.
	Deleting bool `json:"deleting,omitempty"`
	// Complete says that the work has finished (OCM condition Complete): it is not
	// applied again.
	Complete bool   `json:"complete,omitempty"`
	Policy   Policy `json:"policy,omitzero"`
}

// Policy is how one item is applied and removed, from the annotations of its
// ManifestWork. The zero value is the default of each field.
type Policy struct {
	// Adoption of objects that exist and were made by somebody else: one of the
	// Adoption constants, AdoptAlways by default.
	Adoption string `json:"adoption,omitempty"`
	// Drift: one of the Drift constants, DriftCorrect by default.
	Drift string `json:"drift,omitempty"`
	// Prune: one of the Prune constants, PruneGuarded by default.
	Prune string `json:"prune,omitempty"`
	// ApprovedPrune is the ID of the one PrunePlan that may be carried out.
	ApprovedPrune string `json:"approvedPrune,omitempty"`
	// TakeFrom names works of the same cluster, by UID and separated by commas,
	// whose objects this item may take over: a move.
	TakeFrom string `json:"takeFrom,omitempty"`
}

// Values of Policy.Adoption. What is adopted is never deleted.
const (
	AdoptAlways   = "Always"   // take the object over
	AdoptIfNoDiff = "IfNoDiff" // only when applying would change nothing but ownership
	AdoptNever    = "Never"    // refuse
)

// Values of Policy.Drift.
const (
	DriftCorrect = "Correct" // apply again
	DriftReport  = "Report"  // report and leave
)

// Values of Policy.Prune.
const (
	// PruneGuarded stops and asks when one change would delete more than the
	// larger of 10 objects and 20 % of the item's, or a Namespace, a
	// CustomResourceDefinition or a PersistentVolumeClaim; for a tombstone only
	// the kinds count.
	PruneGuarded   = "Guarded"
	PruneUnguarded = "Unguarded" // the explicit word, given beforehand
)
