// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"

	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/shared/daemon"
)

// ExtraAccessToken is the key of the name of the access token that was shown.
const ExtraAccessToken = "drover.io/access-token"

const (
	defaultTokenLife = 90 * 24 * time.Hour
	maxTokenLife     = 365 * 24 * time.Hour
	// lastUsedEvery is how exact status.lastUsed of a token is.
	lastUsedEvery = time.Hour
	flushEvery    = time.Minute
)

// AccessTokens recognises the holders of access tokens. Deleting the object
// revokes the token as soon as the store's cache has seen it.
type AccessTokens struct {
	objects store.Objects[fleet.AccessToken, *fleet.AccessToken]
	log     *zap.Logger

	mu   sync.Mutex
	used map[string]time.Time // not yet stored, by name
}

var _ authenticator.Token = (*AccessTokens)(nil)

// NewAccessTokens returns an authenticator over an open store.
func NewAccessTokens(s *store.Store, log *zap.Logger) *AccessTokens {
	return &AccessTokens{
		objects: store.Of[fleet.AccessToken](s, fleet.ResourceAccessTokens), log: log, used: map[string]time.Time{},
	}
}

// PrepareAccessToken makes the secret of a new AccessToken: it fills in status and
// returns the text to show to the creator, once. Errors are *field.Error.
func PrepareAccessToken(t *fleet.AccessToken, creator string, now time.Time) (text string, err error) {
	spec := field.NewPath("spec")
	if len(t.Name) > nameChars || strings.Contains(t.Name, ".") {
		return "", field.Invalid(field.NewPath("metadata", "name"), t.Name, "want at most 63 of a-z, 0-9 and -: the name is part of the token")
	}
	if strings.HasPrefix(t.Spec.User, "system:") {
		return "", field.Invalid(spec.Child("user"), t.Spec.User, `must not begin with "system:"`)
	}
	for i, g := range t.Spec.Groups {
		if g == user.AllAuthenticated || g == user.AllUnauthenticated {
			return "", field.Invalid(spec.Child("groups").Index(i), g, "is given by the hub, leave it out")
		}
	}
	life := time.Duration(t.Spec.TTLSeconds) * time.Second
	if life == 0 {
		life = defaultTokenLife
	}
	if life < 0 || life > maxTokenLife {
		return "", field.Invalid(spec.Child("ttlSeconds"), t.Spec.TTLSeconds, "want at most 31536000, a year")
	}
	c := newCredential(t.Name)
	expires := metav1.NewTime(now.Add(life).UTC().Truncate(time.Second))
	t.Status = fleet.AccessTokenStatus{SecretHash: c.hash(), Expires: &expires, CreatedBy: creator}
	return c.text(PrefixAccessToken), nil
}

// AuthenticateToken implements authenticator.Token. What does not look like an
// access token is not recognised, and not an error.
func (a *AccessTokens) AuthenticateToken(_ context.Context, text string) (*authenticator.Response, bool, error) {
	if !strings.HasPrefix(text, PrefixAccessToken) {
		return nil, false, nil
	}
	c, err := parseCredential(PrefixAccessToken, text)
	if err != nil {
		return nil, false, fmt.Errorf("access token: %w", err)
	}
	t, err := a.objects.Cached("", c.name)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, false, &RefusedError{User: c.name, Err: fmt.Errorf("read access token: %w", err)}
	}
	now := time.Now()
	if err := checkAccessToken(t, c, now); err != nil {
		return nil, false, err
	}
	a.touch(t, now)
	return &authenticator.Response{User: &user.DefaultInfo{
		Name: t.Spec.User, Groups: WithAuthenticated(t.Spec.Groups),
		Extra: map[string][]string{ExtraAccessToken: {t.Name}},
	}}, true, nil
}

// errUnknownToken is one text for a token that is not there and one whose secret
// is wrong: who guesses learns no names.
var errUnknownToken = errors.New("access token is not known, or was revoked")

// checkAccessToken says whether a credential is good for t, which is nil when
// there is none of that name. Pure.
func checkAccessToken(t *fleet.AccessToken, c credential, now time.Time) error {
	switch {
	case t == nil:
		return errUnknownToken
	case !c.matches(t.Status.SecretHash):
		return &RefusedError{User: t.Spec.User, Detail: "wrong secret for access token " + t.Name, Err: errUnknownToken}
	case !t.DeletionTimestamp.IsZero():
		return &RefusedError{User: t.Spec.User, Detail: "access token " + t.Name + " is being deleted", Err: errUnknownToken}
	case t.Status.Expires == nil || !now.Before(t.Status.Expires.Time):
		return &RefusedError{
			User: t.Spec.User, Detail: "access token " + t.Name + " is expired",
			Err: fmt.Errorf("access token %s is expired", t.Name),
		}
	}
	return nil
}

// RefusedError is a credential that was good once, or looks as if: worth a record.
type RefusedError struct {
	User   string // whose it is; not proven
	Detail string // for the record; Err is what the client sees
	Err    error
}

func (e *RefusedError) Error() string { return e.Err.Error() }
func (e *RefusedError) Unwrap() error { return e.Err }

// touch remembers the use of a token for Run.
func (a *AccessTokens) touch(t *fleet.AccessToken, now time.Time) {
	if t.Status.LastUsed != nil && now.Sub(t.Status.LastUsed.Time) < lastUsedEvery {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.used[t.Name] = now
}

// Run writes down when tokens were used, until ctx ends. Tokens work without it.
func (a *AccessTokens) Run(ctx context.Context) error {
	for daemon.Sleep(ctx, flushEvery) {
		a.flush(ctx)
	}
	return ctx.Err()
}

func (a *AccessTokens) flush(ctx context.Context) {
	a.mu.Lock()
	used := a.used
	a.used = map[string]time.Time{}
	a.mu.Unlock()
	for name, at := range used {
		_, err := a.objects.UpdateStatus(ctx, "", name, func(t *fleet.AccessToken) error {
			if t.Status.LastUsed == nil || at.Sub(t.Status.LastUsed.Time) >= lastUsedEvery {
				stamp := metav1.NewTime(at.UTC().Truncate(time.Second))
				t.Status.LastUsed = &stamp
			}
			return nil
		})
		if err != nil && !errors.Is(err, store.ErrNotFound) && ctx.Err() == nil {
			a.log.Warn("writing down the use of an access token failed", zap.String("token", name), zap.Error(err))
		}
	}
}

// WithAuthenticated are the groups of somebody who logged in: those given, once
// each, and system:authenticated.
func WithAuthenticated(groups []string) []string {
	out := make([]string, 0, len(groups)+1)
	for _, g := range groups {
		if g != user.AllAuthenticated && g != user.AllUnauthenticated && !slices.Contains(out, g) {
			out = append(out, g)
		}
	}
	return append(out, user.AllAuthenticated)
}
