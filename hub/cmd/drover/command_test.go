// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"go.uber.org/goleak"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/shared/client"
	"github.com/drover-io/drover/shared/daemon"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// hub answers requests for join requests from a list.
func hub(t *testing.T, all ...fleet.JoinRequest) (kubeconfig string) {
	t.Helper()
	for i := range all {
		all[i].TypeMeta = metav1.TypeMeta{APIVersion: "fleet.drover.io/v1alpha1", Kind: "JoinRequest"}
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		name, one := strings.CutPrefix(r.URL.Path, "/apis/fleet.drover.io/v1alpha1/joinrequests/")
		if !one {
			json.NewEncoder(w).Encode(map[string]any{"apiVersion": "fleet.drover.io/v1alpha1", "kind": "JoinRequestList", "items": all}) //nolint:errcheck // a test
			return
		}
		for _, jr := range all {
			if jr.Name == name {
				json.NewEncoder(w).Encode(jr) //nolint:errcheck // a test
				return
			}
		}
		w.WriteHeader(http.StatusNotFound)
		json.NewEncoder(w).Encode(metav1.Status{ //nolint:errcheck // a test
			TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: "Failure", Code: 404, Reason: metav1.StatusReasonNotFound, Message: "joinrequests \"" + name + "\" not found",
		})
	}))
	t.Cleanup(srv.Close)
	c := clientcmdapi.NewConfig()
	c.Clusters["c"] = &clientcmdapi.Cluster{Server: srv.URL}
	c.Contexts["c"] = &clientcmdapi.Context{Cluster: "c"}
	c.CurrentContext = "c"
	kubeconfig = filepath.Join(t.TempDir(), "config")
	if err := clientcmd.WriteToFile(*c, kubeconfig); err != nil {
		t.Fatal(err)
	}
	return kubeconfig
}

func request(name, cluster, phase string) fleet.JoinRequest {
	return fleet.JoinRequest{
		ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: fleet.JoinRequestSpec{ClusterName: cluster}, Status: fleet.JoinRequestStatus{Phase: phase},
	}
}

func TestFindRequest(t *testing.T) {
	t.Parallel()
	h, err := client.New(hub(t,
		request("jr-1", "shop-1", fleet.PhasePending), request("jr-2", "shop-2", fleet.PhasePending), request("jr-3", "shop-2", fleet.PhasePending),
		request("jr-4", "shop-4", fleet.PhaseDenied), request("jr-5", "shop-4", fleet.PhasePending), request("jr-6", "shop-6", fleet.PhaseJoined),
		request("shop-1", "other", fleet.PhaseJoined),
	), "")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ typed, want, fails string }{
		{typed: "jr-2", want: "jr-2"},
		{typed: "jr-4", want: "jr-4"},
		{typed: "shop-1", want: "shop-1"}, // a request's name goes first
		{typed: "other", fails: "not found"},
		{typed: "shop-2", fails: "2 pending requests: jr-2, jr-3"},
		{typed: "shop-4", want: "jr-5"},
		{typed: "shop-6", fails: "not found"},
		{typed: "nobody", fails: "not found"},
	} {
		got, err := findRequest(t.Context(), h, tt.typed)
		if got != tt.want && tt.fails == "" || (err == nil) != (tt.fails == "") || err != nil && !strings.Contains(err.Error(), tt.fails) {
			t.Errorf("%s: %q, %v; want %q, %q", tt.typed, got, err, tt.want, tt.fails)
		}
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	kubeconfig := hub(t)
	for _, tt := range []struct {
		args []string
		code int
		text string
	}{
		{[]string{"nonsense"}, 2, `unknown command "nonsense"`},
		{[]string{"clusters", "-o", "xml"}, 2, `output "xml": want table`},
		{[]string{"clusters", "extra"}, 2, "hint: "},
		{[]string{"approve", "jr-1"}, 2, "fingerprint: missing"},
		{[]string{"approve"}, 2, "hint: "},
		{[]string{"apply"}, 2, "filename: missing"},
		{[]string{"access", "create"}, 2, "hint: "},
		{[]string{"access", "create", "ci"}, 2, "user: missing"},
		{[]string{"session", "revoke"}, 2, "hint: "},
		{[]string{"login", "--hub", "hub.example"}, 2, "want https://"},
		{[]string{"login", "--ca-file", "x"}, 2, "they go with --hub"},
		{[]string{"logout"}, 1, "not one of `drover login`"},
		{[]string{"work", "remove", "w"}, 2, "cluster: missing"},
		{[]string{"cluster", "label", "c", "bad"}, 2, `label "bad": want key=value`},
		{[]string{"token", "create", "--label", "bad"}, 2, `label "bad"`},
		{[]string{"requests", "--kubeconfig", "/nonexistent"}, 1, "hint: name the hub's credential"},
		{[]string{"approve", "shop-1", "--fingerprint", "00"}, 1, "`drover requests` lists them"},
		{[]string{"apply", "-f", "/nonexistent"}, 1, "no such file"},
	} {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			t.Parallel()
			var stderr, stdout bytes.Buffer
			c := root()
			c.SetOut(&stdout)
			c.SetErr(&stderr)
			code := daemon.Execute(t.Context(), c, append([]string{"--kubeconfig", kubeconfig}, tt.args...), &stderr)
			if code != tt.code || !strings.Contains(stderr.String(), tt.text) || stdout.Len() != 0 {
				t.Errorf("%d %q, want %d %q; standard output %q", code, stderr.String(), tt.code, tt.text, stdout.String())
			}
		})
	}
}

func TestConfirm(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		in    string
		yes   bool
		fails bool
	}{
		{in: "shop-1\n"},
		{in: " shop-1 \r\n"},
		{in: "shop-1"},
		{in: "", yes: true},
		{in: "", fails: true},
		{in: "y\n", fails: true},
		{in: "shop-2\n", fails: true},
	} {
		var out, errs bytes.Buffer
		cmd := &cobra.Command{}
		cmd.SetIn(strings.NewReader(tt.in))
		cmd.SetOut(&out)
		cmd.SetErr(&errs)
		err := confirm(cmd, tt.yes, "shop-1", "Cluster %s goes.", "shop-1")
		if (err != nil) != tt.fails || out.Len() != 0 || (errs.Len() == 0) != tt.yes {
			t.Errorf("%q: %v, standard output %q, standard error %q", tt.in, err, out.String(), errs.String())
		}
	}
}
