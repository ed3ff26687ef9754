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

	current atomic.Pointer[identity.Credential]
}

func openCredentials(cfg Config, h home, log *zap.Logger) (*credentials, error) {
	c := &credentials{files: identity.NewFiles(cfg.identityDir()), home: h, log: log, renewed: func() {}}
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
	// new one counts from its arrival, whatever the hub's clock says.
	leaf := c.current.Load().Leaf()
	due := time.Until(leaf.NotBefore.Add(identity.RenewAt(leaf.NotBefore, leaf.NotAfter, rand.Float64())))
	for {
		if !daemon.Sleep(ctx, due) {
			return ctx.Err()
		}
		pause := renewRetryFirst
		for {
			err := c.renew(ctx)
			if err == nil {
				break
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
			c.log.Warn("renewing the certificate failed, will try again", zap.Duration("in", pause), zap.Error(err))
			if !daemon.Sleep(ctx, pause/2+rand.N(pause)) {
				return ctx.Err()
			}
			left := time.Until(leaf.NotAfter) / 8
			pause = min(2*pause, renewRetryLast, max(left, renewRetryFirst))
		}
		c.renewed()
		leaf = c.current.Load().Leaf()
		due = identity.RenewAt(time.Now(), leaf.NotAfter, rand.Float64())
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
		urls: c.home.URLs, cert: old.TLSCertificate(),
		trust: identity.Trust{TrustDomain: c.home.TrustDomain, Roots: old.Roots},
	}
	var state wire.JoinState
	if err := client.do(ctx, http.MethodPost, wire.PathRenew, wire.RenewRequest{CSR: string(csr)}, &state); err != nil {
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
