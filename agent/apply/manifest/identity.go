// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package manifest

import "strings"

// Identity names an object of a cluster whatever its version.
type Identity struct{ Group, Kind, Namespace, Name string }

// String is "Kind namespace/name", as messages name objects.
func (id Identity) String() string {
	if id.Namespace == "" {
		return id.Kind + " " + id.Name
	}
	return id.Kind + " " + id.Namespace + "/" + id.Name
}

// Class is a group of kinds that are applied together.
type Class int

// Classes, in the order in which they are applied; removal goes the other way. The
// order is Open Cluster Management's.
const (
	ClassFoundation Class = iota // what other objects live in or are made of
	ClassAccess
	ClassPolicy
	ClassConfig
	ClassService
	ClassWorkload
	ClassAdmission
	ClassOther // custom resources and whatever else
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

// Class looks at the group as well as the kind: a Service of another group is a
// custom resource.
func (id Identity) Class() Class {
	switch id.Group {
	case "":
		switch id.Kind {
		case kindNamespace, "PersistentVolume":
			return ClassFoundation
		case "ResourceQuota", "LimitRange", "ServiceAccount":
			return ClassPolicy
		case "Secret", "ConfigMap", "PersistentVolumeClaim":
			return ClassConfig
		case "Service":
			return ClassService
		case "Pod", "ReplicationController":
			return ClassWorkload
		}
	case "scheduling.k8s.io", "storage.k8s.io":
		if id.Kind == "PriorityClass" || id.Kind == "StorageClass" {
			return ClassFoundation
		}
	case groupExtensions:
		if id.Kind == kindCRD {
			return ClassFoundation
		}
	case groupRBAC:
		return ClassAccess
	case "networking.k8s.io":
		if id.Kind == "NetworkPolicy" {
			return ClassPolicy
		}
		if id.Kind == "Ingress" {
			return ClassWorkload
		}
	case "policy":
		if id.Kind == "PodDisruptionBudget" {
			return ClassPolicy
		}
	case "apps", "batch":
		return ClassWorkload
	case "autoscaling":
		if id.Kind == "HorizontalPodAutoscaler" {
			return ClassWorkload
		}
	case groupAggregation, groupAdmission:
		return ClassAdmission
	}
	return ClassOther
}

// ExistenceOnly says that an object of this kind has no status worth reading: it
// is Current when it exists. Its content is not read, which keeps Secrets out of
// the agent's memory.
func (id Identity) ExistenceOnly() bool {
	switch id.Group {
	case "":
		return strings.Contains(" ConfigMap Secret ServiceAccount LimitRange ", " "+id.Kind+" ")
	case groupRBAC:
		return true
	case "scheduling.k8s.io", "storage.k8s.io":
		return id.Kind == "PriorityClass" || id.Kind == "StorageClass"
	}
	return false
}

// Secretive says that the content of the object is not read without need.
func (id Identity) Secretive() bool { return id.Group == "" && id.Kind == "Secret" }

// IsNamespace says that the object is a namespace.
func (id Identity) IsNamespace() bool { return id.Group == "" && id.Kind == kindNamespace }

// Undeletable are the namespaces without which Kubernetes does not work.
func (id Identity) Undeletable() bool {
	return id.IsNamespace() && (id.Name == "default" || strings.HasPrefix(id.Name, "kube-"))
}

// Protected says that deleting the object takes data or other objects with it, so
// that it needs an explicit word.
func (id Identity) Protected() bool {
	switch id.Group {
	case "":
		return id.Kind == kindNamespace || id.Kind == "PersistentVolumeClaim"
	case groupExtensions:
		return id.Kind == kindCRD
	}
	return false
}
