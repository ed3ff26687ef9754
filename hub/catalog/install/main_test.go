// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package install

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/drover-io/drover/hub/broker"
	"github.com/drover-io/drover/hub/catalog"
	"github.com/drover-io/drover/hub/catalog/config"
	"github.com/drover-io/drover/hub/catalog/revision"
	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/shared/apis/addon"
	"github.com/drover-io/drover/shared/apis/cluster"
	"github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/shared/apis/work"
	"github.com/drover-io/drover/test/leak"
)

func TestMain(m *testing.M) { leak.Main(m) }

// patience bounds every wait; it is only reached when a test fails.
const patience = 60 * time.Second

type rig struct {
	*Controller
	t        testing.TB
	resolver *Resolver
	history  *revision.History
	versions store.Objects[fleet.AddOnVersion, *fleet.AddOnVersion]
	configs  store.Objects[fleet.AddOnConfig, *fleet.AddOnConfig]
	stop     func()
	patience time.Duration
}

func newRig(t testing.TB) *rig {
	t.Helper()
	b, err := broker.Open(broker.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	s, err := store.Open(ctx(t), b.JetStream(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	running(t, s.Run)
	r := &rig{
		patience: patience, t: t, history: revision.NewHistory(s),
		versions: store.Of[fleet.AddOnVersion](s, fleet.ResourceAddOnVersions),
		configs:  store.Of[fleet.AddOnConfig](s, fleet.ResourceAddOnConfigs),
	}
	bundles := &memory{data: map[string][]byte{}}
	r.resolver = NewResolver(ResolverConfig{Store: s, Bundles: bundles, Contents: plain{}, Renderer: plain{}, Revisions: kept{r.history}, Facts: func(name string) (catalog.Facts, error) {
		mc, err := r.clusters.Cached("", name)
		if err != nil {
			return catalog.Facts{}, err
		}
		return catalog.Facts{Name: name, Labels: mc.Labels, Kubernetes: mc.Status.Version.Kubernetes}, nil
	}})
	r.Controller = New(Config{
		Store: s, Resolver: r.resolver, Bundles: bundles, Log: zaptest.NewLogger(t), Settle: 200 * time.Millisecond,
		HasAgent: func(string) bool { return true },
	})
	r.start()
	return r
}

// start runs the controller; stop ends it, as the end of a hub does.
func (r *rig) start() {
	r.stop = running(r.t, r.Run)
}

func running(t testing.TB, run func(context.Context) error) func() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); run(ctx) }() //nolint:errcheck // ends by cancel
	stop := sync.OnceFunc(func() { cancel(); <-done })
	t.Cleanup(stop)
	return stop
}

func ctx(t testing.TB) context.Context {
	c, cancel := context.WithTimeout(context.Background(), 15*patience)
	t.Cleanup(cancel)
	return c
}

// memory holds bundles.
type memory struct {
	mu   sync.Mutex
	data map[string][]byte
}

func (m *memory) Put(_ context.Context, data []byte) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	digest := "sha256:" + digestBytes(data)
	m.data[digest] = data
	return digest, nil
}

func (m *memory) Get(_ context.Context, digest string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if data, ok := m.data[digest]; ok {
		return data, nil
	}
	return nil, fs.ErrNotExist
}

// plain takes manifests as they are, but for $CLUSTER, $NAMESPACE and $VALUE.
type plain struct{}

func (plain) Load(_ context.Context, spec *fleet.AddOnVersionSpec) (*catalog.Content, error) {
	c := &catalog.Content{}
	for i := range spec.Manifests {
		o := &unstructured.Unstructured{}
		if err := o.UnmarshalJSON(spec.Manifests[i].Raw); err != nil {
			return nil, err
		}
		c.Objects = append(c.Objects, o)
	}
	return c, nil
}

func (plain) Render(_ context.Context, in *catalog.Rendering) (*catalog.Rendered, error) {
	out := &catalog.Rendered{}
	if in.Values["broken"] == true {
		return nil, errors.New("values say that it is broken")
	}
	for _, o := range in.Content.Objects {
		text, err := json.Marshal(o.Object)
		if err != nil {
			return nil, err
		}
		replaced := strings.NewReplacer("$CLUSTER", in.Cluster.Name, "$NAMESPACE", in.Namespace, "$VALUE", fmt.Sprint(in.Values["value"])).Replace(string(text))
		c := &unstructured.Unstructured{}
		if err := c.UnmarshalJSON([]byte(replaced)); err != nil {
			return nil, err
		}
		switch a := c.GetAnnotations(); {
		case has(a, addon.AnnotationPreDelete):
			out.PreDelete = append(out.PreDelete, c)
		case has(a, addon.AnnotationPostInstall):
			out.PostInstall = append(out.PostInstall, c)
		default:
			out.Objects = append(out.Objects, c)
		}
	}
	return out, nil
}

// kept are the revisions of the history.
type kept struct{ *revision.History }

func (k kept) ByHash(ctx context.Context, version, hash string) (Revision, bool, error) {
	return k.revision(k.History.ByHash(ctx, versionConfig(version), hash))
}

func (k kept) ByNumber(ctx context.Context, version string, number int64) (Revision, bool, error) {
	return k.revision(k.History.ByNumber(ctx, versionConfig(version), number))
}

func (kept) revision(r *fleet.ConfigRevision, err error) (Revision, bool, error) {
	if errors.Is(err, revision.ErrNotFound) {
		return Revision{}, false, nil
	}
	if err != nil {
		return Revision{}, false, err
	}
	var v fleet.AddOnVersion
	if err := revision.Read(r, &v); err != nil {
		return Revision{}, false, err
	}
	return Revision{Number: r.Spec.Revision, Hash: r.Spec.Hash, Spec: &v.Spec}, true, nil
}

func (r *rig) until(what string, done func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(r.patience); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Fatalf("never: %s", what)
		}
	}
}

func (r *rig) must(_ any, err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// cluster makes a cluster or changes whether it can be reached.
func (r *rig) cluster(name string, reachable bool) {
	r.t.Helper()
	set := func(mc *cluster.ManagedCluster) error {
		c := metav1.Condition{Type: cluster.ConditionAvailable, Status: metav1.ConditionTrue, Reason: cluster.ReasonAvailable}
		if !reachable {
			c.Status, c.Reason = metav1.ConditionUnknown, cluster.ReasonLeaseUpdateStopped
		}
		meta.SetStatusCondition(&mc.Status.Conditions, c)
		return nil
	}
	_, err := r.clusters.UpdateStatus(ctx(r.t), "", name, set)
	if err == nil {
		return
	}
	mc := &cluster.ManagedCluster{ObjectMeta: metav1.ObjectMeta{Name: name}}
	_ = set(mc)
	r.must(r.clusters.Create(ctx(r.t), mc))
}

func configMap(ns, name, value string) runtime.RawExtension {
	return runtime.RawExtension{Raw: fmt.Appendf(nil,
		`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"namespace":%q,"name":%q},"data":{"k":%q}}`, ns, name, value)}
}

func hookJob(ns, name, annotation string) runtime.RawExtension {
	return runtime.RawExtension{Raw: fmt.Appendf(nil,
		`{"apiVersion":"batch/v1","kind":"Job","metadata":{"namespace":%q,"name":%q,"annotations":{%q:""}},"spec":{}}`, ns, name, annotation)}
}

// version publishes one, and its addon if there is none.
func (r *rig) version(addOn, version string, change func(*fleet.AddOnVersionSpec)) *fleet.AddOnVersion {
	r.t.Helper()
	if _, err := r.recipes.Get(ctx(r.t), "", addOn); err != nil {
		r.must(r.recipes.Create(ctx(r.t), &addon.ClusterManagementAddOn{ObjectMeta: metav1.ObjectMeta{Name: addOn}}))
	}
	v := &fleet.AddOnVersion{
		TypeMeta:   metav1.TypeMeta{APIVersion: fleet.Group + "/" + fleet.Version, Kind: fleet.KindAddOnVersion},
		ObjectMeta: metav1.ObjectMeta{Name: addOn + "-" + version},
		Spec: fleet.AddOnVersionSpec{AddOn: addOn, Version: version, Manifests: []runtime.RawExtension{
			configMap("$NAMESPACE", addOn, version+" $VALUE"),
		}},
	}
	if change != nil {
		change(&v.Spec)
	}
	out, err := r.versions.Update(ctx(r.t), "", v.Name, func(o *fleet.AddOnVersion) error { o.Spec = v.Spec; return nil })
	if errors.Is(err, store.ErrNotFound) {
		out, err = r.versions.Create(ctx(r.t), v)
	}
	r.must(out, err)
	obj, err := runtime.DefaultUnstructuredConverter.ToUnstructured(out)
	r.must(obj, err)
	r.must(r.history.Record(ctx(r.t), versionConfig(v.Name), obj, "ann"))
	return out
}

// install puts an addon on a cluster by hand.
func (r *rig) install(name, addOn, version string, configs ...addon.Config) {
	r.t.Helper()
	o := &addon.ManagedClusterAddOn{ObjectMeta: metav1.ObjectMeta{Namespace: name, Name: addOn}}
	if version != "" {
		o.Spec.Configs = append(o.Spec.Configs, versionConfig(addOn+"-"+version))
	}
	o.Spec.Configs = append(o.Spec.Configs, configs...)
	_, err := r.dishes.Update(ctx(r.t), name, addOn, func(p *addon.ManagedClusterAddOn) error { p.Spec = o.Spec; return nil })
	if errors.Is(err, store.ErrNotFound) {
		_, err = r.dishes.Create(ctx(r.t), o)
	}
	r.must(o, err)
}

func (r *rig) values(ns, name, values string) addon.Config {
	r.t.Helper()
	spec := fleet.AddOnConfigSpec{Values: &runtime.RawExtension{Raw: []byte(values)}}
	_, err := r.configs.Update(ctx(r.t), ns, name, func(o *fleet.AddOnConfig) error { o.Spec = spec; return nil })
	if errors.Is(err, store.ErrNotFound) {
		_, err = r.configs.Create(ctx(r.t), &fleet.AddOnConfig{
			TypeMeta:   metav1.TypeMeta{APIVersion: fleet.Group + "/" + fleet.Version, Kind: fleet.KindAddOnConfig},
			ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name}, Spec: spec,
		})
	}
	r.must(nil, err)
	return addon.Config{ConfigGroupResource: config.ValuesKind(), ConfigReferent: addon.ConfigReferent{Namespace: ns, Name: name}}
}

// dish is a ManagedClusterAddOn, nil when there is none.
func (r *rig) dish(name, addOn string) *addon.ManagedClusterAddOn {
	r.t.Helper()
	o, err := r.dishes.Get(ctx(r.t), name, addOn)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	r.must(o, err)
	return o
}

// work is one of the works of an addon, nil when there is none.
func (r *rig) work(name, of string) *work.ManifestWork {
	r.t.Helper()
	o, err := r.works.Get(ctx(r.t), name, of)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	r.must(o, err)
	return o
}

func (r *rig) text(w *work.ManifestWork) string {
	var parts []string
	for _, m := range w.Spec.Workload.Manifests {
		parts = append(parts, string(m.Raw))
	}
	return strings.Join(parts, "\n")
}

// States that an agent reports.
const (
	healthy  = "healthy"
	starting = "starting"
	broken   = "broken"
	refused  = "refused"
	finished = "finished"
)

// report says what an agent would say of the present content of a work.
func (r *rig) report(name, of, state string) {
	r.t.Helper()
	r.must(r.works.UpdateStatus(ctx(r.t), name, of, func(w *work.ManifestWork) error {
		set := func(t string, ok bool, reason, message string) {
			c := metav1.Condition{Type: t, Status: metav1.ConditionTrue, Reason: reason, Message: message, ObservedGeneration: w.Generation}
			if !ok {
				c.Status = metav1.ConditionFalse
			}
			meta.SetStatusCondition(&w.Status.Conditions, c)
		}
		set(work.ConditionApplied, state != refused, work.ReasonWorkComplete, state)
		set(work.ConditionAvailable, true, work.ReasonAvailable, state)
		switch state {
		case healthy, finished:
			set(work.ConditionHealthy, true, work.ReasonHealthy, state)
		case broken:
			set(work.ConditionHealthy, false, work.ReasonUnhealthy, "1 of 1 resources are not ready; Deployment x: it crashes")
		default:
			set(work.ConditionHealthy, false, work.ReasonProgressing, "1 of 1 resources are not ready")
		}
		if state == finished {
			set(work.ConditionComplete, true, "ConditionRulesAggregated", "")
		}
		return nil
	}))
}

// clean does what an agent does with works that are being deleted, and says which.
func (r *rig) clean() (names []string) {
	r.t.Helper()
	all, _, err := r.works.List(ctx(r.t), store.Selection{})
	r.must(all, err)
	for _, w := range all {
		if w.DeletionTimestamp == nil {
			continue
		}
		_, err := r.works.Update(ctx(r.t), w.Namespace, w.Name, func(o *work.ManifestWork) error {
			o.Finalizers = nil
			return nil
		})
		r.must(nil, ignoreGone(err))
		names = append(names, w.Name)
	}
	return names
}

// condition is status and reason of a condition of a dish.
func (r *rig) condition(name, addOn, t string) string {
	r.t.Helper()
	d := r.dish(name, addOn)
	if d == nil {
		return "gone"
	}
	c := meta.FindStatusCondition(d.Status.Conditions, t)
	if c == nil {
		return ""
	}
	return string(c.Status) + "/" + c.Reason
}

func (r *rig) message(name, addOn, t string) string {
	d := r.dish(name, addOn)
	if d == nil {
		return ""
	}
	if c := meta.FindStatusCondition(d.Status.Conditions, t); c != nil {
		return c.Message
	}
	return ""
}

// settle waits until an addon is applied and healthy, reporting it so.
func (r *rig) well(name, addOn, version string) {
	r.t.Helper()
	r.until(addOn+" "+version+" on "+name, func() bool {
		w := r.work(name, deployName(addOn))
		d := r.dish(name, addOn)
		if w == nil || d == nil || d.Status.Content == nil || d.Status.Content.Version != version {
			return false
		}
		if w.Annotations[annotationContent] != d.Status.Content.Digest {
			return false
		}
		if !slices.ContainsFunc(w.Status.Conditions, func(c metav1.Condition) bool {
			return c.Type == work.ConditionHealthy && c.ObservedGeneration == w.Generation
		}) {
			r.report(name, w.Name, healthy)
		}
		return r.condition(name, addOn, addon.ConditionProgressing) == "False/"+addon.ReasonCompleted
	})
}

func (r *rig) decide(name string, clusters ...string) {
	r.t.Helper()
	st := cluster.PlacementStatus{
		NumberOfSelectedClusters: int32(len(clusters)),
		Conditions:               []metav1.Condition{{Type: cluster.ConditionPlacementSatisfied, Status: metav1.ConditionTrue, Reason: "R"}},
	}
	d := cluster.PlacementDecisionStatus{Decisions: []cluster.ClusterDecision{}}
	for _, c := range clusters {
		d.Decisions = append(d.Decisions, cluster.ClusterDecision{ClusterName: c})
	}
	labels := map[string]string{cluster.LabelPlacement: name, cluster.LabelDecisionGroupIndex: "0"}
	if _, err := r.placements.Get(ctx(r.t), "apps", name); err != nil {
		r.must(r.placements.Create(ctx(r.t), &cluster.Placement{ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: name}, Status: st}))
		r.must(r.decisions.Create(ctx(r.t), &cluster.PlacementDecision{ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: name + "-decision-1", Labels: labels}, Status: d}))
		return
	}
	r.must(r.decisions.UpdateStatus(ctx(r.t), "apps", name+"-decision-1", func(o *cluster.PlacementDecision) error { o.Status = d; return nil }))
	r.must(r.placements.UpdateStatus(ctx(r.t), "apps", name, func(o *cluster.Placement) error { o.Status = st; return nil }))
}

// place has an addon follow placements.
func (r *rig) place(addOn string, placements ...string) {
	r.t.Helper()
	r.must(r.recipes.Update(ctx(r.t), "", addOn, func(o *addon.ClusterManagementAddOn) error {
		o.Spec.InstallStrategy = addon.InstallStrategy{Type: addon.InstallPlacements}
		for _, p := range placements {
			o.Spec.InstallStrategy.Placements = append(o.Spec.InstallStrategy.Placements, addon.PlacementStrategy{
				PlacementRef: addon.PlacementRef{Namespace: "apps", Name: p},
			})
		}
		return nil
	}))
}

func kubernetes(version string) func(*cluster.ManagedCluster) error {
	return func(mc *cluster.ManagedCluster) error { mc.Status.Version.Kubernetes = version; return nil }
}
