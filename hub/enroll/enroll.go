// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Package enroll decides who is an agent of this hub: join tokens, join
// requests, approval, certificates, renewal and revocation.
//
// A join is three objects. A JoinToken lets an agent ask; the JoinRequest it
// makes waits for a person; the AgentIdentity that approval makes is the record
// every later connection is checked against. Each step is written before it is
// acted on, and acting on it twice gives the same result, so the hub may die
// between any two of them.
package enroll

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/pki/ca"
	"github.com/drover-io/drover/shared/apis/cluster"
	"github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/shared/daemon"
)

// Authority signs for agents; *ca.CA is one.
type Authority interface {
	SignAgent(ctx context.Context, csr []byte, cluster string) (ca.Issued, error)
	Revoke(ctx context.Context, serial string, code int, reason string) error
	Revoked(ctx context.Context, serial string) (bool, error)
	CRL(ctx context.Context) ([]byte, error)
	Roots() []*x509.Certificate
	RootsPEM() []byte
	Pins() []string
	TrustDomain() string
}

// Config is what New needs.
type Config struct {
	Store *store.Store
	CA    Authority
	// URLs are written into new join tokens: where agents reach the hub.
	URLs []string
	// CloseSessions ends every connection of a cluster at once.
	CloseSessions func(cluster, reason string)
	// Grace is how long after its end a certificate can still be renewed; zero
	// means 7 days.
	Grace time.Duration
	// RestoredAt is when the hub was restored from a backup. Until AdoptUntil a
	// certificate that its record does not know, but that was issued before
	// RestoredAt and ends later than all it knows, is taken for one that the lost
	// hub issued after the backup. Zero: never.
	RestoredAt, AdoptUntil time.Time
	// Audit is told who joined, renewed and was revoked; nil: nobody is.
	Audit Auditor
	Log   *zap.Logger
}

// Limits and defaults.
const (
	defaultGrace    = 7 * 24 * time.Hour
	maxPending      = 1000
	pendingLifetime = 24 * time.Hour
	expiryInterval  = 10 * time.Minute
	keepDecided     = 30 * 24 * time.Hour // requests, and tokens after their end
	retryInterval   = 5 * time.Second
	maxTokenID      = 64
	minFingerprint  = 16 // hex digits a person must have compared
	maxBody         = 16 << 10
)

// Enroll is the hub's registrar of agents.
type Enroll struct {
	cfg        Config
	log        *zap.Logger
	tokens     store.Objects[fleet.JoinToken, *fleet.JoinToken]
	requests   store.Objects[fleet.JoinRequest, *fleet.JoinRequest]
	identities store.Objects[fleet.AgentIdentity, *fleet.AgentIdentity]
	clusters   store.Objects[cluster.ManagedCluster, *cluster.ManagedCluster]
	failures   *failures

	// identity is held while an identity is made or removed: an approval writes
	// two objects, and a removal must see both or none.
	identity sync.Mutex
}

// New returns a registrar over an open store.
func New(cfg Config) *Enroll {
	if cfg.Grace == 0 {
		cfg.Grace = defaultGrace
	}
	return &Enroll{
		cfg:        cfg,
		log:        cfg.Log,
		tokens:     store.Of[fleet.JoinToken](cfg.Store, fleet.ResourceJoinTokens),
		requests:   store.Of[fleet.JoinRequest](cfg.Store, fleet.ResourceJoinRequests),
		identities: store.Of[fleet.AgentIdentity](cfg.Store, fleet.ResourceAgentIdentities),
		clusters:   store.Of[cluster.ManagedCluster](cfg.Store, cluster.Resource),
		failures:   newFailures(),
	}
}

// Run acts on decisions until ctx ends: it signs what was approved, bans what
// was revoked, forgets what was removed, and expires what nobody answered.
func (e *Enroll) Run(ctx context.Context) error {
	g := daemon.NewGroup(ctx)
	g.Go("join requests", e.runRequests)
	g.Go("identities", e.runIdentities)
	g.Go("clusters", e.runClusters)
	g.Go("expiry", e.runExpiry)
	return g.Wait()
}

// action does what a change of one object asks for; doing it twice is the same
// as doing it once.
type action func(ctx context.Context, ev store.Event) error

// follow calls act for each object of resource that exists now and for each
// later change, until ctx ends. When it fails for one object the others have
// their turn all the same, and after a while all are looked at anew.
func (e *Enroll) follow(ctx context.Context, resource string, act action) error {
	for ctx.Err() == nil {
		err := e.followOnce(ctx, resource, act)
		if ctx.Err() != nil || errors.Is(err, errLookAgain) {
			continue
		}
		e.log.Warn("following objects failed, starting over", zap.String("resource", resource), zap.Error(err))
		daemon.Sleep(ctx, retryInterval)
	}
	return ctx.Err()
}

var errLookAgain = errors.New("look again")

func (e *Enroll) followOnce(ctx context.Context, resource string, act action) error {
	w, err := e.cfg.Store.Watch(ctx, store.WatchSelection{Resource: resource})
	if err != nil {
		return fmt.Errorf("watch %s: %w", resource, err)
	}
	defer w.Stop()
	next, failed := ctx, false
	for {
		ev, err := w.Next(next)
		switch {
		case err != nil && failed && next.Err() != nil:
			return errLookAgain
		case err != nil:
			return err
		case ev.Type == store.Bookmark:
			continue
		}
		if err := act(ctx, ev); err != nil && ctx.Err() == nil {
			e.log.Warn("acting on an object failed, will try again", zap.String("resource", resource),
				zap.String("name", ev.Entry.Key.Name), zap.Error(err))
			if !failed {
				var cancel context.CancelFunc
				next, cancel = context.WithTimeout(ctx, retryInterval)
				defer cancel()
				failed = true
			}
		}
	}
}
