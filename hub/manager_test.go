// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"
)

// manager speaks the management API, and holds every answer against its document.
type manager struct {
	t      *testing.T
	url    string
	router routers.Router

	mu   sync.Mutex
	seen map[string]bool // "GET /path 200"
}

func newManager(t *testing.T, url string) *manager {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromFile("catalog/manage/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Fatal(err)
	}
	doc.Servers = openapi3.Servers{{URL: url}}
	router, err := legacy.NewRouter(doc)
	if err != nil {
		t.Fatal(err)
	}
	return &manager{t: t, url: url, router: router, seen: map[string]bool{}}
}

// answer of the management API.
type answer struct {
	code    int
	header  http.Header
	message string // of a fault
	body    map[string]any
}

// versions of a list, as id:name, those that are the default with a star.
func (a answer) versions() string {
	var out []string
	list, _ := a.body["versions"].([]any)
	for _, v := range list {
		v := v.(map[string]any)
		text := fmt.Sprint(v["id"], ":", v["name"])
		if v["default"] == true {
			text += "*"
		}
		out = append(out, text)
	}
	return strings.Join(out, " ")
}

func (m *manager) do(c *http.Client, method, path, body string, header ...string) answer {
	m.t.Helper()
	req, err := http.NewRequestWithContext(timeout(m.t), method, m.url+path, strings.NewReader(body))
	if err != nil {
		m.t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := c.Do(req)
	if err != nil {
		m.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		m.t.Fatal(err)
	}
	out := answer{code: resp.StatusCode, header: resp.Header}
	if err := json.Unmarshal(data, &out.body); err != nil {
		m.t.Fatalf("%s %s: %d %q: %v", method, path, resp.StatusCode, data, err)
	}
	for _, v := range out.body {
		if f, ok := v.(map[string]any); ok && out.code >= 400 {
			out.message, _ = f["message"].(string)
		}
	}
	route, params, err := m.router.FindRoute(req)
	if out.code == http.StatusMethodNotAllowed {
		return out
	}
	if err != nil {
		if out.code != http.StatusNotFound {
			m.t.Errorf("%s %s: %d, and not in the document: %v", method, path, out.code, err)
		}
		return out
	}
	err = openapi3filter.ValidateResponse(m.t.Context(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{Request: req, Route: route, PathParams: params},
		Status:                 resp.StatusCode, Header: resp.Header, Body: io.NopCloser(bytes.NewReader(data)),
		Options: &openapi3filter.Options{IncludeResponseStatus: true, MultiError: true},
	})
	if err != nil {
		m.t.Errorf("%s %s: %d %s: not as documented: %v", method, path, out.code, data, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.seen[fmt.Sprint(route.Method, " ", route.Path, " ", out.code)] = true
	return out
}

// expect does a request and compares the code, and what the message contains.
func (m *manager) expect(c *http.Client, method, path, body string, code int, message string) answer {
	m.t.Helper()
	a := m.do(c, method, path, body)
	if a.code != code || !strings.Contains(a.message, message) {
		m.t.Errorf("%s %s %s: %d %q, want %d %q", method, path, body, a.code, a.message, code, message)
	}
	return a
}

// coverage checks that the test saw every answer of the document but those to
// overload and faults, once under the path or its alias.
func (m *manager) coverage() {
	doc, err := openapi3.NewLoader().LoadFromFile("catalog/manage/openapi.yaml")
	if err != nil {
		m.t.Fatal(err)
	}
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			for status := range op.Responses.Map() {
				key := method + " " + path + " " + status
				other := strings.Replace(key, "addon-versions", "datastore-versions", 1)
				if !slices.Contains([]string{"429", "5XX"}, status) && !m.seen[key] && !m.seen[other] {
					m.t.Errorf("documented, and not seen: %s", key)
				}
			}
		}
	}
}
