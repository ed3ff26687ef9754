// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package chaos

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"github.com/drover-io/drover/shared/apis/work"
	"github.com/drover-io/drover/shared/wire"
)

// runner is one plan under way.
type runner struct {
	world *world
	ns    string
	plan  plan
	*history
}

func (r *runner) maps() dynamic.ResourceInterface {
	return r.world.kubernetes.Resource(corev1.SchemeGroupVersion.WithResource("configmaps")).Namespace(r.ns)
}

func (r *runner) run(t *testing.T) {
	for _, s := range r.plan.steps {
		select {
		case <-t.Context().Done():
			return
		case <-time.After(s.pause): // part of the plan
		}
		switch s.do {
		case put:
			value := r.putting(s)
			r.insist(t, func(ctx context.Context) error {
				old, err := r.world.works.Get(ctx, r.ns+"."+s.work, metav1.GetOptions{})
				switch {
				case err != nil && !apierrors.IsNotFound(err):
					return err
				case err == nil && old.GetDeletionTimestamp() != nil:
					return errors.New("the former work is still being removed")
				}
				if s.bundle {
					if err := r.push(ctx, s, value); err != nil {
						return err
					}
				}
				_, err = r.world.works.Apply(ctx, r.ns+"."+s.work, r.manifestWork(s, value), metav1.ApplyOptions{FieldManager: "chaos", Force: true})
				return err
			})
			r.put(s, value)
		case remove:
			r.removing(s.work)
			r.insist(t, func(ctx context.Context) error { return r.delete(ctx, s.work) })
		case approve:
			r.approve(t)
		default:
			r.other(t, s)
		}
	}
}

// insistLimit is longer than settleLimit, as failures go on meanwhile: an agent that
// loses one young session after the other waits up to a minute before the next.
const insistLimit = 5 * time.Minute

// insist repeats what a person would when the hub dies under a request.
func (r *runner) insist(t *testing.T, f func(context.Context) error) {
	deadline := time.Now().Add(insistLimit)
	for {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		err := f(ctx)
		cancel()
		if err == nil || t.Context().Err() != nil {
			return
		}
		if time.Now().After(deadline) {
			r.mu.Lock()
			r.violate("the hub has not done it for %s: %v", insistLimit, err)
			r.mu.Unlock()
			return
		}
		time.Sleep(50 * time.Millisecond) // between attempts
	}
}

func (r *runner) delete(ctx context.Context, work string) error {
	err := r.world.works.Delete(ctx, r.ns+"."+work, metav1.DeleteOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// other does what people do to objects behind the agent's back.
func (r *runner) other(t *testing.T, s step) {
	switch s.do {
	case foreignEdit:
		live, err := r.maps().Patch(t.Context(), s.name, types.MergePatchType, []byte(`{"data":{"value":"foreign"}}`), metav1.PatchOptions{FieldManager: "somebody"})
		if err == nil {
			r.mu.Lock()
			r.note("somebody else edited %s (%s)", s.name, live.GetUID())
			r.mu.Unlock()
		}
	case foreignDelete:
		live, err := r.maps().Get(t.Context(), s.name, metav1.GetOptions{})
		if err != nil {
			return
		}
		uid := live.GetUID()
		r.byOther(r.killed, string(uid), "deletes")
		_ = r.maps().Delete(t.Context(), s.name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}}) // it may be gone
	case foreignCreate:
		r.foreignCreate(t, s.name, r.configMap(step{}, s.name, "foreign"))
	case foreignTwin:
		r.mu.Lock()
		w := r.works[s.work]
		r.mu.Unlock()
		if w != nil {
			r.foreignCreate(t, s.name, r.configMap(w.step, s.name, w.value))
		}
	}
}

func (r *runner) foreignCreate(t *testing.T, name string, m map[string]any) {
	made, err := r.maps().Create(t.Context(), &unstructured.Unstructured{Object: m}, metav1.CreateOptions{FieldManager: "somebody"})
	if err == nil {
		r.byOther(r.foreign, string(made.GetUID()), "made "+name+" as")
	}
}

// approve says the word for the removal that waits for it, if one does soon.
func (r *runner) approve(t *testing.T) {
	for deadline := time.Now().Add(3 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		_, works := r.state()
		if works[large] == nil {
			return
		}
		waits, _, _ := unstructured.NestedString(works[large].Object, "status", "prunePlan", "id")
		id, uids := r.history.plan(r.ns)
		if waits == "" || waits != id { // the plan may be older than what is there
			continue
		}
		r.approving(id, uids)
		patch := fmt.Appendf(nil, `{"metadata":{"annotations":{%q:%q}}}`, work.AnnotationApprovePrune, id)
		r.insist(t, func(ctx context.Context) error {
			_, err := r.world.works.Patch(ctx, r.ns+"."+large, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: "somebody"})
			if apierrors.IsNotFound(err) {
				return nil
			}
			return err
		})
		return
	}
}

func (r *runner) configMap(s step, name, value string) map[string]any {
	metadata := map[string]any{"name": name, "namespace": r.ns, "labels": map[string]any{"chaos": "yes"}}
	if s.waves {
		metadata["annotations"] = map[string]any{work.AnnotationWave: fmt.Sprint(waveOf(name))}
	}
	return map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": map[string]any{"value": value}}
}

// bundle is the objects of a step as lines.
func (r *runner) bundle(s step, value string) []byte {
	var lines bytes.Buffer
	encode := json.NewEncoder(&lines)
	for _, name := range s.names {
		_ = encode.Encode(r.configMap(s, name, value)) // maps of strings
	}
	return lines.Bytes()
}

func (r *runner) push(ctx context.Context, s step, value string) error {
	var info struct{}
	return r.world.contents.Put(ctx, wire.PathContent, "application/x-ndjson", r.bundle(s, value), &info)
}

func (r *runner) manifestWork(s step, value string) *unstructured.Unstructured {
	manifests := []any{} // null is not a list
	annotations := map[string]any{}
	if s.bundle {
		annotations[work.AnnotationBundle] = fmt.Sprintf("sha256:%x", sha256.Sum256(r.bundle(s, value)))
	} else {
		for _, name := range s.names {
			manifests = append(manifests, r.configMap(s, name, value))
		}
	}
	if s.adoption != "" {
		annotations[work.AnnotationAdoption] = s.adoption
	}
	if s.takeFrom != "" {
		annotations[work.AnnotationTakeFrom] = r.ns + "." + s.takeFrom
	}
	policy := work.Foreground
	if s.orphan {
		policy = work.Orphan
	}
	spec := map[string]any{
		"workload":     map[string]any{"manifests": manifests},
		"deleteOption": map[string]any{"propagationPolicy": policy},
	}
	if s.executor != "" {
		spec["executor"] = map[string]any{"subject": map[string]any{
			"type": work.SubjectServiceAccount, "serviceAccount": map[string]any{"namespace": r.ns, "name": s.executor},
		}}
	}
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": work.Group + "/" + work.Version, "kind": work.Kind,
		"metadata": map[string]any{"name": r.ns + "." + s.work, "namespace": clusterName, "annotations": annotations},
		"spec":     spec,
	}}
}
