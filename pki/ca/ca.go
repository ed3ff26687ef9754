// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Package ca is the hub's certificate authority: a root, a name-constrained
// intermediate and short-lived leaves for agents, users and the hub itself.
//
// It wraps smallstep's authority, embedded as a library. No smallstep type leaves
// this package. Only the hub links it; agents use package identity.
//
// The authority's own renewal checks nothing about the old certificate, so it is
// not used: a renewal is a new signature, and who may have one is the caller's to
// decide (see identity.VerifyRenewal).
package ca

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/drover-io/drover/pki/identity"
)

// Defaults of Config.
const (
	DefaultAgentTTL  = 24 * time.Hour
	DefaultServerTTL = 24 * time.Hour
	DefaultUserTTL   = 90 * 24 * time.Hour
	DefaultGrace     = 7 * 24 * time.Hour
)

const (
	maxBackdate = 5 * time.Minute
	// maxTTL leaves room under an intermediate that is about to be rotated.
	maxTTL = intermediateLife/2 - 7*24*time.Hour
)

// Config says where the CA lives and how long its certificates last.
type Config struct {
	// Dir holds the root and intermediate, keys included. Created if missing.
	Dir string
	// TrustDomain is set once, at the first start; empty means the default, made
	// of the root's key. At later starts it must be empty or the same.
	TrustDomain string
	// KV is the bucket of BucketConfig. It must be on a server that syncs every
	// write: a revocation lost in a power cut would be a way back in.
	KV jetstream.KeyValue
	// AgentTTL, ServerTTL and UserTTL are the lifetimes of leaves in whole seconds, at
	// least one; 0 means the default.
	AgentTTL, ServerTTL, UserTTL time.Duration
	// Grace is how long after its end the caller still lets a certificate be
	// renewed; 0 means the default. Records are kept for that much longer.
	Grace time.Duration
	// Password encrypts the private keys on disk. Empty means plain PKCS#8.
	Password []byte
	// AdvertiseIPs and AdvertiseDNS are further names in the API certificate. A DNS
	// name must be in the trust domain, as the intermediate can sign no other.
	AdvertiseIPs []net.IP
	AdvertiseDNS []string
	// Log may be nil.
	Log *zap.Logger
}

// CA is an open certificate authority. Its methods may be called at the same time.
// Nothing runs until Run; the first server certificates are made by Open.
type CA struct {
	cfg      Config
	log      *zap.Logger
	backdate time.Duration
	files    *material
	roots    []*x509.Certificate
	td       string
	store    *store
	engine   *engine

	// issuer is what signs; a rotation swaps it under live signatures.
	issuer   atomic.Pointer[issuer]
	rotateMu sync.Mutex

	hub, api, signing served
	// crlStale: the stored list may lack a revocation. True after a start, since a
	// crash can come between the two writes.
	crlStale atomic.Bool
}

// Open loads the CA from its directory, or creates it at the first start, and
// issues the hub's own certificates.
func Open(ctx context.Context, cfg Config) (*CA, error) {
	if err := cfg.complete(); err != nil {
		return nil, fmt.Errorf("open ca: %w", err)
	}
	files := &material{dir: cfg.Dir, password: cfg.Password, write: identity.WriteFile, log: cfg.Log}
	loaded, err := files.open(cfg.TrustDomain)
	if err != nil {
		return nil, fmt.Errorf("open ca: %w", err)
	}
	ca := &CA{
		cfg: cfg,
		log: cfg.Log,
		// Shorter for short lives, or renewal at 2/3 of the validity would come
		// after its end. Whole seconds, as certificates have no fractions.
		backdate: min(maxBackdate, min(cfg.AgentTTL, cfg.ServerTTL, cfg.UserTTL)/12).Truncate(time.Second),
		files:    files,
		roots:    loaded.roots,
		td:       loaded.trustDomain,
	}
	ca.issuer.Store(loaded.issuer)
	ca.crlStale.Store(true)
	if err := checkAdvertised(cfg.AdvertiseDNS, ca.td); err != nil {
		return nil, fmt.Errorf("open ca: %w", err)
	}
	if ca.store, err = newStore(ctx, cfg.KV, cfg.Grace); err != nil {
		return nil, fmt.Errorf("open ca: %w", err)
	}
	if ca.engine, err = ca.newEngine(); err != nil {
		return nil, fmt.Errorf("open ca: %w", err)
	}
	ca.rotateIfDue(ctx)
	if err := ca.reissueServers(ctx); err != nil {
		return nil, fmt.Errorf("open ca: %w", err)
	}
	if err := ca.reissueSigner(ctx); err != nil {
		return nil, fmt.Errorf("open ca: %w", err)
	}
	return ca, nil
}

func (cfg *Config) complete() error {
	if cfg.Dir == "" {
		return errors.New("no directory for the keys")
	}
	if cfg.KV == nil {
		return errors.New("no bucket")
	}
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	for _, ttl := range []struct {
		name     string
		value    *time.Duration
		fallback time.Duration
	}{
		{"agent TTL", &cfg.AgentTTL, DefaultAgentTTL},
		{"server TTL", &cfg.ServerTTL, DefaultServerTTL},
		{"user TTL", &cfg.UserTTL, DefaultUserTTL},
	} {
		if *ttl.value == 0 {
			*ttl.value = ttl.fallback
		}
		*ttl.value = ttl.value.Truncate(time.Second)
		if *ttl.value < time.Second || *ttl.value > maxTTL {
			return fmt.Errorf("%s is %s: want 1s to %s", ttl.name, *ttl.value, maxTTL)
		}
	}
	if cfg.Grace == 0 {
		cfg.Grace = DefaultGrace
	}
	if cfg.Grace < 0 {
		return fmt.Errorf("grace is %s: want 0 or more", cfg.Grace)
	}
	if cfg.TrustDomain != "" {
		return identity.ValidTrustDomain(cfg.TrustDomain)
	}
	return nil
}

func checkAdvertised(names []string, td string) error {
	for _, name := range names {
		if name != "localhost" && name != td && !strings.HasSuffix(name, "."+td) {
			return fmt.Errorf("advertised name %q is outside the trust domain %s: give its own certificate for that name, or choose a name in the trust domain", name, td)
		}
	}
	return nil
}

// TrustDomain returns the host part of every identity of this hub.
func (ca *CA) TrustDomain() string { return ca.td }

// Roots returns the trusted roots, the current one first.
func (ca *CA) Roots() []*x509.Certificate { return slices.Clone(ca.roots) }

// RootPool returns the roots as identity.VerifyClient wants them.
func (ca *CA) RootPool() *x509.CertPool {
	pool := x509.NewCertPool()
	for _, root := range ca.roots {
		pool.AddCert(root)
	}
	return pool
}

// RootsPEM returns the trust bundle that agents store.
func (ca *CA) RootsPEM() []byte { return identity.MarshalCerts(ca.roots) }

// Pins returns the fingerprint of each root's key, for join tokens.
func (ca *CA) Pins() []string {
	pins := make([]string, 0, len(ca.roots))
	for _, root := range ca.roots {
		pins = append(pins, identity.CertFingerprint(root))
	}
	return pins
}

// Issuer returns the intermediate that signs now.
func (ca *CA) Issuer() *x509.Certificate { return ca.issuer.Load().cert }

// GetHubCertificate serves the current certificate of the agents' side, for
// tls.Config.GetCertificate.
func (ca *CA) GetHubCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return ca.hub.get()
}

// GetAPICertificate serves the current certificate of the people's side, for
// tls.Config.GetCertificate.
func (ca *CA) GetAPICertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return ca.api.get()
}
