// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package ca

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

const (
	// longestWait bounds the sleep of Run, for machines that were suspended.
	longestWait = time.Hour
	retryWait   = 30 * time.Second
)

// served is a certificate that the TLS listener reads and Run replaces.
type served struct {
	cert atomic.Pointer[tls.Certificate]
	due  atomic.Pointer[time.Time] // with a monotonic reading
}

func (s *served) get() (*tls.Certificate, error) {
	if cert := s.cert.Load(); cert != nil {
		return cert, nil
	}
	return nil, errors.New("no server certificate yet")
}

func (s *served) set(cert *tls.Certificate, due time.Time) {
	s.cert.Store(cert)
	s.due.Store(&due)
}

func (s *served) isDue() bool {
	due := s.due.Load()
	return due == nil || !time.Now().Before(*due)
}

// Run keeps the hub's own certificates, the revocation list and the intermediate
// fresh until ctx ends. A failure is logged and tried again; what is served stays.
func (ca *CA) Run(ctx context.Context) error {
	for {
		timer := time.NewTimer(ca.maintain(ctx))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
	}
}

// maintain does what is due and returns how long to wait until the next thing is.
func (ca *CA) maintain(ctx context.Context) time.Duration {
	wait := min(longestWait, ca.cfg.ServerTTL/4)
	retry := min(retryWait, ca.cfg.ServerTTL/8)
	ca.rotateIfDue(ctx)
	if ca.hub.isDue() || ca.api.isDue() {
		if err := ca.reissueServers(ctx); err != nil {
			if ctx.Err() == nil {
				ca.log.Error("cannot renew the hub's certificates", zap.Error(err))
			}
			wait = retry
		} else {
			ca.log.Info("hub certificates renewed", zap.Time("not_after", ca.hub.cert.Load().Leaf.NotAfter))
		}
	}
	if ca.signing.isDue() {
		if err := ca.reissueSigner(ctx); err != nil {
			if ctx.Err() == nil {
				ca.log.Error("cannot renew the signer of desired states", zap.Error(err))
			}
			wait = min(wait, retry)
		}
	}
	if err := ca.refreshCRL(ctx); err != nil {
		if ctx.Err() == nil {
			ca.log.Error("cannot renew the revocation list", zap.Error(err))
		}
		wait = min(wait, retry)
	}
	return wait
}

// reissueServers makes and serves both server certificates. They are due again at
// half of their life, so that a failure has the other half to be seen and mended.
func (ca *CA) reissueServers(ctx context.Context) error {
	due := time.Now().Add(ca.cfg.ServerTTL / 2)
	hub, err := ca.HubCertificate(ctx)
	if err != nil {
		return err
	}
	api, err := ca.APICertificate(ctx)
	if err != nil {
		return err
	}
	ca.hub.set(hub, due)
	ca.api.set(api, due)
	return nil
}

// rotateIfDue replaces the intermediate in the second half of its life. Without
// the root key it cannot, and says so at every start and every hour: signing goes
// on until leaves would outlive the intermediate.
func (ca *CA) rotateIfDue(ctx context.Context) {
	cert := ca.Issuer()
	if time.Now().Before(cert.NotBefore.Add(cert.NotAfter.Sub(cert.NotBefore) / 2)) {
		return
	}
	if err := ca.RotateIntermediate(ctx); err != nil {
		ca.log.Warn("cannot rotate the intermediate", zap.Time("not_after", cert.NotAfter), zap.Error(err))
	}
}

// RotateIntermediate makes a new intermediate, signed by the root, and signs with
// it from now on. Leaves of the old one stay good: they carry their own chain. It
// needs the root key in the directory.
func (ca *CA) RotateIntermediate(ctx context.Context) error {
	ca.rotateMu.Lock()
	defer ca.rotateMu.Unlock()
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("rotate intermediate: %w", err)
	}
	next, err := ca.files.rotate(ca.roots, ca.td)
	if err != nil {
		return fmt.Errorf("rotate intermediate: %w", err)
	}
	ca.issuer.Store(next)
	ca.log.Info("intermediate rotated", zap.Time("not_after", next.cert.NotAfter))
	return nil
}
