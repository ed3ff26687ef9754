// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package install

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/runtime"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/drover-io/drover/shared/apis/addon"
	"github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/shared/apis/work"
)

func needs(ranges ...fleet.AddOnRange) func(*fleet.AddOnVersionSpec) {
	return func(s *fleet.AddOnVersionSpec) { s.Dependencies = ranges }
}

// What an addon needs is there and healthy before it, in range, and goes after it.
func TestDependencies(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.cluster("c1", true)
	r.version("base", "1.0.0", nil)
	r.version("base", "2.0.0", nil)
	r.version("app", "1.0.0", needs(fleet.AddOnRange{AddOn: "base", VersionRange: ">=1.0.0 <2.0.0"}))
	r.install("c1", "app", "1.0.0")
	r.until("waits", func() bool {
		return r.condition("c1", "app", addon.ConditionProgressing) == "False/WaitingForDependency"
	})
	if m := r.message("c1", "app", addon.ConditionProgressing); !strings.Contains(m, "base >=1.0.0 <2.0.0, which is not installed") {
		t.Errorf("message: %s", m)
	}
	r.install("c1", "base", "1.0.0")
	r.until("not available yet", func() bool {
		return strings.Contains(r.message("c1", "app", addon.ConditionProgressing), "base >=1.0.0 <2.0.0, of which nothing is there")
	})
	if r.work("c1", deployName("app")) != nil {
		t.Error("app was given too early")
	}
	r.well("c1", "base", "1.0.0")
	r.well("c1", "app", "1.0.0")

	// base may not leave the range while app is there.
	r.install("c1", "base", "2.0.0")
	r.until("held", func() bool {
		return r.condition("c1", "base", addon.ConditionProgressing) == "False/WaitingForDependents"
	})
	if got := r.dish("c1", "base").Status.Content.Version; got != "1.0.0" {
		t.Errorf("base is let through to %s", got)
	}

	// Both go: app first, whatever the order of the deletions.
	r.must(nil, r.dishes.Delete(ctx(t), "c1", "base"))
	r.until("base waits", func() bool {
		return r.condition("c1", "base", addon.ConditionProgressing) == "True/WaitingForDependents"
	})
	if w := r.work("c1", deployName("base")); w == nil || w.DeletionTimestamp != nil {
		t.Error("base goes before app")
	}
	r.must(nil, r.dishes.Delete(ctx(t), "c1", "app"))
	var order []string
	r.until("both gone", func() bool {
		order = append(order, r.clean()...)
		return r.dish("c1", "base") == nil && r.dish("c1", "app") == nil
	})
	if i, j := slices.Index(order, deployName("app")), slices.Index(order, deployName("base")); i < 0 || j < i {
		t.Errorf("order: %v", order)
	}
}

// The later of two addons with the same object is refused, with both names, until the
// first gives it up.
func TestConflict(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.cluster("c1", true)
	same := func(s *fleet.AddOnVersionSpec) {
		s.Manifests = []runtime.RawExtension{configMap("shared", "thing", s.AddOn)}
	}
	r.version("one", "1.0.0", same)
	r.version("two", "1.0.0", same)
	r.install("c1", "one", "1.0.0")
	r.well("c1", "one", "1.0.0")
	r.install("c1", "two", "1.0.0")
	r.until("refused", func() bool { return r.condition("c1", "two", addon.ConditionConfigured) == "False/Conflict" })
	if m := r.message("c1", "two", addon.ConditionConfigured); m != "ConfigMap shared/thing is an object of addon one already, so addon two cannot have it" {
		t.Errorf("message: %s", m)
	}
	if r.work("c1", deployName("two")) != nil {
		t.Error("two was given")
	}
	r.must(nil, r.dishes.Delete(ctx(t), "c1", "one"))
	r.until("one gone", func() bool { r.clean(); return r.dish("c1", "one") == nil })
	r.well("c1", "two", "1.0.0")

	// A version may also say so.
	r.version("three", "1.0.0", func(s *fleet.AddOnVersionSpec) { s.Conflicts = []fleet.AddOnRange{{AddOn: "two"}} })
	r.install("c1", "three", "1.0.0")
	r.until("refused", func() bool {
		return strings.Contains(r.message("c1", "three", addon.ConditionConfigured), "three 1.0.0 does not get along with two 1.0.0")
	})

	// Both at once: one of them has it.
	r.cluster("c2", true)
	r.version("four", "1.0.0", same)
	r.install("c2", "one", "1.0.0")
	r.install("c2", "four", "1.0.0")
	r.until("one of them", func() bool {
		a, b := r.work("c2", deployName("one")), r.work("c2", deployName("four"))
		return (a == nil) != (b == nil) && (r.condition("c2", "one", addon.ConditionConfigured) == "False/Conflict") != (r.condition("c2", "four", addon.ConditionConfigured) == "False/Conflict")
	})
}

// Addons share a namespace: one of them has it, and hands it over when it goes.
func TestSharedNamespace(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.cluster("c1", true)
	r.version("one", "1.0.0", nil)
	r.version("two", "1.0.0", nil)
	r.install("c1", "one", "1.0.0")
	r.well("c1", "one", "1.0.0")
	r.install("c1", "two", "1.0.0")
	r.well("c1", "two", "1.0.0")
	has := func(addOn string) bool {
		w := r.work("c1", deployName(addOn))
		return w != nil && strings.Contains(r.text(w), `"Namespace"`)
	}
	if !has("one") || has("two") {
		t.Fatal("not exactly the first has the namespace")
	}
	r.must(nil, r.dishes.Delete(ctx(t), "c1", "one"))
	r.until("two takes it", func() bool { return has("two") })
	if got := r.work("c1", deployName("two")).Annotations[work.AnnotationTakeFrom]; got != deployName("one") {
		t.Errorf("takes from %q", got)
	}
	if w := r.work("c1", deployName("one")); w == nil || w.DeletionTimestamp != nil {
		t.Error("one goes before two has the namespace")
	}
	r.report("c1", deployName("two"), healthy)
	r.until("gone", func() bool { r.clean(); return r.dish("c1", "one") == nil })
	if !has("two") {
		t.Error("nobody has the namespace")
	}
}

// A namespace does not go while another addon lives in it, also when that cannot take
// it over because it cannot be rendered.
func TestNamespaceOfOthersStays(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.cluster("c1", true)
	r.version("one", "1.0.0", nil)
	r.version("two", "1.0.0", nil)
	r.install("c1", "one", "1.0.0")
	r.well("c1", "one", "1.0.0")
	values := r.values("c1", "two", `{"value":"red"}`)
	r.install("c1", "two", "1.0.0", values)
	r.well("c1", "two", "1.0.0")
	r.values("c1", "two", `{"broken":true}`)
	r.until("broken", func() bool {
		return r.condition("c1", "two", addon.ConditionConfigured) == "False/ConfigurationsNotConfigured"
	})
	r.must(nil, r.dishes.Delete(ctx(t), "c1", "one"))
	r.until("it waits", func() bool {
		m := r.message("c1", "one", addon.ConditionProgressing)
		return strings.Contains(m, "is handed over to addon two") && strings.Contains(m, "values say that it is broken")
	})
	if w := r.work("c1", deployName("one")); w == nil || w.DeletionTimestamp != nil {
		t.Fatal("the namespace goes")
	}
	r.values("c1", "two", `{"value":"blue"}`)
	r.until("two takes it", func() bool { return strings.Contains(r.text(r.work("c1", deployName("two"))), `"Namespace"`) })
	r.report("c1", deployName("two"), healthy)
	r.until("gone", func() bool { r.clean(); return r.dish("c1", "one") == nil })
}

// Hooks run after the objects are healthy, and before they go.
func TestHooks(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.cluster("c1", true)
	with := func(s *fleet.AddOnVersionSpec) {
		s.Manifests = append(s.Manifests, hookJob("$NAMESPACE", "after", addon.AnnotationPostInstall), hookJob("$NAMESPACE", "before", addon.AnnotationPreDelete))
	}
	r.version("db", "1.0.0", with)
	r.install("c1", "db", "1.0.0")
	r.until("a work", func() bool { return r.work("c1", deployName("db")) != nil })
	if text := r.text(r.work("c1", deployName("db"))); strings.Contains(text, `"Job"`) {
		t.Errorf("a hook among the objects: %s", text)
	}
	r.report("c1", deployName("db"), starting)
	r.until("starting", func() bool { return r.condition("c1", "db", addon.ConditionAvailable) == "False/ProbeUnavailable" })
	if r.work("c1", postInstallName("db")) != nil {
		t.Error("the hook does not wait")
	}
	r.report("c1", deployName("db"), healthy)
	r.until("the hook", func() bool { return r.work("c1", postInstallName("db")) != nil })
	if got := r.condition("c1", "db", addon.ConditionProgressing); got != "True/Progressing" {
		t.Errorf("progressing: %s", got)
	}
	r.report("c1", postInstallName("db"), broken)
	r.until("failed", func() bool {
		return r.condition("c1", "db", addon.ConditionHookCompleted) == "False/HookFailed" && r.condition("c1", "db", addon.ConditionProgressing) == "False/Failed"
	})
	r.report("c1", postInstallName("db"), finished)
	r.until("through", func() bool {
		return r.condition("c1", "db", addon.ConditionHookCompleted) == "True/HookCompleted" && r.condition("c1", "db", addon.ConditionProgressing) == "False/Completed"
	})

	// Another version runs its hook anew: first the old one goes.
	uid := r.work("c1", postInstallName("db")).UID
	r.version("db", "1.1.0", with)
	r.install("c1", "db", "1.1.0")
	r.until("1.1.0", func() bool { return strings.Contains(r.text(r.work("c1", deployName("db"))), "1.1.0") })
	r.report("c1", deployName("db"), healthy)
	r.until("a new hook", func() bool {
		r.clean()
		w := r.work("c1", postInstallName("db"))
		return w != nil && w.UID != uid
	})
	r.report("c1", postInstallName("db"), finished)
	r.well("c1", "db", "1.1.0")

	// The version goes from the catalog; the hook is still known.
	r.must(nil, r.versions.Delete(ctx(t), "", "db-1.1.0"))
	r.must(nil, r.dishes.Delete(ctx(t), "c1", "db"))
	r.until("the hook before removal", func() bool { return r.work("c1", preDeleteName("db")) != nil })
	r.report("c1", preDeleteName("db"), broken)
	r.until("failed", func() bool {
		return strings.Contains(r.message("c1", "db", addon.ConditionProgressing), "a hook that runs before removal failed")
	})
	if w := r.work("c1", deployName("db")); w == nil || w.DeletionTimestamp != nil {
		t.Error("the objects go although the hook failed")
	}
	r.report("c1", preDeleteName("db"), finished)
	var order []string
	r.until("gone", func() bool { order = append(order, r.clean()...); return r.dish("c1", "db") == nil })
	if i, j := slices.Index(order, deployName("db")), slices.Index(order, preDeleteName("db")); i < 0 || j < i {
		t.Errorf("order: %v", order)
	}
}

// A placement installs, and what nobody chooses goes, but not because a cluster is
// away, and not more than may go at once.
func TestPlacements(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.version("log", "1.0.0", func(s *fleet.AddOnVersionSpec) { s.Default = true })
	var names []string
	for i := range 12 {
		names = append(names, fmt.Sprintf("c%02d", i))
		r.cluster(names[i], true)
	}
	r.install("c00", "log", "1.0.0") // by hand
	r.decide("all", names...)
	r.place("log", "all")
	for _, name := range names {
		r.well(name, "log", "1.0.0")
	}
	r.until("completed", func() bool {
		o, err := r.recipes.Get(ctx(t), "", "log")
		return err == nil && len(o.Status.InstallProgressions) == 1 && len(o.Status.InstallProgressions[0].Conditions) == 1 &&
			o.Status.InstallProgressions[0].Conditions[0].Reason == addon.ReasonCompleted
	})
	d := r.dish("c01", "log")
	if d.Annotations[addon.AnnotationPlacement] != "apps/all" || len(d.OwnerReferences) != 1 || d.Spec.Configs[0].Name != "log-1.0.0" {
		t.Errorf("made: %+v", d.ObjectMeta)
	}

	// One is away, and one goes.
	r.cluster("c02", false)
	r.until("known to be away", func() bool {
		return r.condition("c02", "log", addon.ConditionAvailable) == "Unknown/ManagedClusterLeaseUpdateStopped"
	})
	r.decide("all", slices.Concat(names[:1], names[4:])...)
	r.until("two gone", func() bool { r.clean(); return r.dish("c01", "log") == nil && r.dish("c03", "log") == nil })
	if r.dish("c02", "log") == nil || r.work("c02", deployName("log")) == nil {
		t.Error("the addon went because its cluster is away")
	}
	r.cluster("c02", true)
	r.until("gone when it is back", func() bool { r.clean(); return r.dish("c02", "log") == nil })

	// By far more than may go at once.
	for i := range 20 {
		r.cluster(fmt.Sprintf("d%02d", i), true)
		names = append(names, fmt.Sprintf("d%02d", i))
	}
	r.decide("all", names...)
	for _, name := range names {
		r.well(name, "log", "1.0.0")
	}
	r.decide("all")
	held := func() (message string) {
		o, err := r.recipes.Get(ctx(t), "", "log")
		r.must(o, err)
		for _, c := range o.Status.InstallProgressions[0].Conditions {
			if c.Type == ConditionRemovalHeld && c.Status == metav1.ConditionTrue {
				message = c.Message
			}
		}
		return message
	}
	r.until("held", func() bool { return strings.Contains(held(), "31 of 32 addons would be removed, 10 may go at once") })
	_, id, _ := strings.Cut(held(), work.AnnotationApprovePrune+"=")
	id, _, _ = strings.Cut(id, ".")
	if got := r.dish("d05", "log"); got == nil || got.DeletionTimestamp != nil {
		t.Fatal("went without an approval")
	}
	r.must(r.recipes.Update(ctx(t), "", "log", func(o *addon.ClusterManagementAddOn) error {
		o.Annotations = map[string]string{work.AnnotationApprovePrune: id}
		return nil
	}))
	r.until("gone", func() bool {
		r.clean()
		for _, name := range names[1:] {
			if r.dish(name, "log") != nil {
				return false
			}
		}
		return true
	})
	if d := r.dish("c00", "log"); d == nil || d.DeletionTimestamp != nil {
		t.Error("what was made by hand went")
	}

	// The addon itself waits for the last.
	r.must(nil, r.recipes.Delete(ctx(t), "", "log"))
	r.until("the last goes", func() bool { d := r.dish("c00", "log"); return d == nil || d.DeletionTimestamp != nil })
	if _, err := r.recipes.Get(ctx(t), "", "log"); err != nil {
		t.Errorf("the addon went before the last: %v", err)
	}
	r.until("all gone", func() bool {
		r.clean()
		_, err := r.recipes.Get(ctx(t), "", "log")
		return err != nil && r.dish("c00", "log") == nil
	})
}

// A cluster that asks to be left alone is, and one that is away gets a change when it
// is back; no more are on the way than may.
func TestInFlight(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.version("log", "1.0.0", func(s *fleet.AddOnVersionSpec) { s.Default = true })
	r.must(r.recipes.Update(ctx(t), "", "log", func(o *addon.ClusterManagementAddOn) error {
		o.Annotations = map[string]string{addon.AnnotationMaxInFlight: "2"}
		return nil
	}))
	names := []string{"c1", "c2", "c3", "c4", "c5"}
	for _, name := range names {
		r.cluster(name, name != "c5")
		r.install(name, "log", "1.0.0")
	}
	busy := func() (n int) {
		for _, name := range names {
			if w := r.work(name, deployName("log")); w != nil && len(w.Status.Conditions) == 0 {
				n++
			}
		}
		return n
	}
	r.until("two on the way", func() bool {
		return busy() == 2 && r.condition("c4", "log", addon.ConditionProgressing) == "False/WaitingForTurn" &&
			r.condition("c5", "log", addon.ConditionProgressing) == "False/WaitingForCluster"
	})
	// Also after the hub was killed.
	r.stop()
	r.start()
	r.report("c1", deployName("log"), healthy)
	r.until("the next", func() bool { return r.work("c3", deployName("log")) != nil })
	if n := busy(); n != 2 || r.work("c4", deployName("log")) != nil {
		t.Errorf("%d on the way", n)
	}
	for _, name := range names[:4] {
		r.well(name, "log", "1.0.0")
	}
	if r.work("c5", deployName("log")) != nil {
		t.Error("a cluster that is away was given something")
	}
	r.cluster("c5", true)
	r.well("c5", "log", "1.0.0")
}

// In whatever order addons that need each other are installed, and removed: none is
// given before what it needs is well, and none goes before what needs it.
func TestOrderHolds(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	random := rand.New(rand.NewPCG(7, 7))
	const n = 6
	requires := map[string][]string{}
	for i := range n {
		name := fmt.Sprintf("a%d", i)
		var ranges []fleet.AddOnRange
		for j := range i {
			if random.IntN(2) == 0 {
				other := fmt.Sprintf("a%d", j)
				ranges = append(ranges, fleet.AddOnRange{AddOn: other, VersionRange: "^1.0.0"})
				requires[name] = append(requires[name], other)
			}
		}
		r.version(name, "1.0.0", needs(ranges...))
	}
	for round := range 3 {
		c := fmt.Sprintf("c%d", round)
		r.cluster(c, true)
		order := random.Perm(n)
		for _, i := range order {
			r.install(c, fmt.Sprintf("a%d", i), "1.0.0")
		}
		there := map[string]bool{}
		for deadline := time.Now().Add(patience); len(there) < n; {
			if time.Now().After(deadline) {
				t.Fatalf("only %v", there)
			}
			for i := range n {
				name := fmt.Sprintf("a%d", i)
				w := r.work(c, deployName(name))
				if w == nil || there[name] {
					continue
				}
				for _, other := range requires[name] {
					if !there[other] {
						t.Errorf("%s was given before %s was well", name, other)
					}
				}
				r.report(c, w.Name, healthy)
				there[name] = true
			}
			time.Sleep(10 * time.Millisecond)
		}
		for _, i := range random.Perm(n) {
			r.must(nil, r.dishes.Delete(ctx(t), c, fmt.Sprintf("a%d", i)))
		}
		gone := map[string]bool{}
		r.until("all gone", func() bool {
			for _, name := range r.clean() {
				name = strings.TrimSuffix(strings.TrimPrefix(name, "addon-"), "-deploy-0")
				for dependent, others := range requires {
					if slices.Contains(others, name) && !gone[dependent] {
						t.Errorf("%s goes before %s", name, dependent)
					}
				}
				gone[name] = true
			}
			return len(r.left(c)) == 0
		})
	}
}

func (r *rig) left(c string) []string {
	var names []string
	for i := range 6 {
		if name := fmt.Sprintf("a%d", i); r.dish(c, name) != nil {
			names = append(names, name)
		}
	}
	return names
}
