// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/drover-io/drover/pki/identity"
	"github.com/drover-io/drover/shared/daemon"
	"github.com/drover-io/drover/shared/wire"
)

// credentials holds the agent's current credential and keeps it fresh.
type credentials struct {
	files   *identity.Files
	home    home
	log     *zap.Logger
	renewed func() // called after a new credential is in use
	// over has a value when the hub refused even a renewal: the grace is over.
	over chan struct{}
	hub  int // which of the hub's addresses is next; used by run alone

	current atomic.Pointer[identity.Credential]
}

func openCredentials(cfg Config, h home, log *zap.Logger) (*credentials, error) {
	c := &credentials{files: identity.NewFiles(cfg.identityDir()), home: h, log: log, renewed: func() {}, over: make(chan struct{}, 1)}
	cred, err := c.files.Load()
	if err != nil {
		return nil, err
	}
	c.current.Store(cred)
	return c, nil
}

// tls is the client configuration of the next dial.
func (c *credentials) tls() *tls.Config {
	cred := c.current.Load()
	return identity.ClientTLS(identity.ClientOptions{
		Trust:       identity.Trust{TrustDomain: c.home.TrustDomain, Roots: cred.Roots},
		Certificate: func() (*tls.Certificate, error) { return cred.TLSCertificate(), nil },
	})
}

const (
	renewRetryFirst = 2 * time.Second
	renewRetryLast  = 10 * time.Minute
)

// run renews at about 2/3 of each certificate's life, until ctx ends. A failed
// renewal is tried again, more often the nearer the end is; the hub takes an
// expired certificate for a grace period.
func (c *credentials) run(ctx context.Context) error {
	// At the start only the certificate tells how much of its life is over; a
	// new one counts from its arrival, whatever this machine's clock says.
	leaf := c.current.Load().Leaf()
	due := time.Until(leaf.NotBefore.Add(identity.RenewAt(leaf.NotBefore, leaf.NotAfter, rand.Float64())))
	for {
		if !daemon.Sleep(ctx, due) {
			return ctx.Err()
		}
		if err := c.renewUntilDone(ctx, leaf.NotAfter); err != nil {
			return err
		}
		c.renewed()
		leaf = c.current.Load().Leaf()
		due = identity.RenewAt(leaf.NotBefore, leaf.NotAfter, rand.Float64())
	}
}

func (c *credentials) renewUntilDone(ctx context.Context, end time.Time) error {
	pause := renewRetryFirst
	for {
		err := c.renew(ctx)
		if err == nil || ctx.Err() != nil {
			return ctx.Err()
		}
		var refused *refusedError
		if errors.As(err, &refused) && refused.refusal.Reason == wire.ReasonExpired {
			select {
			case c.over <- struct{}{}:
			default:
			}
		}
		c.log.Warn("renewing the certificate failed, will try again", zap.Duration("in", pause), zap.Error(err))
		if !daemon.Sleep(ctx, pause/2+rand.N(pause)) {
			return ctx.Err()
		}
		pause = nextPause(pause, time.Until(end), refused != nil)
	}
}

// nextPause is how long to wait after a failed renewal, when the last wait was
// pause and the certificate has left to live: ever longer, but shorter near the
// end. Beyond the end a hub that is away may be back within the grace period,
// while one that refuses will hardly change its mind. Pure.
func nextPause(pause, left time.Duration, refused bool) time.Duration {
	pause = min(2*pause, renewRetryLast)
	switch {
	case left > 0:
		return min(pause, max(left/8, renewRetryFirst))
	case refused:
		return pause
	default:
		return min(pause, time.Minute)
	}
}

func (c *credentials) renew(ctx context.Context) error {
	old := c.current.Load()
	key, err := c.files.PendingKey()
	if err != nil {
		return fmt.Errorf("make a key: %w", err)
	}
	csr, err := identity.NewRequest(key, c.home.Cluster)
	if err != nil {
		return err
	}
	client := &hubClient{
		urls: c.home.URLs, next: c.hub, cert: old.TLSCertificate(),
		trust: identity.Trust{TrustDomain: c.home.TrustDomain, Roots: old.Roots},
	}
	var state wire.JoinState
	err = client.do(ctx, http.MethodPost, wire.PathRenew, wire.RenewRequest{CSR: string(csr)}, &state)
	c.hub = client.next
	if err != nil {
		return err
	}
	if state.Chain == "" {
		return errors.New("the hub's answer has no certificate")
	}
	cred, err := c.files.Install([]byte(state.Chain), []byte(state.Roots))
	if err != nil {
		return fmt.Errorf("store the certificate: %w", err)
	}
	c.current.Store(cred)
	c.log.Info("certificate renewed", zap.Time("notAfter", cred.Leaf().NotAfter))
	return nil
}
