// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/endpoints/request"

	"github.com/drover-io/drover/hub/api/openapi"
	"github.com/drover-io/drover/hub/store"
)

// Store is where objects live; see hub/store for the contract of each method.
type Store interface {
	Create(ctx context.Context, key store.Key, data []byte) (revision uint64, err error)
	Update(ctx context.Context, key store.Key, data []byte, revision uint64) (uint64, error)
	Delete(ctx context.Context, key store.Key, revision uint64) (uint64, error)
	Get(ctx context.Context, key store.Key) (store.Entry, error)
	Cached(key store.Key) (store.Entry, bool)
	List(ctx context.Context, sel store.Selection) (store.Page, error)
	Watch(ctx context.Context, sel store.WatchSelection) (*store.Watcher, error)
	Revision() uint64
}

// Config of an API.
type Config struct {
	Store Store
	// Kinds are the documents of the kinds to serve, as schemas.Documents returns.
	Kinds [][]byte
	// Hooks take part in writes, by resource: "jointokens.fleet.drover.io".
	Hooks map[string]Hook
	// Virtual answers for the kinds that are marked as virtual; one without a
	// provider is not served.
	Virtual map[schema.GroupVersionResource]Provider
	// Authenticator says who asks. What it does not know is answered with 401.
	Authenticator authenticator.Request
	// Authorizer says whether they may. When it is an authorizer.RuleResolver
	// too, "kubectl auth can-i --list" is answered from it.
	Authorizer authorizer.UnconditionalAuthorizer
	// Sight says what of a list or watch may be seen by those whom the Authorizer
	// does not allow all of it; nil: nothing.
	Sight Sight
	// Lifecycle is set where hub/gc runs: then objects are created only in
	// namespaces that exist and stay, a Namespace goes after its contents, and
	// deletions carry out their propagationPolicy.
	Lifecycle bool
	// Auditor records writes and refusals; nil records nothing.
	Auditor Auditor
	// Version of this build, such as "1.2.3".
	Version string
	Log     *zap.Logger

	// Requests in flight at once; more are answered with 429. Defaults 200, 400, 10000.
	MaxWrites, MaxReads, MaxWatches int
	// UserRate bounds the requests of each user, whoever it is; those beyond are
	// answered with 429. Who is impersonated does not count, who impersonates does.
	UserRate Rate
	// AddressRate bounds the requests without a login that work, from each source
	// address: failed logins, and /version.
	AddressRate Rate
}

// API is an http.Handler for /api, /apis, /openapi and /version. What users define
// with CustomResourceDefinitions is served after Load, and followed while Run
// runs. It starts no goroutines of its own. A watch ends with its request's context, so a server
// that shuts down must cancel its base context.
type API struct {
	store         Store
	authenticator authenticator.Request
	authorizer    authorizer.UnconditionalAuthorizer
	sight         Sight   // may be nil
	auditor       Auditor // may be nil
	lifecycle     bool
	log           *zap.Logger
	version       string

	info     request.RequestInfoFactory
	protobuf func() *protobufDecoder
	current  atomic.Pointer[serving]

	mu    sync.Mutex
	own   []*resource            // Drover's own kinds, never changed
	users map[string][]*resource // those of users, by the name of their definition

	writes, reads, watches limiter
	perUser, perAddress    *buckets
	gzips                  sync.Pool
	lines                  lines
	sent                   atomic.Uint64 // events written to watching clients
	figures                figures
}

// New returns an API. It parses the kinds, and leaves compiling their schemas
// to the first use.
func New(cfg Config) (*API, error) {
	switch {
	case cfg.Store == nil:
		return nil, errors.New("new api: no store")
	case cfg.Authenticator == nil || cfg.Authorizer == nil:
		return nil, errors.New("new api: authenticator and authorizer are both needed")
	}
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	a := &API{
		store:         cfg.Store,
		authenticator: cfg.Authenticator,
		authorizer:    cfg.Authorizer,
		sight:         cfg.Sight,
		lifecycle:     cfg.Lifecycle,
		auditor:       cfg.Auditor,
		log:           cfg.Log,
		version:       gitVersion(cfg.Version),
		info:          request.RequestInfoFactory{APIPrefixes: sets.NewString("api", "apis"), GrouplessAPIPrefixes: sets.NewString("api")},
		users:         map[string][]*resource{},
		protobuf:      sync.OnceValue(newProtobufDecoder),
		writes:        newLimiter(cfg.MaxWrites, 200),
		reads:         newLimiter(cfg.MaxReads, 400),
		watches:       newLimiter(cfg.MaxWatches, 10000),
		perUser:       newBuckets(cfg.UserRate, time.Now),
		perAddress:    newBuckets(cfg.AddressRate, time.Now),
	}
	a.gzips.New = func() any {
		// never fails for a known level
		w, _ := gzip.NewWriterLevel(nil, gzip.BestSpeed)
		return w
	}
	var err error
	if a.own, err = builtin(&cfg); err != nil {
		return nil, fmt.Errorf("new api: %w", err)
	}
	for _, r := range a.own {
		if r.StoreResource() == resourceDefinitions && r.hook == nil {
			r.hook = definitionHook{a.own}
		}
	}
	a.swap()
	return a, nil
}

// call is one request on its way through the API.
type call struct {
	*API
	*serving // as it was when the request came
	w        http.ResponseWriter
	r        *http.Request
	info     *request.RequestInfo
	who      *authenticator.Response
	res      *resource // nil for requests that are not about a kind
	view     view      // of a list or watch
	accept   accept
	audit    trail

	warnings []string
}

// ServeHTTP implements http.Handler.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	tracked := &tracker{ResponseWriter: w, code: http.StatusOK}
	c := &call{API: a, serving: a.current.Load(), w: tracked, r: r}
	began := time.Now()
	defer func() { c.observe(tracked.code, began) }()
	defer func() {
		if p := recover(); p != nil {
			if p == http.ErrAbortHandler {
				panic(p)
			}
			a.log.Error("panic in the API", zap.Any("panic", p), zap.String("path", r.URL.Path), zap.Stack("stack"))
			if tracked.started {
				// the client must not take half an answer for a whole one
				panic(http.ErrAbortHandler)
			}
			c.fail(errInternal)
		}
	}()
	w.Header().Set("Vary", "Accept, Accept-Encoding")
	w.Header().Set("Cache-Control", "no-cache, private")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("X-Frame-Options", "DENY")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	w.Header().Set("Referrer-Policy", "no-referrer")
	c.beginAudit()
	if err := c.serve(); err != nil {
		if tracked.started {
			if !errors.Is(err, context.Canceled) {
				a.log.Debug("answer was cut short", zap.String("path", r.URL.Path), zap.Error(err))
			}
			panic(http.ErrAbortHandler)
		}
		c.fail(err)
	}
}

// serve does everything; an error becomes the answer.
func (c *call) serve() error {
	info, err := c.API.info.NewRequestInfo(c.r)
	if err != nil {
		return badRequest("cannot read the request: %v", err)
	}
	c.info = info
	if c.r.URL.Path == "/version" {
		if wait, ok := c.perAddress.take(source(c.r.RemoteAddr)); !ok {
			return tooMany("too many requests from this address", wait)
		}
		return c.serveVersion()
	}
	release, err := c.admitLoad()
	if err != nil {
		return err
	}
	defer release()
	defer c.bound()()
	if err := c.identify(); err != nil {
		return err
	}
	gvr := schema.GroupVersionResource{Group: info.APIGroup, Version: info.APIVersion, Resource: info.Resource}
	if info.IsResourceRequest {
		c.res = c.resources[gvr]
	}
	if err := c.authorize(); err != nil {
		return err
	}
	if !info.IsResourceRequest {
		return c.serveNonResource()
	}
	if review := reviews[gvr]; review != nil {
		return review(c)
	}
	if c.res == nil || !c.validPath() {
		return errNoSuchPath
	}
	return c.serveResource()
}

// validPath refuses paths that RequestInfo reads more generously than the API
// has meanings for.
func (c *call) validPath() bool {
	switch c.info.Subresource {
	case "":
	case "status":
		if !c.res.Status || len(c.info.Parts) != 3 {
			return false
		}
	case "scale":
		if c.res.Scale == nil || len(c.info.Parts) != 3 {
			return false
		}
	default:
		return false
	}
	// a namespace is both the scope and the object of its own path
	scoped := c.info.Namespace != "" && c.info.Resource != "namespaces"
	return c.res.Namespaced || !scoped
}

func (c *call) serveResource() error {
	if c.res.provider != nil {
		return c.serveVirtual()
	}
	status := c.info.Subresource == "status"
	if c.res.Namespaced && c.info.Namespace == "" && !slices.Contains([]string{"list", "watch"}, c.info.Verb) {
		return badRequest("a namespace is needed: /%s/namespaces/NAMESPACE/%s", openapi.GroupPath(c.res.Kind), c.res.Resource)
	}
	if c.info.Subresource == "scale" {
		return c.serveScale()
	}
	switch c.info.Verb {
	case "get":
		return c.get()
	case "list":
		return c.list()
	case "watch":
		return c.watch()
	}
	if err := c.recordable(); err != nil {
		return err
	}
	start := time.Now()
	err := c.write(status)
	c.log.Debug("write", zap.String("verb", c.info.Verb), zap.String("path", c.info.Path), zap.Duration("took", time.Since(start)), zap.Error(err))
	return err
}

func (c *call) write(status bool) error {
	switch c.info.Verb {
	case "create":
		if !status && c.info.Name == "" {
			return c.create()
		}
	case "update":
		return c.replace(status)
	case "patch":
		return c.patch(status)
	case "delete":
		if !status {
			return c.delete()
		}
	case "deletecollection":
		return c.deleteCollection()
	}
	return c.methodNotSupported()
}
