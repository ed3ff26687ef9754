// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/drover-io/drover/shared/daemon"
	"github.com/drover-io/drover/shared/login"
)

func TestChoose(t *testing.T) {
	t.Parallel()
	a, b, web := offer{Name: "a", ClientID: "x"}, offer{Name: "b", ClientID: "y"}, offer{Name: "web"}
	for _, tt := range []struct {
		name, named, want string
		offers            []offer
		code              int
		fails             string
	}{
		{name: "the only one", offers: []offer{web, a}, want: "a"},
		{name: "named", offers: []offer{a, b}, named: "b", want: "b"},
		{name: "several", offers: []offer{a, b}, code: 2, fails: "choose one with --issuer: a, b"},
		{name: "unknown", offers: []offer{a, b}, named: "c", code: 2, fails: `issuer "c": the hub has a, b`},
		{name: "not for the command line", offers: []offer{a, web}, named: "web", code: 2, fails: "the hub has a"},
		{name: "none", offers: []offer{web}, fails: "no identity provider for the command line"},
	} {
		got, err := choose(tt.offers, tt.named)
		var de *daemon.Error
		if got.Name != tt.want || (err == nil) != (tt.fails == "") || err != nil && (!strings.Contains(err.Error(), tt.fails) || !errors.As(err, &de) || de.Code != tt.code) {
			t.Errorf("%s: %+v, %v, want %q %q", tt.name, got, err, tt.want, tt.fails)
		}
	}
}

func TestMayAsk(t *testing.T) {
	t.Parallel()
	const head = `{"kind":"ExecCredential","apiVersion":"client.authentication.k8s.io/`
	for _, tt := range []struct {
		info  string
		want  bool
		fails bool
	}{
		{info: head + `v1","spec":{"interactive":true}}`, want: true},
		{info: head + `v1","spec":{"interactive":false}}`},
		{info: head + `v1","spec":{}}`},
		{info: head + `v1beta1","spec":{"interactive":true}}`, fails: true},
		{info: `{`, fails: true},
	} {
		if got, err := mayAsk(tt.info); got != tt.want || (err != nil) != tt.fails {
			t.Errorf("%s: %v, %v", tt.info, got, err)
		}
	}
}

// TestLoginOfContext: what login writes into the kubeconfig, logout reads.
func TestLoginOfContext(t *testing.T) {
	t.Parallel()
	want := login.Issuer{URL: "https://id.example/x?y=a,b", ClientID: "drover cli", Scopes: []string{"openid", "groups"}, CAFile: "/etc/a b,c.crt"}
	for _, device := range []bool{false, true} {
		path := t.TempDir() + "/config"
		g := &globals{kubeconfig: path}
		to := &target{name: "hub", cluster: &clientcmdapi.Cluster{Server: "https://hub.example"}}
		for range 2 { // a second login replaces the first
			if _, err := g.writeLogin(to, "corp", want, device); err != nil {
				t.Fatal(err)
			}
		}
		got, err := g.loginOfContext()
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got.issuer); d != "" || got.device != device {
			t.Errorf("device %v, issuer (-want +got):\n%s", got.device, d)
		}
		cfg, err := clientcmd.LoadFromFile(path)
		if err != nil || clientcmd.Validate(*cfg) != nil || cfg.CurrentContext != "hub-corp" || len(cfg.AuthInfos) != 1 ||
			cfg.AuthInfos["hub-corp"].Exec.InteractiveMode != clientcmdapi.IfAvailableExecInteractiveMode {
			t.Errorf("kubeconfig %+v, %v", cfg, err)
		}
	}
}
