// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/shared/daemon"
)

// The resources of roles and bindings, as the store and the API name them.
const (
	ResourceRoles               = "roles." + rbacv1.GroupName
	ResourceRoleBindings        = "rolebindings." + rbacv1.GroupName
	ResourceClusterRoles        = "clusterroles." + rbacv1.GroupName
	ResourceClusterRoleBindings = "clusterrolebindings." + rbacv1.GroupName
)

func resources() [4]string {
	return [4]string{ResourceRoles, ResourceRoleBindings, ResourceClusterRoles, ResourceClusterRoleBindings}
}

// retryEvery is how long Stored waits after a failure.
const retryEvery = time.Second

// Stored is the Source of a hub: the roles and bindings in the store. Its policy
// is known once Run has loaded it, and unknown again while Run cannot follow the
// store, so that nobody keeps a permission that was taken away. It includes which
// managed clusters belong to which sets.
type Stored struct {
	store *store.Store
	log   *zap.Logger

	policy atomic.Pointer[Policy]

	mu      sync.Mutex
	roles   *Policy // without members
	members *Members
	changed context.Context // ends at the next change of policy
	change  context.CancelFunc
	since   uint64
}

var _ Source = (*Stored)(nil)

// NewStored returns a Source over an open store. It knows nothing before Run.
func NewStored(s *store.Store, log *zap.Logger) *Stored {
	out := &Stored{store: s, log: log}
	out.changed, out.change = context.WithCancel(context.Background())
	return out
}

// Policy implements Source.
func (s *Stored) Policy() *Policy { return s.policy.Load() }

// Changed returns a context that ends when the policy is no longer the one that
// Policy returned, if Policy was called after Changed. What was decided for a
// long time, such as a filter of a watch, must then be decided again.
func (s *Stored) Changed() context.Context {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

// Since is the revision of the store up to which lists may show something else
// than they do now, because the policy was another one.
func (s *Stored) Since() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.since
}

// Fresh returns the policy with everything that was acknowledged before the
// call, for decisions that must not rest on a role or binding just taken away.
// It waits for the store's cache. It does not need Run.
func (s *Stored) Fresh(ctx context.Context) (*Policy, error) {
	return s.load(ctx, 0)
}

// Run makes the built-in roles and follows the store until ctx ends.
func (s *Stored) Run(ctx context.Context) error {
	defer s.publish(nil)
	g := daemon.NewGroup(ctx)
	g.Go("built-in roles", s.runBuiltin)
	g.Go("policy", s.runPolicy)
	g.Go("cluster sets", s.runMembers)
	return g.Wait()
}

func (s *Stored) runBuiltin(ctx context.Context) error {
	for {
		err := ensureBuiltin(ctx, s.store)
		if err == nil {
			<-ctx.Done()
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		s.log.Warn("making the built-in roles failed, will try again", zap.Error(err))
		daemon.Sleep(ctx, retryEvery)
	}
}

func (s *Stored) runPolicy(ctx context.Context) error {
	for {
		err := s.follow(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		s.publish(nil)
		s.log.Warn("following roles and bindings failed; until it works only system:masters have permissions", zap.Error(err))
		daemon.Sleep(ctx, retryEvery)
	}
}

// follow compiles the policy now and after every change.
func (s *Stored) follow(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel(nil)
	wake := make(chan struct{}, 1)
	for _, resource := range resources() {
		// Watching begins before loading: what changes in between is loaded again.
		w, err := s.store.Watch(ctx, store.WatchSelection{Resource: resource, MinRevision: store.Any})
		if err != nil {
			return fmt.Errorf("watch %s: %w", resource, err)
		}
		wg.Go(func() {
			defer w.Stop()
			cancel(fmt.Errorf("watch %s: %w", resource, signal(ctx, w, wake)))
		})
	}
	for {
		p, err := s.load(ctx, store.Any)
		if err != nil {
			return err
		}
		s.publish(p)
		select {
		case <-wake:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// signal wakes with every event until the watch ends, and returns why it did.
func signal(ctx context.Context, w *store.Watcher, wake chan<- struct{}) error {
	for {
		ev, err := w.Next(ctx)
		if err != nil {
			return err
		}
		if ev.Type == store.Bookmark || ev.Initial {
			continue
		}
		select {
		case wake <- struct{}{}:
		default:
		}
	}
}

// publish makes p the roles and bindings in effect; nil: they are not known.
func (s *Stored) publish(p *Policy) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.roles = p
	s.renew()
}

func (s *Stored) publishMembers(m *Members) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.members = m
	s.renew()
}

// renew puts roles and members together; s.mu is held.
func (s *Stored) renew() {
	s.policy.Store(s.roles.With(s.members))
	s.since = s.store.Revision()
	s.change()
	s.changed, s.change = context.WithCancel(context.Background())
}

// load reads a state that existed at one moment: the four resources are read one
// after the other, and a role of one moment with a binding of another may allow
// what was never allowed. Two equal readings in a row are the state between them.
func (s *Stored) load(ctx context.Context, least uint64) (*Policy, error) {
	var before [4][]store.Entry
	for round := 0; ; round++ {
		now, err := s.read(ctx, least)
		if err != nil {
			return nil, err
		}
		if round > 0 && sameRevisions(before, now) {
			return NewPolicy(s.decode(now)), nil
		}
		before, least = now, store.Any
	}
}

func (s *Stored) read(ctx context.Context, least uint64) (out [4][]store.Entry, err error) {
	for i, resource := range resources() {
		page, err := s.store.List(ctx, store.Selection{Resource: resource, MinRevision: least})
		if err != nil {
			return out, fmt.Errorf("list %s: %w", resource, err)
		}
		out[i], least = page.Entries, store.Any
	}
	return out, ctx.Err()
}

func sameRevisions(a, b [4][]store.Entry) bool {
	for i := range a {
		if !slices.EqualFunc(a[i], b[i], func(x, y store.Entry) bool { return x.Key == y.Key && x.Revision == y.Revision }) {
			return false
		}
	}
	return true
}

// decode leaves out what cannot be read: it grants nothing, and must not take
// the permissions of all others away.
func (s *Stored) decode(entries [4][]store.Entry) Objects {
	return Objects{
		Roles:               decodeAll[rbacv1.Role](s, ResourceRoles, entries[0]),
		RoleBindings:        decodeAll[rbacv1.RoleBinding](s, ResourceRoleBindings, entries[1]),
		ClusterRoles:        decodeAll[rbacv1.ClusterRole](s, ResourceClusterRoles, entries[2]),
		ClusterRoleBindings: decodeAll[rbacv1.ClusterRoleBinding](s, ResourceClusterRoleBindings, entries[3]),
	}
}

var errOtherName = errors.New("metadata names another object")

func decodeAll[T any, P interface {
	*T
	metav1.Object
}](s *Stored, resource string, entries []store.Entry) []P {
	objects := store.Of[T, P](s.store, resource)
	out := make([]P, 0, len(entries))
	for _, e := range entries {
		obj, err := objects.Decode(e)
		if err == nil && (obj.GetName() != e.Key.Name || obj.GetNamespace() != e.Key.Namespace) {
			err = errOtherName
		}
		if err != nil {
			s.log.Error("a role or binding cannot be read and grants nothing", zap.Stringer("key", e.Key), zap.Error(err))
			continue
		}
		out = append(out, obj)
	}
	return out
}
