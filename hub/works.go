// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"go.uber.org/zap"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"github.com/drover-io/drover/hub/api"
	"github.com/drover-io/drover/hub/content"
	"github.com/drover-io/drover/hub/delivery"
	"github.com/drover-io/drover/hub/enroll"
	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/shared/apis/cluster"
	"github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/shared/apis/work"
	"github.com/drover-io/drover/shared/wire"
)

// workRules are what a write to a ManifestWork is held to.
type workRules struct {
	store   *store.Store
	bundles interface {
		Size(ctx context.Context, digest string) (int64, error)
	}
	history interface {
		KeepRevision(ctx context.Context, old, next map[string]any, by string) error
	}
}

// admit checks the annotations, keeps a work of a cluster with an agent until that
// has cleaned up, says so when nobody will apply it, counts another bundle as
// another generation, and keeps what a change takes away.
func (w *workRules) admit(ctx context.Context, r *api.Admission) error {
	if r.Operation == api.UpdateStatus {
		return nil
	}
	if r.Operation != api.Delete {
		if err := w.checkAnnotations(ctx, r); err != nil {
			return err
		}
	}
	if r.Operation == api.Create {
		return w.admitNew(r)
	}
	if r.Operation == api.Update && besideSpec(r.Object) != besideSpec(r.Old) {
		// Of two contents under one generation a status would speak of either, and a
		// revision be kept of one.
		metadata, _ := r.Object["metadata"].(map[string]any)
		before, _, _ := unstructured.NestedInt64(r.Old, "metadata", "generation")
		metadata["generation"] = before + 1
	}
	if r.DryRun {
		return nil
	}
	// Not undone with the write if that fails: a revision too many does no harm,
	// one too few does.
	if err := w.history.KeepRevision(ctx, r.Old, r.Object, r.User.GetName()); err != nil {
		return fmt.Errorf("keep the former state for undo: %w", err)
	}
	return nil
}

func besideSpec(obj map[string]any) [3]string {
	annotations, _, _ := unstructured.NestedStringMap(obj, "metadata", "annotations")
	return work.BesideSpec(annotations)
}

func (w *workRules) checkAnnotations(ctx context.Context, r *api.Admission) error {
	var meta, old struct {
		metav1.ObjectMeta `json:"metadata"`
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(map[string]any{"metadata": r.Object["metadata"]}, &meta); err != nil {
		return err
	}
	if r.Old != nil {
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(map[string]any{"metadata": r.Old["metadata"]}, &old); err != nil {
			return err
		}
	}
	errs := delivery.CheckAnnotations(meta.Name, meta.Annotations)
	digest := meta.Annotations[work.AnnotationBundle]
	if len(errs) == 0 && digest != "" && digest != old.Annotations[work.AnnotationBundle] {
		_, err := w.bundles.Size(ctx, digest)
		if errors.Is(err, content.ErrNotFound) {
			err = nil
			errs = append(errs, field.Invalid(field.NewPath("metadata", "annotations").Key(work.AnnotationBundle), digest,
				"this hub has no such bundle: push it first with `drover bundle push`"))
		}
		if err != nil {
			return fmt.Errorf("look for bundle %s: %w", digest, err)
		}
	}
	if len(errs) > 0 {
		return errs.ToAggregate()
	}
	return nil
}

func (w *workRules) admitNew(r *api.Admission) error {
	meta, _ := r.Object["metadata"].(map[string]any)
	ns, _ := meta["namespace"].(string)
	if _, ok := w.store.Cached(store.Key{Resource: cluster.Resource, Name: ns}); !ok {
		r.Warn(fmt.Sprintf("there is no ManagedCluster %q: nobody applies this work until one of that name joins", ns))
		return nil
	}
	// Without an agent nobody would ever take the finalizer off again. It is put on
	// when one joins.
	if !delivery.HasAgent(w.store, ns) {
		r.Warn(fmt.Sprintf("no agent has joined for cluster %q yet: nobody applies this work until one does", ns))
		return nil
	}
	list, _ := meta["finalizers"].([]any)
	if !slices.Contains(list, any(work.Finalizer)) {
		meta["finalizers"] = append(list, work.Finalizer)
	}
	return nil
}

// revisionsAreTheHubs refuses to change what undo goes back to.
func admitRevision(_ context.Context, r *api.Admission) error {
	if r.Operation == api.Delete {
		return nil
	}
	return hubsOwn("workrevisions", "a WorkRevision")
}

// agents routes the agents' side: joining and certificates, and bundles.
func agents(p *parts) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", p.enroll.Handler())
	mux.Handle(wire.PathContent+"/", p.content.Download(content.Agents{
		May: p.delivery.HasBundle,
		Identify: func(w http.ResponseWriter, r *http.Request) (string, error) {
			peer, err := p.enroll.Verify(r.Context(), r.TLS.PeerCertificates)
			if err != nil {
				refuseAgent(w, err)
			}
			return peer.Name, err
		},
	}))
	return mux
}

func refuseAgent(w http.ResponseWriter, err error) {
	status, refusal := http.StatusInternalServerError, wire.Refusal{Reason: wire.ReasonInternal}
	var refused *enroll.Refused
	if errors.As(err, &refused) {
		status, refusal = refused.Status, refused.Refusal
	}
	writeJSON(w, status, refusal)
}

// refusePeople answers a person with a Status.
func refusePeople(w http.ResponseWriter, err error) {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		status = apierrors.NewInternalError(errors.New("internal error; the hub's log has the details"))
	}
	s := status.Status()
	s.TypeMeta = metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}
	writeJSON(w, int(s.Code), s)
}

// addWorks adds what concerns works and is no kind of the API.
func addWorks(mux *http.ServeMux, p *parts, authn authenticator.Request, authz authorizer.UnconditionalAuthorizer, log *zap.Logger) {
	mux.Handle("PUT "+wire.PathContent, p.content.Upload(authn, authz, p.audit))
	i := &inspector{p: p, authn: authn, authz: authz, diffs: make(chan struct{}, maxDiffs), log: log}
	mux.Handle("POST "+fleet.PathDiff, i.serve(i.diff))
	mux.Handle("GET "+fleet.PathExplain+"/{cluster}/{name}", i.serve(i.explain))
	addInstalls(mux, i)
	mux.Handle("GET "+fleet.PathSamples+"/{cluster}", i.serve(i.samples))
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // a client that went away needs no answer
}
