// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func keysOf(t *testing.T, line, verb string) []string {
	t.Helper()
	body, ok := strings.CutPrefix(line, verb+" ")
	if !ok {
		t.Fatalf("line %q", line)
	}
	var object map[string]any
	if err := json.Unmarshal([]byte(body), &object); err != nil {
		t.Fatal(err)
	}
	keys := make([]string, 0, len(object))
	for key := range object {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// The agent sees one INFO, and of it only what its client needs. With the agent's
// own protocol version 1 a second one would come after the first PONG.
func TestInfo(t *testing.T) {
	t.Parallel()
	h := newHub(t, nil)
	a := h.raw(t, "aaa") // which asserts that PONG is the answer to CONNECT and PING
	want := []string{"headers", "host", "max_payload", "port", "proto", "server_id", "version"}
	if diff := cmp.Diff(want, keysOf(t, a.info, "INFO")); diff != "" {
		t.Error(diff)
	}
	if got := append(a.sync(), a.sync()...); len(got) > 0 {
		t.Errorf("got %q", got)
	}
}

func TestRewriteInfo(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, line, want, nonce, err string }{
		{
			"all", `INFO {"server_id":"S","version":"2","proto":1,"headers":true,"max_payload":9999999,"nonce":"N","auth_required":true,"connect_urls":["x"],"cluster":"c","client_ip":"1","ip":"2","tls_required":true,"xkey":"X","domain":"d","remote_account":"A","acc_is_sys":true}`,
			`INFO {"server_id":"S","version":"2","proto":1,"host":"hub","port":4222,"headers":true,"max_payload":1048576}` + "\r\n", "N", "",
		},
		{"no nonce", `INFO {}`, "", "", "broker sent no nonce"},
		{"error", `-ERR 'no'`, "", "", "broker did not begin with INFO"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, nonce, err := rewriteInfo([]byte(tt.line))
			if string(got) != tt.want || nonce != tt.nonce || (err == nil) != (tt.err == "") || (err != nil && err.Error() != tt.err) {
				t.Errorf("%q, %q, %v", got, nonce, err)
			}
		})
	}
}

func TestRewriteConnect(t *testing.T) {
	t.Parallel()
	agent := `{"verbose":true,"pedantic":true,"user":"u","pass":"p","auth_token":"t","jwt":"j","sig":"s","nkey":"k","account":"a","new_account":true,` +
		`"import":{},"export":{},"remote_account":"r","proxy_sig":"x","tls_required":true,"protocol":1,"echo":false,"name":"other","lang":"go\"\r\n","version":"` + strings.Repeat("1", 5000) + `"}`
	got, err := rewriteConnect([]byte(agent), "aaa", "JWT", []byte("sig"))
	if err != nil {
		t.Fatal(err)
	}
	want := `CONNECT {"verbose":false,"pedantic":false,"headers":true,"no_responders":true,"echo":false,"name":"aaa","lang":"go","version":"` +
		strings.Repeat("1", maxVersion) + `","protocol":0,"jwt":"JWT","sig":"c2ln"}` + "\r\n"
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Error(diff)
	}
	if _, err := rewriteConnect([]byte("no JSON"), "aaa", "", nil); err == nil {
		t.Error("bad JSON is taken")
	}
}

// The rewritten line of the longest name fits the server's control line.
func TestConnectFits(t *testing.T) {
	t.Parallel()
	h := newHub(t, nil)
	h.raw(t, strings.Repeat("a", 63)).sync()
}
