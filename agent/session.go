// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/drover-io/drover/agent/apply"
	"github.com/drover-io/drover/agent/collect"
	"github.com/drover-io/drover/agent/link"
	"github.com/drover-io/drover/agent/observe"
	"github.com/drover-io/drover/agent/state"
	"github.com/drover-io/drover/shared/daemon"
	"github.com/drover-io/drover/shared/wire"
)

// session is what lives while an agent has one identity.
type session struct {
	agent   *Agent
	dir     *state.Dir
	creds   *credentials
	log     *zap.Logger
	started time.Time

	link     *link.Link
	host     *collect.Host
	reports  *link.Outbox[wire.Report]
	bundles  *fetcher
	contents *gatherer
	// kube, engine and observer are nil for a node agent.
	kube     *collect.Kubernetes
	engine   *apply.Engine
	observer *observe.Observer

	mu      sync.Mutex
	desired wire.Desired
	signed  bool                  // a signed list was taken over once: no other is any more
	last    wire.KubernetesStatus // of the last collection
}

const (
	lookEvery   = time.Minute     // for the desired state, without a hint
	lookAgain   = time.Second     // after a failure, then twice as long each time
	lookForJoin = 5 * time.Second // for a new identity or token, while refused
	askTimeout  = 30 * time.Second
	collectWait = 10 * time.Minute // between collections of unused content
	// lookPause is between two looks that hints cause: one look answers all hints
	// of that time. The first hint after a pause is followed at once.
	lookPause = 200 * time.Millisecond
)

func (s *session) hello() wire.Hello {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return wire.Hello{
		Version: wire.Version, AgentVersion: daemon.Version(), Hostname: host,
		KubernetesVersion: s.last.Version, ClusterUID: s.last.ClusterUID,
	}
}

// runConnected asks for the desired state: when connected, on a hint, and now
// and then. All three are the same question.
func (s *session) runConnected(ctx context.Context) error {
	cleanup := time.Now()
	every, failed := lookEvery, 0
	var looked time.Time // when a look began last
	for {
		t := time.NewTimer(every/2 + rand.N(every))
		select {
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		case <-s.link.Connected():
			s.reports.Wake()
		case <-s.link.Hints():
			if !daemon.Sleep(ctx, time.Until(looked.Add(lookPause))) {
				t.Stop()
				return ctx.Err()
			}
			select {
			case <-s.link.Hints(): // this look answers it
			default:
			}
		case <-t.C:
		}
		t.Stop()
		looked = time.Now()
		switch err := s.look(ctx); {
		case err == nil, errors.Is(err, link.ErrOffline):
			every, failed = lookEvery, 0
		case ctx.Err() == nil:
			// A hub that has just started may not answer yet.
			every = min(lookAgain<<min(failed, 6), lookEvery)
			failed++
			s.log.Warn("asking for the desired state failed, will try again", zap.Duration("in", every), zap.Error(err))
		}
		if time.Since(cleanup) > collectWait && s.engine != nil {
			cleanup = time.Now()
			if _, err := s.dir.CollectContent(s.engine.Digests()); err != nil {
				s.log.Warn("removing unused content failed", zap.Error(err))
			}
		}
	}
}

// content gives the engine what a digest names: from disk, else from the hub.
func (s *session) content(ctx context.Context, digest string) ([]byte, error) {
	data, err := s.dir.Content(digest)
	if !errors.Is(err, fs.ErrNotExist) {
		return data, err
	}
	if data, err = s.contents.get(ctx, digest); err != nil {
		return nil, fmt.Errorf("fetch content %s: %w", digest, err)
	}
	return data, s.dir.PutContent(digest, data)
}

func (s *session) askContent(ctx context.Context, req wire.ContentRequest) ([]byte, error) {
	ask, err := json.Marshal(req)
	if err != nil {
		return nil, err
	}
	limited, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	return s.link.RequestRaw(limited, wire.ServiceContent, ask)
}

func (s *session) report(r wire.Report) { s.reports.Put(r.UID, r) }

// watchIdentity reacts when the hub says that this identity is over. With a
// token at hand the agent joins again; without one it keeps running what runs,
// and keeps saying what is wrong.
func (s *session) watchIdentity(ctx context.Context) error {
	changed, cancel := s.link.Subscribe()
	defer cancel()
	said, expired := "", false // expired: beyond the grace for renewals
	t := time.NewTicker(lookForJoin)
	defer t.Stop()
	for {
		reason := s.link.State().Refused()
		if reason != said && reason != "" {
			s.log.Error("the hub refuses this agent", zap.String("reason", reason), zap.Error(s.link.State().LastError),
				zap.String("hint", hintFor(reason)))
		}
		said = reason
		expired = expired && reason != ""
		// Somebody may have joined by hand, as the hint says.
		if cred, err := s.creds.files.Load(); reason != "" && err == nil && !cred.Leaf().Equal(s.creds.current.Load().Leaf()) {
			return errRejoin
		}
		if (expired || reason == wire.ReasonRemoved) && s.haveToken() {
			if err := s.creds.files.Remove(); err != nil {
				return fmt.Errorf("give up the old identity: %w", err)
			}
			return errRejoin
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		case <-t.C:
		case <-s.creds.over:
			expired = true
		}
	}
}

func (s *session) haveToken() bool {
	if s.agent.cfg.TokenFile == "" {
		return false
	}
	text, err := s.agent.cfg.readToken()
	return err == nil && strings.TrimSpace(text) != ""
}

func hintFor(reason string) string {
	switch reason {
	case wire.ReasonExpired, wire.ReasonRemoved:
		return "join again with a new token: `drover token create` on the hub, `drover-agent join` here"
	case wire.ReasonRevoked:
		return "an operator revoked this agent; talk to the operator before joining again"
	case wire.ReasonSuperseded:
		return "another agent uses this identity: a copied state dir, or one restored from a backup; join again with a new token"
	case wire.ReasonNotAccepted:
		return "the hub does not accept this cluster now; the agent tries again by itself"
	default:
		return "the agent tries again by itself"
	}
}
