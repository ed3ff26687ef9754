// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"errors"
	"net/http"
	"strings"

	"k8s.io/apiserver/pkg/authentication/authenticator"
)

// Credentials recognises people by whatever they show, in this order: a client
// certificate, a bearer token, a cookie. The first kind that a request carries
// decides: who shows a wrong certificate or token is not let in by a cookie.
type Credentials struct {
	Certificates authenticator.Request
	// Tokens are asked in turn; each leaves to the next what is not of its kind.
	Tokens   []authenticator.Token
	Sessions authenticator.Request // nil for none
	// Refused is told of credentials that are worth a record; nil tells nobody.
	Refused func(r *http.Request, err *RefusedError)
}

var _ authenticator.Request = (*Credentials)(nil)

var errUnknownBearer = errors.New("the bearer token is of no kind that this hub accepts")

// AuthenticateRequest implements authenticator.Request.
func (c *Credentials) AuthenticateRequest(r *http.Request) (*authenticator.Response, bool, error) {
	who, ok, err := c.authenticate(r)
	var refused *RefusedError
	if err != nil && c.Refused != nil && errors.As(err, &refused) {
		c.Refused(r, refused)
	}
	return who, ok, err
}

func (c *Credentials) authenticate(r *http.Request) (*authenticator.Response, bool, error) {
	if who, ok, err := c.Certificates.AuthenticateRequest(r); ok || err != nil {
		return who, ok, err
	}
	if values := r.Header.Values("Authorization"); len(values) > 0 {
		token, ok := bearer(values)
		if !ok {
			return nil, false, errUnknownBearer
		}
		for _, t := range c.Tokens {
			if who, ok, err := t.AuthenticateToken(r.Context(), token); ok || err != nil {
				return who, ok, err
			}
		}
		return nil, false, errUnknownBearer
	}
	if c.Sessions == nil {
		return nil, false, nil
	}
	return c.Sessions.AuthenticateRequest(r)
}

// bearer returns the token of an Authorization header, of which there must be one.
func bearer(values []string) (string, bool) {
	if len(values) != 1 {
		return "", false
	}
	scheme, token, ok := strings.Cut(values[0], " ")
	token = strings.TrimSpace(token)
	return token, ok && strings.EqualFold(scheme, "Bearer") && token != "" && !strings.ContainsAny(token, " \t,")
}
