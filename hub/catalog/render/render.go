// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Package render makes the manifests of one addon on one cluster. It is pure: it
// sees nothing but the Rendering that it is given, and the same Rendering gives the
// same objects. It is bounded in time, steps, output and memory; guard tells how.
//
// Helm's and kustomize's libraries do the work that is theirs. What differs from
// `helm template --include-crds` and `kustomize build`:
//
//   - Objects of namespaced kinds that name no namespace get the install namespace.
//   - Lists are taken apart; an object that is there twice is an error.
//   - Functions that give another result each time (now, randAlphaNum, genCA, ...)
//     are refused when they are called; keys and values come sorted.
//   - Helm hooks: those before and after installation and upgrade are objects like
//     others, but Jobs and Pods of post-install and post-upgrade come in
//     PostInstall, and those of pre-delete in PreDelete. Tests, rollback and
//     post-delete hooks are left out, and so is NOTES.txt.
//   - Nothing is loaded from anywhere: no remote bases, schemas or plugins.
package render

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/drover-io/drover/hub/catalog"
	"github.com/drover-io/drover/hub/catalog/source"
	"github.com/drover-io/drover/shared/apis/fleet"
)

// Annotations that mark manifests as hooks.
const (
	AnnotationPostInstall = "fleet.drover.io/post-install"
	AnnotationPreDelete   = "addon.open-cluster-management.io/addon-pre-delete"
)

// Limits bound one rendering. The zero value of a field is its default.
type Limits struct {
	Time    time.Duration // 10 s
	Output  int           // bytes of text, 16 MiB
	Objects int           // 5,000
}

// Renderer renders. Its methods may be called at the same time.
type Renderer struct {
	limits Limits
	slots  chan struct{}
	// kustomizing is held while kustomize's library works.
	kustomizing sync.Mutex

	mu    sync.Mutex
	stuck map[string]int // renderings by content that were given up and have not ended
}

// New makes a renderer within limits.
func New(limits Limits) *Renderer {
	if limits.Time == 0 {
		limits.Time = 10 * time.Second
	}
	if limits.Output == 0 {
		limits.Output = 16 << 20
	}
	if limits.Objects == 0 {
		limits.Objects = 5_000
	}
	return &Renderer{limits: limits, slots: make(chan struct{}, max(2, runtime.GOMAXPROCS(0))), stuck: map[string]int{}}
}

// Render makes the manifests. An error that is the fault of content or values is an
// *Error or a *source.Error; one of ctx is ctx's.
func (r *Renderer) Render(ctx context.Context, in *catalog.Rendering) (*catalog.Rendered, error) {
	out, _, err := r.render(ctx, in)
	return out, err
}

// Check renders for no cluster in particular, and says of an error whether the
// content looked at facts of the cluster, so that it may be another with those.
func (r *Renderer) Check(ctx context.Context, in *catalog.Rendering) (*catalog.Rendered, bool, error) {
	out, read, err := r.render(ctx, in)
	return out, read != 0 && !errors.Is(err, ErrTime), err
}

type outcome struct {
	rendered *catalog.Rendered
	read     reads
	err      error
}

// grace is how long a rendering has to notice that its time is over.
const grace = 2 * time.Second

// render also returns which facts the rendering looked at.
//
// What cannot be interrupted is parsing, and what the libraries do between two calls
// of the guard. A rendering that does not even notice that its time is over is given
// up: it keeps its slot, and its content is refused until it ends.
func (r *Renderer) render(ctx context.Context, in *catalog.Rendering) (*catalog.Rendered, reads, error) {
	r.mu.Lock()
	stuck := r.stuck[in.Content.Digest]
	r.mu.Unlock()
	if stuck > 0 {
		return nil, 0, &Error{Text: "rendering this content did not end, and has not yet", Err: ErrTime}
	}
	select {
	case r.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, 0, ctx.Err()
	}
	limited, cancel := context.WithTimeoutCause(ctx, r.limits.Time, fmt.Errorf("%v", r.limits.Time))
	defer cancel()
	done := make(chan outcome, 1)
	go func() {
		defer func() { <-r.slots }()
		defer func() {
			if p := recover(); p != nil {
				done <- outcome{err: fmt.Errorf("rendering failed: %v\n%s", p, debug.Stack())}
			}
		}()
		done <- r.now(limited, in)
	}()
	select {
	case o := <-done:
		return o.rendered, o.read, r.explain(ctx, o.err)
	case <-limited.Done():
	}
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case o := <-done:
		return o.rendered, o.read, r.explain(ctx, o.err)
	case <-timer.C:
	}
	r.mu.Lock()
	r.stuck[in.Content.Digest]++
	r.mu.Unlock()
	go func() {
		<-done
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.stuck[in.Content.Digest]--; r.stuck[in.Content.Digest] == 0 {
			delete(r.stuck, in.Content.Digest)
		}
	}()
	return nil, 0, r.explain(ctx, &Error{Text: fmt.Sprintf("rendering takes longer than %v", r.limits.Time), Err: ErrTime})
}

// explain tells the caller's end from the content's.
func (r *Renderer) explain(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

func (r *Renderer) now(ctx context.Context, in *catalog.Rendering) outcome {
	var read reads
	g := &guard{ctx: ctx, limits: r.limits}
	cluster := &Cluster{facts: &in.Cluster, read: &read}
	var (
		parts *parts
		err   error
	)
	switch in.Content.Manager {
	case fleet.ManagerHelm:
		parts, err = helm(g, in, cluster)
	case fleet.ManagerKustomize:
		parts, err = r.kustomize(g, in, cluster)
	case fleet.ManagerManifests, "":
		parts, err = manifests(g, in, cluster)
	default:
		err = &Error{Text: fmt.Sprintf("no such manager: %q", in.Content.Manager)}
	}
	if err != nil {
		return outcome{read: read, err: err}
	}
	rendered, err := parts.finish(in.Namespace, r.limits)
	return outcome{rendered, read, err}
}

// parts are objects in the order of application, with where they come from.
type parts struct {
	objects, postInstall, preDelete []source.Object
}

// take sorts objects by the annotations that mark hooks.
func (p *parts) take(objects []source.Object) {
	for _, o := range objects {
		switch marks := o.GetAnnotations(); {
		case marked(marks, AnnotationPreDelete) || o.GetLabels()[AnnotationPreDelete] != "" && runs(o.GetKind()):
			p.preDelete = append(p.preDelete, o)
		case marked(marks, AnnotationPostInstall):
			p.postInstall = append(p.postInstall, o)
		default:
			p.objects = append(p.objects, o)
		}
	}
}

func marked(m map[string]string, key string) bool {
	v, ok := m[key]
	return ok && v != "false"
}

// runs says whether objects of a kind run once and end.
func runs(kind string) bool { return kind == "Job" || kind == "Pod" }

func (p *parts) finish(namespace string, limits Limits) (*catalog.Rendered, error) {
	out, seen := &catalog.Rendered{}, source.Seen{}
	cluster := clusterScoped(p.objects)
	n := 0
	for _, group := range []struct {
		from []source.Object
		to   *[]*unstructured.Unstructured
		hook bool
	}{{p.objects, &out.Objects, false}, {p.postInstall, &out.PostInstall, true}, {p.preDelete, &out.PreDelete, true}} {
		for _, o := range group.from {
			if n++; n > limits.Objects {
				return nil, &Error{Text: fmt.Sprintf("more than %d objects", limits.Objects)}
			}
			if group.hook && !runs(o.GetKind()) {
				return nil, &source.Error{File: o.File, Line: o.Line, Err: fmt.Errorf("%s cannot be a hook: only a Job or a Pod runs and ends", source.Name(o.Unstructured))}
			}
			if o.GetNamespace() == "" && !cluster[o.GroupVersionKind().GroupKind()] {
				o.SetNamespace(namespace)
			}
			if err := seen.Add(o); err != nil {
				return nil, err
			}
			*group.to = append(*group.to, o.Unstructured)
		}
	}
	if n == 0 {
		return nil, &Error{Text: "it renders to no objects at all", Err: ErrEmpty}
	}
	return out, nil
}

// ErrEmpty: there are no objects.
var ErrEmpty = errors.New("no objects")
