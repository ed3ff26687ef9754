// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"github.com/drover-io/drover/pki/identity"
)

// Credential is good for one connection of one cluster. Its key exists only in
// this process: the agent never sees it.
type Credential struct {
	// JWT of an ephemeral user.
	JWT string

	user nkeys.KeyPair
}

// Credential mints a credential for a connection of cluster that ends at notAfter.
func (b *Broker) Credential(cluster string, notAfter time.Time) (*Credential, error) {
	// The name becomes part of subjects: a dot or a wildcard would break isolation.
	if err := identity.ValidName(cluster); err != nil {
		return nil, fmt.Errorf("mint credential: %w", err)
	}
	if !notAfter.After(time.Now()) {
		return nil, errors.New("mint credential: the certificate has expired")
	}
	user, err := nkeys.CreateUser()
	if err != nil {
		return nil, fmt.Errorf("create user key: %w", err)
	}
	public, err := user.PublicKey()
	if err != nil {
		return nil, fmt.Errorf("create user key: %w", err)
	}
	claims := jwt.NewUserClaims(public)
	claims.Name = cluster
	claims.IssuerAccount = b.keys.applicationPublic
	claims.SetScoped(true)
	claims.Expires = notAfter.Unix()
	token, err := claims.Encode(b.keys.agents)
	if err != nil {
		return nil, fmt.Errorf("sign user %s: %w", cluster, err)
	}
	return &Credential{JWT: token, user: user}, nil
}

// Sign signs the server's nonce and forgets the key: a credential opens one connection.
func (c *Credential) Sign(nonce []byte) ([]byte, error) {
	if c.user == nil {
		return nil, errors.New("sign nonce: the credential has been used")
	}
	sig, err := c.user.Sign(nonce)
	c.user.Wipe()
	c.user = nil
	if err != nil {
		return nil, fmt.Errorf("sign nonce: %w", err)
	}
	return sig, nil
}
