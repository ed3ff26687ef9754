// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package enroll

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"time"

	"go.uber.org/zap"

	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/pki/identity"
	"github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/shared/wire"
)

// Refused is the answer to a request that is not let in.
type Refused struct {
	Status     int // HTTP status
	Refusal    wire.Refusal
	RetryAfter time.Duration // zero: none
}

func (r *Refused) Error() string { return r.Refusal.Reason + ": " + r.Refusal.Message }

func refuse(status int, reason, format string, args ...any) *Refused {
	return &Refused{Status: status, Refusal: wire.Refusal{Reason: reason, Message: fmt.Sprintf(format, args...)}}
}

// Verify turns the certificates an agent showed, leaf first, into its identity.
// It is the only place where that happens, and it is called for every request
// and again after a socket was registered. The error is a *Refused.
func (e *Enroll) Verify(ctx context.Context, certs []*x509.Certificate) (identity.Peer, error) {
	peer, err := identity.VerifyClient(certs, e.rootPool(), e.cfg.CA.TrustDomain(), time.Now())
	if err != nil {
		return identity.Peer{}, refusePeer(err)
	}
	return peer, e.verifyRecord(ctx, peer)
}

// VerifyRenewal is Verify for a renewal, which may come late by the grace period.
func (e *Enroll) VerifyRenewal(ctx context.Context, certs []*x509.Certificate) (identity.Peer, error) {
	peer, err := identity.VerifyRenewal(certs, e.rootPool(), e.cfg.CA.TrustDomain(), time.Now(), e.cfg.Grace)
	if err != nil {
		return identity.Peer{}, refusePeer(err)
	}
	return peer, e.verifyRecord(ctx, peer)
}

func (e *Enroll) rootPool() *x509.CertPool {
	pool := x509.NewCertPool()
	for _, c := range e.cfg.CA.Roots() {
		pool.AddCert(c)
	}
	return pool
}

func refusePeer(err error) *Refused {
	var ce *identity.ClientError
	if errors.As(err, &ce) {
		return refuse(http.StatusUnauthorized, string(ce.Reason), "%v", err)
	}
	return refuse(http.StatusUnauthorized, string(identity.ReasonUntrusted), "%v", err)
}

// verifyRecord checks a verified certificate against what the hub knows: not
// revoked, the cluster accepted, and the serial the current one or its
// successor. When in doubt it refuses.
func (e *Enroll) verifyRecord(ctx context.Context, peer identity.Peer) error {
	if peer.Kind != identity.KindCluster {
		return refuse(http.StatusUnauthorized, string(identity.ReasonIdentity), "%s %s is not an agent", peer.Kind, peer.Name)
	}
	record, err := e.identities.Get(ctx, "", peer.Name)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return refuse(http.StatusUnauthorized, wire.ReasonRemoved, "cluster %s is not enrolled", peer.Name)
	case err != nil:
		return refuse(http.StatusServiceUnavailable, wire.ReasonInternal, "the hub cannot read its records now")
	case record.Spec.Revoked:
		return refuse(http.StatusUnauthorized, wire.ReasonRevoked, "the identity of cluster %s was revoked", peer.Name)
	}
	revoked, err := e.cfg.CA.Revoked(ctx, peer.Serial)
	switch {
	case err != nil:
		return refuse(http.StatusServiceUnavailable, wire.ReasonInternal, "the hub cannot read its revocations now")
	case revoked && lineage(record, peer.Serial) == notOurs:
		return refuse(http.StatusUnauthorized, wire.ReasonSuperseded, "cluster %s was enrolled anew", peer.Name)
	case revoked:
		return refuse(http.StatusUnauthorized, wire.ReasonRevoked, "this certificate of cluster %s was revoked", peer.Name)
	}
	mc, err := e.clusters.Get(ctx, "", peer.Name)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return refuse(http.StatusUnauthorized, wire.ReasonRemoved, "cluster %s was removed", peer.Name)
	case err != nil:
		return refuse(http.StatusServiceUnavailable, wire.ReasonInternal, "the hub cannot read its records now")
	case !mc.Spec.HubAcceptsClient:
		return refuse(http.StatusForbidden, wire.ReasonNotAccepted, "the hub does not accept cluster %s: spec.hubAcceptsClient is false", peer.Name)
	}
	return e.advance(ctx, record, peer)
}

type line int

const (
	notOurs line = iota
	current
	next
)

func lineage(r *fleet.AgentIdentity, serial string) line {
	switch serial {
	case r.Status.Serial:
		return current
	case r.Status.NextSerial:
		return next
	default:
		return notOurs
	}
}

// advance moves the record on when the successor certificate is seen for the
// first time. Any other serial belongs to a copy of the key, or to the past.
func (e *Enroll) advance(ctx context.Context, record *fleet.AgentIdentity, peer identity.Peer) error {
	switch lineage(record, peer.Serial) {
	case current:
		return nil
	case next:
		_, err := e.identities.UpdateStatus(ctx, "", peer.Name, func(r *fleet.AgentIdentity) error {
			if r.Status.NextSerial == peer.Serial {
				r.Status.Serial, r.Status.NextSerial = peer.Serial, ""
			}
			if r.Status.Serial != peer.Serial {
				return errRefused("superseded")
			}
			return nil
		})
		if err == nil {
			return nil
		}
		if !isRefused(err) {
			return refuse(http.StatusServiceUnavailable, wire.ReasonInternal, "the hub cannot write its records now")
		}
	case notOurs:
		if adopted, err := e.adopt(ctx, peer); adopted || err != nil {
			return err
		}
	}
	e.log.Warn("superseded certificate used: a copied key, or an agent restored from a backup",
		zap.String("cluster", peer.Name), zap.String("serial", peer.Serial))
	return refuse(http.StatusUnauthorized, wire.ReasonSuperseded, "a newer certificate of cluster %s is in use", peer.Name)
}

// adopt makes a certificate current that the lost hub issued after the backup
// from which this one was restored. Of several the youngest wins.
func (e *Enroll) adopt(ctx context.Context, peer identity.Peer) (bool, error) {
	if !time.Now().Before(e.cfg.AdoptUntil) || peer.NotBefore.After(e.cfg.RestoredAt) {
		return false, nil
	}
	former := ""
	_, err := e.identities.UpdateStatus(ctx, "", peer.Name, func(r *fleet.AgentIdentity) error {
		if lineage(r, peer.Serial) == current { // another connection was faster
			return nil
		}
		if r.Spec.Revoked || (r.Status.Expires != nil && !peer.NotAfter.After(r.Status.Expires.Time)) {
			return errRefused("superseded")
		}
		// Nor one from before the present enrolment, which ended all earlier ones.
		if joined, err := identity.ParseCerts([]byte(r.Status.Chain)); err != nil || peer.NotBefore.Before(joined[0].NotBefore) {
			return errRefused("superseded")
		}
		former = r.Status.Serial
		r.Status.Serial, r.Status.NextSerial, r.Status.Expires = peer.Serial, "", metaTime(peer.NotAfter)
		return nil
	})
	switch {
	case isRefused(err):
		return false, nil
	case err != nil:
		return false, refuse(http.StatusServiceUnavailable, wire.ReasonInternal, "the hub cannot write its records now")
	}
	e.log.Warn("adopted a certificate that was issued after the backup",
		zap.String("cluster", peer.Name), zap.String("serial", peer.Serial), zap.String("former", former))
	e.recordRenewed(ctx, nil, peer.Name, peer.Serial, "adopted: issued after the backup from which the hub was restored")
	return true, nil
}
