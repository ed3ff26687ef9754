// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// Kind and resource of what configurations of addons have said.
const (
	KindConfigRevision      = "ConfigRevision"
	ResourceConfigRevisions = "configrevisions." + Group
)

// AnnotationAddOnRevision of a ManagedClusterAddOn is the number of the revision of
// its AddOnVersion that it runs.
const AnnotationAddOnRevision = Group + "/addon-revision"

// ConfigRevision is what an object that configures an addon, or an AddOnVersion,
// has said at one time. The hub writes it, and it cannot be changed.
type ConfigRevision struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec ConfigRevisionSpec `json:"spec"`
}

// ConfigRevisionSpec is the object and its content.
type ConfigRevisionSpec struct {
	Group     string `json:"group"`
	Resource  string `json:"resource"` // plural, such as addonconfigs
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
	// Revision counts the contents of an object from 1. An object that comes back
	// to a former content has that one's number again.
	Revision int64  `json:"revision"`
	Hash     string `json:"hash"`         // lower-hex SHA-256 of the content
	By       string `json:"by,omitempty"` // user who wrote it first
	// Content is the object without apiVersion, kind, metadata and status; of an
	// AddOnVersion, what decides its content.
	Content runtime.RawExtension `json:"content"`
}
