// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Package live tells dashboards how things are and what changes: tables that it
// makes of the stored objects, and one stream of changes for each tab. The form of
// both is that of shared/apis/live.
//
// A table is made when somebody asks for it, and follows the store as long as
// somebody does. Nobody is told more than LIST and WATCH of the API would tell
// them.
package live

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"go.uber.org/zap"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"github.com/drover-io/drover/hub/auth"
	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/shared/apis/live"
	"github.com/drover-io/drover/shared/daemon"
)

// Store is what this package reads of the objects; see hub/store.
type Store interface {
	Watch(ctx context.Context, sel store.WatchSelection) (*store.Watcher, error)
	Revision() uint64
}

// Sight says what may be seen; see api.Sight.
type Sight interface {
	Visible(u user.Info, verb string, resource schema.GroupResource) auth.Filter
	Changed() context.Context
	Since(u user.Info) uint64
}

// Load is what the last sample of a cluster says, in per cent.
type Load struct{ CPU, Memory float64 }

// Config of a Live.
type Config struct {
	Store         Store
	Authenticator authenticator.Request
	Authorizer    authorizer.UnconditionalAuthorizer
	Sight         Sight
	// Valid says whether the credential of a request that began is still good, without
	// counting as a use of it. An error is for people.
	Valid func(r *http.Request, who user.Info) error
	// Load returns what is known of a cluster's use.
	Load func(cluster string) (Load, bool)
	// MaxStreams at once, default 2000, and for one user, default 100.
	MaxStreams, MaxPerUser int
	Log                    *zap.Logger
}

const (
	// lookAgain is how often a stream asks whether its credential is still good.
	lookAgain = 3 * time.Second
	// keepUnused is how long a table that nobody asks for follows the store.
	keepUnused = time.Minute
	// writeTimeout bounds one write to a client.
	writeTimeout = 30 * time.Second
)

// Live serves the paths. It starts no goroutines of its own.
type Live struct {
	cfg Config
	log *zap.Logger

	mu      sync.Mutex
	tables  map[string]*table
	streams int
	users   map[string]int // streams by user
}

// New returns a Live that follows nothing yet.
func New(cfg Config) *Live {
	if cfg.MaxStreams <= 0 {
		cfg.MaxStreams = 2000
	}
	if cfg.MaxPerUser <= 0 {
		cfg.MaxPerUser = 100
	}
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	return &Live{cfg: cfg, log: cfg.Log, tables: map[string]*table{}, users: map[string]int{}}
}

// Run lets tables go that nobody asks for, until ctx ends.
func (l *Live) Run(ctx context.Context) error {
	for daemon.Sleep(ctx, keepUnused/2) {
		l.sweep(time.Now())
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for name, t := range l.tables {
		t.close()
		delete(l.tables, name)
	}
	return ctx.Err()
}

func (l *Live) sweep(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for name, t := range l.tables {
		if t.unused(now) {
			t.close()
			delete(l.tables, name)
		}
	}
}

// Streams is how many clients are served now.
func (l *Live) Streams() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.streams
}

// take counts a stream; release ends that.
func (l *Live) take(who user.Info) (release func(), err error) {
	name := who.GetName()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.streams >= l.cfg.MaxStreams {
		return nil, apierrors.NewTooManyRequests("too many dashboards are open, try again later", 10)
	}
	if l.users[name] >= l.cfg.MaxPerUser {
		return nil, apierrors.NewTooManyRequests(fmt.Sprintf("user %q has %d dashboards open: close some tabs", name, l.users[name]), 10)
	}
	l.streams++
	l.users[name]++
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.streams--
		if l.users[name]--; l.users[name] == 0 {
			delete(l.users, name)
		}
	}, nil
}

// table returns a table that follows the store.
func (l *Live) table(ctx context.Context, d *definition) (*table, error) {
	l.mu.Lock()
	t := l.tables[d.name]
	if t == nil || t.isBroken() {
		t = &table{def: d, store: l.cfg.Store, load: l.cfg.Load, log: l.log}
		l.tables[d.name] = t
	}
	t.touch()
	l.mu.Unlock()
	return t, t.open(ctx)
}

// who asks; an error is a Status.
func (l *Live) who(r *http.Request) (user.Info, error) {
	who, ok, err := l.cfg.Authenticator.AuthenticateRequest(r)
	var impersonation *auth.ImpersonationError
	switch {
	case errors.As(err, &impersonation):
		return nil, impersonation.Err
	case err != nil:
		return nil, apierrors.NewUnauthorized("Unauthorized: " + err.Error())
	case !ok || who == nil || who.User == nil:
		return nil, apierrors.NewUnauthorized("Unauthorized: the request carries no credentials that the hub knows")
	}
	return who.User, nil
}

// Handler serves the paths; streams end with ctx.
func (l *Live) Handler(ctx context.Context) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+live.PathTable+"/{name}", l.serveTable)
	mux.HandleFunc("GET "+live.PathLive, func(w http.ResponseWriter, r *http.Request) { l.serveLive(ctx, w, r) })
	return mux
}
