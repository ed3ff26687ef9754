// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package login

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestTokenValid(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, tt := range []struct {
		name  string
		token *Token
		want  bool
	}{
		{"none", nil, false},
		{"empty", &Token{Expires: now.Add(time.Hour)}, false},
		{"good", &Token{IDToken: "x", Expires: now.Add(31 * time.Second)}, true},
		{"nearly over", &Token{IDToken: "x", Expires: now.Add(30 * time.Second)}, false},
		{"over", &Token{IDToken: "x", Expires: now}, false},
	} {
		if got := tt.token.Valid(now); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}

func TestNew(t *testing.T) {
	t.Parallel()
	bad := filepath.Join(t.TempDir(), "ca.crt")
	if err := os.WriteFile(bad, []byte("no PEM"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		issuer Issuer
		fails  string
	}{
		{"good", Issuer{URL: "https://x", ClientID: "c"}, ""},
		{"http", Issuer{URL: "http://x", ClientID: "c"}, "https"},
		{"no client", Issuer{URL: "https://x"}, "client id: missing"},
		{"no file", Issuer{URL: "https://x", ClientID: "c", CAFile: bad + "x"}, "no such file"},
		{"no certificate", Issuer{URL: "https://x", ClientID: "c", CAFile: bad}, "no certificate"},
	} {
		if _, err := New(tt.issuer); (err == nil) != (tt.fails == "") || err != nil && !strings.Contains(err.Error(), tt.fails) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.fails)
		}
	}
}

func TestCache(t *testing.T) {
	t.Parallel()
	c := NewCache(filepath.Join(t.TempDir(), "a", "b"))
	i := Issuer{URL: "https://x", ClientID: "c", Scopes: []string{"openid"}}
	if got, err := c.Load(i); got != nil || err != nil {
		t.Fatalf("%v, %v", got, err)
	}
	if err := c.Delete(i); err != nil {
		t.Error(err)
	}
	want := Token{IDToken: "id", RefreshToken: "r", Expires: time.Now().Add(time.Hour).UTC()}
	if err := c.Store(i, &want); err != nil {
		t.Fatal(err)
	}
	if got, err := c.Load(i); err != nil || *got != want {
		t.Errorf("%v, %v", got, err)
	}
	if got, _ := c.Load(Issuer{URL: "https://x", ClientID: "c", Scopes: []string{"openid", "groups"}}); got != nil {
		t.Error("other scopes are another login")
	}
	path := c.path(i, ".json")
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st, err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Load(i); err == nil || !strings.Contains(err.Error(), "can be read by others") {
		t.Errorf("%v", err)
	}
	if err := os.WriteFile(path, []byte(`{"idToken":`), 0o600); err != nil || os.Chmod(path, 0o600) != nil {
		t.Fatal(err)
	}
	if got, err := c.Load(i); got != nil || err != nil {
		t.Errorf("half a file: %v, %v", got, err)
	}
}

// TestGet: many at once ask a person once.
func TestGet(t *testing.T) {
	t.Parallel()
	c := NewCache(t.TempDir())
	i := Issuer{URL: "https://x", ClientID: "c"}
	client, err := New(i)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Get(t.Context(), client, nil); !errors.Is(err, ErrLoginNeeded) {
		t.Errorf("nobody to ask: %v", err)
	}
	var mu sync.Mutex
	asked := 0
	again := func(context.Context) (*Token, error) {
		mu.Lock()
		defer mu.Unlock()
		asked++
		return &Token{IDToken: "x", Expires: time.Now().Add(time.Hour)}, nil
	}
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			if got, err := c.Get(t.Context(), client, again); err != nil || got.IDToken != "x" {
				t.Errorf("%v, %v", got, err)
			}
		})
	}
	wg.Wait()
	if asked != 1 {
		t.Errorf("asked %d times", asked)
	}
	// Who gives up does not wait for who does not answer.
	unlock, err := c.Lock(t.Context(), i)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := c.Lock(ctx, i); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a second lock: %v", err)
	}
	unlock()
}

func TestCallback(t *testing.T) {
	t.Parallel()
	results := make(chan result, 1)
	h := callback("state", results)
	ask := func(query string) (int, string) {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/callback?"+query, nil))
		return w.Code, w.Body.String()
	}
	if code, _ := ask("state=other&code=c"); code != http.StatusBadRequest || len(results) != 0 {
		t.Errorf("another state: %d", code)
	}
	if code, text := ask("state=state&code=c"); code != http.StatusOK || !strings.Contains(text, "Logged in") {
		t.Errorf("%d %s", code, text)
	}
	ask("state=state&code=second")
	if r := <-results; r.code != "c" || r.err != nil {
		t.Errorf("%+v", r)
	}
	for query, want := range map[string]string{
		"state=state": "without a code", "state=state&error=access_denied&error_description=%1b[2J": `"access_denied" "\x1b[2J"`, "": "not the answer",
	} {
		q, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		if r := parseCallback(q, "state"); r.err == nil || !strings.Contains(r.err.Error(), want) {
			t.Errorf("%s: %v, want %s", query, r.err, want)
		}
	}
}

func FuzzToken(f *testing.F) {
	f.Add([]byte(`{"idToken":"x","refreshToken":"y","expires":"2026-01-02T03:04:05Z"}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if got := parseToken(data); got != nil && got.IDToken == "" {
			t.Error("a token without a token")
		}
	})
}
