// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package apply

import "strings"

// Classes of kinds, in the order in which they are applied; removal goes the
// other way. The order is Open Cluster Management's.
const (
	classFoundation = iota // what other objects live in or are made of
	classAccess
	classPolicy
	classConfig
	classService
	classWorkload
	classAdmission
	classOther // custom resources and whatever else
)

const (
	groupRBAC        = "rbac.authorization.k8s.io"
	groupExtensions  = "apiextensions.k8s.io"
	groupAdmission   = "admissionregistration.k8s.io"
	groupAggregation = "apiregistration.k8s.io"
	kindCRD          = "CustomResourceDefinition"
	kindNamespace    = "Namespace"
	kindAPIService   = "APIService"
)

// classOf looks at the group as well as the kind: a Service of another group is
// a custom resource.
func classOf(group, kind string) int {
	switch group {
	case "":
		switch kind {
		case kindNamespace, "PersistentVolume":
			return classFoundation
		case "ResourceQuota", "LimitRange", "ServiceAccount":
			return classPolicy
		case "Secret", "ConfigMap", "PersistentVolumeClaim":
			return classConfig
		case "Service":
			return classService
		case "Pod", "ReplicationController":
			return classWorkload
		}
	case "scheduling.k8s.io", "storage.k8s.io":
		if kind == "PriorityClass" || kind == "StorageClass" {
			return classFoundation
		}
	case groupExtensions:
		if kind == kindCRD {
			return classFoundation
		}
	case groupRBAC:
		return classAccess
	case "networking.k8s.io":
		if kind == "NetworkPolicy" {
			return classPolicy
		}
		if kind == "Ingress" {
			return classWorkload
		}
	case "policy":
		if kind == "PodDisruptionBudget" {
			return classPolicy
		}
	case "apps", "batch":
		return classWorkload
	case "autoscaling":
		if kind == "HorizontalPodAutoscaler" {
			return classWorkload
		}
	case groupAggregation, groupAdmission:
		return classAdmission
	}
	return classOther
}

// existenceOnly says that objects of a kind have no status worth reading: they
// are Current when they exist. Their content is not read, which keeps Secrets
// out of the agent's memory.
func existenceOnly(group, kind string) bool {
	switch group {
	case "":
		return strings.Contains(" ConfigMap Secret ServiceAccount LimitRange ", " "+kind+" ")
	case groupRBAC:
		return true
	case "scheduling.k8s.io", "storage.k8s.io":
		return kind == "PriorityClass" || kind == "StorageClass"
	}
	return false
}

// undeletable are the namespaces without which Kubernetes does not work.
func undeletable(o object) bool {
	return o.Group == "" && o.Kind == kindNamespace &&
		(o.Name == "default" || strings.HasPrefix(o.Name, "kube-"))
}

// protected says that deleting an object of a kind takes data or other objects
// with it, so that it needs an explicit word.
func protected(o object) bool {
	switch o.Group {
	case "":
		return o.Kind == kindNamespace || o.Kind == "PersistentVolumeClaim"
	case groupExtensions:
		return o.Kind == kindCRD
	}
	return false
}
