// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bufio"
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
)

// taker is a sink that refuses the first writes.
type taker struct {
	mu      sync.Mutex
	refuse  int
	names   []string
	arrived chan struct{}
}

func (k *taker) Write(_ context.Context, events []auditv1.Event) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.refuse > 0 {
		k.refuse--
		return errors.New("not now")
	}
	for _, ev := range events {
		k.names = append(k.names, ev.ObjectRef.Name)
	}
	select {
	case k.arrived <- struct{}{}:
	default:
	}
	return nil
}

func (k *taker) wait(t *testing.T, n int) []string {
	t.Helper()
	ctx := timeout(t)
	for {
		k.mu.Lock()
		names := k.names
		k.mu.Unlock()
		if len(names) >= n {
			return names
		}
		select {
		case <-k.arrived:
		case <-ctx.Done():
			t.Fatalf("%d events of %d arrived", len(names), n)
		}
	}
}

// follow runs a sink and returns what stops it.
func follow(t *testing.T, l *Log, name string, s Sink) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = l.Follow(ctx, name, s) // ends with ctx
	}()
	return func() {
		cancel()
		<-done
	}
}

func TestSinkGetsEverythingOnceAndInOrder(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	k := &taker{refuse: 1, arrived: make(chan struct{}, 1)}
	var want []string
	for round := range 3 {
		l, stop := b.open(Options{})
		unfollow := follow(t, l, "test", k)
		if round == 0 {
			// A new sink begins with what is recorded from then on.
			waitForConsumer(t, b, "test")
		}
		for i := range 20 {
			name := fmt.Sprintf("r%d-%d", round, i)
			mustRecord(t, l, event("ann", name))
			want = append(want, name)
		}
		k.wait(t, len(want))
		unfollow()
		// What is recorded while nobody follows is not lost.
		mustRecord(t, l, event("ann", fmt.Sprintf("between-%d", round)))
		want = append(want, fmt.Sprintf("between-%d", round))
		stop()
		b.stop()
		b.start()
	}
	l, _ := b.open(Options{})
	defer follow(t, l, "test", k)()
	if diff := cmp.Diff(want, k.wait(t, len(want))); diff != "" {
		t.Errorf("events at the sink (-want +got):\n%s", diff)
	}
}

func waitForConsumer(t *testing.T, b *testBroker, name string) {
	t.Helper()
	eventually(t, "the sink follows", func() bool {
		_, err := b.js.Consumer(timeout(t), Stream, sinkConsumer+name)
		return err == nil
	})
}

func TestFileSink(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := &File{Path: filepath.Join(dir, "audit.log"), MaxBytes: 400, Keep: 2}
	total := 0
	for i := range 9 {
		ev := event("ann", fmt.Sprint("c", i))
		if err := f.Write(t.Context(), []auditv1.Event{*ev}); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(f.Path); err == nil {
			total = i
		}
	}
	full, err := filepath.Glob(filepath.Join(dir, "audit-*.log"))
	if err != nil || len(full) != 2 {
		t.Errorf("full files %v, %v; want two", full, err)
	}
	if total == 0 {
		t.Error("the file was never there")
	}
	for _, name := range full {
		file, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		for s := bufio.NewScanner(file); s.Scan(); {
			var ev auditv1.Event
			if err := json.Unmarshal(s.Bytes(), &ev); err != nil || ev.User.Username != "ann" {
				t.Errorf("%s: %q: %v", name, s.Text(), err)
			}
		}
		file.Close()
	}
	gone := &File{Path: filepath.Join(dir, "no", "audit.log")}
	if err := gone.Write(t.Context(), []auditv1.Event{*event("ann", "x")}); err == nil || !strings.HasPrefix(err.Error(), "audit-log-path: ") {
		t.Errorf("folder that is not there: %v", err)
	}
}

func TestWebhook(t *testing.T) {
	t.Parallel()
	var got []string
	refuse := true
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var list auditv1.EventList
		if err := json.NewDecoder(r.Body).Decode(&list); err != nil || list.Kind != "EventList" || r.Header.Get("Authorization") != "Bearer hook" {
			t.Errorf("%v, kind %q, authorization %q", err, list.Kind, r.Header.Get("Authorization"))
		}
		if refuse {
			refuse = false
			http.Error(w, "busy", http.StatusServiceUnavailable)
			return
		}
		for _, ev := range list.Items {
			got = append(got, ev.ObjectRef.Name)
		}
	}))
	defer srv.Close()
	ca := filepath.Join(t.TempDir(), "ca.crt")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(t.TempDir(), "webhook.kubeconfig")
	text := fmt.Sprintf(`{"apiVersion":"v1","kind":"Config","current-context":"c","contexts":[{"name":"c","context":{"cluster":"c","user":"u"}}],
"clusters":[{"name":"c","cluster":{"server":%q,"certificate-authority":%q}}],"users":[{"name":"u","user":{"token":"hook"}}]}`, srv.URL+"/audit", ca)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	w, err := NewWebhook(config)
	if err != nil {
		t.Fatal(err)
	}
	defer w.client.CloseIdleConnections()
	events := []auditv1.Event{*event("ann", "a"), *event("ann", "b")}
	if err := w.Write(t.Context(), events); err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("busy server: %v", err)
	}
	if err := w.Write(t.Context(), events); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a", "b"}, got); diff != "" {
		t.Error(diff)
	}
	if _, err := NewWebhook(filepath.Join(t.TempDir(), "none")); err == nil || !strings.HasPrefix(err.Error(), "audit-webhook-config-file: ") {
		t.Errorf("no file: %v", err)
	}
}

func TestPolicyFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "policy.yaml")
	if err := os.WriteFile(file, []byte(`apiVersion: audit.k8s.io/v1
kind: Policy
rules:
- level: RequestResponse
  users: [ann]
  resources: [{group: x.example.io, resources: [managedclusters]}]
- level: None
`), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := LoadPolicy(file)
	if err != nil {
		t.Fatal(err)
	}
	refused := event("ann", "x")
	refused.Verb, refused.ObjectRef.APIGroup, refused.ObjectRef.Resource = "create", "authorization.k8s.io", "selfsubjectaccessreviews"
	question := refused.DeepCopy()
	refused.ResponseStatus.Code = http.StatusForbidden
	for _, tt := range []struct {
		name string
		ev   *auditv1.Event
		want auditv1.Level
	}{
		{"a rule", event("ann", "c1"), auditv1.LevelRequest},
		{"never less than metadata of a change", event("bob", "c1"), auditv1.LevelMetadata},
		{"a refusal", refused, auditv1.LevelMetadata},
		{"a question", question, auditv1.LevelNone},
	} {
		if got := p.level(tt.ev); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
	if err := os.WriteFile(file, []byte("kind: Nonsense\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadPolicy(file); err == nil || !strings.HasPrefix(err.Error(), "audit-policy-file: ") {
		t.Errorf("a file that is no policy: %v", err)
	}
}
