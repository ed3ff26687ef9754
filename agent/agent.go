// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"go.uber.org/zap"
	"k8s.io/client-go/rest"

	"github.com/drover-io/drover/agent/collect"
	"github.com/drover-io/drover/agent/link"
	"github.com/drover-io/drover/agent/state"
	"github.com/drover-io/drover/pki/identity"
	"github.com/drover-io/drover/shared/daemon"
	"github.com/drover-io/drover/shared/wire"
)

// Agent is the daemon.
type Agent struct {
	cfg  Config
	log  *zap.Logger
	kube *rest.Config // nil for a node agent
}

// New checks what can be checked without a hub. An API server that is down is
// not an error; a kubeconfig that cannot be read is.
func New(cfg Config) (*Agent, error) {
	if err := cfg.prepare(); err != nil {
		return nil, err
	}
	kube, err := cfg.kubernetes()
	if err != nil {
		return nil, err
	}
	return &Agent{cfg: cfg, log: cfg.Log, kube: kube}, nil
}

// errRejoin ends a session of the daemon whose identity the hub has dropped,
// when a token is there to get a new one.
var errRejoin = errors.New("join again")

// Run works until ctx ends. Without an identity it joins by itself when a token
// file is configured.
func (a *Agent) Run(ctx context.Context) error {
	dir, err := state.Open(a.cfg.StateDir, a.log)
	if errors.Is(err, state.ErrInUse) {
		return daemon.Hint(err, "stop the other agent first, or choose another --state-dir")
	}
	if err != nil {
		return err
	}
	defer dir.Close()
	if a.kube == nil {
		a.log.Info("no kubeconfig and not inside a cluster: running as a node agent, with host metrics only")
	}
	for {
		creds, err := a.identity(ctx)
		if err != nil {
			return err
		}
		if err := a.serve(ctx, dir, creds); !errors.Is(err, errRejoin) {
			return err
		}
	}
}

// identity returns the credential on disk, or joins to get one.
func (a *Agent) identity(ctx context.Context) (*credentials, error) {
	for {
		h, err := a.cfg.loadHome()
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		creds, err := openCredentials(a.cfg, h, a.log)
		if err == nil && h.Cluster != "" {
			return creds, nil
		}
		if err != nil && !errors.Is(err, identity.ErrNoCredential) {
			return nil, err
		}
		if a.cfg.TokenFile == "" {
			return nil, daemon.Hint(fmt.Errorf("state dir %s: this agent has not joined a hub", a.cfg.StateDir),
				"create a token on the hub with `drover token create`, then run: drover-agent join --token-file FILE --state-dir %s", a.cfg.StateDir)
		}
		if err := a.joinByItself(ctx); err != nil {
			return nil, err
		}
	}
}

const rejoinPause = 30 * time.Second

// joinByItself tries until it has joined: a token that is wrong today may be
// replaced in its file tomorrow.
func (a *Agent) joinByItself(ctx context.Context) error {
	for {
		err := func() error {
			text, err := a.cfg.readToken()
			if err != nil {
				return err
			}
			return Join(ctx, a.cfg, JoinOptions{Token: text, Wait: true, Progress: a.progress})
		}()
		if err == nil {
			return a.spendToken()
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		a.log.Error("joining failed, will look at the token file again", zap.Duration("in", rejoinPause), zap.Error(err))
		if !daemon.Sleep(ctx, rejoinPause) {
			return ctx.Err()
		}
	}
}

// spendToken empties the token file where that is possible: a mounted Secret is
// read-only, and stays.
func (a *Agent) spendToken() error {
	if err := os.Truncate(a.cfg.TokenFile, 0); err != nil {
		a.log.Info("the token file stays; the token in it is used up or will expire", zap.Error(err))
	}
	return nil
}

func (a *Agent) progress(format string, args ...any) { a.log.Info(fmt.Sprintf(format, args...)) }

// serve runs a joined agent: the connection and all that hangs on it.
func (a *Agent) serve(ctx context.Context, dir *state.Dir, creds *credentials) error {
	s := &session{agent: a, dir: dir, creds: creds, log: a.log, started: time.Now()}
	var err error
	s.link, err = link.New(link.Config{
		URLs: creds.home.URLs, Cluster: creds.home.Cluster, TrustDomain: creds.home.TrustDomain,
		TLS: creds.tls, Hello: s.hello, Serve: s.services(), Log: a.log, Pace: a.cfg.Pace,
	})
	if err != nil {
		return err
	}
	creds.renewed = s.link.Reconnect
	s.host = collect.NewHost(a.cfg.StateDir)
	s.reports = link.NewOutbox(link.OutboxConfig[wire.Report]{SendMany: s.sendReports, Max: wire.MaxReports, Log: a.log})
	s.contents = newGatherer(s.askContent, func() bool { return s.link.State().Version >= 2 })
	s.bundles = &fetcher{dir: dir, urls: creds.home.URLs, tls: creds.tls, log: a.log}
	if a.kube != nil {
		if s.kube, err = collect.NewKubernetes(a.kube); err != nil {
			return err
		}
		if err = s.newEngine(); err != nil {
			return err
		}
		s.kube.Attribute(s.engine.WorkOf)
	}
	if err := s.loadDesired(); err != nil {
		return err
	}
	a.log.Info("agent starts", zap.String("cluster", creds.home.Cluster), zap.Strings("hub", creds.home.URLs),
		zap.Time("certificateNotAfter", creds.current.Load().Leaf().NotAfter))
	g := daemon.NewGroup(ctx)
	g.Go("link", s.link.Run)
	g.Go("renewal", creds.run)
	g.Go("reports", s.reports.Run)
	g.Go("samples", s.runSamples)
	g.Go("socket", s.serveSocket)
	g.Go("identity", s.watchIdentity)
	g.Go("connected", s.runConnected)
	if s.engine != nil {
		s.engine.Sync(s.desired.Items)
		g.Go("apply", func(ctx context.Context) error {
			if err := s.engine.Run(ctx); err != nil {
				return err
			}
			return ctx.Err()
		})
		g.Go("observe", func(ctx context.Context) error {
			if err := s.observer.Run(ctx); err != nil {
				return err
			}
			return ctx.Err()
		})
	}
	if err := daemon.Notify(daemon.NotifyReady); err != nil {
		a.log.Warn("telling systemd failed", zap.Error(err))
	}
	return g.Wait()
}
