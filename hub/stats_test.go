// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"

	"github.com/drover-io/drover/hub/api"
	"github.com/drover-io/drover/hub/auth"
	"github.com/drover-io/drover/hub/gateway"
	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/shared/histogram"
)

// fakeStats are those of a hub that is nowhere; header "User" logs in.
func fakeStats() *stats {
	refusals := map[string]uint64{"line\nbreak \"quoted\"": 1}
	for i := range 3 * maxSeries {
		refusals[fmt.Sprintf("reason-%03d", i)] = 1
	}
	h := histogram.New(.5, 1, 10)
	for _, v := range []float64{.5, .75, 5, 50} {
		h.Observe(v)
	}
	return &stats{
		authenticator: authenticator.RequestFunc(func(r *http.Request) (*authenticator.Response, bool, error) {
			name := r.Header.Get("User")
			info := &user.DefaultInfo{Name: name, Groups: []string{user.AllAuthenticated}}
			if name == "admin" {
				info.Groups = append(info.Groups, user.SystemPrivilegedGroup)
			}
			return &authenticator.Response{User: info}, name != "", nil
		}),
		authorizer: auth.Authorizer{},
		started:    time.Now(),
		gateway: func() gateway.Stats {
			return gateway.Stats{Sessions: 3, BytesFromAgents: 1 << 53, Refusals: refusals}
		},
		store: func() store.Stats {
			return store.Stats{Revision: 179524358600000, Objects: 7, Commits: h.Read(), Batches: h.Read()}
		},
		api: func() api.Stats {
			return api.Stats{Watches: 5, Sent: 9, Requests: map[api.Request]histogram.Snapshot{
				{Verb: "list", Resource: "manifestworks.work.open-cluster-management.io", Code: 200}: h.Read(),
				{Verb: "get", Resource: "manifestworks.work.open-cluster-management.io", Code: 404}:  h.Read(),
			}}
		},
		healthy:  func() error { return errors.New("disk is full") },
		requests: map[requestKind]uint64{},
	}
}

func ask(s http.Handler, method, path, user string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, nil)
	r.Header.Set("User", user)
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

func TestMetricsNeedLogin(t *testing.T) {
	t.Parallel()
	s := fakeStats()
	for _, tt := range []struct {
		user string
		code int
	}{{"", 401}, {"somebody", 403}, {"admin", 200}} {
		if w := ask(s, "GET", "/metrics", tt.user); w.Code != tt.code {
			t.Errorf("user %q: %d, want %d: %s", tt.user, w.Code, tt.code, w.Body)
		}
	}
}

var (
	nameRE   = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)
	seriesRE = regexp.MustCompile(`^([a-z0-9_]+)(\{[a-z]+="(?:[^"\\]|\\.)*"(?:,[a-z]+="(?:[^"\\]|\\.)*")*\})? ([0-9.]+)$`)
)

// TestMetricsText holds the text to what Prometheus reads and to its rules for
// names: each family once, with help and type, a counter ends in _total, a unit
// is a base unit at the end, no series comes twice, and none without bounds.
func TestMetricsText(t *testing.T) {
	t.Parallel()
	s := fakeStats()
	api := s.count(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch code := r.URL.Query().Get("code"); code {
		case "":
		case "write":
			fmt.Fprint(w, "text")
		default:
			n, err := strconv.Atoi(code)
			if err != nil {
				t.Error(err)
			}
			w.WriteHeader(http.StatusEarlyHints)
			w.WriteHeader(n)
		}
	}))
	for _, r := range []struct{ method, path string }{
		{"GET", "/api"},
		{"GET", "/api?code=write"},
		{"HEAD", "/api?code=200"},
		{"GET", "/api?watch=true&code=410"},
		{"GET", "/api?watch=1&code=200"},
		{"POST", "/api?code=201"},
		{"BREW", "/api?code=405"},
		{"X", "/api?code=405"},
	} {
		ask(api, r.method, r.path, "")
	}
	text := ask(s, "GET", "/metrics", "admin").Body.String()

	families, series, perFamily := map[string]string{}, map[string]bool{}, map[string]int{}
	helped, current := "", ""
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		fields := strings.SplitN(line, " ", 4)
		switch {
		case strings.HasPrefix(line, "# HELP ") && len(fields) == 4 && strings.HasSuffix(line, "."):
			helped = fields[2]
		case strings.HasPrefix(line, "# TYPE ") && len(fields) == 4 && fields[2] == helped:
			current = helped
			if families[current] != "" || !nameRE.MatchString(current) {
				t.Errorf("family %s comes twice, or has a bad name", current)
			}
			families[current] = fields[3]
		default:
			m := seriesRE.FindStringSubmatch(line)
			if m == nil || series[m[1]+m[2]] {
				t.Errorf("line %q", line)
				continue
			}
			name := m[1]
			if families[current] == "histogram" {
				for _, part := range []string{"_bucket", "_sum", "_count"} {
					name = strings.TrimSuffix(name, part)
				}
			}
			if name != current {
				t.Errorf("line %q stands with %s", line, current)
			}
			series[m[1]+m[2]] = true
			if perFamily[current]++; perFamily[current] > maxSeries+1 {
				t.Errorf("%s has %d series", current, perFamily[current])
			}
		}
	}
	unit := regexp.MustCompile(`_(milliseconds|ms|minutes|kilobytes|megabytes|kb|mb|percent|count|sum|bucket)$`)
	for name, kind := range families {
		if (kind == "counter") != strings.HasSuffix(name, "_total") || (kind != "counter" && kind != "gauge" && kind != "histogram") {
			t.Errorf("%s is a %s", name, kind)
		}
		if unit.MatchString(strings.TrimSuffix(name, "_total")) {
			t.Errorf("%s has no base unit", name)
		}
		if strings.Contains(strings.TrimSuffix(name, "_total"), "bytes_") {
			t.Errorf("%s: the unit is not at the end", name)
		}
	}
	for _, want := range []string{
		"drover_hub_sessions 3\n",
		"drover_hub_received_bytes_total 9007199254740992\n",
		"drover_hub_store_revision 179524358600000\n",
		"drover_hub_store_objects 7\n",
		"drover_hub_broker_healthy 0\n",
		"drover_hub_api_requests_in_flight{kind=\"watch\"} 5\n",
		"drover_hub_api_sent_events_total 9\n",
		"drover_hub_store_commit_duration_seconds_bucket{le=\"0.5\"} 1\n",
		"drover_hub_store_commit_duration_seconds_bucket{le=\"10\"} 3\n",
		"drover_hub_store_commit_duration_seconds_bucket{le=\"+Inf\"} 4\n",
		"drover_hub_store_commit_duration_seconds_sum 56.25\n",
		"drover_hub_store_commit_duration_seconds_count 4\n",
		`drover_hub_api_request_duration_seconds_bucket{verb="list",resource="manifestworks.work.open-cluster-management.io",code="200",le="1"} 2` + "\n",
		`drover_hub_api_request_duration_seconds_count{verb="get",resource="manifestworks.work.open-cluster-management.io",code="404"} 4` + "\n",
		`drover_hub_refusals_total{reason="line\nbreak \"quoted\""} 1` + "\n",
		fmt.Sprintf("drover_hub_refusals_total{reason=\"other\"} %d\n", 2*maxSeries+1),
		`drover_hub_api_requests_total{verb="get",code="200"} 3` + "\n",
		`drover_hub_api_requests_total{verb="watch",code="410"} 1` + "\n",
		`drover_hub_api_requests_total{verb="watch",code="200"} 1` + "\n",
		`drover_hub_api_requests_total{verb="post",code="201"} 1` + "\n",
		`drover_hub_api_requests_total{verb="other",code="405"} 2` + "\n",
		"\nprocess_resident_memory_bytes ",
		"\ngo_goroutines ",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in:\n%s", want, text)
		}
	}
}
