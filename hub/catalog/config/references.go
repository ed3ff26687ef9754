// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Package config says how an addon is configured on a cluster: which objects
// configure it, which values they come to, whether those fit the version's schema,
// and what an AddOnDeploymentConfig and an AddOnTemplate make of manifests. It does
// no I/O; the same input gives the same output.
package config

import (
	"slices"

	"github.com/drover-io/drover/shared/apis/addon"
	"github.com/drover-io/drover/shared/apis/fleet"
)

// Reference is an object that configures an addon on a cluster, with the layer
// that names it, one of the fleet.Layer constants.
type Reference struct {
	addon.Config
	Layer string
}

// VersionKind is the kind of AddOnVersions, as configs name it.
func VersionKind() addon.ConfigGroupResource {
	return addon.ConfigGroupResource{Group: fleet.Group, Resource: "addonversions"}
}

// ValuesKind is that of AddOnConfigs.
func ValuesKind() addon.ConfigGroupResource {
	return addon.ConfigGroupResource{Group: fleet.Group, Resource: "addonconfigs"}
}

// DeploymentKind is that of AddOnDeploymentConfigs.
func DeploymentKind() addon.ConfigGroupResource {
	return addon.ConfigGroupResource{Group: addon.Group, Resource: "addondeploymentconfigs"}
}

// TemplateKind is that of AddOnTemplates.
func TemplateKind() addon.ConfigGroupResource {
	return addon.ConfigGroupResource{Group: addon.Group, Resource: "addontemplates"}
}

// References are the objects that configure an addon on a cluster, in the order
// of their layers: the addon's defaults, those of the placement that installs it,
// those of the ManagedClusterAddOn. Each argument may be nil.
//
// As in Open Cluster Management, a layer that names objects of a group and resource
// replaces all that the layers below name of it. AddOnConfigs are different: all of
// them count, each over those before it.
func References(cma *addon.ClusterManagementAddOn, placement *addon.PlacementStrategy, mca *addon.ManagedClusterAddOn) []Reference {
	var out []Reference
	add := func(layer string, configs []addon.Config) {
		out = slices.DeleteFunc(out, func(r Reference) bool {
			return r.ConfigGroupResource != ValuesKind() && slices.ContainsFunc(configs, func(c addon.Config) bool {
				return c.ConfigGroupResource == r.ConfigGroupResource
			})
		})
		for _, c := range configs {
			// The same AddOnConfig in two layers counts in the upper one.
			out = slices.DeleteFunc(out, func(r Reference) bool { return r.Config == c })
			out = append(out, Reference{c, layer})
		}
	}
	if cma != nil {
		add(fleet.LayerAddOn, cma.Spec.DefaultConfigs)
	}
	if placement != nil {
		add(fleet.LayerPlacement, placement.Configs)
	}
	if mca != nil {
		add(fleet.LayerInstalled, mca.Spec.Configs)
	}
	return out
}

// Last is the reference of a kind that counts when only one can.
func Last(refs []Reference, kind addon.ConfigGroupResource) (Reference, bool) {
	for _, r := range slices.Backward(refs) {
		if r.ConfigGroupResource == kind {
			return r, true
		}
	}
	return Reference{}, false
}

// InstallNamespace is where the agent of an addon runs. spec is nil when no
// AddOnDeploymentConfig applies; the result is empty when one leaves the choice to
// the manifests.
func InstallNamespace(mca *addon.ManagedClusterAddOn, spec *addon.AddOnDeploymentConfigSpec) string {
	if spec != nil {
		return spec.AgentInstallNamespace
	}
	if mca != nil {
		if ns := mca.Annotations[addon.AnnotationInstallNamespace]; ns != "" {
			return ns
		}
	}
	return addon.DefaultInstallNamespace
}
