// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/drover-io/drover/hub/catalog/source"
)

// builtinClusterScoped are the kinds of Kubernetes that are in no namespace, as
// group/Kind, and some that nearly every cluster has.
const builtinClusterScoped = `
/Namespace /Node /PersistentVolume /ComponentStatus
apiextensions.k8s.io/CustomResourceDefinition apiregistration.k8s.io/APIService
rbac.authorization.k8s.io/ClusterRole rbac.authorization.k8s.io/ClusterRoleBinding
admissionregistration.k8s.io/MutatingWebhookConfiguration admissionregistration.k8s.io/ValidatingWebhookConfiguration
admissionregistration.k8s.io/ValidatingAdmissionPolicy admissionregistration.k8s.io/ValidatingAdmissionPolicyBinding
admissionregistration.k8s.io/MutatingAdmissionPolicy admissionregistration.k8s.io/MutatingAdmissionPolicyBinding
certificates.k8s.io/CertificateSigningRequest certificates.k8s.io/ClusterTrustBundle
flowcontrol.apiserver.k8s.io/FlowSchema flowcontrol.apiserver.k8s.io/PriorityLevelConfiguration
internal.apiserver.k8s.io/StorageVersion storagemigration.k8s.io/StorageVersionMigration
networking.k8s.io/IngressClass networking.k8s.io/IPAddress networking.k8s.io/ServiceCIDR
node.k8s.io/RuntimeClass policy/PodSecurityPolicy scheduling.k8s.io/PriorityClass
resource.k8s.io/DeviceClass resource.k8s.io/ResourceSlice resource.k8s.io/DeviceTaintRule
storage.k8s.io/CSIDriver storage.k8s.io/CSINode storage.k8s.io/StorageClass storage.k8s.io/VolumeAttachment
storage.k8s.io/VolumeAttributesClass snapshot.storage.k8s.io/VolumeSnapshotClass
snapshot.storage.k8s.io/VolumeSnapshotContent gateway.networking.k8s.io/GatewayClass
cert-manager.io/ClusterIssuer
`

// clusterScoped are the kinds that are in no namespace: the known ones and those that
// definitions among the objects make. A kind that nobody knows counts as namespaced;
// the agent leaves the namespace out when the cluster says otherwise.
func clusterScoped(objects []source.Object) map[schema.GroupKind]bool {
	out := map[schema.GroupKind]bool{}
	for _, name := range strings.Fields(builtinClusterScoped) {
		group, kind, _ := strings.Cut(name, "/")
		out[schema.GroupKind{Group: group, Kind: kind}] = true
	}
	for _, o := range objects {
		if o.GetKind() != "CustomResourceDefinition" {
			continue
		}
		group, _, _ := unstructured.NestedString(o.Object, "spec", "group")
		kind, _, _ := unstructured.NestedString(o.Object, "spec", "names", "kind")
		scope, _, _ := unstructured.NestedString(o.Object, "spec", "scope")
		if scope == "Cluster" {
			out[schema.GroupKind{Group: group, Kind: kind}] = true
		}
	}
	return out
}
