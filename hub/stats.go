// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"fmt"
	"maps"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"github.com/drover-io/drover/hub/api"
	"github.com/drover-io/drover/hub/gateway"
	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/shared/daemon"
)

// maxSeries bounds the series of one metric. The labels are of fixed sets; this
// is for the day one of them is not.
const maxSeries = 64

// stats serves /metrics in Prometheus' text format, to people and tools that may
// get that path. No label carries a name that a cluster or a person chose.
type stats struct {
	authenticator authenticator.Request
	authorizer    authorizer.UnconditionalAuthorizer
	started       time.Time

	gateway func() gateway.Stats
	store   func() store.Stats
	api     func() api.Stats
	healthy func() error

	mu       sync.Mutex
	requests map[requestKind]uint64
}

// requestKind is what requests of the API are counted by.
type requestKind struct {
	verb string
	code int
}

func newStats(p *parts, authn authenticator.Request, authz authorizer.UnconditionalAuthorizer) *stats {
	return &stats{
		authenticator: authn, authorizer: authz, started: time.Now(),
		gateway: func() gateway.Stats { return p.gateway.Stats() }, store: p.store.Stats,
		api: func() api.Stats { return p.api.Stats() }, healthy: p.broker.Healthy,
		requests: map[requestKind]uint64{},
	}
}

// count counts the requests that next answers, by verb and status code. A watch
// counts when it begins.
func (s *stats) count(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := &countedWriter{ResponseWriter: w, stats: s, verb: verb(r)}
		defer c.note(http.StatusOK) // of an answer without a body
		next.ServeHTTP(c, r)
	})
}

// verb is one of a few words, whatever method a client made up.
func verb(r *http.Request) string {
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		if watch, err := strconv.ParseBool(r.URL.Query().Get("watch")); err == nil && watch {
			return "watch"
		}
		return "get"
	case http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete:
		return strings.ToLower(r.Method)
	}
	return "other"
}

type countedWriter struct {
	http.ResponseWriter
	stats *stats
	verb  string
	noted bool
}

// Unwrap lets http.ResponseController through.
func (w *countedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *countedWriter) WriteHeader(code int) {
	if code >= 200 { // an informational one is not the answer
		w.note(code)
	}
	w.ResponseWriter.WriteHeader(code)
}

func (w *countedWriter) Write(p []byte) (int, error) {
	w.note(http.StatusOK)
	return w.ResponseWriter.Write(p)
}

func (w *countedWriter) note(code int) {
	if w.noted {
		return
	}
	w.noted = true
	w.stats.mu.Lock()
	defer w.stats.mu.Unlock()
	w.stats.requests[requestKind{w.verb, code}]++
}

func (s *stats) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	who, ok, err := s.authenticator.AuthenticateRequest(r)
	if err != nil || !ok {
		w.Header().Set("WWW-Authenticate", "Bearer")
		http.Error(w, "metrics need a login: use a client certificate of the hub, and the server name api.<trust domain>", http.StatusUnauthorized)
		return
	}
	decision, _, err := s.authorizer.Authorize(r.Context(), authorizer.AttributesRecord{User: who.User, Verb: "get", Path: r.URL.Path})
	if err != nil || decision != authorizer.DecisionAllow {
		http.Error(w, fmt.Sprintf("user %q may not get %s", who.User.GetName(), r.URL.Path), http.StatusForbidden)
		return
	}
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	w.Write(s.text()) //nolint:errcheck // the asker has gone
}

// text is everything there is to know now.
func (s *stats) text() []byte {
	var e exposition
	e.family("drover_build_info", "gauge", "Always 1; the version is the label.")
	e.series("version", daemon.Version(), 1)

	g := s.gateway()
	e.one("drover_hub_sessions", "gauge", "Agents that are connected.", float64(g.Sessions))
	e.one("drover_hub_silent_connections", "gauge", "Connections that have not said yet what they want.", float64(g.Silent))
	e.one("drover_hub_handshakes_in_progress", "gauge", "TLS handshakes under way.", float64(g.Handshaking))
	e.one("drover_hub_handshakes_total", "counter", "TLS handshakes completed.", float64(g.Handshakes))
	e.one("drover_hub_handshake_errors_total", "counter", "TLS handshakes that failed.", float64(g.HandshakeErrors))
	e.one("drover_hub_silent_connections_evicted_total", "counter", "Silent connections closed because there were too many.", float64(g.SilentEvicted))
	e.one("drover_hub_sessions_opened_total", "counter", "Sessions of agents that reached the broker.", float64(g.Connects))
	e.one("drover_hub_sessions_replaced_total", "counter", "Sessions ended by a newer one of the same cluster.", float64(g.Replaced))
	e.one("drover_hub_session_flap_alarms_total", "counter", "Alarms that two agents seem to hold one identity.", float64(g.Flaps))
	e.one("drover_hub_received_bytes_total", "counter", "Bytes from agents.", float64(g.BytesFromAgents))
	e.one("drover_hub_sent_bytes_total", "counter", "Bytes to agents.", float64(g.BytesToAgents))
	e.labelled("drover_hub_refusals_total", "Agents that were not let in.", "reason", g.Refusals)
	e.labelled("drover_hub_filter_violations_total", "Sessions ended because the agent broke a rule of the protocol.", "rule", g.FilterViolations)
	e.labelled("drover_hub_sessions_closed_total", "Sessions that ended.", "cause", g.Closed)

	storeSeries(&e, s.store())
	healthy := 1.0
	if s.healthy() != nil {
		healthy = 0
	}
	e.one("drover_hub_broker_healthy", "gauge", "Whether the broker takes writes, 1 or 0.", healthy)
	s.requestSeries(&e)
	apiSeries(&e, s.api())
	s.process(&e)
	return e.buffer.Bytes()
}

func (s *stats) requestSeries(e *exposition) {
	s.mu.Lock()
	requests := maps.Clone(s.requests)
	s.mu.Unlock()
	e.family("drover_hub_api_requests_total", "counter", "Requests to the API that were answered; a watch counts when it begins.")
	kinds := slices.SortedFunc(maps.Keys(requests), func(a, b requestKind) int {
		if c := strings.Compare(a.verb, b.verb); c != 0 {
			return c
		}
		return a.code - b.code
	})
	for _, k := range kinds {
		fmt.Fprintf(&e.buffer, "%s{verb=%q,code=\"%d\"} %d\n", e.name, k.verb, k.code, requests[k])
	}
}

func (s *stats) process(e *exposition) {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	e.one("go_goroutines", "gauge", "Goroutines.", float64(runtime.NumGoroutine()))
	e.one("go_memstats_heap_alloc_bytes", "gauge", "Bytes of objects on the heap.", float64(m.HeapAlloc))
	e.one("process_start_time_seconds", "gauge", "Start of the hub since the epoch.", float64(s.started.Unix()))
	if rss, ok := residentMemory(); ok {
		e.one("process_resident_memory_bytes", "gauge", "Memory of the process.", float64(rss))
	}
	if fds, err := os.ReadDir("/proc/self/fd"); err == nil {
		e.one("process_open_fds", "gauge", "Open file descriptors.", float64(len(fds)-1)) // one of them reads this
	}
}

// residentMemory is known on Linux alone.
func residentMemory() (uint64, bool) {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, false
	}
	fields := strings.Fields(string(text))
	if len(fields) < 2 {
		return 0, false
	}
	pages, err := strconv.ParseUint(fields[1], 10, 64)
	return pages * uint64(os.Getpagesize()), err == nil
}
