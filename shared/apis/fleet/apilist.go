// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Kind and resource of lists of APIs as the store and the API name them.
const (
	KindAPIList      = "APIList"
	ResourceAPILists = "apilists." + Group
)

// APIList is what some clusters serve. The hub writes it when an agent says so, one
// object for all clusters that serve the same, and removes it when there are none.
type APIList struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec APIListSpec `json:"spec"`
}

// APIListSpec never changes.
type APIListSpec struct {
	// Digest of APIs, as status.agent.apis of a ManagedCluster has it.
	Digest string `json:"digest"`
	// APIs are group/version and group/version/Kind, sorted.
	APIs []string `json:"apis"`
}

// APIListName is the name of the APIList of a digest.
func APIListName(digest string) string {
	hex := strings.TrimPrefix(digest, "sha256:")
	return "apis-" + hex[:min(len(hex), 32)]
}
