// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/drover-io/drover/pki/identity"
	"github.com/drover-io/drover/pki/jointoken"
	"github.com/drover-io/drover/shared/daemon"
	"github.com/drover-io/drover/shared/durable"
	"github.com/drover-io/drover/shared/wire"
)

// home is what an agent remembers of its hub beside its credential.
type home struct {
	URLs        []string `json:"urls"`
	TrustDomain string   `json:"trustDomain"`
	Cluster     string   `json:"cluster"`
}

func (c Config) homeFile() string { return filepath.Join(c.identityDir(), "hub.json") }

func (c Config) saveHome(h home) error {
	data, err := json.MarshalIndent(h, "", "  ")
	if err != nil {
		return err
	}
	return durable.WriteFile(c.homeFile(), append(data, '\n'), 0o600)
}

func (c Config) loadHome() (home, error) {
	var h home
	data, err := os.ReadFile(c.homeFile())
	if err != nil {
		return h, err
	}
	if err := json.Unmarshal(data, &h); err != nil {
		return h, daemon.Hint(fmt.Errorf("%s: %w", c.homeFile(), err), "join again with a new token")
	}
	return h, nil
}

// JoinOptions are what the command asks for beyond Config.
type JoinOptions struct {
	// Token is the text of the join token.
	Token string
	// Wait for the decision; otherwise return once the hub holds the request.
	Wait bool
	// Progress is told what a person should know, a line at a time.
	Progress func(format string, args ...any)
}

const (
	joinTimeout  = 60 * time.Second // of one request
	pollFirst    = time.Second
	pollLast     = 10 * time.Second
	joinAttempts = 5 // in a row, before an unreachable hub ends the command
)

// Join enrols this agent: it makes a key, shows its fingerprint, asks the hub
// and waits for the approval. Interrupted, it can be called again with the same
// token and goes on where it was.
func Join(ctx context.Context, cfg Config, opts JoinOptions) error {
	token, err := jointoken.Parse(opts.Token)
	if err != nil {
		return daemon.Hint(err, "copy the whole line that `drover token create` printed")
	}
	name, err := cfg.clusterName(token.Cluster)
	if err != nil {
		return err
	}
	if err := cfg.prepare(); err != nil {
		return err
	}
	files := identity.NewFiles(cfg.identityDir())
	key, err := files.PendingKey()
	if err != nil {
		return fmt.Errorf("make a key: %w", err)
	}
	carrier, err := identity.Carrier(key)
	if err != nil {
		return err
	}
	csr, err := identity.NewRequest(key, name)
	if err != nil {
		return err
	}
	opts.Progress("cluster:     %s", name)
	opts.Progress("fingerprint: %s", identity.Fingerprint(key.Public()))
	c := &hubClient{urls: token.URLs, trust: identity.Trust{TrustDomain: token.TrustDomain, Pins: token.Pins}, cert: carrier}
	request := wire.JoinRequest{
		ID: token.ID, Secret: token.Secret, Cluster: name, CSR: string(csr), Labels: cfg.Labels, Facts: cfg.facts(ctx),
	}
	var state wire.JoinState
	if err := c.retry(ctx, cfg.Log, func() error { return c.do(ctx, http.MethodPost, wire.PathJoin, request, &state) }); err != nil {
		return joinError(err)
	}
	switch {
	case state.State == wire.JoinPending && state.Message != "":
		opts.Progress("request:     %s is %s", state.ID, state.Message)
	case state.State == wire.JoinPending:
		opts.Progress("request:     %s is stored on the hub and waits for an operator:", state.ID)
		opts.Progress("             drover approve %s --fingerprint %s", state.ID, identity.Fingerprint(key.Public())[:16])
	}
	if !opts.Wait && state.State == wire.JoinPending {
		return &daemon.Error{
			Err: errors.New("not approved yet"), Code: daemon.ExitWaiting,
			Hint: "run the same command again after the approval",
		}
	}
	if state, err = c.await(ctx, cfg.Log, state); err != nil {
		return err
	}
	if err := cfg.saveHome(home{URLs: token.URLs, TrustDomain: token.TrustDomain, Cluster: name}); err != nil {
		return err
	}
	cred, err := files.Install([]byte(state.Chain), []byte(state.Roots))
	if err != nil {
		return fmt.Errorf("store the certificate: %w", err)
	}
	opts.Progress("joined:      certificate valid until %s", cred.Leaf().NotAfter.Format(time.RFC3339))
	return nil
}

// await polls until the request is decided.
func (c *hubClient) await(ctx context.Context, log *zap.Logger, state wire.JoinState) (wire.JoinState, error) {
	pause := pollFirst
	for state.State == wire.JoinPending {
		if !daemon.Sleep(ctx, pause/2+rand.N(pause)) {
			return state, ctx.Err()
		}
		pause = min(pause*5/4, pollLast)
		err := c.do(ctx, http.MethodGet, wire.PathJoin+"/"+url.PathEscape(state.ID), nil, &state)
		var refused *refusedError
		switch {
		case errors.As(err, &refused) && refused.status < 500 && refused.status != http.StatusTooManyRequests:
			return state, joinError(err)
		case err != nil:
			log.Warn("asking for the decision failed, will try again", zap.Error(err))
		}
	}
	if state.State == wire.JoinDenied {
		return state, daemon.Hint(fmt.Errorf("the join request %s was denied: %s", state.ID, orNone(state.Message)), "talk to the operator of the hub; a new attempt needs a new token")
	}
	return state, nil
}

func orNone(s string) string {
	if s == "" {
		return "no reason given"
	}
	return s
}

func joinError(err error) error {
	var hub *identity.HubError
	var refused *refusedError
	switch {
	case errors.As(err, &hub) && hub.Reason == identity.HubTime:
		return daemon.Hint(err, "check this machine's clock")
	case errors.As(err, &hub):
		return daemon.Hint(err, "this is not the hub the token was made on: check the address, and who answers there; nothing secret was sent")
	case errors.As(err, &refused) && refused.refusal.Reason == wire.ReasonRefused:
		return daemon.Hint(err, "create a new token on the hub with `drover token create`; the hub's log has the exact reason")
	case errors.As(err, &refused):
		return err
	default:
		return daemon.Hint(err, "check that the hub runs and that this machine can reach it")
	}
}

// hubClient speaks HTTPS with the agents' side of the hub.
type hubClient struct {
	urls  []string
	trust identity.Trust
	cert  *tls.Certificate
	next  int
}

type refusedError struct {
	status     int
	refusal    wire.Refusal
	retryAfter time.Duration
}

func (e *refusedError) Error() string {
	if e.refusal.Message != "" {
		return e.refusal.Message
	}
	return fmt.Sprintf("the hub answered %d %s", e.status, e.refusal.Reason)
}

// do makes one request to the next of the hub's addresses.
func (c *hubClient) do(ctx context.Context, method, path string, in, out any) error {
	base := c.urls[c.next%len(c.urls)]
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(data)
	}
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(base, "/")+path, body)
	if err != nil {
		return err
	}
	client := c.client()
	defer client.CloseIdleConnections()
	resp, err := client.Do(req)
	if err != nil {
		c.next++
		return fmt.Errorf("reach the hub at %s: %w", base, unwrapURL(err))
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil || resp.StatusCode >= 500 {
		c.next++ // another address may lead to a hub that works
	}
	if err != nil {
		return fmt.Errorf("read the hub's answer: %w", err)
	}
	if resp.StatusCode >= 300 {
		e := &refusedError{status: resp.StatusCode}
		if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil {
			e.retryAfter = time.Duration(s) * time.Second
		}
		if json.Unmarshal(data, &e.refusal) != nil {
			e.refusal.Message = fmt.Sprintf("%s answered %s, not as a hub does", base, resp.Status)
		}
		return e
	}
	if err := json.Unmarshal(data, out); err != nil {
		return fmt.Errorf("read the hub's answer: %w", err)
	}
	return nil
}

func (c *hubClient) client() *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment,
			TLSClientConfig: identity.ClientTLS(identity.ClientOptions{
				Trust: c.trust, Certificate: func() (*tls.Certificate, error) { return c.cert, nil },
			}),
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// retry repeats what may heal: a hub that is not there, or asks to come later.
func (c *hubClient) retry(ctx context.Context, log *zap.Logger, do func() error) error {
	pause := time.Second
	for attempt := 1; ; attempt++ {
		err := do()
		var refused *refusedError
		var hub *identity.HubError
		switch {
		case err == nil, errors.As(err, &hub):
			return err
		case errors.As(err, &refused) && refused.status != http.StatusTooManyRequests && refused.status < 500:
			return err
		case attempt >= joinAttempts:
			return err
		}
		if refused != nil && refused.retryAfter > pause {
			pause = refused.retryAfter
		}
		log.Warn("the hub did not take the request, will try again", zap.Duration("in", pause), zap.Error(err))
		if !daemon.Sleep(ctx, pause) {
			return ctx.Err()
		}
		pause = min(2*pause, pollLast)
	}
}

func unwrapURL(err error) error {
	var ue *url.Error
	if errors.As(err, &ue) {
		return ue.Err
	}
	return err
}
