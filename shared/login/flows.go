// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package login

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

// browserLife is how long a person may take.
const browserLife = 5 * time.Minute

// Browser logs in with a browser on this machine: the authorization code flow with
// PKCE, and a callback on the loopback address. Show is called once with the URL
// to open.
func (c *Client) Browser(ctx context.Context, show func(url string)) (*Token, error) {
	cfg, err := c.config(ctx)
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for the browser: %w", err)
	}
	cfg.RedirectURL = "http://" + l.Addr().String() + "/callback"
	state, nonce, verifier := rand.Text(), rand.Text(), oauth2.GenerateVerifier()

	results := make(chan result, 1)
	server := &http.Server{Handler: callback(state, results), ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	defer func() {
		// The page that says how it went must still reach the browser.
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if server.Shutdown(end) != nil {
			server.Close() //nolint:errcheck // nothing is left to save
		}
		<-served
	}()

	show(cfg.AuthCodeURL(state, oidc.Nonce(nonce), oauth2.S256ChallengeOption(verifier)))
	wait, cancel := context.WithTimeout(ctx, browserLife)
	defer cancel()
	select {
	case r := <-results:
		if r.err != nil {
			return nil, r.err
		}
		answer, err := cfg.Exchange(c.with(ctx), r.code, oauth2.VerifierOption(verifier))
		if err != nil {
			return nil, fmt.Errorf("exchange the code: %w", err)
		}
		return c.accept(ctx, answer, nonce, "")
	case err := <-served:
		served <- err
		return nil, fmt.Errorf("wait for the browser: %w", err)
	case <-wait.Done():
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("nobody logged in within %s", browserLife)
	}
}

type result struct {
	code string
	err  error
}

// callback takes the first answer that has the state; others are not ours.
func callback(state string, results chan<- result) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /callback", func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Type", "text/plain; charset=utf-8")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		h.Set("Cache-Control", "no-store")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Connection", "close")
		out := parseCallback(r.URL.Query(), state)
		switch {
		case errors.Is(out.err, errForeign):
			http.Error(w, "This is not the answer to a login that was begun here.", http.StatusBadRequest)
			return
		case out.err != nil:
			fmt.Fprintln(w, "The login failed. The command line says why.")
		default:
			fmt.Fprintln(w, "Logged in. You can close this window and go back to the command line.")
		}
		select {
		case results <- out:
		default: // the first answer counts
		}
	})
	return mux
}

var errForeign = errors.New("not the answer to this login")

func parseCallback(q url.Values, state string) result {
	if subtle.ConstantTimeCompare([]byte(q.Get("state")), []byte(state)) != 1 {
		return result{err: errForeign}
	}
	if reason := q.Get("error"); reason != "" {
		return result{err: fmt.Errorf("the identity provider refused: %.200q %.300q", reason, q.Get("error_description"))}
	}
	if q.Get("code") == "" {
		return result{err: errors.New("the identity provider answered without a code")}
	}
	return result{code: q.Get("code")}
}

// Device logs in with a browser on any machine. Show is called once with the code
// that the person must enter at the URL; complete is a URL that has it, or empty.
func (c *Client) Device(ctx context.Context, show func(url, code, complete string)) (*Token, error) {
	cfg, err := c.config(ctx)
	if err != nil {
		return nil, err
	}
	if cfg.Endpoint.DeviceAuthURL == "" {
		return nil, errors.New("the identity provider has no device flow")
	}
	begun, err := cfg.DeviceAuth(c.with(ctx))
	if err != nil {
		return nil, fmt.Errorf("begin the device flow: %w", err)
	}
	show(begun.VerificationURI, begun.UserCode, begun.VerificationURIComplete)
	answer, err := cfg.DeviceAccessToken(c.with(ctx), begun)
	var refused *oauth2.RetrieveError
	switch {
	case errors.As(err, &refused) && refused.ErrorCode == "access_denied":
		return nil, errors.New("the login was refused at the identity provider")
	case errors.As(err, &refused) && refused.ErrorCode == "expired_token", errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil:
		return nil, errors.New("nobody logged in in time")
	case err != nil:
		return nil, fmt.Errorf("wait for the login: %w", err)
	}
	return c.accept(ctx, answer, "", "")
}
