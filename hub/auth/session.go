// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"

	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/shared/daemon"
)

// ExtraSession is the key of the name of the session that a cookie belongs to.
const ExtraSession = "drover.io/session"

const (
	// SessionCookie is the name of the cookie. Its prefix makes browsers refuse it
	// unless it is Secure, for the whole host and for no other.
	SessionCookie = "__Host-drover-session"
	// HeaderRequest with any value must be on every request that changes something
	// by right of a cookie: another site's page cannot set it.
	HeaderRequest = "X-Drover-Request"
)

// Defaults of SessionConfig, and how many sessions one user may have: the oldest
// ends when there is one more.
const (
	DefaultSessionIdle = 2 * time.Hour
	DefaultSessionLife = 12 * time.Hour
	maxSessions        = 50
)

// SessionConfig of Sessions.
type SessionConfig struct {
	Store *store.Store
	// Idle ends a session that is not used, Life any session.
	Idle, Life time.Duration
	// RestoredAt is when the store was made of a backup: sessions from before may
	// have been ended since, and count as ended. Zero if it never was.
	RestoredAt time.Time
	Log        *zap.Logger
}

// Sessions are the browsers that are logged in. Each has a record in the store,
// so a restart ends none, and deleting the record ends the session.
type Sessions struct {
	cfg     SessionConfig
	objects store.Objects[fleet.Session, *fleet.Session]
	origin  *http.CrossOriginProtection
	log     *zap.Logger

	mu   sync.Mutex
	seen map[string]time.Time // newer than what is stored, by name
}

var _ authenticator.Request = (*Sessions)(nil)

// NewSessions returns an authenticator over an open store.
func NewSessions(cfg SessionConfig) *Sessions {
	cfg.Idle, cfg.Life = cmp.Or(cfg.Idle, DefaultSessionIdle), cmp.Or(cfg.Life, DefaultSessionLife)
	return &Sessions{
		cfg: cfg, objects: store.Of[fleet.Session](cfg.Store, fleet.ResourceSessions),
		origin: http.NewCrossOriginProtection(), log: cfg.Log, seen: map[string]time.Time{},
	}
}

// Start makes a session for who logged in, and returns its record and the cookie,
// which has the only copy of the secret. Spec.User, Groups and Extra of the record
// are taken from who, the rest of spec from facts. A session ends by notAfter at
// the latest, unless that is zero.
func (s *Sessions) Start(ctx context.Context, who user.Info, facts fleet.SessionSpec, notAfter time.Time) (*fleet.Session, *http.Cookie, error) {
	now := time.Now()
	expires := now.Add(s.cfg.Life)
	if !notAfter.IsZero() && notAfter.Before(expires) {
		expires = notAfter
	}
	facts.User, facts.Groups, facts.Extra = who.GetName(), who.GetGroups(), maps.Clone(who.GetExtra())
	facts.Groups = slices.DeleteFunc(slices.Clone(facts.Groups), func(g string) bool { return g == user.AllAuthenticated })
	c := newCredential("s-" + strings.ToLower(rand.Text()))
	end, seen := metav1.NewTime(expires.UTC().Truncate(time.Second)), metav1.NewTime(now.UTC().Truncate(time.Second))
	obj, err := s.objects.Create(ctx, &fleet.Session{
		TypeMeta:   metav1.TypeMeta{APIVersion: fleet.Group + "/" + fleet.Version, Kind: fleet.KindSession},
		ObjectMeta: metav1.ObjectMeta{Name: c.name}, Spec: facts,
		Status: fleet.SessionStatus{SecretHash: c.hash(), Expires: &end, LastSeen: &seen},
	})
	if err != nil {
		return nil, nil, fmt.Errorf("store session: %w", err)
	}
	if err := s.endOldest(ctx, facts.User); err != nil {
		s.log.Warn("ending the oldest session of a user with too many failed", zap.String("user", facts.User), zap.Error(err))
	}
	return obj, sessionCookie(c.text(PrefixSession), int(time.Until(expires).Seconds())), nil
}

// EndCookie makes a browser forget its session.
func EndCookie() *http.Cookie { return sessionCookie("", -1) }

// sessionCookie is sent along when another site's page leads here, as the login
// page of a provider does, but never with a request of such a page.
func sessionCookie(value string, maxAge int) *http.Cookie {
	return &http.Cookie{
		Name: SessionCookie, Value: value, Path: "/", MaxAge: maxAge,
		HttpOnly: true, Secure: true, SameSite: http.SameSiteLaxMode,
	}
}

// endOldest keeps the number of one user's sessions in bounds.
func (s *Sessions) endOldest(ctx context.Context, name string) error {
	all, _, err := s.objects.List(ctx, store.Selection{})
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(o *fleet.Session) bool { return o.Spec.User != name })
	slices.SortFunc(all, func(a, b *fleet.Session) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time),
			// decimals of one second are told apart by their number of digits first
			cmp.Compare(len(a.ResourceVersion), len(b.ResourceVersion)), strings.Compare(a.ResourceVersion, b.ResourceVersion))
	})
	for len(all) > maxSessions {
		if err := s.End(ctx, all[0].Name); err != nil {
			return err
		}
		all = all[1:]
	}
	return nil
}

// End ends a session; one that is no more is not an error.
func (s *Sessions) End(ctx context.Context, name string) error {
	err := s.objects.Delete(ctx, "", name)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("end session: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.seen, name)
	return nil
}

// AuthenticateRequest implements authenticator.Request. Without a cookie the
// request is not recognised. With one, a request that changes something must come
// from the hub's own pages: the browser says so by Sec-Fetch-Site or Origin, and
// the page by HeaderRequest.
func (s *Sessions) AuthenticateRequest(r *http.Request) (*authenticator.Response, bool, error) {
	cookies := r.CookiesNamed(SessionCookie)
	if len(cookies) == 0 {
		return nil, false, nil
	}
	if len(cookies) > 1 {
		return nil, false, errors.New("more than one session cookie")
	}
	c, err := parseCredential(PrefixSession, cookies[0].Value)
	if err != nil {
		return nil, false, errSessionEnded
	}
	obj, err := s.objects.Cached("", c.name)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, false, fmt.Errorf("read session: %w", err)
	}
	now := time.Now()
	s.mu.Lock()
	seen := s.seen[c.name]
	s.mu.Unlock()
	if err := s.check(obj, c, seen, now); err != nil {
		return nil, false, err
	}
	if err := s.checkOrigin(r); err != nil {
		return nil, false, &RefusedError{User: obj.Spec.User, Detail: "session " + obj.Name + ": " + err.Error(), Err: err}
	}
	s.mu.Lock()
	s.seen[c.name] = now
	s.mu.Unlock()
	extra := map[string][]string{}
	for k, v := range obj.Spec.Extra {
		extra[k] = slices.Clone(v)
	}
	extra[ExtraSession] = []string{obj.Name}
	return &authenticator.Response{User: &user.DefaultInfo{
		Name: obj.Spec.User, Groups: WithAuthenticated(obj.Spec.Groups), Extra: extra,
	}}, true, nil
}

var errSessionEnded = errors.New("the session has ended, log in again")

// check says whether a credential is good for obj, which is nil when there is no
// such session, and was last used at seen or when its status says. Pure.
func (s *Sessions) check(obj *fleet.Session, c credential, seen, now time.Time) error {
	if obj == nil || !c.matches(obj.Status.SecretHash) || !obj.DeletionTimestamp.IsZero() ||
		s.over(obj, seen, now) {
		return errSessionEnded
	}
	return nil
}

// over says whether a session has ended by itself.
func (s *Sessions) over(obj *fleet.Session, seen, now time.Time) bool {
	if obj.Status.LastSeen != nil && obj.Status.LastSeen.After(seen) {
		seen = obj.Status.LastSeen.Time
	}
	return obj.Status.Expires == nil || !now.Before(obj.Status.Expires.Time) || now.Sub(seen) >= s.cfg.Idle ||
		obj.CreationTimestamp.Time.Before(s.cfg.RestoredAt)
}

func (s *Sessions) checkOrigin(r *http.Request) error {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return nil
	}
	if err := s.CheckOrigin(r); err != nil {
		return err
	}
	return nil
}

// Good says whether a session that began a long request still is one. It is no use
// of the session: who only watches does not keep it from ending.
func (s *Sessions) Good(name string) error {
	obj, err := s.objects.Cached("", name)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("read session: %w", err)
	}
	s.mu.Lock()
	seen := s.seen[name]
	s.mu.Unlock()
	if obj == nil || !obj.DeletionTimestamp.IsZero() || s.over(obj, seen, time.Now()) {
		return errSessionEnded
	}
	return nil
}

// Ends is when a session ends at the latest; zero when that is not known.
func (s *Sessions) Ends(name string) time.Time {
	obj, err := s.objects.Cached("", name)
	if err != nil || obj.Status.Expires == nil {
		return time.Time{}
	}
	return obj.Status.Expires.Time
}

// CheckOrigin refuses a request that changes something unless it comes from one
// of the hub's own pages.
func (s *Sessions) CheckOrigin(r *http.Request) error {
	if err := s.origin.Check(r); err != nil {
		return fmt.Errorf("refused: %w", err)
	}
	if r.Header.Get(HeaderRequest) == "" {
		return fmt.Errorf("refused: the header %s is missing", HeaderRequest)
	}
	return nil
}

// Run writes down when sessions were used and clears those away that are over,
// until ctx ends. Sessions work without it.
func (s *Sessions) Run(ctx context.Context) error {
	for daemon.Sleep(ctx, flushEvery) {
		s.tend(ctx, time.Now())
	}
	// What was seen since the last round lets sessions outlive a restart.
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	s.tend(last, time.Now())
	return ctx.Err()
}

func (s *Sessions) tend(ctx context.Context, now time.Time) {
	all, _, err := s.objects.List(ctx, store.Selection{MinRevision: store.Any})
	if err != nil {
		s.log.Warn("reading the sessions failed, will try again", zap.Error(err))
		return
	}
	names := make(map[string]bool, len(all))
	for _, obj := range all {
		names[obj.Name] = true
	}
	s.mu.Lock()
	// of those that were deleted through the API
	maps.DeleteFunc(s.seen, func(name string, _ time.Time) bool { return !names[name] })
	s.mu.Unlock()
	for _, obj := range all {
		s.mu.Lock()
		seen := s.seen[obj.Name]
		s.mu.Unlock()
		switch {
		case s.over(obj, seen, now):
			err = s.End(ctx, obj.Name)
		case obj.Status.LastSeen != nil && seen.Sub(obj.Status.LastSeen.Time) > s.cfg.Idle/20:
			_, err = s.objects.UpdateStatus(ctx, "", obj.Name, func(o *fleet.Session) error {
				stamp := metav1.NewTime(seen.UTC().Truncate(time.Second))
				o.Status.LastSeen = &stamp
				return nil
			})
		}
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			s.log.Warn("tending a session failed, will try again", zap.String("session", obj.Name), zap.Error(err))
		}
	}
}
