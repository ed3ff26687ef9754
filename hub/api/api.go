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
	"time"

	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/endpoints/request"

	"github.com/drover-io/drover/hub/api/kind"
	"github.com/drover-io/drover/hub/api/openapi"
	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/shared/apis/schemas"
)

// Store is where objects live; see hub/store for the contract of each method.
type Store interface {
	Create(ctx context.Context, key store.Key, data []byte) (revision uint64, err error)
	Update(ctx context.Context, key store.Key, data []byte, revision uint64) (uint64, error)
	Delete(ctx context.Context, key store.Key, revision uint64) (uint64, error)
	Get(ctx context.Context, key store.Key) (store.Entry, error)
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
	// Auditor records writes and refusals; nil records nothing.
	Auditor Auditor
	// Version of this build, such as "1.2.3".
	Version string
	Log     *zap.Logger

	// Requests in flight at once; more are answered with 429. Defaults 200, 400, 10000.
	MaxWrites, MaxReads, MaxWatches int
}

// API is an http.Handler for /api, /apis, /openapi and /version. It starts no
// goroutines of its own. A watch ends with its request's context, so a server
// that shuts down must cancel its base context.
type API struct {
	store         Store
	authenticator authenticator.Request
	authorizer    authorizer.UnconditionalAuthorizer
	auditor       Auditor // may be nil
	log           *zap.Logger
	version       string

	info      request.RequestInfoFactory
	resources map[schema.GroupVersionResource]*resource
	discovery discovery
	openapi   *openapi.Service
	protobuf  func() *protobufDecoder

	writes, reads, watches limiter
	gzips                  sync.Pool
}

// resource is one kind and those who take part in it.
type resource struct {
	*kind.Kind
	hook     Hook     // may be nil
	provider Provider // nil unless virtual
}

// verbs that a kind allows, as discovery lists them.
func (r *resource) verbs() []string {
	if r.provider != nil {
		return []string{"get", "list"}
	}
	return []string{"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"}
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
		auditor:       cfg.Auditor,
		log:           cfg.Log,
		version:       gitVersion(cfg.Version),
		info:          request.RequestInfoFactory{APIPrefixes: sets.NewString("api", "apis"), GrouplessAPIPrefixes: sets.NewString("api")},
		resources:     map[schema.GroupVersionResource]*resource{},
		protobuf:      sync.OnceValue(newProtobufDecoder),
		writes:        newLimiter(cfg.MaxWrites, 200),
		reads:         newLimiter(cfg.MaxReads, 400),
		watches:       newLimiter(cfg.MaxWatches, 10000),
	}
	a.gzips.New = func() any {
		// never fails for a known level
		w, _ := gzip.NewWriterLevel(nil, gzip.BestSpeed)
		return w
	}
	var kinds []*kind.Kind
	for _, doc := range cfg.Kinds {
		k, err := kind.Parse(doc)
		if err != nil {
			return nil, fmt.Errorf("new api: %w", err)
		}
		r := &resource{Kind: k, hook: cfg.Hooks[k.StoreResource()], provider: cfg.Virtual[k.GVR()]}
		virtual := k.Annotations[schemas.AnnotationVirtual] == "true"
		switch {
		case virtual && r.provider == nil:
			continue
		case !virtual && r.provider != nil:
			return nil, fmt.Errorf("new api: %s has a provider but is not marked as virtual", k.StoreResource())
		case a.resources[k.GVR()] != nil:
			return nil, fmt.Errorf("new api: two documents describe %s", k.StoreResource())
		}
		a.resources[k.GVR()] = r
		kinds = append(kinds, k)
	}
	for name := range cfg.Hooks {
		if !slices.ContainsFunc(kinds, func(k *kind.Kind) bool { return k.StoreResource() == name }) {
			return nil, fmt.Errorf("new api: there is a hook for %q but no such kind", name)
		}
	}
	for gvr := range cfg.Virtual {
		if a.resources[gvr] == nil {
			return nil, fmt.Errorf("new api: there is a provider for %s but no such kind", gvr)
		}
	}
	a.discovery = newDiscovery(kinds, a.verbsOf)
	a.openapi = openapi.New(kinds, a.verbsOf, a.version)
	return a, nil
}

func (a *API) verbsOf(k *kind.Kind) []string { return a.resources[k.GVR()].verbs() }

// call is one request on its way through the API.
type call struct {
	*API
	w      http.ResponseWriter
	r      *http.Request
	info   *request.RequestInfo
	who    *authenticator.Response
	res    *resource // nil for requests that are not about a kind
	accept accept
	audit  trail

	warnings []string
}

// ServeHTTP implements http.Handler.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	tracked := &tracker{ResponseWriter: w}
	c := &call{API: a, w: tracked, r: r}
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
	if err := c.authorize(); err != nil {
		return err
	}
	if !info.IsResourceRequest {
		return c.serveNonResource()
	}
	gvr := schema.GroupVersionResource{Group: info.APIGroup, Version: info.APIVersion, Resource: info.Resource}
	if review := reviews[gvr]; review != nil {
		return review(c)
	}
	c.res = c.resources[gvr]
	if c.res == nil || !c.validPath() {
		return errNoSuchPath
	}
	return c.serveResource()
}

// validPath refuses paths that RequestInfo reads more generously than the API
// has meanings for.
func (c *call) validPath() bool {
	if c.info.Subresource != "" && (c.info.Subresource != "status" || !c.res.Status || len(c.info.Parts) != 3) {
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
