// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package enroll

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"go.uber.org/zap"

	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/pki/identity"
	"github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/shared/wire"
)

// Handler serves the agents' side: join, renew, and the revocation list.
func (e *Enroll) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+wire.PathJoin, e.serve(e.join))
	mux.HandleFunc("GET "+wire.PathJoin+"/{id}", e.serve(e.poll))
	mux.HandleFunc("POST "+wire.PathRenew, e.serve(e.renew))
	mux.HandleFunc("GET "+wire.PathCRL, e.crl)
	return mux
}

type handler func(w http.ResponseWriter, r *http.Request) (status int, body any, err error)

func (e *Enroll) serve(h handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		status, body, err := h(w, r)
		if err != nil {
			status, body = e.answer(w, r, err)
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		if err := json.NewEncoder(w).Encode(body); err != nil {
			e.log.Debug("answer not delivered", zap.String("path", r.URL.Path), zap.Error(err))
		}
	}
}

func (e *Enroll) answer(w http.ResponseWriter, r *http.Request, err error) (int, wire.Refusal) {
	var ref *Refused
	if !errors.As(err, &ref) {
		e.log.Error("request failed", zap.String("path", r.URL.Path), zap.Error(err))
		return http.StatusInternalServerError, wire.Refusal{Reason: wire.ReasonInternal, Message: "internal error; the hub's log has the details"}
	}
	if ref.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(ref.RetryAfter.Seconds()+0.999)))
	}
	return ref.Status, ref.Refusal
}

// join takes a token and a CSR and makes a JoinRequest of them.
func (e *Enroll) join(w http.ResponseWriter, r *http.Request) (int, any, error) {
	fingerprint, err := clientKey(r)
	if err != nil {
		return 0, nil, err
	}
	var body wire.JoinRequest
	if err := decode(w, r, &body); err != nil {
		return 0, nil, err
	}
	if err := checkJoin(&body, fingerprint); err != nil {
		return 0, nil, err
	}
	address := host(r.RemoteAddr)
	if d := e.failures.delay(address, body.ID, time.Now()); d > 0 {
		ref := refuse(http.StatusTooManyRequests, wire.ReasonBusy, "too many failed attempts to join; try again in %s", d.Round(time.Second))
		ref.RetryAfter = d
		return 0, nil, ref
	}
	jr, err := e.request(r, &body, fingerprint)
	if isRefused(err) {
		if errors.Is(err, errWrongSecret) || errors.Is(err, errUnknownToken) {
			e.failures.add(address, body.ID, time.Now())
		}
		e.log.Warn("join refused", zap.String("reason", err.Error()), zap.String("token", body.ID),
			zap.String("cluster", body.Cluster), zap.String("address", address), zap.String("fingerprint", fingerprint))
		e.recordRefusedJoin(r, body.Cluster, body.ID, fingerprint, err)
		return 0, nil, refuse(http.StatusForbidden, wire.ReasonRefused, "join refused: the token is unknown, expired, used up, revoked, or made for another cluster name")
	}
	if err != nil {
		return 0, nil, err
	}
	e.failures.clear(address, body.ID)
	return http.StatusAccepted, e.state(jr), nil
}

// checkJoin refuses what could never be approved, naming the field.
func checkJoin(body *wire.JoinRequest, fingerprint string) error {
	bad := func(format string, args ...any) error {
		return refuse(http.StatusBadRequest, wire.ReasonBadRequest, format, args...)
	}
	if err := identity.ValidName(body.Cluster); err != nil {
		return bad("cluster: %v", err)
	}
	switch {
	case body.ID == "" || body.Secret == "":
		return bad("id, secret: both parts of the token are needed")
	case len(body.ID) > maxTokenID:
		return bad("id: longer than any token's")
	}
	csr, err := identity.ParseRequest([]byte(body.CSR), body.Cluster)
	if err != nil {
		return bad("csr: %v", err)
	}
	if identity.Fingerprint(csr.PublicKey) != fingerprint {
		return bad("csr: its key is not the key of the TLS client certificate")
	}
	if len(body.Labels) > 64 {
		return bad("labels: %d labels, at most 64", len(body.Labels))
	}
	return validLabels(body.Labels, bad)
}

// poll tells the holder of the key how its request stands.
func (e *Enroll) poll(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	fingerprint, err := clientKey(r)
	if err != nil {
		return 0, nil, err
	}
	jr, err := e.requests.Get(r.Context(), "", r.PathValue("id"))
	if errors.Is(err, store.ErrNotFound) || (err == nil && jr.Spec.Fingerprint != fingerprint) {
		return 0, nil, refuse(http.StatusNotFound, wire.ReasonRefused, "no such request")
	}
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, e.state(jr), nil
}

func (e *Enroll) state(jr *fleet.JoinRequest) wire.JoinState {
	s := wire.JoinState{ID: jr.Name, State: wire.JoinPending, Message: jr.Status.Message}
	switch jr.Status.Phase {
	case fleet.PhaseJoined:
		s.State, s.Chain, s.Roots = wire.JoinApproved, jr.Status.Chain, string(e.cfg.CA.RootsPEM())
	case fleet.PhaseDenied, fleet.PhaseExpired:
		s.State = wire.JoinDenied
	default:
		if a := jr.Spec.Approval; a != nil && a.Decision == fleet.Approve {
			s.Message = "approved by " + a.By + ", being signed"
		}
	}
	return s
}

// renew signs a new key for the identity that the client certificate proves.
func (e *Enroll) renew(w http.ResponseWriter, r *http.Request) (int, any, error) {
	if _, err := clientKey(r); err != nil {
		return 0, nil, err
	}
	peer, err := e.VerifyRenewal(r.Context(), r.TLS.PeerCertificates)
	if err != nil {
		e.recordRefusedRenewal(r, peer.Name, err)
		return 0, nil, err
	}
	var body wire.RenewRequest
	if err := decode(w, r, &body); err != nil {
		return 0, nil, err
	}
	if _, err := identity.ParseRequest([]byte(body.CSR), peer.Name); err != nil {
		return 0, nil, refuse(http.StatusBadRequest, wire.ReasonBadRequest, "csr: %v", err)
	}
	issued, err := e.cfg.CA.SignAgent(r.Context(), []byte(body.CSR), peer.Name)
	if err != nil {
		return 0, nil, fmt.Errorf("renew certificate of %s: %w", peer.Name, err)
	}
	_, err = e.identities.UpdateStatus(r.Context(), "", peer.Name, func(rec *fleet.AgentIdentity) error {
		if rec.Status.Serial != peer.Serial {
			return refuse(http.StatusUnauthorized, wire.ReasonSuperseded, "a newer certificate of cluster %s is in use", peer.Name)
		}
		rec.Status.NextSerial = issued.Serial
		rec.Status.Expires = metaTime(issued.NotAfter)
		return nil
	})
	if err != nil {
		e.recordRefusedRenewal(r, peer.Name, err)
		return 0, nil, err
	}
	e.recordRenewed(r.Context(), r, peer.Name, issued.Serial, "certificate renewed")
	e.log.Info("certificate renewed", zap.String("cluster", peer.Name), zap.Time("notAfter", issued.NotAfter))
	return http.StatusOK, wire.JoinState{
		State: wire.JoinApproved, Chain: string(issued.ChainPEM), Roots: string(e.cfg.CA.RootsPEM()),
	}, nil
}

func (e *Enroll) crl(w http.ResponseWriter, r *http.Request) {
	der, err := e.cfg.CA.CRL(r.Context())
	if err != nil {
		e.log.Error("making the revocation list failed", zap.Error(err))
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/pkix-crl")
	if _, err := w.Write(der); err != nil {
		e.log.Debug("revocation list not delivered", zap.Error(err))
	}
}

// clientKey is the fingerprint of the key the client proved by TLS; who it is
// does not matter yet.
func clientKey(r *http.Request) (string, error) {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return "", refuse(http.StatusUnauthorized, string(identity.ReasonNoCertificate), "a TLS client certificate is needed")
	}
	return identity.CertFingerprint(r.TLS.PeerCertificates[0]), nil
}

const bodyTimeout = 30 * time.Second

func decode(w http.ResponseWriter, r *http.Request, into any) error {
	// The server itself has no read timeout: other requests of agents live long.
	if err := http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return refuse(http.StatusRequestEntityTooLarge, wire.ReasonBadRequest, "body: larger than %d bytes", large.Limit)
	}
	if err == nil {
		err = json.Unmarshal(text, into)
	}
	if err != nil {
		return refuse(http.StatusBadRequest, wire.ReasonBadRequest, "body: %v", err)
	}
	return nil
}

func host(address string) string {
	h, _, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	return h
}

func requestName() string {
	b := make([]byte, 5)
	rand.Read(b)
	return "jr-" + hex.EncodeToString(b)
}
