// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package live

import (
	"maps"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/shared/apis/addon"
	"github.com/drover-io/drover/shared/apis/cluster"
	"github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/shared/apis/live"
	"github.com/drover-io/drover/shared/apis/work"
	"github.com/drover-io/drover/shared/wire"
	"github.com/drover-io/drover/shared/words"
)

// maxReason is how much of a message a row holds, in bytes; the object has all.
const maxReason = 240

func clip(text string) string {
	if len(text) <= maxReason {
		return text
	}
	return strings.ToValidUTF8(text[:maxReason], "") + "…"
}

func seconds(t *metav1.Time) live.Seconds {
	if t == nil {
		return 0
	}
	return live.At(t.Time)
}

func labelsOf(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}

// tone of a phase of a kind of things.
func tone(phases []words.Phase, name string) words.Tone {
	for _, p := range phases {
		if p.Name == name {
			return p.Tone
		}
	}
	return words.ToneNone
}

func clusterRow(mc *cluster.ManagedCluster) live.ClusterRow {
	s := words.Cluster(mc)
	r := live.ClusterRow{
		Name: mc.Name, Phase: s.Phase, Reason: clip(s.Reason), Kubernetes: mc.Status.Version.Kubernetes,
	}
	if s.Phase != words.ClusterOnline {
		r.Since = live.At(s.Since)
	}
	if a := mc.Status.Agent; a != nil {
		r.Agent, r.Nodes, r.NodesReady = a.Version, a.Nodes, a.NodesReady
	}
	// The set has a column of its own.
	r.Labels = maps.Clone(labelsOf(mc.Labels))
	r.Set = r.Labels[cluster.LabelSet]
	delete(r.Labels, cluster.LabelSet)
	return r
}

func requestRow(q *fleet.JoinRequest) live.RequestRow {
	s := words.Request(q)
	r := live.RequestRow{
		Name: q.Name, Cluster: q.Spec.ClusterName, Phase: s.Phase, Message: clip(s.Reason), Fingerprint: q.Spec.Fingerprint,
		Token: q.Spec.Token, Address: q.Spec.SourceAddress, Labels: labelsOf(q.Spec.Labels), Facts: q.Spec.Facts, Rejoin: q.Spec.Rejoin,
		Created: live.At(q.CreationTimestamp.Time),
	}
	if a := q.Spec.Approval; a != nil {
		r.By, r.Reason = a.By, clip(a.Reason)
	}
	return r
}

func tokenRow(t *fleet.JoinToken) live.TokenRow {
	// The time at which a token expires is in the row: who shows it knows the time.
	s := words.Token(t, time.Time{})
	return live.TokenRow{
		Name: t.Name, Phase: s.Phase, Cluster: t.Spec.ClusterName, Expires: seconds(t.Status.Expires),
		Uses: max(t.Spec.Uses, 1), Used: len(t.Status.Used), AutoApprove: t.Spec.AutoApprove, Revoked: t.Spec.Revoked,
		Labels: labelsOf(t.Spec.Labels), Created: live.At(t.CreationTimestamp.Time),
	}
}

func workRow(w *work.ManifestWork) live.WorkRow {
	s := words.Work(w)
	r := live.WorkRow{
		Cluster: w.Namespace, Name: w.Name, Phase: s.Phase, Reason: clip(s.Reason), Since: live.At(s.Since),
		Generation: w.Generation, Applied: w.Status.AppliedDigest, AddOn: w.Labels[addon.LabelAddonName],
		Deleting: w.DeletionTimestamp != nil, Created: live.At(w.CreationTimestamp.Time),
	}
	for i := range w.Status.Conditions {
		if c := &w.Status.Conditions[i]; c.Type == work.ConditionApplied {
			r.Reported = c.ObservedGeneration
		}
	}
	if w.Status.PrunePlan != nil {
		r.Waiting = w.Status.PrunePlan.ID
	}
	if sum := w.Status.Summary; sum != nil {
		r.Objects, r.Drifted = int(sum.Total), int(sum.Drifted)
		r.Unhealthy = int(sum.Total - sum.Health[wire.HealthCurrent])
		return r
	}
	for i := range w.Status.ResourceStatus.Manifests {
		m := &w.Status.ResourceStatus.Manifests[i]
		r.Objects++
		if m.Health != wire.HealthCurrent {
			r.Unhealthy++
		}
		if m.Drift != nil && m.Drift.State != wire.DriftStateCorrected {
			r.Drifted++
		}
	}
	return r
}

func workItem(e store.Entry) (item, error) {
	w, err := decode[work.ManifestWork](e)
	if err != nil {
		return item{}, err
	}
	return item{group: e.Key.Namespace, tone: tone(words.AllPhases().Work, words.Work(w).Phase)}, nil
}

func addonRow(a *addon.ClusterManagementAddOn) live.AddOnRow {
	return live.AddOnRow{
		Name: a.Name, Title: a.Spec.AddOnMeta.DisplayName, Description: clip(a.Spec.AddOnMeta.Description),
		Strategy: a.Spec.InstallStrategy.Type, Created: live.At(a.CreationTimestamp.Time),
	}
}

func versionRow(v *fleet.AddOnVersion) live.VersionRow {
	s := words.Version(v)
	manager := v.Spec.Manager
	if manager == "" {
		manager = fleet.ManagerManifests
	}
	return live.VersionRow{
		Name: v.Name, AddOn: v.Spec.AddOn, Version: v.Spec.Version, Phase: s.Phase, Reason: clip(s.Reason),
		Active: v.Spec.Active == nil || *v.Spec.Active, Default: v.Spec.Default, Channel: v.Spec.Channel,
		Description: clip(v.Spec.Description), Manager: manager, Clusters: v.Status.Clusters, Objects: v.Status.Objects,
		Size: v.Status.Size, Digest: v.Status.Digest, SignedBy: v.Status.SignedBy, Created: live.At(v.CreationTimestamp.Time),
	}
}

func versionItem(e store.Entry) (item, error) {
	v, err := decode[fleet.AddOnVersion](e)
	if err != nil {
		return item{}, err
	}
	it := item{group: v.Spec.AddOn, tone: tone(words.AllPhases().Version, words.Version(v).Phase)}
	if v.Spec.Default {
		it.text = v.Spec.Version
	}
	return it, nil
}

func installedRow(a *addon.ManagedClusterAddOn) live.InstalledRow {
	s := words.AddOn(a)
	r := live.InstalledRow{
		Cluster: a.Namespace, Name: a.Name, Phase: s.Phase, Reason: clip(s.Reason), Since: live.At(s.Since),
		Created: live.At(a.CreationTimestamp.Time),
	}
	if c := a.Status.Content; c != nil {
		r.Version, r.Desired = c.Version, c.Digest
		if c.LastApplied != nil {
			r.Applied = c.LastApplied.Digest
		}
		return r
	}
	of := func(group, resource string) bool { return group == fleet.Group && resource == "addonversions" }
	for _, c := range a.Status.ConfigReferences {
		if !of(c.Group, c.Resource) {
			continue
		}
		if c.DesiredConfig != nil {
			r.Version, r.Desired = versionOf(a.Name, c.DesiredConfig.Name), c.DesiredConfig.SpecHash
		}
		if c.LastAppliedConfig != nil {
			r.Applied = c.LastAppliedConfig.SpecHash
		}
	}
	if i := slices.IndexFunc(a.Spec.Configs, func(c addon.Config) bool { return of(c.Group, c.Resource) }); i >= 0 && r.Version == "" {
		r.Version = versionOf(a.Name, a.Spec.Configs[i].Name)
	}
	return r
}

// versionOf is the version in the name of an AddOnVersion, ADDON-VERSION.
func versionOf(addOn, name string) string { return strings.TrimPrefix(name, addOn+"-") }

func installedItem(e store.Entry) (item, error) {
	a, err := decode[addon.ManagedClusterAddOn](e)
	if err != nil {
		return item{}, err
	}
	return item{group: e.Key.Namespace, tone: tone(words.AllPhases().AddOn, words.AddOn(a).Phase)}, nil
}

// addonItem counts by the addon instead of by the cluster.
func addonItem(e store.Entry) (item, error) {
	it, err := installedItem(e)
	it.group = e.Key.Name
	return it, err
}

func sessionRow(s *fleet.Session) live.SessionRow {
	return live.SessionRow{
		Name: s.Name, User: s.Spec.User, Method: s.Spec.Method, Issuer: s.Spec.Issuer, Address: s.Spec.SourceAddress,
		Browser: s.Spec.UserAgent, LastSeen: seconds(s.Status.LastSeen), Expires: seconds(s.Status.Expires),
		Created: live.At(s.CreationTimestamp.Time),
	}
}

func accessRow(t *fleet.AccessToken) live.AccessRow {
	return live.AccessRow{
		Name: t.Name, User: t.Spec.User, Groups: append([]string{}, t.Spec.Groups...), Description: t.Spec.Description, CreatedBy: t.Status.CreatedBy,
		LastUsed: seconds(t.Status.LastUsed), Expires: seconds(t.Status.Expires), Created: live.At(t.CreationTimestamp.Time),
	}
}
