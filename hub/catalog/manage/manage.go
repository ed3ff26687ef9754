// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Package manage is the management API of datastore versions that OpenStack Trove
// specified for Liberty, as another face of AddOnVersions: a datastore is an addon,
// a version of it an AddOnVersion. docs/management-api.md is its reference,
// openapi.yaml in this directory describes it for programs.
//
// It holds and decides nothing itself. Each request becomes requests of the
// Kubernetes-style API in the name of who sent it, so that permissions, admission,
// audit and limits are those of the API. What is different is who may read: the
// paths below /mgmt/ are for those who may change AddOnVersions, and the others
// show inactive versions to nobody else.
package manage

import (
	_ "embed"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"
)

// Prefix of all paths that the handler answers.
const Prefix = "/v1.0/"

// PathDocument serves the OpenAPI document, to anybody.
const PathDocument = Prefix + "openapi.yaml"

//go:embed openapi.yaml
var document []byte

// route is one operation. Paths have the placeholders of http.ServeMux.
type route struct {
	method, path string
	// verb on AddOnVersions that the operation needs; empty: what the API asks for.
	verb  string
	serve func(*call) (reply, error)
}

const (
	pathVersions   = Prefix + "{tenant}/mgmt/datastore-versions"
	pathVersion    = pathVersions + "/{id}"
	pathDatastore  = Prefix + "{tenant}/mgmt/datastores/{datastore}"
	pathDatastores = Prefix + "{tenant}/datastores"
	pathPublic     = pathDatastores + "/{datastore}"
)

func routes() []route {
	out := []route{
		{http.MethodGet, pathDatastores, "", (*call).datastores},
		{http.MethodGet, pathPublic, "", (*call).datastore},
		{http.MethodGet, pathPublic + "/versions", "", (*call).publicVersions},
		{http.MethodGet, pathPublic + "/versions/{id}", "", (*call).publicVersion},
		{http.MethodDelete, pathDatastore, "", (*call).deleteDatastore},
	}
	for _, r := range []route{
		{http.MethodPost, pathVersions, verbCreate, (*call).create},
		{http.MethodGet, pathVersions, verbChange, (*call).list},
		{http.MethodGet, pathVersion, verbChange, (*call).show},
		{http.MethodPatch, pathVersion, verbChange, (*call).patch},
		{http.MethodDelete, pathVersion, verbDelete, (*call).delete},
	} {
		alias := r
		alias.path = strings.Replace(r.path, "datastore-versions", "addon-versions", 1)
		out = append(out, r, alias)
	}
	return out
}

// New returns the handler of everything below Prefix. api is the handler of the
// Kubernetes-style API, which authenticates.
func New(api http.Handler) http.Handler {
	mux := http.NewServeMux()
	methods := map[string][]string{}
	for _, r := range routes() {
		mux.HandleFunc(r.method+" "+r.path, func(w http.ResponseWriter, req *http.Request) { serve(api, r, w, req) })
		methods[r.path] = append(methods[r.path], r.method)
	}
	for path, allowed := range methods {
		slices.Sort(allowed)
		allow := strings.Join(allowed, ", ")
		mux.HandleFunc(path, func(w http.ResponseWriter, req *http.Request) {
			w.Header().Set("Allow", allow)
			refuse(w, fail(http.StatusMethodNotAllowed, "%s is not a method of this path: use %s", req.Method, allow))
		})
	}
	mux.HandleFunc("GET "+PathDocument, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/yaml")
		_, _ = w.Write(document) // a client that went away needs no answer
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, req *http.Request) {
		refuse(w, fail(http.StatusNotFound, "there is nothing at %s; the paths are in %s", req.URL.Path, PathDocument))
	})
	return mux
}

// reply is an answer that is no fault.
type reply struct {
	code   int
	body   any
	header http.Header // more than the usual ones
}

func serve(api http.Handler, r route, w http.ResponseWriter, req *http.Request) {
	c := &call{api: api, w: w, r: req}
	answer, err := func() (reply, error) {
		if r.verb != "" {
			if err := c.need(r.verb); err != nil {
				return reply{}, err
			}
		}
		return r.serve(c)
	}()
	if err != nil {
		refuse(w, err)
		return
	}
	maps.Copy(w.Header(), answer.header)
	write(w, answer.code, answer.body)
}

func write(w http.ResponseWriter, code int, body any) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body) // a client that went away needs no answer
}

func refuse(w http.ResponseWriter, err error) {
	var f *fault
	if !errors.As(err, &f) {
		f = fail(http.StatusInternalServerError, "internal error; the hub's log has the details")
	}
	if f.retryAfter != "" {
		w.Header().Set("Retry-After", f.retryAfter)
	}
	if f.code == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	write(w, f.code, f.body())
}
