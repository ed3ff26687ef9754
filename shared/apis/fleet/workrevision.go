// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// Kind, resource and virtual resource of what makes a removal undone.
const (
	KindWorkRevision      = "WorkRevision"
	ResourceWorkRevisions = "workrevisions." + Group

	// ResourceBundles is virtual: creating one is uploading content.
	ResourceBundles = "bundles." + Group
)

// WorkRevision is a ManifestWork as it was before a change that takes objects
// from its cluster. The hub writes it before it accepts the change, and removes it
// after ExpiresAt. The object cannot be changed.
type WorkRevision struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec WorkRevisionSpec `json:"spec"`
}

// WorkRevisionSpec is what was, and why it is kept.
type WorkRevisionSpec struct {
	// Work is the name of the ManifestWork, in the revision's namespace; UID and
	// Generation say which state of it.
	Work       string `json:"work"`
	UID        string `json:"uid"`
	Generation int64  `json:"generation"`
	// Revision counts the revisions of a work's name, from 1.
	Revision int64  `json:"revision"`
	Reason   string `json:"reason"` // one of the Revision constants
	// Message says it for people: how many manifests, or which bundle.
	Message   string      `json:"message,omitempty"`
	By        string      `json:"by,omitempty"` // user whose change it was
	ExpiresAt metav1.Time `json:"expiresAt"`
	// Labels, Annotations and Work Spec are the ManifestWork's.
	Labels      map[string]string    `json:"labels,omitempty"`
	Annotations map[string]string    `json:"annotations,omitempty"`
	WorkSpec    runtime.RawExtension `json:"workSpec"`
}

// Reasons of a WorkRevision.
const (
	RevisionManifestsDropped = "ManifestsDropped"
	RevisionDeleted          = "Deleted"
	// RevisionRestored is of the state that an undo replaced.
	RevisionRestored = "Restored"
)
