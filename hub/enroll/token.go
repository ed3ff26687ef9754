// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package enroll

import (
	"context"
	"errors"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/pki/identity"
	"github.com/drover-io/drover/pki/jointoken"
	"github.com/drover-io/drover/shared/apis/fleet"
)

// PrepareToken makes the secret of a new JoinToken: it fills in obj.Status and
// returns the text to show to the creator, once.
func (e *Enroll) PrepareToken(obj *fleet.JoinToken, now time.Time) (text string, err error) {
	if name := obj.Spec.ClusterName; name != "" {
		if err := identity.ValidName(name); err != nil {
			return "", field.Invalid(field.NewPath("spec", "clusterName"), name, err.Error())
		}
	}
	token := jointoken.New(e.cfg.URLs, e.cfg.CA.Pins(), e.cfg.CA.TrustDomain(), obj.Spec.ClusterName)
	text, err = token.Encode()
	if err != nil {
		return "", fmt.Errorf("make join token: %w", err)
	}
	ttl := time.Duration(obj.Spec.TTLSeconds) * time.Second
	expires := metav1.NewTime(now.Add(ttl).UTC().Truncate(time.Second))
	obj.Status = fleet.JoinTokenStatus{
		ID: token.ID, SecretHash: jointoken.HashSecret(token.Secret), Expires: &expires,
	}
	return text, nil
}

// errRefused is why a join was refused. The agent hears one text for all of
// them; the log has the reason.
type errRefused string

func (e errRefused) Error() string { return string(e) }

// What only somebody who guesses runs into.
const (
	errWrongSecret  errRefused = "wrong secret"
	errUnknownToken errRefused = "no such token"
)

// checkToken says whether a key may ask to join as cluster with a token now.
// A key that used the token before may always ask again. Pure.
func checkToken(t *fleet.JoinToken, secret, cluster, fingerprint string, now time.Time) (earlier *fleet.TokenUse, err error) {
	if !jointoken.SecretMatches(t.Status.SecretHash, secret) {
		return nil, errWrongSecret
	}
	if t.Spec.Revoked || !t.DeletionTimestamp.IsZero() {
		return nil, errRefused("token is revoked")
	}
	if t.Status.Expires == nil || !now.Before(t.Status.Expires.Time) {
		return nil, errRefused("token is expired")
	}
	if t.Spec.ClusterName != "" && t.Spec.ClusterName != cluster {
		return nil, errRefused(fmt.Sprintf("token is for cluster %q", t.Spec.ClusterName))
	}
	for i := range t.Status.Used {
		if t.Status.Used[i].Fingerprint == fingerprint {
			return &t.Status.Used[i], nil
		}
	}
	if len(t.Status.Used) >= int(max(t.Spec.Uses, 1)) {
		return nil, errRefused("token is used up")
	}
	return nil, nil
}

// findToken returns the token of a public id.
func (e *Enroll) findToken(ctx context.Context, id string) (*fleet.JoinToken, error) {
	all, _, err := e.tokens.List(ctx, store.Selection{})
	if err != nil {
		return nil, fmt.Errorf("list join tokens: %w", err)
	}
	for _, t := range all {
		if t.Status.ID == id {
			return t, nil
		}
	}
	return nil, errUnknownToken
}

// useToken spends one use for a key and returns the name of its request, which
// is the earlier one when the key asks again. Of many keys that race for the
// last use exactly one wins.
func (e *Enroll) useToken(ctx context.Context, t *fleet.JoinToken, secret, cluster, fingerprint, request string) (string, error) {
	now := time.Now()
	name := request
	_, err := e.tokens.UpdateStatus(ctx, "", t.Name, func(t *fleet.JoinToken) error {
		earlier, err := checkToken(t, secret, cluster, fingerprint, now)
		if err != nil {
			return err
		}
		if earlier != nil {
			name = earlier.Request
			return nil
		}
		name = request
		t.Status.Used = append(t.Status.Used, fleet.TokenUse{
			Fingerprint: fingerprint, Request: request, Time: metav1.NewTime(now.UTC().Truncate(time.Second)),
		})
		return nil
	})
	return name, err
}

func isRefused(err error) bool {
	var r errRefused
	return errors.As(err, &r)
}
