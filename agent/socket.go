// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"time"

	"go.uber.org/zap"

	"github.com/drover-io/drover/pki/identity"
	"github.com/drover-io/drover/shared/daemon"
	"github.com/drover-io/drover/shared/wire"
)

// Status is what a running agent says of itself.
type Status struct {
	Cluster string   `json:"cluster"`
	Version string   `json:"version"`
	Hub     []string `json:"hub"`
	// Fingerprint is of the key in use.
	Fingerprint    string     `json:"fingerprint"`
	Connected      bool       `json:"connected"`
	Since          time.Time  `json:"since"`
	LastError      string     `json:"lastError,omitempty"`
	Refused        string     `json:"refused,omitempty"` // the hub's reason
	Hint           string     `json:"hint,omitempty"`
	NextAttempt    *time.Time `json:"nextAttempt,omitempty"`
	CertificateEnd time.Time  `json:"certificateNotAfter"`
	Generation     uint64     `json:"generation"` // of the desired state held
	Works          []Work     `json:"works"`
	Queue          int        `json:"queue"` // reports the hub has not acknowledged
	StartedAt      time.Time  `json:"startedAt"`
	Kubernetes     string     `json:"kubernetes,omitempty"` // version; empty for a node agent
}

// Work is one item and how far it is.
type Work struct {
	Name    string `json:"name"`
	Digest  string `json:"digest"` // applied
	Objects int    `json:"objects"`
	Applied int    `json:"applied"`
	Healthy int    `json:"healthy"`
	Error   string `json:"error,omitempty"`
}

func hostFacts() wire.JoinFacts {
	host, err := os.Hostname()
	if err != nil {
		host = ""
	}
	return wire.JoinFacts{Hostname: host, AgentVersion: daemon.Version()}
}

func (s *session) status() Status {
	st := s.link.State()
	cred := s.creds.current.Load()
	s.mu.Lock()
	out := Status{
		Cluster: s.creds.home.Cluster, Version: daemon.Version(), Hub: s.creds.home.URLs,
		Fingerprint: identity.CertFingerprint(cred.Leaf()),
		Connected:   st.Connected, Since: st.Since, Refused: st.Refused(),
		CertificateEnd: cred.Leaf().NotAfter, Generation: s.desired.Generation,
		Queue: s.reports.Len(), StartedAt: s.started, Kubernetes: s.last.Version, Works: []Work{},
	}
	s.mu.Unlock()
	if st.LastError != nil {
		out.LastError = st.LastError.Error()
	}
	if out.Refused != "" {
		out.Hint = hintFor(out.Refused)
	}
	if !st.NextAttempt.IsZero() {
		out.NextAttempt = &st.NextAttempt
	}
	if s.engine == nil {
		return out
	}
	for _, r := range s.engine.Reports() {
		w := Work{Name: r.Name, Digest: r.Digest, Objects: len(r.Manifests), Error: r.Error}
		for _, m := range r.Manifests {
			if m.Applied {
				w.Applied++
			}
			if m.Health == wire.HealthCurrent {
				w.Healthy++
			}
		}
		out.Works = append(out.Works, w)
	}
	return out
}

// serveSocket answers `drover-agent status`. Only the owner of the state dir
// can reach the socket.
func (s *session) serveSocket(ctx context.Context) error {
	path := s.agent.cfg.socket()
	// A socket file of a former process is in the way; the lock on the state
	// dir says that the process is gone.
	err := os.Remove(path)
	var l net.Listener
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		l, err = net.Listen("unix", path)
	}
	if err != nil {
		// The path may be longer than a socket's can be. The agent's work does not
		// depend on it.
		s.log.Warn("no status socket: `drover-agent status` will not work", zap.Error(err))
		<-ctx.Done()
		return ctx.Err()
	}
	srv := &http.Server{ReadHeaderTimeout: 5 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(s.status()) //nolint:errcheck // the asker has gone
	})}
	stop := context.AfterFunc(ctx, func() { srv.Close() })
	defer stop()
	err = srv.Serve(l)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// AskStatus asks the agent that runs with the state dir.
func AskStatus(ctx context.Context, cfg Config) (Status, error) {
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", cfg.socket())
		},
	}}
	defer client.CloseIdleConnections()
	var st Status
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://agent/status", nil)
	if err != nil {
		return st, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return st, daemon.Hint(fmt.Errorf("no agent runs with state dir %s", cfg.StateDir),
			"start it with `drover-agent run`, name another --state-dir, or use the user it runs as")
	}
	defer resp.Body.Close()
	return st, json.NewDecoder(resp.Body).Decode(&st)
}
