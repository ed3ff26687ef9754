// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"context"
	"reflect"

	"go.uber.org/zap"

	"github.com/drover-io/drover/hub/api"
	"github.com/drover-io/drover/hub/catalog/admission"
	"github.com/drover-io/drover/hub/catalog/config"
	"github.com/drover-io/drover/hub/catalog/revision"
	"github.com/drover-io/drover/shared/apis/addon"
	"github.com/drover-io/drover/shared/apis/fleet"
)

// configHooks are the hooks of what configures addons, by resource.
func configHooks(p *parts) map[string]api.Hook {
	rules := admission.New(p.store, p.history)
	return map[string]api.Hook{
		fleet.ResourceConfigRevisions:         hookFunc(admitConfigRevision),
		fleet.ResourceAddOnConfigs:            announced(p.history, config.ValuesKind(), rules.AddOnConfig),
		addon.ResourceDeploymentConfigs:       announced(p.history, config.DeploymentKind(), rules.DeploymentConfig),
		addon.ResourceTemplates:               announced(p.history, config.TemplateKind(), rules.Template),
		addon.ResourceClusterManagementAddOns: before(recipeRules{p}.admit, checked(rules.AddOn)),
	}
}

// validity says in the status of AddOnConfigs whether their values are usable.
func validity(p *parts, log *zap.Logger) *admission.Validity {
	return admission.NewValidity(admission.New(p.store, p.history), log)
}

// admitConfigRevision refuses all writes: what addons run is rendered from what
// the hub has recorded.
func admitConfigRevision(_ context.Context, _ *api.Admission) error {
	return hubsOwn("configrevisions", "a ConfigRevision")
}

// checked lets a rule see creations and changes of the spec.
func checked(rule func(context.Context, *admission.Write) error) hookFunc {
	return func(ctx context.Context, r *api.Admission) error {
		if r.Operation != api.Create && r.Operation != api.Update || r.Old != nil && reflect.DeepEqual(r.Old["spec"], r.Object["spec"]) {
			return nil
		}
		return rule(ctx, &admission.Write{Object: r.Object, Old: r.Old, Warn: r.Warn})
	}
}

// announced is checked, and tells the history whose write it is.
func announced(h *revision.History, kind addon.ConfigGroupResource, rule func(context.Context, *admission.Write) error) hookFunc {
	check := checked(rule)
	return func(ctx context.Context, r *api.Admission) error {
		if err := check(ctx, r); err != nil || r.DryRun || r.Operation != api.Create && r.Operation != api.Update {
			return err
		}
		ns, _ := at(r.Object, "metadata", "namespace").(string)
		h.Expect(addon.Config{
			ConfigGroupResource: kind, ConfigReferent: addon.ConfigReferent{Namespace: ns, Name: nameIn(r.Object)},
		}, r.Object, r.User.GetName())
		return nil
	}
}
