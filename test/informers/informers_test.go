// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package informers

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/tools/cache"

	"github.com/drover-io/drover/test/local"
)

const kills = 20

// TestInformers kills the hub twenty times in the middle of writes to several
// kinds. Afterwards every informer and reflector, be it of the kind that streams
// its first list or of the kind that asks for pages, holds exactly what the hub
// lists; and what the informers told their handlers adds up to the same.
func TestInformers(t *testing.T) {
	t.Parallel()
	h := startHub(t)
	address := h.Address()
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	t.Cleanup(func() { cancel(); group.Wait() })

	var followers []follower
	for _, k := range kinds() {
		followers = append(followers,
			newInformer(ctx, t, &group, newClient(t, h), k),
			newReflector(ctx, &group, newClient(t, h), k, true),
			newReflector(ctx, &group, newClient(t, h), k, false))
	}

	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for i := range kills {
		writing, stop := context.WithCancel(ctx)
		var writers sync.WaitGroup
		for _, k := range kinds() {
			w := &writer{kind: k, to: k.of(newClient(t, h)), random: rand.New(rand.NewPCG(seed, uint64(i)))}
			writers.Go(func() { w.run(writing) })
		}
		time.Sleep(time.Duration(100+random.IntN(300)) * time.Millisecond) // the moment of the end is the point
		h.Process.Kill()
		stop()
		writers.Wait()
		if err := h.Start(t.Context(), address, local.Unlimited()...); err != nil {
			t.Fatalf("start %d: %v", i, err)
		}
	}
	settle(t, h)
	c := newClient(t, h)
	total := 0
	for _, f := range followers {
		eventually(t, f.name+" holds what the hub has", func(ctx context.Context) error {
			want, err := present(ctx, c, f.kind)
			if err != nil {
				return err
			}
			for what, got := range f.state() {
				if d := cmp.Diff(want, got); d != "" {
					return fmt.Errorf("%s: hub (-), %s (+):\n%.2000s", what, f.name, d)
				}
			}
			total += len(want)
			return nil
		})
	}
	t.Logf("%d followers agree with the hub on %d objects", len(followers), total)
	if total == 0 {
		t.Error("nothing was written")
	}
}

// settle makes one more change of each kind, so that nobody is up to date by chance.
func settle(t *testing.T, h *local.Hub) {
	t.Helper()
	c := newClient(t, h)
	for _, k := range kinds() {
		eventually(t, "the hub takes writes", func(ctx context.Context) error {
			_, err := k.of(c).Create(ctx, k.object("last-"+k.Resource), metav1.CreateOptions{})
			if apierrors.IsAlreadyExists(err) {
				return nil // of a try whose answer was lost
			}
			return err
		})
	}
}

// writer creates, changes and deletes a few objects, as fast as it can.
type writer struct {
	kind   kind
	to     dynamic.ResourceInterface
	random *rand.Rand
}

func (w *writer) run(ctx context.Context) {
	for n := 0; ctx.Err() == nil; n++ {
		name := fmt.Sprintf("object-%d", w.random.IntN(12))
		// Errors are the point: objects that exist, do not, and a hub that is away.
		switch w.random.IntN(5) {
		case 0, 1:
			_, _ = w.to.Create(ctx, w.kind.object(name), metav1.CreateOptions{})
		case 2, 3:
			patch := fmt.Sprintf(`{"metadata":{"labels":{"n":"%d"}}}`, n)
			_, _ = w.to.Patch(ctx, name, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
		default:
			_ = w.to.Delete(ctx, name, metav1.DeleteOptions{})
		}
	}
}

// follower is something that keeps a copy of a kind.
type follower struct {
	name string
	kind kind
	// state is the copy, in each form that it exists in.
	state func() map[string]map[string]*unstructured.Unstructured
}

func newInformer(ctx context.Context, t *testing.T, group *sync.WaitGroup, c dynamic.Interface, k kind) follower {
	t.Helper()
	informer := dynamicinformer.NewFilteredDynamicInformer(c, k.GroupVersionResource, metav1.NamespaceAll, 0, cache.Indexers{}, nil).Informer()
	told := &told{objects: map[string]*unstructured.Unstructured{}}
	if _, err := informer.AddEventHandler(told); err != nil {
		t.Fatal(err)
	}
	group.Go(func() { informer.RunWithContext(ctx) })
	return follower{"informer of " + k.Resource, k, func() map[string]map[string]*unstructured.Unstructured {
		return map[string]map[string]*unstructured.Unstructured{"store": copied(informer.GetStore()), "events": told.copy()}
	}}
}

// told is what the events of an informer add up to.
type told struct {
	mu      sync.Mutex
	objects map[string]*unstructured.Unstructured
}

func (o *told) OnAdd(obj any, _ bool) { o.set(obj) }
func (o *told) OnUpdate(_, obj any)   { o.set(obj) }

func (o *told) OnDelete(obj any) {
	if unknown, ok := obj.(cache.DeletedFinalStateUnknown); ok {
		obj = unknown.Obj
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.objects, key(obj.(*unstructured.Unstructured)))
}

func (o *told) set(obj any) {
	u := obj.(*unstructured.Unstructured)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.objects[key(u)] = u
}

func (o *told) copy() map[string]*unstructured.Unstructured {
	o.mu.Lock()
	defer o.mu.Unlock()
	all := map[string]*unstructured.Unstructured{}
	for k, v := range o.objects {
		all[k] = v
	}
	return all
}

func copied(s cache.Store) map[string]*unstructured.Unstructured {
	all := map[string]*unstructured.Unstructured{}
	for _, obj := range s.List() {
		u := obj.(*unstructured.Unstructured)
		all[key(u)] = u
	}
	return all
}

// lister lists and watches a kind; streams says whether the first list may come
// as a watch.
type lister struct {
	cache.ListWatch
	streams bool
}

// IsWatchListSemanticsUnSupported is how a reflector asks.
func (l *lister) IsWatchListSemanticsUnSupported() bool { return !l.streams }

func newReflector(ctx context.Context, group *sync.WaitGroup, c dynamic.Interface, k kind, streams bool) follower {
	all := c.Resource(k.GroupVersionResource)
	l := &lister{streams: streams, ListWatch: cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			return all.List(ctx, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			return all.Watch(ctx, o)
		},
	}}
	store := cache.NewStore(cache.MetaNamespaceKeyFunc)
	example := &unstructured.Unstructured{}
	example.SetAPIVersion(k.GroupVersion().String())
	example.SetKind(k.kind)
	name := fmt.Sprintf("reflector of %s, streaming %s", k.Resource, strconv.FormatBool(streams))
	r := cache.NewReflectorWithOptions(l, example, store, cache.ReflectorOptions{Name: name})
	group.Go(func() { r.RunWithContext(ctx) })
	return follower{name, k, func() map[string]map[string]*unstructured.Unstructured {
		return map[string]map[string]*unstructured.Unstructured{"store": copied(store)}
	}}
}
