// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/drover-io/drover/shared/client"
	"github.com/drover-io/drover/shared/daemon"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func kubeconfig(t *testing.T, server string) string {
	t.Helper()
	c := clientcmdapi.NewConfig()
	c.Clusters["c"] = &clientcmdapi.Cluster{Server: server}
	c.Contexts["one"] = &clientcmdapi.Context{Cluster: "c"}
	c.CurrentContext = "one"
	path := filepath.Join(t.TempDir(), "config")
	if err := clientcmd.WriteToFile(*c, path); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestNewErrors(t *testing.T) {
	t.Parallel()
	garbage := filepath.Join(t.TempDir(), "garbage")
	if err := os.WriteFile(garbage, []byte("{{"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, path, context, text string }{
		{"no file", filepath.Join(t.TempDir(), "none"), "", "no such file"},
		{"garbage", garbage, "", "garbage"},
		{"no such context", kubeconfig(t, "https://127.0.0.1:1"), "two", `"two" does not exist`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := client.New(tt.path, tt.context)
			var de *daemon.Error
			if !errors.As(err, &de) || !strings.Contains(de.Hint, "--kubeconfig") {
				t.Fatalf("%v: want a hint", err)
			}
			if !strings.HasPrefix(err.Error(), "kubeconfig: ") || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("%q does not say %q", err, tt.text)
			}
		})
	}
}

func TestTable(t *testing.T) {
	t.Parallel()
	gvr := schema.GroupVersionResource{Group: "g", Version: "v1", Resource: "things"}
	for _, tt := range []struct {
		name            string
		namespace, item string
		opts            metav1.ListOptions
		answer          func(http.ResponseWriter)
		path, text      string
	}{
		{name: "all", path: "/apis/g/v1/things?"},
		{name: "selected", opts: metav1.ListOptions{LabelSelector: "a=b,c", Limit: 5}, path: "/apis/g/v1/things?labelSelector=a%3Db%2Cc&limit=5"},
		{name: "one", namespace: "n/x", item: "i", path: "/apis/g/v1/namespaces/n%2Fx/things/i?"},
		{name: "refused", path: "/apis/g/v1/things?", text: "nobody may", answer: func(w http.ResponseWriter) {
			w.WriteHeader(http.StatusForbidden)
			json.NewEncoder(w).Encode(metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status"}, Message: "nobody may", Reason: metav1.StatusReasonForbidden}) //nolint:errcheck // a test
		}},
		{name: "another server", path: "/apis/g/v1/things?", text: "not the API of a hub", answer: func(w http.ResponseWriter) {
			http.Error(w, "<html>", http.StatusNotFound)
		}},
		{name: "garbage", path: "/apis/g/v1/things?", text: "read the hub's answer", answer: func(w http.ResponseWriter) {
			fmt.Fprint(w, "<html>")
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			asked := make(chan string, 1)
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if !strings.Contains(r.Header.Get("Accept"), "as=Table") {
					t.Errorf("accepts %q", r.Header.Get("Accept"))
				}
				asked <- r.URL.EscapedPath() + "?" + r.URL.RawQuery
				if tt.answer != nil {
					tt.answer(w)
					return
				}
				fmt.Fprint(w, `{"columnDefinitions":[{"name":"Name"}],"rows":[{"cells":["x"]}]}`)
			}))
			defer srv.Close()
			c, err := client.New(kubeconfig(t, srv.URL+"/"), "")
			if err != nil {
				t.Fatal(err)
			}
			table, err := c.Table(t.Context(), gvr, tt.namespace, tt.item, tt.opts)
			if got := <-asked; got != tt.path {
				t.Errorf("asked %s, want %s", got, tt.path)
			}
			if tt.text != "" {
				if err == nil || !strings.Contains(err.Error(), tt.text) {
					t.Errorf("%v, want %q", err, tt.text)
				}
				return
			}
			if err != nil || len(table.Rows) != 1 {
				t.Errorf("%+v, %v", table, err)
			}
		})
	}
}

func TestExplain(t *testing.T) {
	t.Parallel()
	gr := schema.GroupResource{Resource: "things"}
	_, unreachable := http.Get("http://127.0.0.1:1/") //nolint:bodyclose,noctx // fails
	for _, tt := range []struct {
		name string
		err  error
		code int
		hint string
	}{
		{"nothing", nil, 0, ""},
		{"conflict", apierrors.NewConflict(gr, "x", errors.New("y")), 4, ""},
		{"exists", apierrors.NewAlreadyExists(gr, "x"), 4, ""},
		{"unauthorized", apierrors.NewUnauthorized("no"), 1, "credential"},
		{"forbidden", apierrors.NewForbidden(gr, "x", errors.New("y")), 1, ""},
		{"not found", apierrors.NewNotFound(gr, "x"), 1, ""},
		{"unreachable", unreachable, 1, "is the hub running"},
		{"already explained", &daemon.Error{Err: unreachable, Hint: "mine", Code: 3}, 3, "mine"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var out strings.Builder
			if code := daemon.Report(&out, "x", client.Explain(tt.err, "https://hub")); code != tt.code {
				t.Errorf("code %d, want %d", code, tt.code)
			}
			if (tt.hint == "") == strings.Contains(out.String(), "hint: ") || !strings.Contains(out.String(), tt.hint) {
				t.Errorf("%q, want hint %q", out.String(), tt.hint)
			}
		})
	}
	if err := client.Explain(unreachable, "https://hub"); !strings.HasPrefix(err.Error(), "reach the hub at https://hub: dial tcp") {
		t.Errorf("%v", err)
	}
}

func TestPoll(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		begin, calls := time.Now(), 0
		err := client.Poll(t.Context(), time.Second, func() (bool, error) { calls++; return calls == 3, nil })
		if err != nil || calls != 3 || time.Since(begin) != 2*time.Second {
			t.Errorf("%v, %d calls, %s", err, calls, time.Since(begin))
		}
		boom := errors.New("boom")
		if err := client.Poll(t.Context(), time.Second, func() (bool, error) { return false, boom }); !errors.Is(err, boom) {
			t.Errorf("%v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
		defer cancel()
		if err := client.Poll(ctx, time.Minute, func() (bool, error) { return false, nil }); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
	})
}
