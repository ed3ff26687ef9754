// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"cmp"
	"crypto/tls"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"go.uber.org/zap"

	"github.com/drover-io/drover/shared/wire"
)

// tlsConfig chooses by server name. The agents' side speaks only HTTP/1.1, which
// the websocket needs, and resumes no sessions, because a resumed one would skip
// the check of the certificate. A certificate is requested, never verified by
// TLS: a joining agent's is self-signed and a renewing one's may have expired, so
// one function judges them all, per request. Browsers are not asked for one,
// because they would ask their user.
func (g *Gateway) tlsConfig() *tls.Config {
	agents := &tls.Config{
		MinVersion:             tls.VersionTLS13,
		NextProtos:             []string{"http/1.1"},
		ClientAuth:             tls.RequestClientCert,
		SessionTicketsDisabled: true,
		GetCertificate:         g.cfg.GetHubCertificate,
	}
	tools := &tls.Config{
		MinVersion:             tls.VersionTLS13,
		NextProtos:             []string{"h2", "http/1.1"},
		ClientAuth:             tls.RequestClientCert,
		SessionTicketsDisabled: true,
		GetCertificate:         g.cfg.GetAPICertificate,
	}
	people := &tls.Config{
		MinVersion:     tls.VersionTLS13,
		NextProtos:     []string{"h2", "http/1.1"},
		GetCertificate: g.cfg.GetPeopleCertificate,
	}
	if people.GetCertificate == nil {
		people.GetCertificate = g.cfg.GetAPICertificate
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			if conn, ok := hello.Conn.(*handshakeConn); ok && conn.hs != nil {
				if err := conn.hs.hello(); err != nil {
					return nil, err
				}
			}
			switch serverName(hello.ServerName) {
			case "hub." + g.cfg.TrustDomain:
				return agents, nil
			case "api." + g.cfg.TrustDomain:
				return tools, nil
			default:
				return people, nil
			}
		},
	}
}

func serverName(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

// ServeHTTP answers one request. A panic ends that request only, and is logged.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		if p != http.ErrAbortHandler {
			g.log.Error("request handler panicked", zap.String("method", r.Method), zap.String("path", r.URL.Path),
				zap.Any("panic", p), zap.Stack("stack"))
		}
		panic(http.ErrAbortHandler) // net/http closes the connection
	}()
	g.route(w, r)
}

// route keeps the two sides apart by what TLS agreed on; a Host header has no say.
func (g *Gateway) route(w http.ResponseWriter, r *http.Request) {
	agents := r.TLS != nil && serverName(r.TLS.ServerName) == "hub."+g.cfg.TrustDomain
	switch {
	case agents && r.URL.Path == wire.PathAgent:
		g.serveAgent(w, r)
	case agents && g.cfg.AgentHandler != nil && strings.HasPrefix(r.URL.Path, "/v1/"):
		g.cfg.AgentHandler.ServeHTTP(w, r)
	case agents:
		g.refuse(w, &RefusalError{Status: http.StatusNotFound, Refusal: wire.Refusal{
			Reason:  wire.ReasonBadRequest,
			Message: "no such path for agents; people use another server name than hub." + g.cfg.TrustDomain,
		}})
	case agentPath(r.URL.Path):
		g.refuse(w, &RefusalError{Status: http.StatusMisdirectedRequest, Refusal: wire.Refusal{
			Reason:  wire.ReasonBadRequest,
			Message: "agents use the TLS server name hub." + g.cfg.TrustDomain,
		}})
	case g.cfg.PeopleHandler != nil:
		g.cfg.PeopleHandler.ServeHTTP(w, r)
	default:
		http.NotFound(w, r)
	}
}

func agentPath(path string) bool {
	switch path {
	case wire.PathAgent, wire.PathJoin, wire.PathRenew, wire.PathCRL:
		return true
	}
	return strings.HasPrefix(path, wire.PathJoin+"/")
}

// refuse answers with err, counted by reason. The cause of an internal error goes
// to the log only.
func (g *Gateway) refuse(w http.ResponseWriter, err error) {
	var refusal *RefusalError
	if !errors.As(err, &refusal) {
		g.log.Error("agent request failed", zap.Error(err))
		refusal = &RefusalError{
			Status:  http.StatusInternalServerError,
			Refusal: wire.Refusal{Reason: wire.ReasonInternal, Message: "internal error, see the hub's log"},
		}
	}
	g.counters.refused(refusal.Refusal.Reason)
	body, err := json.Marshal(refusal.Refusal)
	if err != nil {
		body = []byte(`{"reason":"internal"}`)
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	if refusal.RetryAfter > 0 {
		h.Set("Retry-After", retryAfter(refusal.RetryAfter))
	}
	w.WriteHeader(cmp.Or(refusal.Status, http.StatusUnauthorized))
	w.Write(body) //nolint:errcheck // the client may be gone
}
