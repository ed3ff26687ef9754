// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"net/http"
	"strings"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/client-go/rest"

	"github.com/drover-io/drover/pki/identity"
)

func TestAccess(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	admin, bob := h.admin(), h.config("bob", "devs")
	stranger := rest.CopyConfig(admin)
	stranger.CertData, stranger.KeyData = newAuthority(t).person(identity.UserURI(trustDomain, "admin"), "system:masters")
	agent := rest.CopyConfig(admin)
	agent.CertData, agent.KeyData = h.ca.person(identity.ClusterURI(trustDomain, "c1"), "system:masters")
	nobody := rest.CopyConfig(admin)
	nobody.CertData, nobody.KeyData = nil, nil

	tests := []struct {
		name   string
		who    *rest.Config
		method string
		path   string
		code   int
		want   string
	}{
		{"admin lists", admin, "GET", clustersPath, 200, "ManagedClusterList"},
		{"bob lists", bob, "GET", clustersPath, 403, `managedclusters.cluster.open-cluster-management.io is forbidden: User \"bob\" cannot list resource \"managedclusters\" in API group \"cluster.open-cluster-management.io\" at the cluster scope`},
		{"bob gets in a namespace", bob, "GET", worksPath + "/w", 403, `User \"bob\" cannot get resource \"manifestworks\" in API group \"work.open-cluster-management.io\" in the namespace \"c1\"`},
		{"bob watches", bob, "GET", clustersPath + "?watch=1", 403, `cannot watch resource`},
		{"bob changes status", bob, "PATCH", clustersPath + "/c1/status", 403, `cannot patch resource \"managedclusters/status\"`},
		{"bob deletes all", bob, "DELETE", clustersPath, 403, `cannot deletecollection resource`},
		{"bob asks for what is not there", bob, "GET", "/apis/nope/v1/things", 403, "cannot list"},
		{"bob discovers", bob, "GET", "/apis", 200, "APIGroupList"},
		{"bob reads OpenAPI", bob, "GET", "/openapi/v3", 200, "paths"},
		{"bob reads elsewhere", bob, "GET", "/metrics", 403, `User \"bob\" cannot get path \"/metrics\"`},
		{"nobody lists", nobody, "GET", clustersPath, 401, "Unauthorized"},
		{"nobody discovers", nobody, "GET", "/apis", 401, "Unauthorized"},
		{"nobody reads the version", nobody, "GET", "/version", 200, "gitVersion"},
		{"another CA", stranger, "GET", clustersPath, 401, "Unauthorized"},
		{"an agent", agent, "GET", clustersPath, 401, "Unauthorized"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := h.doAs(tt.who, tt.method, tt.path, "", "Content-Type", mergePatch)
			if a.code != tt.code || !strings.Contains(a.body, tt.want) {
				t.Errorf("%d %s\nwant %d with %s", a.code, a.body, tt.code, tt.want)
			}
		})
	}
}

func TestReviews(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	access := "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
	rules := "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
	self := "/apis/authentication.k8s.io/v1/selfsubjectreviews"
	review := authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{
		ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: "get", Resource: "namespaces"},
	}}
	message, err := review.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	// the envelope of Kubernetes' protobuf: magic, then runtime.Unknown
	typeMeta := "\x0a\x17authorization.k8s.io/v1" + "\x12\x17SelfSubjectAccessReview"
	proto := "k8s\x00" + "\x0a" + string(rune(len(typeMeta))) + typeMeta + "\x12" + string(rune(len(message))) + string(message)
	tests := []struct {
		name, who, path, body, media string
		code                         int
		want                         string
	}{
		{"admin may", "admin", access, `{"spec":{"resourceAttributes":{"verb":"get","resource":"x"}}}`, mediaJSON, 201, `"allowed":true`},
		{"bob may not", "bob", access, `{"spec":{"resourceAttributes":{"verb":"get","resource":"x"}}}`, mediaJSON, 201, `"allowed":false`},
		{"bob may discover", "bob", access, `{"spec":{"nonResourceAttributes":{"verb":"get","path":"/apis"}}}`, mediaJSON, 201, `"allowed":true`},
		{"protobuf, admin", "admin", access, proto, mediaProtobuf, 201, `"allowed":true`},
		{"protobuf, bob", "bob", access, proto, mediaProtobuf, 201, `"allowed":false`},
		{"protobuf of another kind", "bob", self, proto, mediaProtobuf, 400, "want authentication.k8s.io/v1"},
		{"half a protobuf", "bob", access, proto[:len(proto)-3], mediaProtobuf, 400, "decode protobuf"},
		{"rules of bob", "bob", rules, `{"spec":{"namespace":"default"}}`, mediaJSON, 201, "selfsubjectreviews"},
		{"rules of admin", "admin", rules, `{"spec":{"namespace":"default"}}`, mediaJSON, 201, `"resources":["*"]`},
		{"rules nowhere", "bob", rules, `{}`, mediaJSON, 400, "no namespace"},
		{"bob himself", "bob", self, `{}`, mediaJSON, 201, `"username":"bob"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := h.config("bob", "devs")
			if tt.who == "admin" {
				cfg = h.admin()
			}
			a := h.doAs(cfg, http.MethodPost, tt.path, tt.body, "Content-Type", tt.media)
			if a.code != tt.code || !strings.Contains(a.body, tt.want) {
				t.Errorf("%d %s\nwant %d with %s", a.code, a.body, tt.code, tt.want)
			}
		})
	}
}

// panicky is a hook that fails in the worst way, or holds requests up.
type panicky struct{ held, enough chan struct{} }

func (p panicky) Admit(context.Context, *Admission) error {
	if p.held == nil {
		panic("boom")
	}
	p.held <- struct{}{}
	<-p.enough
	return nil
}

func TestPanic(t *testing.T) {
	t.Parallel()
	h := newHub(t, func(c *Config) { c.Hooks = map[string]Hook{"jointokens.fleet.drover.io": panicky{}} })
	a := h.do(http.MethodPost, tokensPath, tokenJSON("t1"))
	if a.code != 500 || a.object(t)["reason"] != "InternalError" || strings.Contains(a.body, "boom") {
		t.Errorf("%d %s", a.code, a.body)
	}
	if a := h.do(http.MethodGet, tokensPath, ""); a.code != 200 {
		t.Errorf("afterwards: %d", a.code)
	}
}

func TestTooManyRequests(t *testing.T) {
	t.Parallel()
	hook := panicky{held: make(chan struct{}), enough: make(chan struct{})}
	h := newHub(t, func(c *Config) {
		c.Hooks = map[string]Hook{"jointokens.fleet.drover.io": hook}
		c.MaxWrites = 1
	})
	done := make(chan answered, 1)
	go func() { done <- h.do(http.MethodPost, tokensPath, tokenJSON("t1")) }()
	<-hook.held
	a := h.do(http.MethodPost, clustersPath, clusterJSON("c1", ""))
	if a.code != http.StatusTooManyRequests || a.header.Get("Retry-After") != "1" {
		t.Errorf("%d %v %s", a.code, a.header, a.body)
	}
	if a := h.do(http.MethodGet, clustersPath, ""); a.code != http.StatusOK {
		t.Errorf("a read: %d", a.code)
	}
	close(hook.enough)
	if a := <-done; a.code != http.StatusCreated {
		t.Errorf("the write that was first: %d %s", a.code, a.body)
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	good := Config{Store: h.store, Authenticator: h.api.authenticator, Authorizer: h.api.authorizer}
	tests := []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"no store", func(c *Config) { c.Store = nil }, "no store"},
		{"no authenticator", func(c *Config) { c.Authenticator = nil }, "authenticator"},
		{"hook without a kind", func(c *Config) { c.Hooks = map[string]Hook{"x.y": panicky{}} }, `hook for "x.y"`},
		{"broken document", func(c *Config) { c.Kinds = [][]byte{[]byte("a: b")} }, "parse kind"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := good
			tt.change(&cfg)
			if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}
