// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package live

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"

	"github.com/drover-io/drover/hub/auth"
	"github.com/drover-io/drover/hub/broker"
	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/shared/apis/live"
	"github.com/drover-io/drover/test/leak"
)

func TestMain(m *testing.M) { leak.Main(m) }

// patience bounds every wait; it is only reached when a test fails.
const patience = 60 * time.Second

// nobodys are rights that give nobody anything.
type nobodys struct{}

func (nobodys) Policy() *auth.Policy { return auth.NewPolicy(auth.Objects{}) }

// rig is a Live on a real store, behind a real server. The header Test-User says
// who asks; root sees everything.
type rig struct {
	t     testing.TB
	store *store.Store
	live  *Live
	srv   *httptest.Server

	mu    sync.Mutex
	loads map[string]Load
	valid error // of credentials
}

func newRig(t testing.TB, source func(*store.Store) auth.Source) *rig {
	t.Helper()
	b, err := broker.Open(broker.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	s, err := store.Open(t.Context(), b.JetStream(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	running(t, s.Run)
	r := &rig{t: t, store: s, loads: map[string]Load{}}
	rbac := auth.RBAC{Source: nobodys{}}
	if source != nil {
		rbac.Source = source(s)
	}
	r.live = New(Config{
		Store: s, Authorizer: rbac, Sight: rbac,
		Authenticator: authenticator.RequestFunc(func(req *http.Request) (*authenticator.Response, bool, error) {
			name := req.Header.Get("Test-User")
			if name == "" {
				return nil, false, nil
			}
			groups := []string{user.AllAuthenticated}
			if name == "root" {
				groups = append(groups, user.SystemPrivilegedGroup)
			}
			return &authenticator.Response{User: &user.DefaultInfo{Name: name, Groups: groups}}, true, nil
		}),
		Valid: func(*http.Request, user.Info) error {
			r.mu.Lock()
			defer r.mu.Unlock()
			return r.valid
		},
		Load: func(name string) (Load, bool) {
			r.mu.Lock()
			defer r.mu.Unlock()
			l, ok := r.loads[name]
			return l, ok
		},
	})
	ctx, cancel := context.WithCancel(context.Background())
	r.srv = httptest.NewUnstartedServer(r.live.Handler(ctx))
	r.srv.EnableHTTP2 = true
	r.srv.StartTLS()
	t.Cleanup(func() { cancel(); r.srv.CloseClientConnections(); r.srv.Close() })
	running(t, r.live.Run)
	return r
}

func running(t testing.TB, run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); run(ctx) }() //nolint:errcheck // ends by cancel
	t.Cleanup(func() { cancel(); <-done })
}

// put stores an object, new or changed.
func (r *rig) put(resource, ns, name string, obj map[string]any) {
	r.t.Helper()
	key := store.Key{Resource: resource, Namespace: ns, Name: name}
	meta, _ := obj["metadata"].(map[string]any)
	if meta == nil {
		meta = map[string]any{}
	}
	meta["name"], meta["uid"] = name, resource+ns+name
	if ns != "" {
		meta["namespace"] = ns
	}
	obj["metadata"] = meta
	data, err := json.Marshal(obj)
	if err != nil {
		r.t.Fatal(err)
	}
	if old, err := r.store.Get(r.t.Context(), key); err == nil {
		_, err = r.store.Update(r.t.Context(), key, data, old.Revision)
		if err != nil {
			r.t.Fatal(err)
		}
	} else if _, err := r.store.Create(r.t.Context(), key, data); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) remove(resource, ns, name string) {
	r.t.Helper()
	if _, err := r.store.Delete(r.t.Context(), store.Key{Resource: resource, Namespace: ns, Name: name}, 0); err != nil && !errors.Is(err, store.ErrNotFound) {
		r.t.Fatal(err)
	}
}

func (r *rig) ask(who, path string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(r.t.Context(), http.MethodGet, r.srv.URL+path, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Test-User", who)
	return r.srv.Client().Do(req)
}

// get reads a whole answer.
func (r *rig) get(who, path string) (int, string) {
	r.t.Helper()
	res, err := r.ask(who, path)
	if err != nil {
		r.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

// table reads a table as rows by key.
func (r *rig) table(who, name string) (rows map[string]string, revision uint64) {
	r.t.Helper()
	code, body := r.get(who, live.PathTable+"/"+name)
	if code == http.StatusForbidden {
		return nil, 0
	}
	var t live.Table
	if err := json.Unmarshal([]byte(body), &t); err != nil || code != http.StatusOK {
		r.t.Fatalf("table %s: %d %s", name, code, body)
	}
	rows = map[string]string{}
	for _, raw := range t.Rows {
		rows[rowKey(t.Columns, raw)] = string(raw)
	}
	return rows, t.Rev
}

// rowKey is the key of a row or of an object.
func rowKey(columns []string, raw json.RawMessage) string {
	if columns == nil {
		var obj struct {
			Metadata metav1.ObjectMeta `json:"metadata"`
		}
		_ = json.Unmarshal(raw, &obj)
		return strings.TrimPrefix(obj.Metadata.Namespace+"/"+obj.Metadata.Name, "/")
	}
	var cells []any
	_ = json.Unmarshal(raw, &cells)
	if columns[0] == "name" {
		return fmt.Sprint(cells[0])
	}
	return fmt.Sprint(cells[0], "/", cells[1])
}

// client follows a stream as a dashboard does.
type client struct {
	rig   *rig
	who   string
	query string

	mu        sync.Mutex
	rows      map[string]map[string]string // by subscription and key
	columns   map[string][]string
	forbidden map[string]string
	since     uint64
	resets    int
	frames    int
	beats     int
	end       string
	stop      context.CancelFunc
	done      chan struct{}
	seen      func(sub, key string) // called for everything that comes
}

func (r *rig) follow(who, query string, since uint64, seen func(sub, key string)) *client {
	c := &client{rig: r, who: who, query: query, since: since, seen: seen}
	c.clear()
	return c.start()
}

// again goes on from where another client is, which was closed.
func (c *client) again() *client {
	next := &client{rig: c.rig, who: c.who, query: c.query, since: c.since, seen: c.seen, rows: c.rows, columns: c.columns, forbidden: c.forbidden, resets: c.resets}
	return next.start()
}

func (c *client) start() *client {
	c.done = make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	c.stop = cancel
	go c.run(ctx)
	c.rig.t.Cleanup(c.close)
	return c
}

func (c *client) close() {
	c.stop()
	<-c.done
}

func (c *client) clear() {
	c.rows, c.columns, c.forbidden = map[string]map[string]string{}, map[string][]string{}, map[string]string{}
}

func (c *client) run(ctx context.Context) {
	defer close(c.done)
	for ctx.Err() == nil && c.end == "" {
		c.once(ctx)
	}
}

func (c *client) once(ctx context.Context) {
	path := c.rig.srv.URL + live.PathLive + "?" + c.query
	if c.since > 0 {
		path += fmt.Sprintf("&since=%d", c.since)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, path, nil)
	if err != nil {
		return
	}
	req.Header.Set("Test-User", c.who)
	res, err := c.rig.srv.Client().Do(req)
	if err != nil {
		return
	}
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var f live.Frame
		if err := json.Unmarshal(lines.Bytes(), &f); err != nil {
			c.rig.t.Errorf("frame %q: %v", lines.Text(), err)
			return
		}
		c.take(&f)
	}
}

func (c *client) take(f *live.Frame) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.frames++
	if f.Beat {
		c.beats++
	}
	c.end = f.End
	if f.Reset {
		c.resets++
		c.since = 0
		c.clear()
		return
	}
	for sub, columns := range f.Columns {
		c.columns[sub] = columns
	}
	for sub, text := range f.Forbidden {
		c.forbidden[sub] = text
	}
	for sub, list := range f.Put {
		for _, raw := range list {
			if c.rows[sub] == nil {
				c.rows[sub] = map[string]string{}
			}
			key := rowKey(c.columns[sub], raw)
			c.rows[sub][key] = string(raw)
			c.seen(sub, key)
		}
	}
	for sub, keys := range f.Del {
		for _, key := range keys {
			c.seen(sub, key)
			delete(c.rows[sub], key)
		}
	}
	c.since = max(c.since, f.Rev)
}

// until waits for something of what a client knows.
func (c *client) until(what string, done func(c *client) bool) {
	c.rig.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		c.mu.Lock()
		ok := done(c)
		state := fmt.Sprintf("rows %v, forbidden %v, end %q", c.rows, c.forbidden, c.end)
		c.mu.Unlock()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			c.rig.t.Fatalf("never: %s; %s", what, state)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func ignore(string, string) {}
