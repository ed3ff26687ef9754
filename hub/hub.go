// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Package hub puts the parts of the hub together. It is the only package that
// knows all of them; they meet in the store and know each other through the
// small interfaces that each declares for itself.
package hub

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/drover-io/drover/hub/api"
	"github.com/drover-io/drover/hub/audit"
	"github.com/drover-io/drover/hub/auth"
	"github.com/drover-io/drover/hub/backup"
	"github.com/drover-io/drover/hub/broker"
	"github.com/drover-io/drover/hub/catalog/install"
	"github.com/drover-io/drover/hub/catalog/publish"
	"github.com/drover-io/drover/hub/catalog/render"
	"github.com/drover-io/drover/hub/catalog/revision"
	"github.com/drover-io/drover/hub/content"
	"github.com/drover-io/drover/hub/delivery"
	"github.com/drover-io/drover/hub/enroll"
	"github.com/drover-io/drover/hub/fleet"
	"github.com/drover-io/drover/hub/gateway"
	"github.com/drover-io/drover/hub/gc"
	"github.com/drover-io/drover/hub/live"
	"github.com/drover-io/drover/hub/metrics"
	"github.com/drover-io/drover/hub/placement"
	"github.com/drover-io/drover/hub/registry"
	"github.com/drover-io/drover/hub/replicate"
	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/pki/ca"
	fleetapi "github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/shared/apis/schemas"
	"github.com/drover-io/drover/shared/daemon"
	"github.com/drover-io/drover/shared/durable"
)

// Hub is a hub that is ready to run.
type Hub struct {
	cfg Config
	log *zap.Logger
}

// New checks the configuration. Nothing is opened before Run.
func New(cfg Config) (*Hub, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	return &Hub{cfg: cfg, log: cfg.Log}, nil
}

// parts are opened bottom-up; each needs only those above it in this list.
type parts struct {
	log       *zap.Logger
	listener  net.Listener
	urls      []string
	broker    *broker.Broker
	conn      *nats.Conn
	store     *store.Store
	audit     *audit.Log
	sinks     map[string]audit.Sink
	ca        *ca.CA
	enroll    *enroll.Enroll
	gateway   *gateway.Gateway
	metrics   *metrics.Metrics
	fleet     *fleet.Fleet
	delivery  *delivery.Delivery
	placement *placement.Controller
	replicate *replicate.Controller
	install   *install.Controller
	resolver  *install.Resolver
	content   *content.Store
	history   *revision.History
	publisher *publish.Publisher
	admin     *admin
	roles     *auth.Stored
	people    *principals
	api       *api.API
	gc        *gc.Collector
	live      *live.Live
	overview  http.Handler
}

// Run opens everything, serves until ctx ends, and closes in reverse order.
func (h *Hub) Run(ctx context.Context) (err error) {
	p := &parts{log: h.log}
	// The port comes first: a hub that cannot have it must not touch the data of
	// the one that has.
	if p.listener, err = h.cfg.listen(); err != nil {
		return err
	}
	defer p.listener.Close()
	if err := h.cfg.prepare(); err != nil {
		return err
	}
	if p.urls, err = h.cfg.urls(p.listener.Addr()); err != nil {
		return err
	}
	if p.broker, err = broker.Open(broker.Config{Dir: h.cfg.path("nats"), Log: h.log.Named("broker")}); err != nil {
		return fmt.Errorf("open broker: %w", err)
	}
	defer func() {
		if cerr := p.broker.Close(); cerr != nil {
			h.log.Error("closing the broker failed", zap.Error(cerr))
		}
	}()
	if p.conn, err = p.broker.Connect("controllers"); err != nil {
		return fmt.Errorf("connect to broker: %w", err)
	}
	defer p.conn.Close()
	if err := h.openStores(ctx, p); err != nil {
		return err
	}
	if err := h.build(ctx, p); err != nil {
		return err
	}
	return h.serve(ctx, p)
}

func (h *Hub) openStores(ctx context.Context, p *parts) (err error) {
	js := p.broker.JetStream()
	if p.store, err = store.Open(ctx, js, store.Options{Dir: h.cfg.DataDir, Log: h.log.Named("store")}); err != nil {
		return fmt.Errorf("open store: %w", err)
	}
	if p.audit, p.sinks, err = h.openAudit(ctx, js); err != nil {
		return err
	}
	if _, err := p.broker.EnsureMetricsStream(ctx); err != nil {
		return fmt.Errorf("open stream of samples: %w", err)
	}
	p.content, err = content.Open(ctx, content.Config{
		JetStream: js, Log: h.log.Named("content"),
		InUse: func(ctx context.Context) (map[string]bool, error) { return bundlesInUse(ctx, p) },
	})
	if err != nil {
		return err
	}
	kv, err := js.CreateOrUpdateKeyValue(ctx, ca.BucketConfig())
	if err != nil {
		return fmt.Errorf("open bucket of the CA: %w", err)
	}
	password, err := h.caPassword()
	if err != nil {
		return err
	}
	p.ca, err = ca.Open(ctx, ca.Config{
		Dir: h.cfg.path("pki"), TrustDomain: h.cfg.TrustDomain, KV: kv, AgentTTL: h.cfg.AgentTTL,
		Password: password, AdvertiseIPs: addresses(p.urls), Log: h.log.Named("ca"),
	})
	if err != nil {
		return fmt.Errorf("open CA: %w", err)
	}
	return nil
}

func (h *Hub) caPassword() ([]byte, error) {
	if h.cfg.CAPasswordFile == "" {
		return nil, nil
	}
	text, err := os.ReadFile(h.cfg.CAPasswordFile)
	if err != nil {
		return nil, fmt.Errorf("ca-password-file: %w", err)
	}
	password := bytes.TrimRight(text, "\r\n")
	if len(password) == 0 {
		return nil, fmt.Errorf("ca-password-file %s: empty", h.cfg.CAPasswordFile)
	}
	return password, nil
}

// build makes the parts that hold nothing on disk.
func (h *Hub) build(ctx context.Context, p *parts) (err error) {
	past, err := backup.ReadRestored(h.cfg.DataDir)
	if err != nil {
		return err
	}
	p.enroll = enroll.New(enroll.Config{
		RestoredAt: past.RestoredAt, AdoptUntil: past.AdoptUntil,
		Store: p.store, CA: p.ca, URLs: p.urls, Audit: p.audit, Log: h.log.Named("enroll"),
		CloseSessions: func(cluster, reason string) { p.gateway.CloseSessions(cluster, reason) },
	})
	p.history = revision.NewHistory(p.store)
	p.metrics = metrics.New(p.broker.JetStream(), h.log.Named("metrics"))
	p.delivery = delivery.New(delivery.Config{Store: p.store, Conn: p.conn, Signer: p.ca, Bundles: p.content, Log: h.log.Named("delivery")})
	p.placement = placement.New(placement.Config{Store: p.store, Log: h.log.Named("placement")})
	p.replicate = replicate.New(replicate.Config{
		Store: p.store, Log: h.log.Named("replicate"),
		HasAgent: func(cluster string) bool { return delivery.HasAgent(p.store, cluster) },
	})
	renderer := render.New(render.Limits{}) // one, so that its limits are those of the hub
	p.install, p.resolver = installer(p, renderer, h.log.Named("install"))
	p.admin = &admin{cfg: &h.cfg, ca: p.ca, url: p.urls[0], log: h.log}
	p.roles = auth.NewStored(p.store, h.log.Named("roles"))
	if p.people, err = h.identify(p, past.RestoredAt); err != nil {
		return err
	}
	authz := auth.RBAC{Source: p.roles}
	authn := auth.Impersonation(p.people.credentials, authz)
	p.publisher = newPublisher(p, h.cfg.RegistryCredentials, renderer)
	kinds, err := schemas.Documents()
	if err != nil {
		return err
	}
	p.api, err = api.New(api.Config{
		Store: catalogStore{registry.Store{Store: p.store}, p.publisher}, Kinds: kinds, Hooks: withRegistry(p.roles, p.store, withPermissions(p.roles, withCatalog(p.publisher, p.history, hooks(p)))), Version: daemon.Version(), Log: h.log.Named("api"),
		Virtual: map[schema.GroupVersionResource]api.Provider{
			{Group: fleetapi.Group, Version: fleetapi.Version, Resource: "clustermetrics"}: &metricsProvider{p},
		},
		Authenticator: authn, Authorizer: authz, Sight: authz, Lifecycle: true, Auditor: p.audit,
		UserRate:    api.Rate{PerSecond: cmp.Or(h.cfg.APIRate, DefaultAPIRate), Burst: cmp.Or(h.cfg.APIBurst, DefaultAPIBurst)},
		AddressRate: api.Rate{PerSecond: 10, Burst: 100},
	})
	if err != nil {
		return err
	}
	if err := p.api.Load(ctx); err != nil {
		return err
	}
	p.gc = gc.New(gc.Config{Store: registry.Store{Store: p.store}, Kinds: storedKinds(p.api), Log: h.log.Named("gc")})
	p.live = newLive(p, authn, authz)
	own, err := ownCertificate(h.cfg.TLSCert, h.cfg.TLSKey, h.log)
	if err != nil {
		return err
	}
	p.overview = h.overview(p, authn, authz, own)
	pages, err := h.pages()
	if err != nil {
		return err
	}
	p.gateway, err = gateway.New(gateway.Config{
		Listener: p.listener, TrustDomain: p.ca.TrustDomain(),
		GetHubCertificate: p.ca.GetHubCertificate, GetAPICertificate: p.ca.GetAPICertificate,
		GetPeopleCertificate: own,
		AgentHandler:         agents(p), PeopleHandler: people(ctx, p, pages, authn, authz),
		Verify: verify(p.enroll), Broker: p.broker, Log: h.log.Named("gateway"), Limits: h.cfg.Limits,
	})
	if err != nil {
		return err
	}
	p.fleet = fleet.New(fleet.Config{
		Store: p.store, Conn: p.conn, Presence: presence{p.gateway},
		Grace: h.cfg.LostAfter, SampleEvery: h.cfg.SampleEvery, Log: h.log.Named("fleet"),
	})
	return nil
}

// serve runs all parts until ctx ends. The broker is closed after them, so that
// what they have accepted is stored.
func (h *Hub) serve(ctx context.Context, p *parts) error {
	if err := p.admin.ensure(ctx, time.Now()); err != nil {
		return fmt.Errorf("write admin credential: %w", err)
	}
	g := daemon.NewGroup(ctx)
	g.Go("store", p.store.Run)
	g.Go("audit", p.audit.Run)
	for name, sink := range p.sinks {
		g.Go("audit to "+name, func(ctx context.Context) error { return p.audit.Follow(ctx, name, sink) })
	}
	g.Go("roles", p.roles.Run)
	g.Go("access tokens", p.people.tokens.Run)
	g.Go("sessions", p.people.sessions.Run)
	g.Go("identity providers", p.people.issuers.Run)
	g.Go("api", p.api.Run)
	g.Go("ca", p.ca.Run)
	g.Go("enroll", p.enroll.Run)
	g.Go("fleet", p.fleet.Run)
	g.Go("delivery", p.delivery.Run)
	g.Go("placement", p.placement.Run)
	g.Go("replicate", p.replicate.Run)
	g.Go("install", p.install.Run)
	g.Go("revisions", revision.NewRecorder(p.history, h.log.Named("revisions")).Run)
	g.Go("configurations", validity(p, h.log.Named("configurations")).Run)
	g.Go("gc", p.gc.Run)
	g.Go("content", p.content.Run)
	g.Go("catalog", p.publisher.Run)
	g.Go("metrics", p.metrics.Run)
	g.Go("live", p.live.Run)
	g.Go("admin", p.admin.run)
	g.Go("gateway", p.gateway.Run)
	g.Go("backup", func(ctx context.Context) error { return h.serveBackups(ctx, p) })
	g.Go("url", func(ctx context.Context) error { return h.announce(ctx, p) })
	err := g.Wait()
	h.log.Info("hub stopped", zap.Error(err))
	return err
}

// startup is how long loading and the first agents keep the hub busy.
const startup = 5 * time.Second

// announce says that the hub serves, and takes it back at the end.
func (h *Hub) announce(ctx context.Context, p *parts) error {
	if err := durable.WriteFile(h.cfg.URLFile(), []byte(p.urls[0]+"\n"), 0o644); err != nil {
		return err
	}
	defer os.Remove(h.cfg.URLFile())
	h.log.Info("serving", zap.String("url", p.urls[0]), zap.Stringer("address", p.listener.Addr()),
		zap.String("trustDomain", p.ca.TrustDomain()), zap.String("kubeconfig", h.cfg.AdminKubeconfig()),
		zap.Uint64("revision", p.store.Revision()))
	if err := daemon.Notify(daemon.NotifyReady); err != nil {
		h.log.Warn("telling systemd failed", zap.Error(err))
	}
	if daemon.Sleep(ctx, startup) {
		debug.FreeOSMemory() // loading leaves a third of the heap behind
	}
	<-ctx.Done()
	if err := daemon.Notify(daemon.NotifyStopping); err != nil {
		h.log.Debug("telling systemd failed", zap.Error(err))
	}
	return ctx.Err()
}

// verify adapts the registrar's check to the gateway.
func verify(e *enroll.Enroll) gateway.Verify {
	return func(ctx context.Context, r *http.Request) (gateway.Peer, error) {
		peer, err := e.Verify(ctx, r.TLS.PeerCertificates)
		var refused *enroll.Refused
		if errors.As(err, &refused) {
			return gateway.Peer{}, &gateway.RefusalError{
				Status: refused.Status, Refusal: refused.Refusal, RetryAfter: refused.RetryAfter,
			}
		}
		return gateway.Peer{Cluster: peer.Name, Serial: peer.Serial, NotAfter: peer.NotAfter}, err
	}
}

// presence adapts the gateway's sessions to the fleet.
type presence struct{ gateway *gateway.Gateway }

func (p presence) Sessions() []fleet.Session {
	live := p.gateway.Sessions()
	out := make([]fleet.Session, len(live))
	for i, s := range live {
		out[i] = fleet.Session{Cluster: s.Cluster, Epoch: s.Epoch, Address: s.RemoteAddr, Since: s.Since}
	}
	return out
}

func (p presence) Subscribe() (<-chan struct{}, func()) { return p.gateway.Subscribe() }

// storedKinds tells the collector which kinds of objects there are.
func storedKinds(a *api.API) func() []gc.Kind {
	return func() []gc.Kind {
		var out []gc.Kind
		for _, k := range a.Stored() {
			out = append(out, gc.Kind{GroupKind: k.GVK.GroupKind(), Resource: k.StoreResource(), Namespaced: k.Namespaced})
		}
		return out
	}
}
